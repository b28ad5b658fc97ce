//! The rate of a user's notifications on one channel: a sliding hour. Owns the times of past and future ones; reads no
//! clock.

/// The span in which they are counted.
pub(crate) const SPAN_MS: u64 = 3_600_000;

/// The times of past and future notifications, at most `max` in any hour. There are as many future ones as there are
/// conversations with a queued notification; past ones are forgotten after an hour.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rate {
    /// In ascending order.
    slots_ms: Vec<u64>,
}

impl Rate {
    /// The first time at or after `from_ms` at which one more exceeds no hour's limit.
    pub(crate) fn earliest_ms(&self, from_ms: u64, max: usize) -> u64 {
        let ends = self.slots_ms.iter().map(|slot_ms| slot_ms + SPAN_MS).filter(|end_ms| *end_ms > from_ms);
        let mut candidates = std::iter::once(from_ms).chain(ends);
        // After the last one's hour there is always room.
        candidates.find(|at_ms| self.has_room(*at_ms, max)).unwrap_or(from_ms)
    }

    fn has_room(&self, at_ms: u64, max: usize) -> bool {
        let at = self.slots_ms.partition_point(|slot_ms| *slot_ms <= at_ms);
        // Of each `max` that follow each other with the new one among or beside them, the first and the last.
        let first = at.saturating_sub(max);
        (first..=at).all(|low| {
            let high = low + max - 1;
            let (Some(low_ms), Some(high_ms)) = (self.slots_ms.get(low), self.slots_ms.get(high)) else { return true };
            let (low_ms, high_ms) = ((*low_ms).min(at_ms), (*high_ms).max(at_ms));
            high_ms - low_ms >= SPAN_MS
        })
    }

    /// Counts one at `at_ms`.
    pub(crate) fn take(&mut self, at_ms: u64) {
        let at = self.slots_ms.partition_point(|slot_ms| *slot_ms <= at_ms);
        self.slots_ms.insert(at, at_ms);
    }

    /// Counts one less: it was withdrawn before its time.
    pub(crate) fn give_back(&mut self, at_ms: u64) {
        if let Ok(at) = self.slots_ms.binary_search(&at_ms) {
            self.slots_ms.remove(at);
        }
    }

    /// Forgets what is more than an hour old.
    pub(crate) fn forget(&mut self, now_ms: u64) {
        let gone = self.slots_ms.partition_point(|slot_ms| slot_ms + SPAN_MS <= now_ms);
        self.slots_ms.drain(..gone);
        if self.slots_ms.is_empty() {
            self.slots_ms = Vec::new();
        }
    }

    /// When the last one will be an hour old; `None` if nothing is counted.
    pub(crate) fn over_ms(&self) -> Option<u64> {
        self.slots_ms.last().map(|last_ms| last_ms + SPAN_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_eleventh_waits_until_the_first_is_an_hour_ago() {
        let mut rate = Rate::default();
        for n in 0..10 {
            assert_eq!(rate.earliest_ms(n * 1_000, 10), n * 1_000);
            rate.take(n * 1_000);
        }
        assert_eq!(rate.earliest_ms(10_000, 10), SPAN_MS);
        rate.give_back(0);
        assert_eq!(rate.earliest_ms(10_000, 10), 10_000);
    }

    proptest! {
        /// Whatever is taken and given back, no hour has more than `max`, and no earlier time would have been possible.
        #[test]
        fn no_hour_has_more(
            steps in prop::collection::vec((0u64..6 * SPAN_MS, any::<bool>()), 1..60),
            max in 1usize..5,
        ) {
            let mut rate = Rate::default();
            let fits = |slots: &[u64]| slots.windows(max + 1).all(|some| some[max] - some[0] >= SPAN_MS);
            for (from_ms, gives_back) in steps {
                let from_ms = from_ms / 600_000 * 600_000;
                if gives_back && let Some(first) = rate.slots_ms.first().copied() {
                    rate.give_back(first);
                    continue;
                }
                let at_ms = rate.earliest_ms(from_ms, max);
                prop_assert!(at_ms >= from_ms);
                for earlier_ms in (from_ms..at_ms).step_by(600_000) {
                    let mut slots = rate.slots_ms.clone();
                    slots.push(earlier_ms);
                    slots.sort_unstable();
                    prop_assert!(!fits(&slots), "{earlier_ms} would have done");
                }
                rate.take(at_ms);
                prop_assert!(fits(&rate.slots_ms), "{:?}", rate.slots_ms);
            }
        }
    }
}
