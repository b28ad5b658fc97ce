//! One session's watches, and the changes that it has not been sent yet. It knows watched users only by their slot in
//! the table.
//!
//! What a session was sent last is not stored for each watch: it is what the user's home said last, as this session
//! sees it, unless a change is pending, which then stores it.

use switchboard_protocol::Timestamp;

use crate::visibility::{Shown, seen};

/// Both lists are sorted by slot and hold at most as many items as a session may watch.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    watches: Vec<Watch>,
    pending: Vec<Pending>,
    /// The next frame must not be sent earlier.
    not_before_ms: u64,
    /// Its place in the table's queue.
    due_ms: Option<u64>,
}

#[derive(Debug)]
struct Watch {
    slot: usize,
    blocked_at: Option<Timestamp>,
}

/// A user whose latest state the session may not know.
#[derive(Debug)]
struct Pending {
    slot: usize,
    /// What the session was sent last; `None` while its `presence_watch` is not answered.
    told: Option<Shown>,
}

impl Watcher {
    pub(super) fn len(&self) -> usize {
        self.watches.len()
    }

    pub(super) fn watches(&self, slot: usize) -> bool {
        self.watch_at(slot).is_ok()
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// The slots of all its watches.
    pub(super) fn into_watched(self) -> Vec<usize> {
        self.watches.into_iter().map(|watch| watch.slot).collect()
    }

    /// Starts or restarts the watch: nothing is sent about it until [`Watcher::state`].
    pub(super) fn watch(&mut self, slot: usize, blocked_at: Option<Timestamp>) {
        match self.watch_at(slot) {
            Ok(at) => self.watches[at].blocked_at = blocked_at,
            Err(at) => self.watches.insert(at, Watch { slot, blocked_at }),
        }
        match self.pending_at(slot) {
            Ok(at) => self.pending[at].told = None,
            Err(at) => self.pending.insert(at, Pending { slot, told: None }),
        }
    }

    /// Returns whether there was such a watch.
    pub(super) fn unwatch(&mut self, slot: usize) -> bool {
        let Ok(at) = self.watch_at(slot) else { return false };
        self.watches.remove(at);
        self.settle(slot);
        true
    }

    /// How this session sees a user who is shown as `shown`; `None` if it does not watch the user.
    pub(super) fn state(&mut self, slot: usize, shown: Shown) -> Option<Shown> {
        let at = self.watch_at(slot).ok()?;
        self.settle(slot);
        Some(seen(shown, self.watches[at].blocked_at))
    }

    /// The user was shown as `before`, and is as `after`. Returns the time of the frame if the session was not in the
    /// queue and is now.
    pub(super) fn changed(&mut self, slot: usize, before: Shown, after: Shown, now_ms: u64) -> Option<u64> {
        let blocked_at = self.watches[self.watch_at(slot).ok()?].blocked_at;
        self.note(slot, seen(before, blocked_at), seen(after, blocked_at), now_ms)
    }

    /// As [`Watcher::changed`], for a changed block on a user who is shown as `shown`.
    pub(super) fn blocked(
        &mut self,
        slot: usize,
        blocked_at: Option<Timestamp>,
        shown: Shown,
        now_ms: u64,
    ) -> Option<u64> {
        let at = self.watch_at(slot).ok()?;
        let before = std::mem::replace(&mut self.watches[at].blocked_at, blocked_at);
        self.note(slot, seen(shown, before), seen(shown, blocked_at), now_ms)
    }

    /// Takes the changes that the session has not been sent. If there are any, the next frame goes no earlier than
    /// `not_before_ms`.
    pub(super) fn take(&mut self, shown: impl Fn(usize) -> Shown, not_before_ms: u64) -> Vec<(usize, Shown)> {
        self.due_ms = None;
        let mut changes = Vec::new();
        let watches = &self.watches;
        self.pending.retain(|pending| {
            let Some(told) = pending.told else { return true };
            if let Ok(at) = watches.binary_search_by_key(&pending.slot, |watch| watch.slot) {
                let now = seen(shown(pending.slot), watches[at].blocked_at);
                if now != told {
                    changes.push((pending.slot, now));
                }
            }
            false
        });
        self.release_pending();
        if !changes.is_empty() {
            self.not_before_ms = not_before_ms;
        }
        changes
    }

    fn note(&mut self, slot: usize, told: Shown, now: Shown, now_ms: u64) -> Option<u64> {
        if told == now {
            return None;
        }
        // A pending entry already stores what was sent, or waits for its first answer.
        let at = self.pending_at(slot).err()?;
        self.pending.insert(at, Pending { slot, told: Some(told) });
        if self.due_ms.is_some() {
            return None;
        }
        self.due_ms = Some(self.not_before_ms.max(now_ms));
        self.due_ms
    }

    fn settle(&mut self, slot: usize) {
        if let Ok(at) = self.pending_at(slot) {
            self.pending.remove(at);
            self.release_pending();
        }
    }

    /// Sessions live long and rarely have pending changes, so the memory is released.
    fn release_pending(&mut self) {
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
    }

    fn watch_at(&self, slot: usize) -> Result<usize, usize> {
        self.watches.binary_search_by_key(&slot, |watch| watch.slot)
    }

    fn pending_at(&self, slot: usize) -> Result<usize, usize> {
        self.pending.binary_search_by_key(&slot, |pending| pending.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwatched_user_leaves_nothing_behind() {
        let mut watcher = Watcher::default();
        watcher.watch(1, None);
        watcher.watch(2, None);
        assert_eq!(watcher.state(2, Shown::UNKNOWN), Some(Shown::UNKNOWN));
        assert_eq!(watcher.changed(2, Shown::UNKNOWN, Shown::offline(Some(Timestamp::MIN)), 0), Some(0));
        assert!(watcher.unwatch(1) && watcher.unwatch(2) && !watcher.unwatch(2));
        assert!(watcher.watches.is_empty() && watcher.pending.is_empty());
    }

    #[test]
    fn what_is_held_per_session_watch_and_change() {
        assert_eq!((size_of::<Watcher>(), size_of::<Watch>(), size_of::<Pending>()), (72, 24, 32));
    }
}
