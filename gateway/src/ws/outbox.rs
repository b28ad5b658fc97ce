//! What waits to be sent to one session, and what it has been told from outside: to close, to move, to look at the
//! time. The router's end of a session ([`Socket`]); the session's own end takes everything out again.
//!
//! One lock, held for a few instructions by whoever delivers, and for the copying of what is due by the session. The
//! bound is in bytes of frames that wait ([`Outbox::bytes_max`]), whoever else may hold them too.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use switchboard_protocol::CloseCode;
use switchboard_router::{Class, Delivery, Socket};

use crate::metrics::DROPPED;

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
    ephemeral: VecDeque<Ephemeral>,
    /// Of all frames that wait.
    bytes: usize,
    orders: Orders,
    closed: bool,
    waker: Option<Waker>,
}

struct Ephemeral {
    /// Leaves when this many undroppable frames have left, so that it stays in its place among them.
    after: u64,
    key: u64,
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

impl Outbox {
    /// An empty one that holds at most `bytes_max` bytes of frames (`limits.session_queue_bytes`).
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), bytes_max }
    }

    /// Takes the orders, and has `waker` woken when there is something new.
    pub(crate) fn take_orders(&self, waker: &Waker) -> Orders {
        let mut state = self.lock();
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        mem::take(&mut state.orders)
    }

    /// How many frames of each kind wait now: a mark for [`Outbox::take_frames`].
    pub(crate) fn mark(&self) -> Mark {
        let state = self.lock();
        Mark(state.taken + state.frames.len() as u64)
    }

    /// Gives `accept` the frames that were waiting at `mark`, oldest first, until it says that it takes no more.
    pub(crate) fn take_frames(&self, mark: Mark, mut accept: impl FnMut(&Delivery) -> bool) {
        let mut state = self.lock();
        while let Some(delivery) = state.next(mark) {
            if !accept(&delivery) {
                break;
            }
        }
        if state.frames.is_empty() && state.ephemeral.is_empty() {
            state.give_back_room();
        }
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
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
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
        let delivery = match self.ephemeral.front() {
            Some(first) if first.after <= self.taken => self.ephemeral.pop_front().map(|first| first.delivery),
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
            Class::Ephemeral { key } => self.push_ephemeral(delivery, key, bytes_max),
        }
    }

    fn push_undroppable(&mut self, delivery: &Arc<Delivery>, bytes_max: usize) {
        while self.bytes + delivery.json.len() > bytes_max && self.drop_oldest_ephemeral() {}
        if self.bytes + delivery.json.len() > bytes_max {
            self.shut();
            self.orders.close.get_or_insert(CloseCode::SlowConsumer);
            return;
        }
        self.bytes += delivery.json.len();
        self.frames.push_back(delivery.clone());
    }

    fn push_ephemeral(&mut self, delivery: &Arc<Delivery>, key: u64, bytes_max: usize) {
        if let Some(older) = self.ephemeral.iter_mut().find(|older| older.key == key) {
            self.bytes = self.bytes - older.delivery.json.len() + delivery.json.len();
            older.delivery = delivery.clone();
            DROPPED.conflated.increment(1);
            return;
        }
        if self.ephemeral.len() == EPHEMERAL_MAX {
            self.drop_oldest_ephemeral();
        }
        if self.bytes + delivery.json.len() > bytes_max {
            DROPPED.slow.increment(1);
            return;
        }
        self.bytes += delivery.json.len();
        let after = self.taken + self.frames.len() as u64;
        self.ephemeral.push_back(Ephemeral { after, key, delivery: delivery.clone() });
    }

    fn drop_oldest_ephemeral(&mut self) -> bool {
        let dropped = self.ephemeral.pop_front();
        if let Some(dropped) = &dropped {
            self.bytes -= dropped.delivery.json.len();
            DROPPED.slow.increment(1);
        }
        dropped.is_some()
    }

    fn shut(&mut self) {
        self.closed = true;
        self.frames = VecDeque::new();
        self.ephemeral = VecDeque::new();
        self.bytes = 0;
    }

    fn give_back_room(&mut self) {
        if self.frames.capacity() > ROOM_KEPT {
            self.frames = VecDeque::new();
        }
        if self.ephemeral.capacity() > 0 {
            self.ephemeral = VecDeque::new();
        }
    }
}

impl Socket for Outbox {
    fn deliver(&self, delivery: &Arc<Delivery>) {
        self.tell(|state| state.push(delivery, self.bytes_max));
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
