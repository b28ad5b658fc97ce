//! Copies of a topic, so that its windows outlive its owner. Counts are sent with the id of the [`Counter`] that made
//! them, and merging them is idempotent and independent of order. So a node may receive counts from several nodes at
//! once while it counts events itself, and nothing is counted twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchboard_protocol::Window;
use switchboard_protocol::topic::SeriesPoints;

use crate::topic::{SeriesKey, Topic, index_of, told};

/// The unique id of one counting [`Topic`] instance, for its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Counter(pub u64);

/// Complete windows with the counts of one counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub counter: Counter,
    pub window: Window,
    pub series: Vec<SeriesPoints>,
}

impl Part {
    /// The number of windows.
    pub fn points(&self) -> usize {
        self.series.iter().map(|series| series.points.len()).sum()
    }
}

/// A position in the iteration over a topic's windows ([`Topic::parts`]). The default is the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyCursor {
    slot: usize,
}

impl Topic {
    /// The next parts of the whole topic, with about `points_max` windows, and the position to continue from; `None` at
    /// the end. Later changes to parts already returned are in [`Topic::take_changes`].
    pub fn parts(&self, from: CopyCursor, points_max: usize) -> (Vec<Part>, Option<CopyCursor>) {
        let mut parts: BTreeMap<(Counter, Window), Vec<SeriesPoints>> = BTreeMap::new();
        let mut points_told = 0;
        for slot in from.slot..self.series.capacity() {
            let Some(series) = self.series.get(slot) else { continue };
            if points_told >= points_max {
                return (in_parts(parts), Some(CopyCursor { slot }));
            }
            for window in Window::ALL {
                for (counter, points) in series.windows[index_of(window)].by_counter() {
                    points_told += points.len();
                    let part = parts.entry((counter.unwrap_or(self.counter), window)).or_default();
                    part.push(told(series.key.clone(), points));
                }
            }
        }
        (in_parts(parts), None)
    }

    /// Merges the counts of other counters. `series_max` does not apply, since it was enforced where they were counted.
    /// Returns whether anything was new.
    pub fn absorb(&mut self, parts: Vec<Part>, now_ms: i64) -> bool {
        self.advance(now_ms);
        let mut is_new = false;
        for Part { counter, window, series } in parts {
            // This counter's own counts, sent back by another node, are never newer than those here.
            if counter != self.counter {
                for series in series {
                    is_new |= self.absorb_series(counter, window, series);
                }
            }
        }
        is_new
    }

    fn absorb_series(&mut self, counter: Counter, window: Window, told: SeriesPoints) -> bool {
        let kept_from_ms = self.kept_from_ms(window);
        let mut points = told.points.into_iter().filter(|point| point.start_ms >= kept_from_ms).peekable();
        if points.peek().is_none() {
            return false;
        }
        let slot = self.slot_of(SeriesKey { name: told.series, tags: told.tags });
        let windows = &mut self.series[slot as usize].windows[index_of(window)];
        let bytes_before = windows.bytes();
        let is_new = windows.absorb(counter, points);
        self.bytes = self.bytes + windows.bytes() - bytes_before;
        is_new
    }
}

fn in_parts(parts: BTreeMap<(Counter, Window), Vec<SeriesPoints>>) -> Vec<Part> {
    parts.into_iter().map(|((counter, window), series)| Part { counter, window, series }).collect()
}
