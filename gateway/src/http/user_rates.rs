//! `limits.http_requests_per_s`: the request rate of each user, over all their connections. Owns a token bucket for each
//! user with recent requests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hyper::header::{HeaderName, HeaderValue};
use switchboard_protocol::ProtocolError;
use switchboard_store::UserKey;

use crate::rate::{Bucket, Rate};

/// Maximum users with a bucket that is not full. Further users are answered with `overloaded`.
const USERS_MAX: usize = 100_000;

/// See the module.
#[derive(Default)]
pub(crate) struct UserRates {
    buckets: Mutex<Buckets>,
}

#[derive(Default)]
struct Buckets {
    by_user: HashMap<UserKey, Bucket>,
    /// At this many users the full buckets are removed.
    sweep_at: usize,
}

/// The headers about a user's rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RateHeaders {
    limit: u32,
    remaining: u64,
    reset_s: u64,
}

impl RateHeaders {
    pub(super) fn pairs(self) -> [(HeaderName, HeaderValue); 3] {
        [
            (HeaderName::from_static("x-ratelimit-limit"), self.limit.into()),
            (HeaderName::from_static("x-ratelimit-remaining"), self.remaining.into()),
            (HeaderName::from_static("x-ratelimit-reset"), self.reset_s.into()),
        ]
    }
}

impl UserRates {
    /// Counts one request at `now_us` (monotonic) against the user's bucket, which holds one second's worth.
    pub(super) fn take(&self, user: &UserKey, per_s: u32, now_us: u64) -> (RateHeaders, Result<(), ProtocolError>) {
        let rate = Rate::new(per_s, per_s);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(bucket) = buckets.bucket(user, now_us) else {
            let headers = RateHeaders { limit: per_s, remaining: 0, reset_s: 1 };
            return (headers, Err(ProtocolError::overloaded(1_000)));
        };
        let taken = bucket.take(rate, now_us);
        let headers = RateHeaders {
            limit: per_s,
            remaining: bucket.left(rate, now_us),
            reset_s: bucket.fills_in_us(now_us).div_ceil(1_000_000),
        };
        (headers, taken.map_err(|wait_us| ProtocolError::rate_limited(wait_us.div_ceil(1_000))))
    }
}

impl Buckets {
    fn bucket(&mut self, user: &UserKey, now_us: u64) -> Option<&mut Bucket> {
        if !self.by_user.contains_key(user) {
            if self.by_user.len() >= self.sweep_at {
                self.by_user.retain(|_, bucket| bucket.fills_in_us(now_us) > 0);
                self.sweep_at = (2 * self.by_user.len()).clamp(1_024, USERS_MAX);
            }
            if self.by_user.len() >= USERS_MAX {
                return None;
            }
        }
        Some(self.by_user.entry(user.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserKey {
        UserKey { tenant: "default".parse().unwrap(), user: name.parse().unwrap() }
    }

    #[test]
    fn each_user_has_a_seconds_worth() {
        let rates = UserRates::default();
        let alice = user("alice");
        for remaining in [1, 0] {
            let (headers, result) = rates.take(&alice, 2, 0);
            assert_eq!((headers.limit, headers.remaining), (2, remaining));
            assert!(result.is_ok());
        }
        let (headers, result) = rates.take(&alice, 2, 0);
        assert_eq!(headers, RateHeaders { limit: 2, remaining: 0, reset_s: 1 });
        assert_eq!(result.unwrap_err().retry_after_ms(), Some(500));
        assert!(rates.take(&user("bob"), 2, 0).1.is_ok());
        assert!(rates.take(&alice, 2, 500_000).1.is_ok());
    }

    #[test]
    fn users_who_asked_long_ago_are_forgotten() {
        let rates = UserRates::default();
        for n in 0..3_000 {
            let now_us = n * 1_000_000;
            assert!(rates.take(&user(&format!("u{n}")), 10, now_us).1.is_ok());
        }
        assert!(rates.buckets.lock().unwrap().by_user.len() <= 1_024);
    }
}
