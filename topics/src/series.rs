//! The windows of one length of one series: the open ones, at most an hour of closed ones, and the counts of other
//! nodes for the same period. Empty windows are not stored.

use std::collections::VecDeque;
use std::ops::Range;

use switchboard_protocol::Point;

use crate::copy::Counter;
use crate::window::{OpenWindow, together};

/// See the module. All lists are ordered by time, and no open window begins before a closed one.
#[derive(Default)]
pub(crate) struct Windows {
    open: Vec<OpenWindow>,
    closed: VecDeque<Point>,
    /// The counts of former owners: rarely more than one, and none is kept for longer than the windows.
    others: Vec<Other>,
}

struct Other {
    counter: Counter,
    points: VecDeque<Point>,
}

/// The effect of an event on its window.
pub(crate) struct Added {
    /// The window was not marked as changed before.
    pub(crate) is_first_change: bool,
    /// The additional memory, in bytes.
    pub(crate) bytes: usize,
}

impl Windows {
    /// Adds a value to the window that begins at `start_ms`, which must not be closed.
    pub(crate) fn add(&mut self, start_ms: i64, value: f64) -> Added {
        let mut bytes_before = 0;
        // Almost always the last window, or the one before it.
        let at = match self.open.iter().rposition(|window| window.start_ms <= start_ms) {
            Some(at) if self.open[at].start_ms == start_ms => {
                bytes_before = self.open[at].bytes();
                at
            }
            before => {
                let at = before.map_or(0, |at| at + 1);
                self.open.insert(at, OpenWindow::new(start_ms));
                at
            }
        };
        let window = &mut self.open[at];
        window.add(value);
        let is_first_change = !std::mem::replace(&mut window.is_changed, true);
        Added { is_first_change, bytes: window.bytes() - bytes_before }
    }

    /// Closes the windows that begin before `open_from_ms` (at the previous call: `open_before_ms`), and removes those
    /// that begin before `kept_from_ms`. Returns whether any were closed.
    pub(crate) fn close(&mut self, open_before_ms: i64, open_from_ms: i64, kept_from_ms: i64) -> bool {
        let closing = self.open.partition_point(|window| window.start_ms < open_from_ms);
        self.closed.extend(self.open.drain(..closing).map(|window| window.point()));
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        forget(&mut self.closed, kept_from_ms);
        let mut has_closed = closing > 0;
        for other in &mut self.others {
            let is_closing = |point: &Point| (open_before_ms..open_from_ms).contains(&point.start_ms);
            has_closed |=
                other.points.iter().rev().take_while(|point| point.start_ms >= open_before_ms).any(is_closing);
            forget(&mut other.points, kept_from_ms);
        }
        self.others.retain(|other| !other.points.is_empty());
        if self.others.is_empty() {
            self.others = Vec::new();
        }
        has_closed
    }

    /// The windows that begin in this range, with the counts of all counters.
    pub(crate) fn points(&self, starts_ms: &Range<i64>) -> Vec<Point> {
        let mut points: Vec<Point> = self.counted_here(starts_ms).collect();
        if self.others.is_empty() {
            return points;
        }
        points.extend(self.others.iter().flat_map(|other| within(&other.points, starts_ms)));
        points.sort_by_key(|point| point.start_ms);
        points.dedup_by(|later, earlier| {
            let is_same = later.start_ms == earlier.start_ms;
            if is_same {
                *earlier = together(*earlier, *later);
            }
            is_same
        });
        points
    }

    /// An upper bound for the number of [`Windows::points`]: a window is counted once per counter.
    pub(crate) fn count(&self, starts_ms: &Range<i64>) -> usize {
        let open = self.open.iter().filter(|window| starts_ms.contains(&window.start_ms)).count();
        let others = self.others.iter().map(|other| places(&other.points, starts_ms).len()).sum::<usize>();
        open + others + places(&self.closed, starts_ms).len()
    }

    /// The start of the newest window that begins before `before_ms`.
    pub(crate) fn newest_ms(&self, before_ms: i64) -> Option<i64> {
        let last = |points: &VecDeque<Point>| {
            points.range(places(points, &(i64::MIN..before_ms))).next_back().map(|point| point.start_ms)
        };
        let open = self.open.iter().rev().map(|window| window.start_ms).find(|start_ms| *start_ms < before_ms);
        self.others.iter().map(|other| last(&other.points)).chain([last(&self.closed), open]).flatten().max()
    }

    fn counted_here(&self, starts_ms: &Range<i64>) -> impl Iterator<Item = Point> {
        let open = self.open.iter().filter(|window| starts_ms.contains(&window.start_ms));
        within(&self.closed, starts_ms).chain(open.map(OpenWindow::point))
    }

    /// All windows, by counter; `None` stands for this node's own counts.
    pub(crate) fn by_counter(&self) -> impl Iterator<Item = (Option<Counter>, Vec<Point>)> {
        let others = self.others.iter().map(|other| (Some(other.counter), other.points.iter().copied().collect()));
        let here: Vec<Point> = self.counted_here(&(i64::MIN..i64::MAX)).collect();
        std::iter::once((None, here)).chain(others).filter(|(_, points)| !points.is_empty())
    }

    /// Clears the mark of a changed window and returns this node's own counts for it; `None` if it was removed.
    pub(crate) fn take_changed(&mut self, start_ms: i64) -> Option<Point> {
        if let Ok(at) = self.open.binary_search_by_key(&start_ms, |window| window.start_ms) {
            self.open[at].is_changed = false;
            return Some(self.open[at].point());
        }
        at(&self.closed, start_ms).copied()
    }

    /// Adds the counts of other counters for the same window.
    pub(crate) fn with_others(&self, point: Point) -> Point {
        let others = self.others.iter().filter_map(|other| at(&other.points, point.start_ms));
        others.fold(point, |sum, other| together(sum, *other))
    }

    /// Clears the mark of a changed window.
    pub(crate) fn unmark(&mut self, start_ms: i64) {
        if let Ok(at) = self.open.binary_search_by_key(&start_ms, |window| window.start_ms) {
            self.open[at].is_changed = false;
        }
    }

    /// Merges the counts of another counter. A counter's windows only grow, so of two states of a window the one with
    /// more events is newer. Returns whether anything was new.
    pub(crate) fn absorb(&mut self, counter: Counter, points: impl Iterator<Item = Point>) -> bool {
        let mut is_new = false;
        let known = self.others.iter().position(|other| other.counter == counter);
        let known = known.unwrap_or_else(|| {
            self.others.push(Other { counter, points: VecDeque::new() });
            self.others.len() - 1
        });
        let other = &mut self.others[known];
        for point in points {
            match other.points.binary_search_by_key(&point.start_ms, |point| point.start_ms) {
                Ok(at) if other.points[at].count < point.count => other.points[at] = point,
                Ok(_) => continue,
                Err(at) => other.points.insert(at, point),
            }
            is_new = true;
        }
        self.others.retain(|other| !other.points.is_empty());
        is_new
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty() && self.others.is_empty()
    }

    /// Approximate memory in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let others = self.others.iter().map(|other| size_of::<Other>() + points_bytes(&other.points)).sum::<usize>();
        points_bytes(&self.closed) + others + self.open.iter().map(OpenWindow::bytes).sum::<usize>()
    }
}

fn within(points: &VecDeque<Point>, starts_ms: &Range<i64>) -> impl Iterator<Item = Point> {
    points.range(places(points, starts_ms)).copied()
}

fn places(points: &VecDeque<Point>, starts_ms: &Range<i64>) -> Range<usize> {
    let place = |from_ms: i64| points.partition_point(|point| point.start_ms < from_ms);
    let first = place(starts_ms.start);
    first..place(starts_ms.end).max(first)
}

fn at(points: &VecDeque<Point>, start_ms: i64) -> Option<&Point> {
    let at = points.binary_search_by_key(&start_ms, |point| point.start_ms).ok()?;
    points.get(at)
}

fn forget(points: &mut VecDeque<Point>, kept_from_ms: i64) {
    while points.pop_front_if(|point| point.start_ms < kept_from_ms).is_some() {}
    if points.is_empty() {
        *points = VecDeque::new();
    }
}

fn points_bytes(points: &VecDeque<Point>) -> usize {
    points.capacity() * size_of::<Point>()
}
