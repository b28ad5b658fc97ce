//! Latencies as histograms that can be merged without loss: across workers, seconds and files.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies in microseconds with three significant digits, up to an hour.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// The same as it is stored and sent: (microseconds, count), ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts(Vec<(u64, u64)>);

const LONGEST_US: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

impl Default for Latencies {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants")]
        Self(Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("bounds that make a histogram"))
    }
}

impl Latencies {
    /// Records one; longer than an hour counts as an hour.
    pub(crate) fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record(ns.div_ceil(1_000));
    }

    pub(crate) fn merge(&mut self, counts: &Counts) {
        for (us, count) in &counts.0 {
            self.0.saturating_record_n(*us, *count);
        }
    }

    /// Returns the latencies so far, and resets.
    pub(crate) fn take(&mut self) -> Counts {
        let counts = self.counts();
        self.0.reset();
        counts
    }

    pub(crate) fn counts(&self) -> Counts {
        let recorded = self.0.iter_recorded();
        Counts(recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect())
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// In milliseconds; 0 if there are none.
    pub(crate) fn percentile_ms(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1e3
    }

    pub(crate) fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

impl Counts {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&Counts> for Latencies {
    fn from(counts: &Counts) -> Self {
        let mut latencies = Self::default();
        latencies.merge(counts);
        latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ms(ms: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        ms.into_iter().for_each(|ms| latencies.record_ns(ms * 1_000_000));
        latencies
    }

    #[test]
    fn merged_parts_have_the_percentiles_of_the_whole() {
        let whole = of_ms(1..=1_000);
        let mut merged = of_ms((1..=1_000).filter(|ms| ms % 3 == 0));
        merged.merge(&of_ms((1..=1_000).filter(|ms| ms % 3 != 0)).counts());
        assert_eq!(merged.counts(), whole.counts());
        for percentile in [0.0, 50.0, 99.0, 99.9, 100.0] {
            assert!((merged.percentile_ms(percentile) - whole.percentile_ms(percentile)).abs() < f64::EPSILON);
        }
        assert!((whole.percentile_ms(50.0) - 500.0).abs() < 1.0, "{}", whole.percentile_ms(50.0));
        assert!((whole.percentile_ms(99.0) - 990.0).abs() < 1.0);
    }

    #[test]
    fn what_was_taken_is_not_counted_twice() {
        let mut latencies = of_ms([5]);
        let mut sum = Latencies::default();
        sum.merge(&latencies.take());
        sum.merge(&latencies.take());
        assert_eq!((sum.count(), latencies.count()), (1, 0));
    }

    #[test]
    fn the_longest_and_the_shortest_are_kept_in_bounds() {
        let mut latencies = Latencies::default();
        latencies.record_ns(0);
        latencies.record_ns(u64::MAX);
        assert_eq!(latencies.count(), 2);
        assert!(latencies.max_ms() >= 3_600_000.0);
    }

    #[test]
    fn it_survives_json() {
        let counts = of_ms([1, 2, 2]).counts();
        let text = serde_json::to_string(&counts).unwrap();
        assert_eq!(serde_json::from_str::<Counts>(&text).unwrap(), counts);
    }
}
