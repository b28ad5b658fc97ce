//! A worker's counters and latencies, by name. Counting through a handle is a single addition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::latency::{Counts, Latencies};

/// A counter; clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The total count.
    pub(crate) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A latency meter; clones record together.
#[derive(Clone, Debug, Default)]
pub(crate) struct LatencyMeter(Arc<Mutex<Latencies>>);

impl LatencyMeter {
    pub(crate) fn record_ns(&self, ns: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).record_ns(ns);
    }
}

/// What was counted during some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) latencies: BTreeMap<String, Counts>,
}

impl Sample {
    /// Adds another worker's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (name, count) in &other.counters {
            *self.counters.entry(name.clone()).or_default() += count;
        }
        for (name, counts) in &other.latencies {
            let own = self.latencies.entry(name.clone()).or_default();
            let mut all = Latencies::from(&*own);
            all.merge(counts);
            *own = all.counts();
        }
    }
}

/// All of a worker's counters and latencies.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Each with its total at the last sample.
    counters: BTreeMap<&'static str, (Counter, u64)>,
    latencies: BTreeMap<&'static str, LatencyMeter>,
}

impl Recorder {
    /// The counter with this name, the same each time.
    pub(crate) fn counter(&mut self, name: &'static str) -> Counter {
        self.counters.entry(name).or_default().0.clone()
    }

    /// The latency meter with this name, the same each time.
    pub(crate) fn latency(&mut self, name: &'static str) -> LatencyMeter {
        self.latencies.entry(name).or_default().clone()
    }

    /// What was counted since the last call, without zeros.
    pub(crate) fn take(&mut self) -> Sample {
        let mut sample = Sample::default();
        for (name, (counter, sampled)) in &mut self.counters {
            let total = counter.total();
            if total > *sampled {
                sample.counters.insert((*name).to_owned(), total - *sampled);
            }
            *sampled = total;
        }
        for (name, meter) in &self.latencies {
            let counts = meter.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            if !counts.is_empty() {
                sample.latencies.insert((*name).to_owned(), counts);
            }
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_what_came_since_the_last() {
        let mut recorder = Recorder::default();
        let (counter, latency) = (recorder.counter("sends"), recorder.latency("sent"));
        counter.add(2);
        latency.record_ns(5_000);
        let sample = recorder.take();
        assert_eq!(sample.counters["sends"], 2);
        assert_eq!(Latencies::from(&sample.latencies["sent"]).count(), 1);
        recorder.counter("sends").add(3);
        let sample = recorder.take();
        assert_eq!((sample.counters["sends"], sample.latencies.len()), (3, 0));
        assert_eq!((recorder.take(), counter.total()), (Sample::default(), 5));
    }
}
