//! The `client_id`s of a conversation's recent sends, which make sends idempotent (PROTOCOL §3).

use std::collections::VecDeque;
use switchboard_protocol::{ClientId, Seq, UserId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// "the conversation's last 10,000 entries" (PROTOCOL §3).
pub(crate) const RECENT_ENTRIES_MAX: u64 = 10_000;

/// "for 24 hours" (PROTOCOL §3).
pub(crate) const RECENT_MS: i64 = 24 * 60 * 60 * 1_000;

/// Sends of the last 24 hours or 10,000 entries, as hashes: at most 280 KB. A hash that matches is verified in the log.
#[derive(Debug, Default)]
pub(super) struct Recent {
    found: hashbrown::HashMap<u64, Seq>,
    /// In the order of `seq`: (seq, Unix ms, hash).
    order: VecDeque<(Seq, i64, u64)>,
    /// Every send after this entry is known.
    after: Seq,
}

impl Recent {
    /// An empty one that knows every send after `after`.
    pub(super) fn new(after: Seq) -> Self {
        Self { after, ..Self::default() }
    }

    /// Notes a send.
    pub(super) fn note(&mut self, from: &UserId, client_id: &ClientId, seq: Seq, at_ms: i64) {
        let hash = hash(from, client_id);
        self.found.insert(hash, seq);
        self.order.push_back((seq, at_ms, hash));
    }

    /// The entry that a send with this `client_id` may have.
    pub(super) fn find(&self, from: &UserId, client_id: &ClientId) -> Option<Seq> {
        self.found.get(&hash(from, client_id)).copied()
    }

    /// Every send after this one is known.
    pub(super) fn after(&self) -> Seq {
        self.after
    }

    /// Forgets sends older than promised.
    pub(super) fn forget_old(&mut self, end: Seq, now_ms: i64) {
        while let Some((seq, at_ms, hash)) = self.order.front().copied() {
            if end.get().saturating_sub(seq.get()) < RECENT_ENTRIES_MAX && now_ms.saturating_sub(at_ms) < RECENT_MS {
                break;
            }
            self.order.pop_front();
            self.after = seq;
            // The same `client_id` may have been used again since.
            if self.found.get(&hash) == Some(&seq) {
                self.found.remove(&hash);
            }
        }
    }
}

fn hash(from: &UserId, client_id: &ClientId) -> u64 {
    xxh3_64_with_seed(client_id.as_str().as_bytes(), xxh3_64(from.as_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_by_entries_and_by_time_and_says_how_far_it_reaches() {
        let from: UserId = "alice".parse().unwrap();
        let name = |n: u64| -> ClientId { format!("m{n}").parse().unwrap() };
        let mut recent = Recent::new(Seq::ZERO);
        for n in 1..=RECENT_ENTRIES_MAX + 5 {
            recent.note(&from, &name(n), Seq::new(n), 0);
        }
        recent.forget_old(Seq::new(RECENT_ENTRIES_MAX + 5), 0);
        assert_eq!(recent.find(&from, &name(5)), None);
        assert_eq!(recent.find(&from, &name(6)), Some(Seq::new(6)));
        assert_eq!(recent.find(&"bob".parse().unwrap(), &name(6)), None, "another sender's");
        assert_eq!(recent.after(), Seq::new(5));
        recent.forget_old(Seq::new(RECENT_ENTRIES_MAX + 5), RECENT_MS);
        assert_eq!(recent.find(&from, &name(100)), None);
        assert_eq!(recent.after(), Seq::new(RECENT_ENTRIES_MAX + 5));
    }
}
