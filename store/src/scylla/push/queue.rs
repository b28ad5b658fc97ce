//! The hints by which workers find due jobs.
//!
//! They are partitioned by channel, priority, minute and shard, so that no partition grows large, and tombstones stay
//! behind with their minute. The minutes that have hints are listed in one small partition per channel
//! (`push_buckets`), so that a poll of an empty queue is one read of a few rows.
//!
//! **A minute that is over and empty is removed from the list** without reading a clock: it is marked as closing by
//! compare-and-set, then it is read, and it is removed if it was empty and the mark is still there. After writing a
//! hint, its writer reads the list and adds the minute (again), which removes the mark. So either the hint was written
//! before the mark, and was read, or the writer saw the mark.

use super::{ATTEMPTS_MAX, KEPT_S, contended, priority, priority_number};
use crate::scylla::Core;
use crate::scylla::client::unreadable;
use crate::scylla::housekeeping::all_of;
use crate::scylla::quorum::bigint;
use crate::{Channel, Priority, PushKey, StoreError, UserKey};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use switchboard_protocol::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

const BUCKET_MS: i64 = 60_000;

/// Shards of one minute.
const SHARDS: i32 = 8;

/// Minutes read in one statement: ScyllaDB accepts 100 partitions.
const BUCKETS_AT_ONCE: usize = 12;

/// Minutes that one poll removes from the list.
const CLOSED_AT_ONCE: usize = 4;

/// Hints written concurrently.
const HINTS_AT_ONCE: usize = 64;

/// The state of a listed minute that is not closing.
const OPEN: &str = "open";

/// The TTL of a list row: longer than that of any hint.
const LISTED_S: i32 = 2 * KEPT_S;

/// Says that a place has, will have, or had a job due at a time.
#[derive(Clone, Debug)]
pub(super) struct Hint {
    pub(super) key: PushKey,
    pub(super) priority: Priority,
    pub(super) due: Timestamp,
    /// The place's number in the change that this hint belongs to; the write timestamp.
    pub(super) number: u64,
}

impl Hint {
    fn bucket(&self) -> i64 {
        bucket(self.due)
    }

    fn shard(&self) -> i32 {
        let PushKey { user, conversation, .. } = &self.key;
        let texts = [user.tenant.as_str(), user.user.as_str(), conversation.as_str()];
        let hash = texts.iter().fold(0_u64, |hash, text| hash.rotate_left(1) ^ xxh3_64(text.as_bytes()));
        i32::try_from(hash % u64::from(SHARDS.unsigned_abs())).unwrap_or_default()
    }
}

fn bucket(at: Timestamp) -> i64 {
    at.unix_ms().div_euclid(BUCKET_MS)
}

/// A minute on the list.
#[derive(Clone, Debug)]
struct Bucket {
    priority: Priority,
    bucket: i64,
    state: String,
}

/// Generates a unique mark for each attempt of this process to close a minute.
pub(in crate::scylla) struct Buckets {
    process: u64,
    attempts: AtomicU64,
}

impl Buckets {
    /// `process` is a number that no other process has.
    pub(in crate::scylla) fn new(process: u64) -> Self {
        Self { process, attempts: AtomicU64::new(0) }
    }

    fn closing(&self) -> String {
        format!("closing {:016x} {}", self.process, self.attempts.fetch_add(1, Ordering::Relaxed))
    }
}

impl Core {
    /// The hints that are due at `now`, in the order in which they should be taken.
    pub(super) async fn due(&self, channel: Channel, now: Timestamp, limit: usize) -> Result<Vec<Hint>, StoreError> {
        let mut buckets = self.buckets(channel).await?;
        buckets.retain(|listed| listed.bucket <= bucket(now));
        let (mut due, mut empty) = (Vec::new(), Vec::new());
        for of_priority in buckets.chunk_by(|one, next| one.priority == next.priority) {
            for some in of_priority.chunks(BUCKETS_AT_ONCE) {
                if due.len() >= limit {
                    break;
                }
                let mut found = self.hints(channel, some, now, limit).await?;
                let is_empty = |listed: &&Bucket| found.iter().all(|hint| hint.bucket() != listed.bucket);
                empty.extend(some.iter().filter(is_empty).filter(|listed| listed.bucket < bucket(now)).cloned());
                found.sort_by_key(|hint| hint.due);
                due.append(&mut found);
            }
        }
        due.truncate(limit);
        for over in empty.iter().take(CLOSED_AT_ONCE) {
            if let Err(error) = self.close(channel, over).await {
                tracing::debug!(%error, "a minute of the push queue is left to the next poll");
                break;
            }
        }
        Ok(due)
    }

    /// When the first hint of a channel is due.
    pub(super) async fn oldest_due(&self, channel: Channel) -> Result<Option<Timestamp>, StoreError> {
        let mut oldest: Option<Timestamp> = None;
        for of_priority in self.buckets(channel).await?.chunk_by(|one, next| one.priority == next.priority) {
            for some in of_priority.chunks(BUCKETS_AT_ONCE) {
                let found = self.hints(channel, some, Timestamp::MAX, 1).await?;
                if let Some(first) = found.into_iter().map(|hint| hint.due).min() {
                    oldest = Some(oldest.map_or(first, |oldest| oldest.min(first)));
                    break;
                }
            }
        }
        Ok(oldest)
    }

    /// The list, by priority (highest first), then oldest first.
    async fn buckets(&self, channel: Channel) -> Result<Vec<Bucket>, StoreError> {
        let found: Vec<(i32, i64, String)> =
            self.client.rows(&self.statements.queue.buckets, (channel.as_str(),)).await?;
        let listed = |(number, bucket, state)| Ok(Bucket { priority: priority(number)?, bucket, state });
        let mut buckets = found.into_iter().map(listed).collect::<Result<Vec<_>, StoreError>>()?;
        buckets.sort_by_key(|listed| (std::cmp::Reverse(listed.priority), listed.bucket));
        Ok(buckets)
    }

    /// The hints of one priority's minutes that are due at `until`: the first ones of each partition.
    async fn hints(
        &self,
        channel: Channel,
        buckets: &[Bucket],
        until: Timestamp,
        of_each_max: usize,
    ) -> Result<Vec<Hint>, StoreError> {
        let Some(Bucket { priority, .. }) = buckets.first() else { return Ok(Vec::new()) };
        let numbers: Vec<i64> = buckets.iter().map(|listed| listed.bucket).collect();
        let shards: Vec<i32> = (0..SHARDS).collect();
        let of_each_max = i32::try_from(of_each_max).unwrap_or(i32::MAX);
        let values = (channel.as_str(), priority_number(*priority), numbers, shards, until.unix_ms(), of_each_max);
        let found: Vec<(i64, String, String, String, i64)> =
            self.client.rows(&self.statements.queue.hints, values).await?;
        let hint = |(due_ms, tenant, user, conversation, number): (i64, String, String, String, i64)| {
            let user = UserKey { tenant: tenant.parse().map_err(unreadable)?, user: user.parse().map_err(unreadable)? };
            let key = PushKey { user, conversation: conversation.parse().map_err(unreadable)?, channel };
            let due = Timestamp::from_unix_ms(due_ms);
            Ok(Hint { key, priority: *priority, due, number: number.cast_unsigned() })
        };
        found.into_iter().map(hint).collect()
    }

    /// Writes hints, and lists their minutes.
    pub(super) async fn put_hints(self: &Arc<Self>, hints: Vec<Hint>) -> Result<(), StoreError> {
        let listed: BTreeSet<(Channel, Priority, i64)> =
            hints.iter().map(|hint| (hint.key.channel, hint.priority, hint.bucket())).collect();
        let writes = hints.into_iter().map(|hint| {
            let core = self.clone();
            async move { core.put_hint(&hint).await }
        });
        all_of(writes, HINTS_AT_ONCE).await?;
        // The minutes of a channel are one partition, where concurrent changes would only be in each other's way.
        for (channel, priority, bucket) in listed {
            self.list(channel, priority, bucket).await?;
        }
        Ok(())
    }

    async fn put_hint(&self, hint: &Hint) -> Result<(), StoreError> {
        let Hint { key: PushKey { user, conversation, channel }, priority, due, number } = hint;
        let place = (channel.as_str(), priority_number(*priority), hint.bucket(), hint.shard(), due.unix_ms());
        let (channel, priority, bucket, shard, due_ms) = place;
        let (tenant, user, number) = (user.tenant.as_str(), user.user.as_str(), bigint(*number));
        let values =
            (channel, priority, bucket, shard, due_ms, tenant, user, conversation.as_str(), number, number, KEPT_S);
        self.client.execute(&self.statements.queue.put_hint, values).await.map(drop)
    }

    /// Removes a hint, unless a change with a greater number has rewritten it.
    pub(super) async fn remove_hint(&self, hint: &Hint) -> Result<(), StoreError> {
        let Hint { key: PushKey { user, conversation, channel }, priority, due, number } = hint;
        let values = (
            bigint(*number),
            channel.as_str(),
            priority_number(*priority),
            hint.bucket(),
            hint.shard(),
            due.unix_ms(),
            user.tenant.as_str(),
            user.user.as_str(),
            conversation.as_str(),
        );
        self.client.execute(&self.statements.queue.remove_hint, values).await.map(drop)
    }

    /// Makes sure that a minute is on the list, and stays there as long as it contains anything written until now.
    async fn list(&self, channel: Channel, priority: Priority, bucket: i64) -> Result<(), StoreError> {
        let statements = &self.statements;
        let key = (channel.as_str(), priority_number(priority), bucket);
        for _ in 0..ATTEMPTS_MAX {
            let found: Option<(String,)> = self.client.row(&statements.queue.bucket, key).await?;
            let is_listed = match found {
                Some((state,)) if state == OPEN => true,
                Some((state,)) => self.set_bucket(key, OPEN, &state).await?,
                None => {
                    let (channel, priority, bucket) = key;
                    let values = (channel, priority, bucket, OPEN, LISTED_S);
                    self.client.compare_and_set(&statements.queue.first_bucket, values).await?
                }
            };
            if is_listed {
                return Ok(());
            }
        }
        Err(contended("the list of the queue's minutes"))
    }

    /// Removes a minute from the list if it is empty.
    async fn close(&self, channel: Channel, listed: &Bucket) -> Result<(), StoreError> {
        let key = (channel.as_str(), priority_number(listed.priority), listed.bucket);
        let closing = self.closing_buckets.closing();
        if !self.set_bucket(key, &closing, &listed.state).await? {
            return Ok(());
        }
        let found = self.hints(channel, std::slice::from_ref(listed), Timestamp::MAX, 1).await?;
        if !found.is_empty() {
            // The next attempt, or the next writer of a hint, replaces the mark.
            return Ok(());
        }
        let (channel, priority, bucket) = key;
        let values = (channel, priority, bucket, closing.as_str());
        self.client.compare_and_set(&self.statements.queue.remove_bucket, values).await.map(drop)
    }

    async fn set_bucket(&self, key: (&str, i32, i64), state: &str, before: &str) -> Result<bool, StoreError> {
        let (channel, priority, bucket) = key;
        let values = (LISTED_S, state, channel, priority, bucket, before);
        self.client.compare_and_set(&self.statements.queue.set_bucket, values).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attempt that read under one mark must not remove the minute under a later one: a writer may have listed the
    /// minute again in between.
    #[test]
    fn no_two_attempts_to_close_a_minute_have_the_same_mark() {
        let (one, other) = (Buckets::new(1), Buckets::new(2));
        let marks: BTreeSet<String> = (0..3).flat_map(|_| [one.closing(), other.closing()]).collect();
        assert_eq!(marks.len(), 6);
        assert!(!marks.contains(OPEN));
    }
}
