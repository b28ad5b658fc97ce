//! The progress of a term that runs in this process.
//!
//! Owns the term's progress, and whether it is over. Every decision here is made under one lock and without waiting, so
//! that "over" and "durable" have one order. It does no I/O.

use super::life::Life;
use super::{LogHead, Release, TERM_ENTRIES_MAX, WriteTimestamp};
use crate::{Appended, TermNumber};
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_protocol::Seq;

/// Entries per partition of the log's table; the head's end is raised once for each (DESIGN §6).
pub const BUCKET_ENTRIES: u64 = 4096;

pub(super) struct Term {
    pub(super) number: TermNumber,
    pub(super) life: Arc<Life>,
    /// The timestamp of its note in `active`.
    pub(super) noted: WriteTimestamp,
    /// The log's end when it began.
    began_at: Seq,
    progress: Mutex<Progress>,
    /// Held by the append under way.
    pub(super) appending: tokio::sync::Mutex<Unsettled>,
    /// Held while the head's end is set.
    pub(super) raising: tokio::sync::Mutex<()>,
}

/// The payloads behind the durable ones that an append has tried to write, with an unknown outcome: the next append
/// must repeat them.
#[derive(Default)]
pub(super) struct Unsettled(pub(super) Vec<Bytes>);

#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Nothing more will become durable in this term, as far as this process decides.
    over: bool,
    /// Up to here, a quorum has confirmed the rows.
    confirmed: Seq,
    /// Up to here, a fence read that began after the confirmation said `live`: this is in the log for ever.
    durable: Seq,
    /// The last known end of the head.
    head_end: Seq,
    /// What was durable at the last round of raising.
    durable_last_round: Seq,
}

impl Term {
    pub(super) fn new(number: TermNumber, life: Arc<Life>, end: Seq, noted: WriteTimestamp) -> Self {
        let progress = Progress { over: false, confirmed: end, durable: end, head_end: end, durable_last_round: end };
        Self {
            number,
            life,
            noted,
            began_at: end,
            progress: Mutex::new(progress),
            appending: tokio::sync::Mutex::default(),
            raising: tokio::sync::Mutex::default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The timestamp of the entry at `seq`; `None` if the term has no timestamp left for it.
    pub(super) fn timestamp(&self, seq: Seq) -> Option<WriteTimestamp> {
        let offset = seq.get().checked_sub(self.began_at.get())?;
        (1..TERM_ENTRIES_MAX).contains(&offset).then(|| WriteTimestamp::of(self.number, offset))
    }

    pub(super) fn is_over(&self) -> bool {
        self.progress().over || self.life.is_fenced()
    }

    /// Ends the term for this process: from now on no append in it becomes durable. Returns how far it was confirmed.
    pub(super) fn stop(&self) -> Seq {
        let mut progress = self.progress();
        progress.over = true;
        progress.confirmed
    }

    /// The same, so that another node can go on from what is durable.
    pub(super) fn release(&self) -> Release {
        let mut progress = self.progress();
        progress.over = true;
        Release { term: self.number, end: progress.durable }
    }

    pub(super) fn durable(&self) -> Seq {
        self.progress().durable
    }

    pub(super) fn is_confirmed(&self, upto: Seq) -> bool {
        upto <= self.progress().confirmed
    }

    /// Records that a quorum has the rows up to here.
    pub(super) fn confirm(&self, upto: Seq) {
        let mut progress = self.progress();
        progress.confirmed = progress.confirmed.max(upto);
    }

    /// Records that a fence read that began after the confirmation said `live`. If the term is over, whoever ended it
    /// did not count these entries.
    pub(super) fn make_durable(&self, upto: Seq) -> Appended {
        let mut progress = self.progress();
        if progress.over {
            return Appended::Superseded;
        }
        progress.durable = progress.durable.max(upto);
        Appended::Durable
    }

    /// The head that names this term, as last known, and how far its end may be raised.
    pub(super) fn head(&self) -> (LogHead, Seq) {
        let progress = self.progress();
        let owner = Some(self.life.me().clone());
        (LogHead { term: self.number, owner, end: progress.head_end }, progress.durable)
    }

    pub(super) fn heard_of_end(&self, end: Seq) {
        let mut progress = self.progress();
        progress.head_end = progress.head_end.max(end);
    }

    /// Whether the head's end is the durable end, or the head names another term.
    pub(super) fn is_raised(&self) -> bool {
        let progress = self.progress();
        progress.head_end >= progress.durable
    }

    /// Whether a whole bucket lies behind the head's end.
    pub(super) fn has_full_bucket(&self) -> bool {
        let progress = self.progress();
        progress.durable.get().saturating_sub(progress.head_end.get()) >= BUCKET_ENTRIES
    }

    /// Whether something has been behind the head's end since the last call.
    pub(super) fn has_aged(&self) -> bool {
        let mut progress = self.progress();
        let aged = progress.durable_last_round > progress.head_end;
        progress.durable_last_round = progress.durable;
        aged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Incarnation;

    fn term(number: u64, end: u64) -> Term {
        let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
        Term::new(TermNumber(number), Arc::new(Life::new(me)), Seq::new(end), WriteTimestamp::FIRST)
    }

    #[test]
    fn a_later_term_wins_whatever_their_places() {
        let end = 5 * TERM_ENTRIES_MAX;
        let (old, new) = (term(3, end), term(4, end));
        let last = Seq::new(end + TERM_ENTRIES_MAX - 1);
        assert!(old.timestamp(Seq::new(end + 1)) < old.timestamp(last));
        assert!(old.timestamp(last) < new.timestamp(Seq::new(end + 1)));
        assert_eq!(old.timestamp(last), Some(WriteTimestamp::last_of(TermNumber(3))));
    }

    #[test]
    fn a_term_has_no_place_for_more() {
        let term = term(1, 10);
        assert_eq!(term.timestamp(Seq::new(10)), None, "before its begin");
        assert!(term.timestamp(Seq::new(11)).is_some());
        assert_eq!(term.timestamp(Seq::new(10 + TERM_ENTRIES_MAX)), None);
    }

    #[test]
    fn nothing_is_durable_in_a_term_that_is_over() {
        let term = term(1, 0);
        term.confirm(Seq::new(2));
        assert_eq!(term.make_durable(Seq::new(1)), Appended::Durable);
        assert_eq!(term.release(), Release { term: TermNumber(1), end: Seq::new(1) });
        assert_eq!(term.make_durable(Seq::new(2)), Appended::Superseded);
        assert_eq!((term.durable(), term.stop()), (Seq::new(1), Seq::new(2)));
    }
}
