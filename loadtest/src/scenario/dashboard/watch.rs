//! Watching: a watcher's copy of a topic, and the age of updates on arrival.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use switchboard_protocol::SeriesPoints;

use super::publish::{BATCHES, Stream};
use crate::client::reader::OnFrame;
use crate::meter::recorder::{Counter, LatencyMeter};
use crate::verify::Tally;

/// The counters of all watchers of a worker.
#[derive(Clone)]
pub(super) struct Counts {
    pub(super) updates: Counter,
    /// Batches that watchers have received, counted per watcher.
    pub(super) seen: Counter,
    /// From a batch's intended moment to the frame that contains it.
    pub(super) freshness: LatencyMeter,
}

/// A watcher's copy of the windows.
pub(super) struct Mirror {
    stream: Arc<Stream>,
    counts: Counts,
    /// Whether it also keeps what is only needed for the check.
    is_whole: bool,
    windows: Mutex<Windows>,
}

#[derive(Default)]
struct Windows {
    series: HashMap<String, BTreeMap<i64, Tally>>,
    /// The number of batches in them, and its maximum so far.
    batches: u64,
    seen: u64,
}

/// A `topic_state` or `topic_update`.
#[derive(Deserialize)]
struct TopicFrame {
    series: Vec<SeriesPoints>,
}

impl Mirror {
    pub(super) fn new(stream: &Arc<Stream>, counts: &Counts, is_whole: bool) -> Arc<Self> {
        Arc::new(Self { stream: stream.clone(), counts: counts.clone(), is_whole, windows: Mutex::default() })
    }

    pub(super) fn topic(&self) -> &str {
        &self.stream.topic
    }

    pub(super) fn on_frame(self: &Arc<Self>) -> OnFrame {
        let own = self.clone();
        Box::new(move |kind, json, read_ns| match kind {
            "topic_state" => own.apply(json, true, read_ns),
            "topic_update" => {
                own.counts.updates.add(1);
                own.apply(json, false, read_ns);
            }
            _ => {}
        })
    }

    fn apply(&self, json: &[u8], replaces: bool, read_ns: u64) {
        let Ok(frame) = serde_json::from_slice::<TopicFrame>(json) else { return };
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if replaces {
            (windows.series, windows.batches) = (HashMap::new(), 0);
        }
        for series in frame.series.iter().filter(|series| self.is_whole || series.series.as_str() == BATCHES) {
            windows.apply(series);
        }
        let new = windows.seen..windows.batches;
        if !new.is_empty() {
            windows.seen = new.end;
            drop(windows);
            self.counts.seen.add(new.end - new.start);
            let numbers = usize::try_from(new.start).unwrap_or(0)..usize::try_from(new.end).unwrap_or(0);
            for intended_ns in self.stream.moments_ns(numbers) {
                self.counts.freshness.record_ns(read_ns.saturating_sub(intended_ns));
            }
        }
    }

    /// The totals of all windows, by series.
    pub(super) fn sums(&self) -> BTreeMap<String, Tally> {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of_one: &BTreeMap<i64, Tally>| of_one.values().copied().fold(Tally::default(), Tally::plus);
        windows.series.iter().map(|(name, of_one)| (name.clone(), sum(of_one))).collect()
    }
}

impl Windows {
    fn apply(&mut self, told: &SeriesPoints) {
        let known = self.series.entry(told.series.to_string()).or_default();
        for point in &told.points {
            #[expect(clippy::cast_possible_truncation, reason = "a sum of whole numbers")]
            let tally = Tally { count: point.count, sum: point.sum.get() as i64 };
            let before = known.insert(point.start_ms, tally).unwrap_or_default();
            if told.series.as_str() == BATCHES {
                self.batches = self.batches + tally.count - before.count;
            }
        }
    }
}

/// The same for an answer to `topic_watch`.
pub(super) fn sums_of(state: &serde_json::Value) -> anyhow::Result<BTreeMap<String, Tally>> {
    let frame = TopicFrame::deserialize(state)?;
    let mut windows = Windows::default();
    frame.series.iter().for_each(|series| windows.apply(series));
    let sum = |of_one: BTreeMap<i64, Tally>| of_one.into_values().fold(Tally::default(), Tally::plus);
    Ok(windows.series.into_iter().map(|(name, of_one)| (name, sum(of_one))).collect())
}
