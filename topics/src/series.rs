//! The windows of one series of one length: some open, at most an hour of closed ones. Empty windows are not kept.

use std::collections::VecDeque;

use switchboard_protocol::Point;

use crate::window::OpenWindow;

/// See the module. Both lists are in the order of their times, and no open window begins before a closed one.
#[derive(Default)]
pub(crate) struct Windows {
    open: Vec<OpenWindow>,
    closed: VecDeque<Point>,
}

impl Windows {
    /// Adds to the window that begins then, which must not be closed. True if it was not marked as changed before.
    pub(crate) fn add(&mut self, start_ms: i64, value: f64) -> bool {
        // Nearly always the last one, or the one before it.
        let at = match self.open.iter().rposition(|window| window.start_ms <= start_ms) {
            Some(at) if self.open[at].start_ms == start_ms => at,
            before => {
                let at = before.map_or(0, |at| at + 1);
                self.open.insert(at, OpenWindow::new(start_ms));
                at
            }
        };
        let window = &mut self.open[at];
        window.add(value);
        !std::mem::replace(&mut window.is_changed, true)
    }

    /// Closes what begins before `open_from_ms` and forgets what begins before `kept_from_ms`. Returns how many closed.
    pub(crate) fn close(&mut self, open_from_ms: i64, kept_from_ms: i64) -> usize {
        let closing = self.open.partition_point(|window| window.start_ms < open_from_ms);
        self.closed.extend(self.open.drain(..closing).map(|window| window.point()));
        if self.open.is_empty() {
            self.open = Vec::new();
        }
        while self.closed.front().is_some_and(|point| point.start_ms < kept_from_ms) {
            self.closed.pop_front();
        }
        if self.closed.is_empty() {
            self.closed = VecDeque::new();
        }
        closing
    }

    /// The windows from this time on.
    pub(crate) fn points(&self, from_ms: i64) -> Vec<Point> {
        let closed = self.closed.partition_point(|point| point.start_ms < from_ms);
        let open = self.open.iter().filter(|window| window.start_ms >= from_ms);
        self.closed.range(closed..).copied().chain(open.map(OpenWindow::point)).collect()
    }

    /// Takes the mark off a changed window and says what it holds now; `None` if it is forgotten.
    pub(crate) fn take_changed(&mut self, start_ms: i64) -> Option<Point> {
        if let Ok(at) = self.open.binary_search_by_key(&start_ms, |window| window.start_ms) {
            self.open[at].is_changed = false;
            return Some(self.open[at].point());
        }
        let at = self.closed.binary_search_by_key(&start_ms, |point| point.start_ms).ok()?;
        self.closed.get(at).copied()
    }

    /// Takes the mark off a changed window.
    pub(crate) fn unmark(&mut self, start_ms: i64) {
        if let Ok(at) = self.open.binary_search_by_key(&start_ms, |window| window.start_ms) {
            self.open[at].is_changed = false;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty()
    }

    /// About what they take in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.closed.capacity() * size_of::<Point>() + self.open.iter().map(OpenWindow::bytes).sum::<usize>()
    }
}
