//! One topic: its series, which of their windows are open, and the changes since the last update to watchers.

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use slab::Slab;
use switchboard_protocol::limits::{EVENT_AHEAD_MS_MAX, TOPIC_RANGE_S_MAX};
use switchboard_protocol::server::TopicUpdate;
use switchboard_protocol::topic::{Event, SeriesName, SeriesPoints, Tags, Window};
use switchboard_protocol::{ErrorCode, ProtocolError, TopicId};

use crate::copy::{Counter, Part};
use crate::series::Windows;

/// How long windows are kept: those of the last hour, including the one in which that hour begins.
const KEPT_MS: i64 = TOPIC_RANGE_S_MAX as i64 * 1_000;

/// The configurable limits.
#[derive(Debug, Clone, Copy)]
pub struct TopicLimits {
    /// `topics.lateness_ms`: how long after its end a window closes.
    pub lateness_ms: u32,
    /// `topics.series_max`: the maximum number of series with a window in the last hour.
    pub series_max: usize,
}

/// The result of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// Events that were counted.
    pub accepted: u32,
    /// Events whose one-second window was closed: not counted in any window.
    pub late: u32,
}

/// Why a batch was refused. None of its events is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("event {index} is more than {EVENT_AHEAD_MS_MAX} ms in the future")]
    Ahead { index: usize },
    #[error("event {index} needs a new series, but the topic already has {series_max}")]
    TooManySeries { index: usize, series_max: usize },
}

impl From<PublishError> for ProtocolError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Ahead { index } => {
                Self::bad_request(format!("events[{index}].timestamp"), "must not be more than 60 s in the future")
            }
            PublishError::TooManySeries { index, series_max } => {
                Self::new(ErrorCode::Conflict, "the topic has no room for another series").with_detail(
                    format!("events[{index}].series"),
                    format!("must be, with its tags, one of the {series_max} that the topic has had in the last hour"),
                )
            }
        }
    }
}

/// The changes to the windows of one length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub version: u64,
    /// The complete state of each changed window, with the counts of all counters.
    pub series: Vec<SeriesPoints>,
    /// Windows that end at or before this time no longer change.
    pub closed_until_ms: i64,
    /// The same windows with only this topic's own counts, for the node with the copy.
    pub own: Part,
}

impl Changes {
    /// The update for watchers of this topic.
    pub fn of(self, topic: TopicId) -> TopicUpdate {
        let Self { version, series, closed_until_ms, own } = self;
        TopicUpdate { topic, window: own.window, version, series, closed_until_ms }
    }
}

/// See the module. Its memory is bounded by `series_max` and by the windows of a series: the last hour and the 60 s that
/// events may be ahead, so about 3,660 + 62, of 64 bytes each (per counter). Open windows have a sketch each.
pub struct Topic {
    pub(crate) counter: Counter,
    limits: TopicLimits,
    /// The latest time that was passed in: it never decreases, so closed windows stay closed.
    pub(crate) now_ms: i64,
    slots: HashMap<SeriesKey, u32, RandomState>,
    pub(crate) series: Slab<Series>,
    lengths: [Length; 2],
    /// The events of the current batch with their series; empty between batches.
    placed: Vec<Placed>,
    /// Approximate memory in bytes.
    pub(crate) bytes: usize,
}

pub(crate) struct Series {
    pub(crate) key: SeriesKey,
    pub(crate) windows: [Windows; 2],
}

impl Series {
    fn bytes(&self) -> usize {
        // The key is in the map and in the slab; long strings are shared between both.
        const BASE_BYTES: usize = size_of::<Series>() + size_of::<(SeriesKey, u32)>();
        BASE_BYTES + self.key.tags.bytes() + self.windows.iter().map(Windows::bytes).sum::<usize>()
    }
}

/// The pending changes to the windows of one length.
struct Length {
    window: Window,
    version: u64,
    /// Windows that begin before this time are closed.
    open_from_ms: i64,
    /// The windows that changed since the last update, each once: the series' slot and the window's start.
    changed: Vec<(u32, i64)>,
    /// Whether a window has been closed since the last update.
    has_closed: bool,
}

struct Placed {
    slot: u32,
    at_ms: i64,
    value: f64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct SeriesKey {
    pub(crate) name: SeriesName,
    pub(crate) tags: Tags,
}

#[derive(Hash)]
struct BorrowedKey<'a> {
    name: &'a SeriesName,
    tags: &'a Tags,
}

impl Equivalent<SeriesKey> for BorrowedKey<'_> {
    fn equivalent(&self, key: &SeriesKey) -> bool {
        *self.name == key.name && *self.tags == key.tags
    }
}

impl Topic {
    /// A topic without events, which counts as `counter`.
    pub fn new(counter: Counter, limits: TopicLimits, now_ms: i64) -> Self {
        let length =
            |window| Length { window, version: 0, open_from_ms: i64::MIN, changed: Vec::new(), has_closed: false };
        let mut topic = Self {
            counter,
            limits,
            now_ms,
            slots: HashMap::default(),
            series: Slab::new(),
            lengths: Window::ALL.map(length),
            placed: Vec::new(),
            bytes: size_of::<Self>(),
        };
        topic.advance(now_ms);
        topic
    }

    /// Continues a former owner's versions, so that they never decrease.
    pub fn raise_version(&mut self, window: Window, version: u64) {
        let length = &mut self.lengths[index_of(window)];
        length.version = length.version.max(version);
    }

    /// The version of the last update.
    pub fn version(&self, window: Window) -> u64 {
        self.lengths[index_of(window)].version
    }

    /// Sets the limits for later events: existing series stay, and closed windows stay closed.
    pub fn set_limits(&mut self, limits: TopicLimits) {
        self.limits = limits;
    }

    /// Counts a batch as a whole or, on an error, not at all.
    ///
    /// # Errors
    /// If an event is too far in the future, or needs a new series beyond `series_max`.
    pub fn publish(&mut self, events: Vec<Event>, now_ms: i64) -> Result<Published, PublishError> {
        self.advance(now_ms);
        let mut late = 0;
        let first_new = self.slots.len();
        let mut new = Vec::new();
        for (index, event) in events.into_iter().enumerate() {
            match self.place(index, event, &mut new) {
                Ok(true) => {}
                Ok(false) => late += 1,
                Err(error) => {
                    debug_assert_eq!(first_new + new.len(), self.slots.len());
                    self.placed.clear();
                    new.into_iter().for_each(|slot| self.remove(slot));
                    return Err(error);
                }
            }
        }
        let mut placed = std::mem::take(&mut self.placed);
        let accepted = u32::try_from(placed.len()).unwrap_or(u32::MAX);
        placed.drain(..).for_each(|event| self.count(&event));
        self.placed = placed;
        Ok(Published { accepted, late })
    }

    /// Finds the series of an event, creating it if needed. Returns false if the event is late.
    fn place(&mut self, index: usize, event: Event, new: &mut Vec<u32>) -> Result<bool, PublishError> {
        let at_ms = event.timestamp.map_or(self.now_ms, |timestamp| timestamp.unix_ms());
        if at_ms > self.now_ms.saturating_add(EVENT_AHEAD_MS_MAX) {
            return Err(PublishError::Ahead { index });
        }
        // The one-second window decides for both lengths (PROTOCOL §5, `late`).
        let [seconds, _] = &self.lengths;
        if seconds.window.start_ms(at_ms) < seconds.open_from_ms {
            return Ok(false);
        }
        let borrowed = BorrowedKey { name: &event.series, tags: &event.tags };
        let slot = match self.slots.get(&borrowed) {
            Some(slot) => *slot,
            None if self.slots.len() >= self.limits.series_max => {
                return Err(PublishError::TooManySeries { index, series_max: self.limits.series_max });
            }
            None => {
                let slot = self.slot_of(SeriesKey { name: event.series, tags: event.tags });
                new.push(slot);
                slot
            }
        };
        self.placed.push(Placed { slot, at_ms, value: event.value.get() });
        Ok(true)
    }

    /// The slot of a series, which is created if needed.
    pub(crate) fn slot_of(&mut self, key: SeriesKey) -> u32 {
        if let Some(slot) = self.slots.get(&key) {
            return *slot;
        }
        let series = Series { key: key.clone(), windows: Default::default() };
        self.bytes += series.bytes();
        let slot = u32::try_from(self.series.insert(series));
        let slot = slot.unwrap_or_else(|_| unreachable!("there is no memory for so many series"));
        self.slots.insert(key, slot);
        slot
    }

    fn count(&mut self, event: &Placed) {
        let series = &mut self.series[event.slot as usize];
        for (length, windows) in self.lengths.iter_mut().zip(&mut series.windows) {
            let start_ms = length.window.start_ms(event.at_ms);
            let added = windows.add(start_ms, event.value);
            self.bytes += added.bytes;
            if added.is_first_change {
                length.changed.push((event.slot, start_ms));
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        let series = self.series.remove(slot as usize);
        self.bytes -= series.bytes();
        self.slots.remove(&series.key);
    }

    /// Closes the windows that are due, and removes those that are too old.
    pub fn advance(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
        let mut is_forgetting = false;
        for at in 0..self.lengths.len() {
            let kept_from_ms = self.kept_from_ms(self.lengths[at].window);
            let length = &mut self.lengths[at];
            let open_from_ms = length.window.start_ms(self.now_ms - i64::from(self.limits.lateness_ms));
            if open_from_ms <= length.open_from_ms {
                continue;
            }
            let open_before_ms = std::mem::replace(&mut length.open_from_ms, open_from_ms);
            for (_, series) in &mut self.series {
                let windows = &mut series.windows[at];
                let bytes_before = windows.bytes();
                length.has_closed |= windows.close(open_before_ms, open_from_ms, kept_from_ms);
                self.bytes = self.bytes + windows.bytes() - bytes_before;
                is_forgetting |= windows.is_empty();
            }
        }
        if is_forgetting {
            self.forget_empty();
        }
    }

    fn forget_empty(&mut self) {
        let is_empty = |series: &Series| series.windows.iter().all(Windows::is_empty);
        let empty: Vec<_> = self.series.iter().filter(|(_, series)| is_empty(series)).map(|(slot, _)| slot).collect();
        for slot in empty {
            let series = self.series.remove(slot);
            self.bytes -= series.bytes();
            self.slots.remove(&series.key);
        }
        debug_assert_eq!(self.bytes, size_of::<Self>() + self.series.iter().map(|(_, s)| s.bytes()).sum::<usize>());
    }

    /// Windows that begin before this time are removed.
    pub(crate) fn kept_from_ms(&self, window: Window) -> i64 {
        window.start_ms(self.now_ms - KEPT_MS)
    }

    /// The changes since the last call, as the next version. `None` if nothing has changed: no event was counted and no
    /// window with events was closed.
    pub fn take_changes(&mut self, window: Window, now_ms: i64) -> Option<Changes> {
        self.advance(now_ms);
        let at = index_of(window);
        let length = &mut self.lengths[at];
        if length.changed.is_empty() && !length.has_closed {
            return None;
        }
        let mut changed = std::mem::take(&mut length.changed);
        length.has_closed = false;
        length.version += 1;
        changed.sort_unstable();
        let (mut series, mut own) = (Vec::new(), Vec::new());
        for of_one in changed.chunk_by(|a, b| a.0 == b.0) {
            // A series that has been removed is left out.
            let Some(known) = self.series.get_mut(of_one[0].0 as usize) else { continue };
            let windows = &mut known.windows[at];
            let points: Vec<_> = of_one.iter().filter_map(|(_, start_ms)| windows.take_changed(*start_ms)).collect();
            if !points.is_empty() {
                let with_others = points.iter().map(|point| windows.with_others(*point)).collect();
                series.push(told(known.key.clone(), with_others));
                own.push(told(known.key.clone(), points));
            }
        }
        let Length { version, open_from_ms, .. } = self.lengths[at];
        let own = Part { counter: self.counter, window, series: own };
        Some(Changes { version, series, closed_until_ms: open_from_ms, own })
    }

    /// Like [`Topic::take_changes`] when nobody watches: the next watcher gets the changes with its state.
    pub fn skip_changes(&mut self, window: Window) {
        let at = index_of(window);
        self.lengths[at].has_closed = false;
        for (slot, start_ms) in std::mem::take(&mut self.lengths[at].changed) {
            if let Some(series) = self.series.get_mut(slot as usize) {
                series.windows[at].unmark(start_ms);
            }
        }
    }

    /// Whether there are no series.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The number of series, each with at least one window.
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// Approximate memory in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

pub(crate) fn told(key: SeriesKey, points: Vec<switchboard_protocol::Point>) -> SeriesPoints {
    SeriesPoints { series: key.name, tags: key.tags, points }
}

/// The index of a length in the arrays of two.
pub(crate) const fn index_of(window: Window) -> usize {
    match window {
        Window::Second => 0,
        Window::Minute => 1,
    }
}
