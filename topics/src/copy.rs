//! Copies of a topic, so that its windows outlive its owner. Counts are sent under the name of the [`Counter`] that
//! made them, and applying the same counts twice, late or in another order has the same result. So a node may get them
//! from several nodes at once, and count events itself meanwhile, and nothing is counted twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use switchboard_protocol::Window;
use switchboard_protocol::topic::SeriesPoints;

use crate::topic::{SeriesKey, Topic, index_of, told};

/// Names one [`Topic`] that counts, from its making to its end: a number that no other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Counter(pub u64);

/// Windows, whole, as one counter has counted them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub counter: Counter,
    pub window: Window,
    pub series: Vec<SeriesPoints>,
}

impl Part {
    /// How many windows it holds.
    pub fn points(&self) -> usize {
        self.series.iter().map(|series| series.points.len()).sum()
    }
}

/// How far a topic has been told. The beginning by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyCursor {
    slot: usize,
}

impl Topic {
    /// The next parts of all that there is, with about `points_max` windows, and where to go on; `None` at the end. What
    /// changes behind the place is in the changes since.
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

    /// Takes over what others have counted, whatever `series_max` is: it was within it there. Whether anything was new.
    pub fn absorb(&mut self, parts: Vec<Part>, now_ms: i64) -> bool {
        self.advance(now_ms);
        let mut is_new = false;
        for Part { counter, window, series } in parts {
            // What comes back of one's own is older than what is here.
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
