//! What a home writes behind: inboxes, and when its users were last seen (DESIGN §4, §6).
//!
//! The users are divided into parts, which are written one after the other over `limits.inbox_flush_ms`, so that the store
//! gets a steady stream. All at once would be a burst, and the messages sent meanwhile would wait behind it.

use crate::node::{Node, TICK_MS, lock};
use crate::users::SHARDS;
use std::ops::Range;
use std::sync::Arc;
use switchboard_store::{InboxChange, Incarnation, StoreError, UserKey};

/// Inbox changes in one write at most.
const FLUSH_CHANGES_MAX: usize = 8_192;

/// When the next part is due.
#[derive(Default)]
struct Pace {
    next_ms: u64,
}

impl Pace {
    /// How many parts a flush has, and how many of them are due. More than one if the store was slow: then they are written
    /// together, so that a flush takes no longer than all at once would take.
    fn due(&mut self, now_ms: u64, flush_ms: u64) -> (usize, usize) {
        // One for each tick, as far as there are shards.
        let parts = (flush_ms / TICK_MS).clamp(1, SHARDS as u64);
        let part_ms = (flush_ms / parts).max(1);
        let late_ms = now_ms.checked_sub(self.next_ms);
        let due = late_ms.map_or(0, |late_ms| (late_ms / part_ms + 1).min(parts));
        self.next_ms = (self.next_ms + due * part_ms).max(now_ms.saturating_sub(flush_ms));
        (parts as usize, due as usize)
    }
}

/// One flush of all inboxes, part by part.
struct Round {
    /// What to confirm at the end: announcements whose changes were all noted before the first part was taken.
    covered: Vec<(Incarnation, u64)>,
    /// The parts that are still to be written, of `parts`.
    left: Range<usize>,
    parts: usize,
    has_failed: bool,
}

impl Node {
    /// Writes what waits, a part at each tick, and everything as soon as there is much.
    pub(crate) async fn keep_flushed(self: Arc<Self>) {
        let (mut round, mut pace, mut failed) = (None, Pace::default(), false);
        loop {
            self.clock.sleep_to_next_ms(TICK_MS).await;
            let options = self.options();
            let (parts, due) = pace.due(self.clock.monotonic_ms(), options.inbox_flush_ms);
            let many = self.users.dirty_users() >= options.home_dirty_max;
            let much = many || self.users.dirty_bytes() >= options.home_dirty_bytes / 2;
            // Unless the store has just failed.
            if much && !failed {
                round = None;
                failed = !self.flush().await;
            } else if due > 0 {
                failed = !self.flush_parts(&mut round, parts, due).await;
            }
        }
    }

    /// Writes everything that waits. What fails is written again with the next flush. Returns whether all was written.
    pub(crate) async fn flush(&self) -> bool {
        self.flush_parts(&mut None, 1, 1).await
    }

    /// Writes the next `due` parts of a round, as far as it has them; one of `parts` begins if there is none. The end of a
    /// round includes last-seen times.
    async fn flush_parts(&self, round: &mut Option<Round>, parts: usize, due: usize) -> bool {
        let inboxes = self.flush_inboxes(round, parts, due).await;
        let last_seen = if round.is_none() { self.flush_last_seen().await } else { Ok(()) };
        let flushed = [inboxes, last_seen];
        for error in flushed.iter().filter_map(|flushed| flushed.as_ref().err()) {
            tracing::debug!(%error, "a flush failed");
        }
        flushed.iter().all(Result::is_ok)
    }

    /// Writes some parts of the waiting inbox changes. After the last one, confirms the announcements that made the changes,
    /// if all could be written.
    async fn flush_inboxes(&self, round: &mut Option<Round>, parts: usize, due: usize) -> Result<(), StoreError> {
        let readers_wait = self.inbox_flush.write().await;
        let begin = || Round { covered: self.links.before_flush(), left: 0..parts, parts, has_failed: false };
        let now = round.get_or_insert_with(begin);
        let next = now.left.start..now.left.end.min(now.left.start + due);
        let dirty = self.users.take_dirty(|shard| next.contains(&(shard % now.parts)));
        let written = self.write_inboxes(&dirty).await;
        now.left.start = next.end;
        now.has_failed |= written.is_err();
        if let Some(over) = round.take_if(|round| round.left.is_empty())
            && !over.has_failed
        {
            self.links.flushed(over.covered);
        }
        drop(readers_wait);
        written?;
        self.read_cursors(dirty.iter().map(|(user, _)| user)).await;
        Ok(())
    }

    async fn write_inboxes(&self, dirty: &[(UserKey, InboxChange)]) -> Result<(), StoreError> {
        for part in dirty.chunks(FLUSH_CHANGES_MAX) {
            if let Err(error) = self.store.put_inbox(part.to_vec()).await {
                // Changes that were written already are written again; each field only grows.
                dirty.iter().for_each(|(user, change)| self.users.note(user, change));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes a user's inbox in the store as new as what this home knows.
    pub(crate) async fn flush_inbox_of(&self, user: &UserKey) -> Result<(), StoreError> {
        let _flush_waits = self.inbox_flush.read().await;
        // They stay noted until the next flush confirms them to their owners.
        let dirty = self.users.dirty_of(user);
        if dirty.is_empty() { Ok(()) } else { self.store.put_inbox(dirty).await }
    }

    /// Writes the users' last-seen times.
    async fn flush_last_seen(&self) -> Result<(), StoreError> {
        // They stay noted until the store has them, for presence requests meanwhile.
        let seen: Vec<_> = lock(&self.last_seen).iter().map(|(user, at)| (user.clone(), *at)).collect();
        if seen.is_empty() {
            return Ok(());
        }
        self.store.put_last_seen(seen.clone()).await?;
        let mut waiting = lock(&self.last_seen);
        for (user, at) in seen {
            // The user may have been seen again since.
            if waiting.get(&user) == Some(&at) {
                waiting.remove(&user);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_due_at_each_tick_as_far_as_there_are_shards() {
        let parts = |flush_ms| Pace::default().due(0, flush_ms);
        let flushes_ms = [1, TICK_MS, 10 * TICK_MS + 1, 60_000];
        assert_eq!(flushes_ms.map(parts), [(1, 1), (1, 1), (10, 1), (SHARDS, 1)]);
        let mut pace = Pace::default();
        let due = |now_ms| pace.due(now_ms, 250).1;
        assert_eq!([100, 200, 300, 400, 500, 600].map(due), [1, 1, 1, 1, 1, 0], "one for each 125 ms");
    }

    #[test]
    fn parts_that_are_late_are_due_together() {
        let mut pace = Pace { next_ms: 1_000 };
        let mut due = |now_ms| pace.due(now_ms, 1_000).1;
        assert_eq!([1_000, 1_099, 1_100, 1_500, 1_600].map(&mut due), [1, 0, 1, 4, 1]);
        assert_eq!([60_000, 60_001, 60_002].map(due), [10, 10, 1], "no more than one round is made up for");
    }
}
