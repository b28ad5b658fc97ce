//! What a home writes behind: inboxes, and when its users were last seen (DESIGN §4, §6).
//!
//! The users are divided into parts, which are written one after the other over `limits.inbox_flush_ms`, so that the store
//! gets a steady stream. All at once would be a burst, and the messages sent meanwhile would wait behind it.

use crate::node::{Node, TICK_MS, lock};
use crate::users::SHARDS;
use std::sync::Arc;
use switchboard_store::{Incarnation, InboxChange, StoreError, UserKey};

/// Inbox changes in one write at most.
const FLUSH_CHANGES_MAX: usize = 8_192;

/// One flush of all inboxes, part by part.
struct Round {
    /// What to confirm at the end: announcements whose changes were all noted before the first part was taken.
    covered: Vec<(Incarnation, u64)>,
    parts: usize,
    next: usize,
    has_failed: bool,
}

impl Round {
    fn is_over(&self) -> bool {
        self.next == self.parts
    }
}

impl Node {
    /// Writes what waits, a part at each tick, and everything as soon as there is much.
    pub(crate) async fn keep_flushed(self: Arc<Self>) {
        let (mut round, mut next_ms, mut failed) = (None, 0, false);
        loop {
            self.clock.sleep_to_next_ms(TICK_MS).await;
            let now_ms = self.clock.monotonic_ms();
            let options = self.options();
            let many = self.users.dirty_users() >= options.home_dirty_max;
            let much = many || self.users.dirty_bytes() >= options.home_dirty_bytes / 2;
            // Unless the store has just failed.
            if much && !failed {
                round = None;
                failed = !self.flush().await;
            } else if now_ms >= next_ms {
                let parts = parts(options.inbox_flush_ms);
                next_ms = (next_ms + options.inbox_flush_ms / parts as u64).max(now_ms);
                failed = !self.flush_part(&mut round, parts).await;
            }
        }
    }

    /// Writes everything that waits. What fails is written again with the next flush. Returns whether all was written.
    pub(crate) async fn flush(&self) -> bool {
        self.flush_part(&mut None, 1).await
    }

    /// Writes the next part of a round, which begins if there is none. The last part includes last-seen times.
    async fn flush_part(&self, round: &mut Option<Round>, parts: usize) -> bool {
        let inboxes = self.flush_inboxes(round, parts).await;
        let last_seen = if round.is_none() { self.flush_last_seen().await } else { Ok(()) };
        let flushed = [inboxes, last_seen];
        for error in flushed.iter().filter_map(|flushed| flushed.as_ref().err()) {
            tracing::debug!(%error, "a flush failed");
        }
        flushed.iter().all(Result::is_ok)
    }

    /// Writes one part of the waiting inbox changes. After the last one, confirms the announcements that made the changes,
    /// if all could be written.
    async fn flush_inboxes(&self, round: &mut Option<Round>, parts: usize) -> Result<(), StoreError> {
        let readers_wait = self.inbox_flush.write().await;
        let begin = || Round { covered: self.links.before_flush(), parts, next: 0, has_failed: false };
        let now = round.get_or_insert_with(begin);
        let dirty = self.users.take_dirty(|shard| shard % now.parts == now.next);
        let written = self.write_inboxes(&dirty).await;
        now.next += 1;
        now.has_failed |= written.is_err();
        if let Some(over) = round.take_if(|round| round.is_over())
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

/// How many parts a flush has: one for each tick, as far as there are shards.
fn parts(flush_ms: u64) -> usize {
    usize::try_from(flush_ms / TICK_MS).map_or(SHARDS, |ticks| ticks.clamp(1, SHARDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_part_for_each_tick_as_far_as_there_are_shards() {
        let flushes_ms = [1, TICK_MS, 10 * TICK_MS + 1, u64::MAX];
        assert_eq!(flushes_ms.map(parts), [1, 1, 10, SHARDS]);
    }
}
