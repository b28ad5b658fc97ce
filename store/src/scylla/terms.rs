//! The terms of this process: what appends are checked against, and what is not projected yet.
//!
//! Owns their map. Only `crate::quorum` knows whether a term still runs; those that do not are forgotten in the next round of
//! housekeeping, if not before.

use crate::{ConversationKey, Entry, StoreError, TermNumber};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_protocol::{EntryFrame, Seq};
use tokio::sync::Notify;

/// Unprojected entries of one conversation that trigger a write of its projections. It is also roughly the most that
/// the next owner, or a reader at another node, has to fold.
pub(super) const UNAPPLIED_MAX: u64 = 256;

#[derive(Default)]
pub(super) struct Terms {
    terms: Mutex<HashMap<ConversationKey, Arc<LocalTerm>>>,
    many: Notify,
}

pub(super) struct LocalTerm {
    pub(super) number: TermNumber,
    progress: Mutex<Progress>,
    /// Held while projections are written.
    pub(super) applying: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Progress {
    end: Seq,
    messages: u64,
    applied: Seq,
}

impl Terms {
    fn map(&self) -> MutexGuard<'_, HashMap<ConversationKey, Arc<LocalTerm>>> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, conversation: &ConversationKey) -> Option<Arc<LocalTerm>> {
        self.map().get(conversation).cloned()
    }

    /// Records that a term has begun at `end`, up to which everything is projected.
    pub(super) fn put(&self, conversation: &ConversationKey, number: TermNumber, end: Seq, messages: u64) {
        let progress = Mutex::new(Progress { end, messages, applied: end });
        let term = Arc::new(LocalTerm { number, progress, applying: tokio::sync::Mutex::default() });
        let mut map = self.map();
        if map.get(conversation).is_none_or(|known| known.number < number) {
            map.insert(conversation.clone(), term);
        }
    }

    /// Forgets a term that is over.
    pub(super) fn forget(&self, conversation: &ConversationKey, number: TermNumber) {
        let mut map = self.map();
        if map.get(conversation).is_some_and(|known| known.number == number) {
            map.remove(conversation);
        }
    }

    /// The terms with at least `at_least` unprojected entries; 0: all.
    pub(super) fn unapplied(&self, at_least: u64) -> Vec<(ConversationKey, Arc<LocalTerm>)> {
        let unapplied = |(key, term): (&ConversationKey, &Arc<LocalTerm>)| {
            (term.unapplied() >= at_least).then(|| (key.clone(), term.clone()))
        };
        self.map().iter().filter_map(unapplied).collect()
    }

    /// Records that `entries` are durable.
    pub(super) fn note_durable(&self, term: &LocalTerm, entries: &[Entry]) {
        let Some(last) = entries.last() else { return };
        {
            let mut progress = term.progress();
            if last.seq > progress.end {
                (progress.end, progress.messages) = (last.seq, last.messages);
            }
        }
        if term.unapplied() >= UNAPPLIED_MAX {
            self.many.notify_one();
        }
    }

    /// Returns when a term has many unprojected entries.
    pub(super) async fn wait_for_many(&self) {
        self.many.notified().await;
    }
}

impl LocalTerm {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The durable end of the log.
    pub(super) fn end(&self) -> Seq {
        self.progress().end
    }

    pub(super) fn unapplied(&self) -> u64 {
        let progress = self.progress();
        progress.end.get() - progress.applied.get()
    }

    /// Records that everything up to `seq` is projected.
    pub(super) fn note_applied(&self, seq: Seq) {
        let mut progress = self.progress();
        progress.applied = progress.applied.max(seq);
    }

    pub(super) fn is_applied(&self, seq: Seq) -> bool {
        self.progress().applied >= seq
    }

    /// Checks that entries are contiguous, and follow the log if they begin at its end. Repeated entries are compared
    /// with what is stored.
    pub(super) fn check(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let progress = *self.progress();
        let mut before = entries.first().and_then(|first| {
            let begins_at_end = first.seq == progress.end.next();
            begins_at_end.then_some((progress.end, progress.messages))
        });
        for entry in entries {
            let is_message = u64::from(matches!(entry.frame, EntryFrame::Message(_)));
            let follows =
                before.is_none_or(|(seq, messages)| (entry.seq, entry.messages) == (seq.next(), messages + is_message));
            if !follows || entry.frame.seq() != entry.seq {
                let what = format!("seq {} with {} messages after {}", entry.seq, entry.messages, progress.end);
                return Err(StoreError::Misplaced { what });
            }
            before = Some((entry.seq, entry.messages));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_many_entries_waiting_holds_up_nobody() {
        let terms = Terms::default();
        let key = |id: &str| ConversationKey { tenant: "t".parse().unwrap(), conversation: id.parse().unwrap() };
        for (id, entries) in [("busy", UNAPPLIED_MAX), ("calm", 1), ("idle", 0)] {
            terms.put(&key(id), TermNumber(1), Seq::ZERO, 0);
            terms.get(&key(id)).unwrap().progress().end = Seq::new(entries);
        }
        let waiting = |at_least| {
            let mut keys: Vec<_> = terms.unapplied(at_least).into_iter().map(|(key, _)| key).collect();
            keys.sort();
            keys
        };
        assert_eq!(waiting(UNAPPLIED_MAX), [key("busy")]);
        assert_eq!(waiting(1), [key("busy"), key("calm")]);
    }
}
