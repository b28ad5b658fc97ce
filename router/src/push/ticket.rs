//! Holds back the confirmation of announcements about which push has not decided yet.

use crate::node::lock;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use switchboard_store::Incarnation;

/// By owner's node, the numbers of its envelopes with undecided messages, or with decisions that are not in the store
/// yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Undecided(Arc<Mutex<BTreeMap<Incarnation, BTreeSet<u64>>>>);

/// Keeps one envelope from being confirmed until the last copy is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    undecided: Undecided,
    from: Incarnation,
    number: u64,
}

impl Undecided {
    /// A ticket: the envelope is not confirmed as long as it exists.
    pub(crate) fn hold(&self, from: &Incarnation, number: u64) -> Arc<Ticket> {
        lock(&self.0).entry(from.clone()).or_default().insert(number);
        Arc::new(Ticket { undecided: self.clone(), from: from.clone(), number })
    }

    /// The highest number, at most `number`, up to which envelopes of `from` may be confirmed.
    pub(crate) fn decided(&self, from: &Incarnation, number: u64) -> u64 {
        let first = lock(&self.0).get(from).and_then(|numbers| numbers.first().copied());
        first.map_or(number, |first| number.min(first - 1))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut undecided = lock(&self.undecided.0);
        if let Some(numbers) = undecided.get_mut(&self.from) {
            numbers.remove(&self.number);
            if numbers.is_empty() {
                undecided.remove(&self.from);
            }
        }
    }
}
