//! The frames that wait to be sent to one session, and the orders to it: to close, to move, to check its deadlines.
//! This is the router's end of a session ([`Socket`]); the session takes everything out.
//!
//! It has one lock, which is held for a few instructions by a delivery, for copying the due frames by the session, and
//! for one non-blocking write by a flush. A sleeping session has lent its socket to the outbox ([`Outbox::lend`]), so
//! that the frames of a fan-out are written by a few tasks, one session after the other, and no session has to be woken
//! for them. The limit is in bytes of waiting frames ([`Outbox::bytes_max`]), even if others hold the same frames.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use switchboard_protocol::CloseCode;
use switchboard_router::{Class, Delivery, LogPosition, Socket};
use tokio::net::tcp::OwnedWriteHalf;

use super::wire::Burst;
use crate::metrics::{DROPPED, SentTally};

/// Ephemeral frames that wait for one session, at most: a reader who is this far behind learns no more from older ones.
const EPHEMERAL_MAX: usize = 32;
/// Frames for which a queue keeps its room when it has been emptied.
const ROOM_KEPT: usize = 16;

/// Frames on their way to one session.
pub(crate) struct Outbox {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    /// Undroppable frames, in the order of the calls.
    frames: VecDeque<Arc<Delivery>>,
    /// How many undroppable frames have been taken out so far.
    taken: u64,
    replaceable: VecDeque<Replaceable>,
    /// Of all frames that wait.
    bytes: usize,
    orders: Orders,
    closed: bool,
    /// There while the session sleeps and nobody has woken it.
    waker: Option<Waker>,
    /// There from the end of a turn with nothing left to do until the next one begins.
    lent: Option<Lent>,
    /// Somebody is going to call [`Socket::flush`].
    flush_is_due: bool,
}

/// The socket of a session that sleeps.
pub(crate) struct Lent {
    pub(crate) socket: OwnedWriteHalf,
    /// What it has not taken of what was written for the session, which has been woken for that.
    pub(crate) unsent: Vec<u8>,
}

/// A frame that a newer one with its key takes the place of.
struct Replaceable {
    /// Leaves when this many undroppable frames have left, so that it stays in its place among them.
    after: u64,
    class: Class,
    delivery: Arc<Delivery>,
}

/// What a session has been told besides frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// A deadline has come.
    pub(crate) alarm: bool,
    /// The session is to close; the first reason counts.
    pub(crate) close: Option<CloseCode>,
    /// The client is to be asked to move.
    pub(crate) reconnect: Option<Box<Move>>,
}

/// Where and when a client is to move.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) after_ms: u64,
    pub(crate) url: Option<String>,
}

impl Replaceable {
    /// Whether it may be dropped.
    fn is_ephemeral(&self) -> bool {
        matches!(self.class, Class::Ephemeral { .. })
    }
}

impl Outbox {
    /// An empty one that holds at most `bytes_max` bytes of frames (`limits.session_queue_bytes`).
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), bytes_max }
    }

    /// The session is awake: takes the orders, and what it has lent, and has `waker` woken when there is something new.
    pub(crate) fn begin_turn(&self, waker: &Waker) -> (Orders, Option<Lent>) {
        let mut state = self.lock();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        (mem::take(&mut state.orders), state.lent.take())
    }

    /// The session goes to sleep, and until it wakes up frames may be written to its socket.
    pub(crate) fn lend(&self, socket: OwnedWriteHalf) {
        self.lock().lent = Some(Lent { socket, unsent: Vec::new() });
    }

    /// How many frames of each kind wait now: a mark for [`Outbox::take_frames`].
    pub(crate) fn mark(&self) -> Mark {
        let state = self.lock();
        Mark(state.taken + state.frames.len() as u64)
    }

    /// A mark behind the last frame that comes before this entry in its log; nothing has to leave before it if none waits.
    pub(crate) fn mark_before(&self, entry: LogPosition) -> Mark {
        let state = self.lock();
        let is_before = |delivery: &Arc<Delivery>| delivery.position.is_some_and(|position| position.is_before(entry));
        let waiting = state.frames.iter().rposition(is_before).map_or(0, |last| last as u64 + 1);
        Mark(state.taken + waiting)
    }

    /// Gives `accept` the frames that were waiting at `mark`, oldest first, until it says that it takes no more.
    pub(crate) fn take_frames(&self, mark: Mark, mut accept: impl FnMut(&Delivery) -> bool) {
        let mut state = self.lock();
        while let Some(delivery) = state.next(mark) {
            if !accept(&delivery) {
                break;
            }
        }
        state.give_back_room();
    }

    /// Bytes of frames that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Drops what waits and takes no more frames. Orders still come through.
    pub(crate) fn shut(&self) {
        self.lock().shut();
    }

    /// Wakes the session to look at its deadlines.
    pub(crate) fn ring(&self) {
        self.tell(|state| state.orders.alarm = true);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        wake(state);
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// See [`Outbox::mark`].
#[derive(Clone, Copy)]
pub(crate) struct Mark(u64);

impl Mark {
    /// Everything that waits when it is used.
    pub(crate) const ALL: Mark = Mark(u64::MAX);
}

impl State {
    fn next(&mut self, mark: Mark) -> Option<Arc<Delivery>> {
        let delivery = match self.replaceable.front() {
            Some(first) if first.after <= self.taken => self.replaceable.pop_front().map(|first| first.delivery),
            _ if self.taken < mark.0 => self.frames.pop_front().inspect(|_| self.taken += 1),
            _ => None,
        }?;
        self.bytes -= delivery.json.len();
        Some(delivery)
    }

    fn push(&mut self, delivery: &Arc<Delivery>, bytes_max: usize) {
        match delivery.class {
            _ if self.closed => {}
            Class::Undroppable => self.push_undroppable(delivery, bytes_max),
            Class::Ephemeral { .. } => self.push_ephemeral(delivery, bytes_max),
            Class::Conflated { .. } => self.push_conflated(delivery, bytes_max),
        }
    }

    fn push_undroppable(&mut self, delivery: &Arc<Delivery>, bytes_max: usize) {
        if self.make_room(delivery.json.len(), bytes_max) {
            self.bytes += delivery.json.len();
            self.frames.push_back(delivery.clone());
        }
    }

    /// The oldest ephemeral frames go first; when that is not enough, the slow reader is closed.
    fn make_room(&mut self, bytes: usize, bytes_max: usize) -> bool {
        while self.bytes + bytes > bytes_max && self.drop_oldest_ephemeral() {}
        // One has room whatever its size: who has taken all before it is not slow.
        let has_room = self.bytes == 0 || self.bytes + bytes <= bytes_max;
        if !has_room {
            self.shut();
            self.orders.close.get_or_insert(CloseCode::SlowConsumer);
        }
        has_room
    }

    /// What it becomes with the one that waits takes that one's place. To merge them costs time under the lock, but only a
    /// reader that is behind.
    fn push_conflated(&mut self, delivery: &Arc<Delivery>, bytes_max: usize) {
        let waiting = self.replaceable.iter().position(|waiting| waiting.class == delivery.class);
        let (after, delivery) = match waiting.and_then(|at| self.replaceable.remove(at)) {
            Some(older) => {
                self.bytes -= older.delivery.json.len();
                DROPPED.conflated.increment(1);
                (older.after, older.delivery.conflated(delivery))
            }
            None => (self.taken + self.frames.len() as u64, delivery.clone()),
        };
        if self.make_room(delivery.json.len(), bytes_max) {
            self.bytes += delivery.json.len();
            let at = self.replaceable.partition_point(|waiting| waiting.after <= after);
            self.replaceable.insert(at, Replaceable { after, class: delivery.class, delivery });
        }
    }

    fn push_ephemeral(&mut self, delivery: &Arc<Delivery>, bytes_max: usize) {
        if let Some(older) = self.replaceable.iter_mut().find(|older| older.class == delivery.class)
            && self.bytes - older.delivery.json.len() + delivery.json.len() <= bytes_max
        {
            self.bytes = self.bytes - older.delivery.json.len() + delivery.json.len();
            older.delivery = delivery.clone();
            DROPPED.conflated.increment(1);
            return;
        }
        self.drop_ephemeral(|older| older.class == delivery.class);
        if self.replaceable.iter().filter(|waiting| waiting.is_ephemeral()).count() == EPHEMERAL_MAX {
            self.drop_oldest_ephemeral();
        }
        if self.bytes + delivery.json.len() > bytes_max {
            DROPPED.slow.increment(1);
            return;
        }
        self.bytes += delivery.json.len();
        let after = self.taken + self.frames.len() as u64;
        self.replaceable.push_back(Replaceable { after, class: delivery.class, delivery: delivery.clone() });
    }

    fn drop_oldest_ephemeral(&mut self) -> bool {
        self.drop_ephemeral(Replaceable::is_ephemeral)
    }

    /// Drops the oldest one that is meant.
    fn drop_ephemeral(&mut self, is_meant: impl Fn(&Replaceable) -> bool) -> bool {
        let oldest = self.replaceable.iter().position(is_meant);
        let dropped = oldest.and_then(|at| self.replaceable.remove(at));
        if let Some(dropped) = &dropped {
            self.bytes -= dropped.delivery.json.len();
            DROPPED.slow.increment(1);
        }
        dropped.is_some()
    }

    /// Whether the session has lent its socket and nothing has woken it since.
    fn sleeps(&self) -> bool {
        self.lent.is_some() && self.waker.is_some() && !self.closed
    }

    /// Writes to the socket that is lent what waits, as much as leaves in one write.
    fn write(&mut self) {
        let mut burst = Burst::new();
        let mut tally = SentTally::default();
        while burst.has_room()
            && let Some(delivery) = self.next(Mark::ALL)
        {
            burst.put_text(&delivery.json);
            tally.add(delivery.kind);
        }
        drop(tally);
        if let Some(lent) = &mut self.lent {
            lent.unsent = burst.write(&lent.socket);
        }
        self.give_back_room();
    }

    /// Whether nothing is left for the session to write.
    fn is_done(&self) -> bool {
        self.is_empty() && self.lent.as_ref().is_none_or(|lent| lent.unsent.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.replaceable.is_empty()
    }

    fn shut(&mut self) {
        self.closed = true;
        self.frames = VecDeque::new();
        self.replaceable = VecDeque::new();
        self.bytes = 0;
    }

    /// A queue that is empty keeps room for a few frames.
    fn give_back_room(&mut self) {
        if !self.is_empty() {
            return;
        }
        if self.frames.capacity() > ROOM_KEPT {
            self.frames = VecDeque::new();
        }
        if self.replaceable.capacity() > 0 {
            self.replaceable = VecDeque::new();
        }
    }
}

impl Socket for Outbox {
    fn deliver(&self, delivery: &Arc<Delivery>) {
        self.tell(|state| state.push(delivery, self.bytes_max));
    }

    fn queue(&self, delivery: &Arc<Delivery>) -> bool {
        let mut state = self.lock();
        state.push(delivery, self.bytes_max);
        if state.sleeps() {
            return !mem::replace(&mut state.flush_is_due, true);
        }
        wake(state);
        false
    }

    fn flush(&self) {
        let mut state = self.lock();
        state.flush_is_due = false;
        // A session that was woken writes the frames itself, after those it was woken for.
        if state.sleeps() && !state.is_empty() {
            state.write();
            if !state.is_done() {
                wake(state);
            }
        }
    }

    fn close(&self, why: CloseCode) {
        self.tell(|state| {
            state.orders.close.get_or_insert(why);
        });
    }

    fn reconnect(&self, after_ms: u64, url: Option<&str>) {
        let order = Box::new(Move { after_ms, url: url.map(str::to_owned) });
        self.tell(|state| state.orders.reconnect = Some(order));
    }
}

#[cfg(test)]
pub(super) mod tests;
