//! An open window of one series: it may still get events.

use sketches_ddsketch::{Config, DDSketch};
use switchboard_protocol::{Number, Point};

/// The relative error of percentiles (PROTOCOL §5), guaranteed by a DDSketch (Masson, Rim, Lee, 2019) of this accuracy.
///
/// Percentile q of n values is the one at rank ⌊q·(n−1)⌋, from 0, in ascending order. The bound holds for values
/// further than `ABSOLUTE_ERROR` from 0, and while a window's values of one sign span at most 17 decimal orders of
/// magnitude: beyond that, the smallest share one bin.
pub const RELATIVE_ERROR: f64 = 0.01;

/// Values closer to 0 than this count as 0 in percentiles.
pub(crate) const ABSOLUTE_ERROR: f64 = 1.0e-9;

/// Maximum bins per sign: 2,048 of the accuracy `RELATIVE_ERROR` span 17 orders of magnitude, in 16 KiB.
const BINS_MAX: u32 = 2_048;

/// Bytes of a window besides its sketch's bins.
const BASE_BYTES: usize = size_of::<OpenWindow>();

/// A window that is not closed yet. When it closes, its sketch is dropped and its numbers are kept as a [`Point`].
#[derive(Clone)]
pub(crate) struct OpenWindow {
    pub(crate) start_ms: i64,
    /// Whether it is already in the topic's list of changed windows.
    pub(crate) is_changed: bool,
    sum: f64,
    min: f64,
    max: f64,
    count: u64,
    sketch: DDSketch,
}

impl OpenWindow {
    pub(crate) fn new(start_ms: i64) -> Self {
        let sketch = DDSketch::new(Config::new(RELATIVE_ERROR, BINS_MAX, ABSOLUTE_ERROR));
        Self { start_ms, is_changed: false, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, count: 0, sketch }
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sketch.add(value);
    }

    /// The numbers that watchers get.
    pub(crate) fn point(&self) -> Point {
        Point {
            start_ms: self.start_ms,
            count: self.count,
            sum: Number::saturating(self.sum),
            min: Number::saturating(self.min),
            max: Number::saturating(self.max),
            p50: self.percentile(0.50),
            p95: self.percentile(0.95),
            p99: self.percentile(0.99),
        }
    }

    /// Clamped to the range of the values, so it is exact if all values are the same.
    fn percentile(&self, q: f64) -> Number {
        // Fails only for a q outside 0 to 1.
        let value = self.sketch.quantile(q).ok().flatten().unwrap_or_default();
        Number::saturating(value.max(self.min).min(self.max))
    }

    /// Approximate memory in bytes.
    pub(crate) fn bytes(&self) -> usize {
        BASE_BYTES + self.sketch.length() * size_of::<u64>()
    }
}

/// The sum of two counters' counts for the same window. Percentiles can't be added: they are taken from the counter with
/// more events.
pub(crate) fn together(one: Point, other: Point) -> Point {
    let larger = if other.count > one.count { other } else { one };
    Point {
        count: one.count.saturating_add(other.count),
        sum: Number::saturating(one.sum.get() + other.sum.get()),
        min: if other.min < one.min { other.min } else { one.min },
        max: if other.max > one.max { other.max } else { one.max },
        ..larger
    }
}
