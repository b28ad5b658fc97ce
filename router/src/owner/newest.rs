//! The last durable entries of a log in this term. Most clients that were away briefly miss no more than these, so
//! `changes` is answered without the store.
//!
//! The entries have no gaps, and all are durable. All conversations of a node share one limit in bytes.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use switchboard_protocol::Seq;

/// The most that one conversation keeps, so that a few busy ones leave room for the others.
const BYTES_MAX: usize = 8 * 1024;

/// Older entries are not given out from here: they may have expired in the store (`retention`).
const AGE_MS_MAX: u64 = 60 * 60 * 1_000;

/// The size that an entry counts for besides its text.
const ENTRY_BYTES: usize = 128;

/// The bytes that all conversations of a node keep, and their limit.
#[derive(Debug, Default)]
pub(crate) struct NewestBytes(AtomicUsize);

impl NewestBytes {
    pub(crate) fn total(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

struct Kept {
    seq: Seq,
    at_ms: u64,
    json: Bytes,
}

/// See the file's comment.
pub(super) struct Newest {
    entries: VecDeque<Kept>,
    bytes: usize,
    all: Arc<NewestBytes>,
}

impl Newest {
    pub(super) fn new(all: &Arc<NewestBytes>) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, all: all.clone() }
    }

    /// Adds the next durable entry. `all_max` bounds what all conversations keep.
    pub(super) fn push(&mut self, seq: Seq, json: &Bytes, now_ms: u64, all_max: usize) {
        let bytes = ENTRY_BYTES + json.len();
        self.bytes += bytes;
        self.all.0.fetch_add(bytes, Ordering::Relaxed);
        self.entries.push_back(Kept { seq, at_ms: now_ms, json: json.clone() });
        while self.bytes > BYTES_MAX || (self.bytes > 0 && self.all.total() > all_max) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let bytes = self.entries.pop_front().map_or(self.bytes, |kept| ENTRY_BYTES + kept.json.len());
        self.bytes -= bytes;
        self.all.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Every entry after `after`; `None` if some of them are not here, or too old.
    pub(super) fn after(&self, after: Seq, now_ms: u64) -> Option<impl Iterator<Item = &Bytes>> {
        let skipped = after.next().get().checked_sub(self.entries.front()?.seq.get())?;
        let mut newer = self.entries.iter().skip(usize::try_from(skipped).ok()?).peekable();
        let is_old = newer.peek().is_some_and(|oldest| oldest.at_ms + AGE_MS_MAX < now_ms);
        (!is_old).then(|| newer.map(|kept| &kept.json))
    }
}

impl Drop for Newest {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(newest: &mut Newest, seqs: std::ops::RangeInclusive<u64>, all_max: usize) {
        seqs.for_each(|seq| newest.push(Seq::new(seq), &Bytes::from(seq.to_string()), seq, all_max));
    }

    fn after(newest: &Newest, after: u64) -> Option<Vec<&[u8]>> {
        newest.after(Seq::new(after), 0).map(|entries| entries.map(AsRef::as_ref).collect())
    }

    #[test]
    fn what_it_has_is_without_a_hole() {
        let mut newest = Newest::new(&Arc::default());
        assert_eq!(after(&newest, 0), None);
        push(&mut newest, 5..=7, usize::MAX);
        assert_eq!(after(&newest, 3), None, "5 is not all that came after 3");
        assert_eq!(after(&newest, 4), Some(vec![&b"5"[..], b"6", b"7"]));
        assert_eq!(after(&newest, 6), Some(vec![&b"7"[..]]));
        assert_eq!(after(&newest, 7), Some(vec![]));
    }

    #[test]
    fn what_is_old_is_not_shown() {
        let mut newest = Newest::new(&Arc::default());
        push(&mut newest, 1..=2, usize::MAX);
        let count = |after, now_ms| newest.after(Seq::new(after), now_ms).map(Iterator::count);
        assert_eq!([count(0, AGE_MS_MAX + 1), count(0, AGE_MS_MAX + 2)], [Some(2), None]);
        assert_eq!([count(1, AGE_MS_MAX + 2), count(1, AGE_MS_MAX + 3), count(2, u64::MAX)], [Some(1), None, Some(0)]);
    }

    #[test]
    fn it_is_bounded_for_each_conversation_and_for_all() {
        let all = Arc::new(NewestBytes::default());
        let (mut busy, mut other) = (Newest::new(&all), Newest::new(&all));
        push(&mut busy, 1..=1_000, usize::MAX);
        assert!(all.total() <= BYTES_MAX && all.total() == busy.bytes);
        assert_eq!(after(&busy, 999).map(|last| last.len()), Some(1));
        push(&mut other, 1..=10, all.total());
        assert_eq!(after(&other, 9), None, "no room beside the busy one");
        push(&mut busy, 1_001..=1_001, 3 * ENTRY_BYTES);
        assert_eq!((after(&busy, 1_000).map(|last| last.len()), after(&busy, 900)), (Some(1), None));
        drop((busy, other));
        assert_eq!(all.total(), 0);
    }
}
