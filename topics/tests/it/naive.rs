//! A naive implementation: every accepted event is kept, and each answer is computed from all of them.

use std::collections::BTreeMap;

use switchboard_protocol::topic::SeriesPoints;
use switchboard_protocol::{Event, Point, Tags, Window};
use switchboard_topics::RELATIVE_ERROR;

pub(crate) const HOUR_MS: i64 = 3_600_000;

/// A series' name and tags.
pub(crate) type Key = (String, String);

pub(crate) fn key(series: &str, tags: &Tags) -> Key {
    (series.to_owned(), format!("{tags:?}"))
}

pub(crate) struct Naive {
    lateness_ms: i64,
    now_ms: i64,
    counted: Vec<(Key, i64, f64)>,
}

impl Naive {
    pub(crate) fn new(lateness_ms: i64, now_ms: i64) -> Self {
        Self { lateness_ms, now_ms, counted: Vec::new() }
    }

    pub(crate) fn advance(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Returns the number of late events.
    pub(crate) fn publish(&mut self, events: &[Event], now_ms: i64) -> u32 {
        self.advance(now_ms);
        let mut late = 0;
        for event in events {
            let at_ms = event.timestamp.map_or(self.now_ms, |at| at.unix_ms());
            let end_ms = at_ms - at_ms.rem_euclid(1_000) + 1_000;
            if end_ms + self.lateness_ms <= self.now_ms {
                late += 1;
            } else {
                self.counted.push((key(event.series.as_str(), &event.tags), at_ms, event.value.get()));
            }
        }
        late
    }

    /// The values of each window that is still kept, by series and start, in the order of their arrival.
    pub(crate) fn windows(&self, window: Window, range_s: i64) -> BTreeMap<(Key, i64), Vec<f64>> {
        let mut windows: BTreeMap<_, Vec<f64>> = BTreeMap::new();
        for (key, at_ms, value) in &self.counted {
            let start_ms = at_ms.div_euclid(window.ms()) * window.ms();
            let end_ms = start_ms + window.ms();
            if end_ms > self.now_ms - range_s * 1_000 {
                windows.entry((key.clone(), start_ms)).or_default().push(*value);
            }
        }
        windows
    }
}

/// Checks that there is exactly one point for each window with values, and that it is correct.
pub(crate) fn assert_same(told: &[SeriesPoints], expected: &BTreeMap<(Key, i64), Vec<f64>>) {
    let mut seen = 0;
    for series in told {
        assert!(series.points.is_sorted_by_key(|point| point.start_ms) && !series.points.is_empty());
        for point in &series.points {
            let at = (key(series.series.as_str(), &series.tags), point.start_ms);
            assert_point(point, expected.get(&at).unwrap_or_else(|| panic!("a window too many: {at:?}")));
            seen += 1;
        }
    }
    assert_eq!(seen, expected.len(), "windows are missing");
}

fn assert_point(point: &Point, values: &[f64]) {
    let sum = values.iter().sum::<f64>().clamp(f64::MIN, f64::MAX);
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    assert_eq!(point.count, values.len() as u64);
    // Added in the same order, so exactly equal; an empty sum is -0 in Rust, which equals 0.
    assert_eq!(point.sum.get(), sum);
    assert_eq!((point.min.get(), point.max.get()), (sorted[0], sorted[sorted.len() - 1]));
    for (percent, told) in [(50, point.p50), (95, point.p95), (99, point.p99)] {
        let exact = sorted[(sorted.len() - 1) * percent / 100];
        let error = (told.get() - exact).abs();
        assert!(error <= RELATIVE_ERROR * exact.abs() * 1.000_001 + 1.0e-9, "p{percent}: {told:?} for {exact}");
    }
}
