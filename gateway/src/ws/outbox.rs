//! The frames queued for one session, and its orders: to close, to move, to check its deadlines. This is the router's
//! side of a session ([`Socket`]); the session consumes everything.
//!
//! There is one lock. A delivery holds it for a few instructions, the session while it copies the due frames, and a
//! flush for one non-blocking write. A sleeping session lends its socket to the outbox ([`Outbox::lend`]), so that a few
//! tasks write the frames of a fan-out for one session after the other, and no session has to be woken. The limit
//! ([`Outbox::bytes_max`]) counts the bytes of queued frames, even if other outboxes share their memory.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use switchboard_protocol::CloseCode;
use switchboard_router::{Class, Delivery, LogPosition, Socket};
use tokio::net::tcp::OwnedWriteHalf;

use super::wire::Burst;
use crate::metrics::{DROPPED, SentTally};

/// Maximum ephemeral frames in one queue: older ones are of no use to a reader that is this far behind.
const EPHEMERAL_MAX: usize = 32;
/// Maximum capacity, in frames, that an emptied queue keeps.
const ROOM_KEPT: usize = 16;

/// See the module.
pub(crate) struct Outbox {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    /// Undroppable frames, in the order of the calls.
    frames: VecDeque<Arc<Delivery>>,
    /// The number of undroppable frames taken out so far.
    taken: u64,
    /// Ephemeral and conflated frames, ordered by `after`.
    replaceable: VecDeque<Replaceable>,
    /// The size of all queued frames.
    bytes: usize,
    orders: Orders,
    closed: bool,
    /// Set at the beginning of a turn, and taken when the session is woken.
    waker: Option<Waker>,
    /// Set from the end of a turn that left nothing to do to the beginning of the next one.
    lent: Option<Lent>,
    /// A caller of [`Socket::queue`] owes a call of [`Socket::flush`].
    flush_is_due: bool,
}

/// The socket of a sleeping session.
pub(crate) struct Lent {
    pub(crate) socket: OwnedWriteHalf,
    /// Bytes of a flush that the socket did not accept. The session has been woken to write them.
    pub(crate) unsent: Vec<u8>,
}

/// A frame that a newer one with the same key replaces.
struct Replaceable {
    /// The number of undroppable frames that leave before it: its place among them.
    after: u64,
    class: Class,
    delivery: Arc<Delivery>,
}

/// What a session has to do besides sending frames.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Check the deadlines.
    pub(crate) alarm: bool,
    /// Close the session; the first reason counts.
    pub(crate) close: Option<CloseCode>,
    /// Ask the client to move.
    pub(crate) reconnect: Option<Box<Move>>,
}

/// Where and when a client should move.
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
    /// An empty outbox for at most `bytes_max` bytes of frames (`limits.session_queue_bytes`).
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), bytes_max }
    }

    /// Begins a turn of the session: takes the orders and the lent socket, and registers `waker` to be woken when there
    /// is something new.
    pub(crate) fn begin_turn(&self, waker: &Waker) -> (Orders, Option<Lent>) {
        let mut state = self.lock();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        (mem::take(&mut state.orders), state.lent.take())
    }

    /// The session goes to sleep: until it wakes up, flushes write frames to its socket.
    pub(crate) fn lend(&self, socket: OwnedWriteHalf) {
        self.lock().lent = Some(Lent { socket, unsent: Vec::new() });
    }

    /// Marks the frames that are queued now, for [`Outbox::take_frames`].
    pub(crate) fn mark(&self) -> Mark {
        let state = self.lock();
        Mark(state.taken + state.frames.len() as u64)
    }

    /// Marks the frames up to the last one that precedes this entry in its log. If there is none, marks nothing.
    pub(crate) fn mark_before(&self, entry: LogPosition) -> Mark {
        let state = self.lock();
        let is_before = |delivery: &Arc<Delivery>| delivery.position.is_some_and(|position| position.is_before(entry));
        let waiting = state.frames.iter().rposition(is_before).map_or(0, |last| last as u64 + 1);
        Mark(state.taken + waiting)
    }

    /// Passes the frames before `mark` to `accept`, oldest first, until it returns false (having accepted that one).
    pub(crate) fn take_frames(&self, mark: Mark, mut accept: impl FnMut(&Delivery) -> bool) {
        let mut state = self.lock();
        while let Some(delivery) = state.next(mark) {
            if !accept(&delivery) {
                break;
            }
        }
        state.give_back_room();
    }

    /// The size of the queued frames.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Drops the queued frames and accepts no more. Orders are still accepted.
    pub(crate) fn shut(&self) {
        self.lock().shut();
    }

    /// Wakes the session to check its deadlines.
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
    /// All frames that are queued when it is used.
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

    /// Drops the oldest ephemeral frames to make room; if that is not enough, closes the slow reader.
    fn make_room(&mut self, bytes: usize, bytes_max: usize) -> bool {
        while self.bytes + bytes > bytes_max && self.drop_oldest_ephemeral() {}
        // A frame of any size fits into an empty queue: a reader that has taken all earlier frames is not slow.
        let has_room = self.bytes == 0 || self.bytes + bytes <= bytes_max;
        if !has_room {
            self.shut();
            self.orders.close.get_or_insert(CloseCode::SlowConsumer);
        }
        has_room
    }

    /// Merges the frame with a queued one of the same key, in the place of the queued one. Merging takes time under the
    /// lock, but only for a reader that is behind.
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

    /// Drops the oldest frame that matches.
    fn drop_ephemeral(&mut self, is_meant: impl Fn(&Replaceable) -> bool) -> bool {
        let oldest = self.replaceable.iter().position(is_meant);
        let dropped = oldest.and_then(|at| self.replaceable.remove(at));
        if let Some(dropped) = &dropped {
            self.bytes -= dropped.delivery.json.len();
            DROPPED.slow.increment(1);
        }
        dropped.is_some()
    }

    /// Whether the session has lent its socket and has not been woken since.
    fn sleeps(&self) -> bool {
        self.lent.is_some() && self.waker.is_some() && !self.closed
    }

    /// Writes queued frames to the lent socket, as many as fit into one write.
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

    /// Whether the session has nothing left to write.
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

    /// Frees the memory of empty queues, except for room for a few undroppable frames.
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
        // A session that has been woken writes its frames itself, in order.
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
