//! One provider's share of the worker: limits concurrent requests, and stops them while the provider is down. So a slow
//! or unreachable provider delays only its own pushes (DESIGN §5.8). Owns the permits and the breaker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use switchboard_clock::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::breaker::{Breaker, Request};
use crate::provider::Outcome;

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lane {
    permits: Arc<Semaphore>,
    breaker: Arc<Mutex<Breaker>>,
    clock: Clock,
}

/// Permission to send requests one after the other. Dropped without a call of [`Pass::ended`], it does not count as a
/// result.
#[derive(Debug)]
pub struct Pass {
    lane: Lane,
    request: Request,
    is_used: bool,
    _permit: OwnedSemaphorePermit,
}

/// Why no request may begin now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The maximum number of requests is in progress.
    Full,
    /// The provider is down, until the next attempt at this time (monotonic).
    Down { until_ms: u64 },
}

impl Lane {
    /// `in_flight_max` is the maximum of concurrent requests (`push.in_flight_max`).
    pub fn new(in_flight_max: usize, clock: Clock) -> Self {
        let permits = Arc::new(Semaphore::new(in_flight_max.min(Semaphore::MAX_PERMITS)));
        Self { permits, breaker: Arc::default(), clock }
    }

    /// Returns a pass, without waiting.
    ///
    /// # Errors
    /// Why there is none now.
    pub fn begin(&self) -> Result<Pass, Busy> {
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| Busy::Full)?;
        let begun = self.breaker().begin(self.clock.monotonic_ms());
        let request = begun.map_err(|until_ms| Busy::Down { until_ms })?;
        Ok(Pass { lane: self.clone(), request, is_used: false, _permit: permit })
    }

    /// Whether the provider is considered down, for the metric.
    pub fn is_down(&self) -> bool {
        self.breaker().is_open()
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// A request has ended. Every outcome but [`Outcome::Failed`] shows that the provider works.
    pub fn ended(&mut self, outcome: &Outcome) {
        self.is_used = true;
        let answered = !matches!(outcome, Outcome::Failed { .. });
        self.lane.breaker().ended(self.request, answered, self.lane.clock.monotonic_ms());
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.is_used {
            self.lane.breaker().not_sent(self.request, self.lane.clock.monotonic_ms());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Reason;

    fn failed() -> Outcome {
        Outcome::Failed { reason: Reason::new("503"), after_ms: None }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_at_once_than_may_be() {
        let lane = Lane::new(2, Clock::system());
        let (mut first, _second) = (lane.begin().unwrap(), lane.begin().unwrap());
        assert_eq!(lane.begin().unwrap_err(), Busy::Full);
        first.ended(&Outcome::Sent);
        assert_eq!(lane.begin().unwrap_err(), Busy::Full, "there may be another request");
        drop(first);
        assert!(lane.begin().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_is_down_is_asked_once_in_a_while() {
        let (clock, mut asked) = (Clock::system(), 0);
        let lane = Lane::new(2, clock.clone());
        // As many iterations as there are requests and waits in a minute, and one more.
        for _ in 0..12 {
            match lane.begin() {
                Ok(mut pass) => {
                    asked += 1;
                    pass.ended(&failed());
                }
                Err(Busy::Down { until_ms }) => clock.sleep_until_ms(until_ms).await,
                Err(Busy::Full) => panic!("nothing is under way"),
            }
        }
        assert_eq!(asked, 5 + 3, "five in a row, then after 5, 15 and 35 s");
        assert!(lane.is_down());
        // A probe that was not used is left to the next request.
        drop(lane.begin().unwrap());
        lane.begin().unwrap().ended(&Outcome::Gone);
        assert!(!lane.is_down());
    }
}
