//! What waits to be sent to one session, and what it has been told from outside: to close, to move, to look at the
//! time. The router's end of a session ([`Socket`]); the session's own end takes everything out again.
//!
//! One lock, held for a few instructions by whoever delivers, for the copying of what is due by the session, and for one
//! write that does not block by who flushes: a session that sleeps has lent its socket ([`Outbox::lend`]), so that of a
//! fan-out the frames are written one session after the other, by a few tasks, where each session's own would have to
//! run for it. The bound is in bytes of frames that wait ([`Outbox::bytes_max`]), whoever else may hold them too.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use switchboard_protocol::CloseCode;
use switchboard_router::{Class, Delivery, Socket};
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
        // Who has been woken writes by himself, behind what he was woken for.
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
pub(super) mod tests {
    use super::*;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    fn frame(text: impl Into<Bytes>, class: Class) -> Arc<Delivery> {
        Arc::new(Delivery { json: text.into(), kind: "message", class })
    }

    pub(in crate::ws) fn undroppable(text: impl Into<Bytes>) -> Arc<Delivery> {
        frame(text, Class::Undroppable)
    }

    fn ephemeral(text: &'static str, key: u64) -> Arc<Delivery> {
        frame(text, Class::Ephemeral { key })
    }

    fn taken(outbox: &Outbox) -> Vec<String> {
        let mut taken = Vec::new();
        outbox.take_frames(Mark::ALL, |delivery| {
            taken.push(String::from_utf8_lossy(&delivery.json).into_owned());
            true
        });
        taken
    }

    fn orders(outbox: &Outbox) -> Orders {
        outbox.begin_turn(Waker::noop()).0
    }

    #[test]
    fn frames_leave_in_the_order_of_the_calls() {
        let outbox = Outbox::new(100);
        for delivery in [undroppable("1"), ephemeral("2", 1), undroppable("3"), ephemeral("4", 2), ephemeral("5", 3)] {
            outbox.deliver(&delivery);
        }
        assert_eq!(taken(&outbox), ["1", "2", "3", "4", "5"]);
        outbox.deliver(&undroppable("6"));
        assert_eq!((taken(&outbox), outbox.bytes()), (vec!["6".to_owned()], 0));
    }

    #[test]
    fn a_newer_ephemeral_frame_takes_the_place_of_the_older_with_its_key() {
        let outbox = Outbox::new(100);
        for delivery in [ephemeral("a1", 1), undroppable("m"), ephemeral("b1", 2), ephemeral("a22", 1)] {
            outbox.deliver(&delivery);
        }
        assert_eq!(outbox.bytes(), 6);
        assert_eq!(taken(&outbox), ["a22", "m", "b1"]);
    }

    #[test]
    fn a_full_queue_drops_ephemeral_frames_first_and_then_closes_the_reader() {
        let outbox = Outbox::new(10);
        outbox.deliver(&undroppable("12345"));
        outbox.deliver(&ephemeral("e1", 1));
        outbox.deliver(&ephemeral("e2", 2));
        outbox.deliver(&ephemeral("e3", 3));
        assert_eq!(outbox.bytes(), 9, "the third ephemeral frame has no room");
        outbox.deliver(&undroppable("123"));
        assert_eq!(outbox.bytes(), 10, "the oldest has made room");
        outbox.deliver(&undroppable("12"));
        assert_eq!(outbox.bytes(), 10, "and now the other");
        assert_eq!(orders(&outbox).close, None, "full is not over");
        outbox.deliver(&undroppable("1"));
        assert_eq!(orders(&outbox).close, Some(CloseCode::SlowConsumer));
        assert!(taken(&outbox).is_empty());
        outbox.deliver(&undroppable("1"));
        assert_eq!(outbox.bytes(), 0, "nothing is taken any more");
    }

    #[test]
    fn a_newer_ephemeral_frame_that_has_no_room_is_dropped_with_the_older() {
        let outbox = Outbox::new(10);
        outbox.deliver(&undroppable("12345"));
        outbox.deliver(&ephemeral("e1", 1));
        outbox.deliver(&ephemeral("e1 longer", 1));
        assert_eq!(outbox.bytes(), 5);
        assert_eq!(taken(&outbox), ["12345"]);
    }

    #[test]
    fn ephemeral_frames_have_a_bound_in_number() {
        let outbox = Outbox::new(1_000);
        for key in 0..=EPHEMERAL_MAX as u64 {
            outbox.deliver(&ephemeral(if key == 0 { "first" } else { "other" }, key));
        }
        let taken = taken(&outbox);
        assert_eq!(taken.len(), EPHEMERAL_MAX);
        assert!(!taken.contains(&"first".to_owned()));
    }

    fn update(version: u64, points: &str) -> Arc<Delivery> {
        let json = format!(
            r#"{{"type":"topic_update","topic":"t","window":"1s","version":{version},"series":[{{"series":"s","tags":{{}},"points":[{points}]}}],"closed_until_ms":0}}"#
        );
        Arc::new(Delivery { json: json.into(), kind: "topic_update", class: Class::Conflated { key: 1 } })
    }

    #[test]
    fn updates_that_wait_become_one_in_the_place_of_the_first() {
        let outbox = Outbox::new(1_000);
        outbox.deliver(&update(1, "[0,1,1,1,1,1,1,1]"));
        outbox.deliver(&undroppable("m"));
        outbox.deliver(&update(2, "[0,2,2,1,1,1,1,1],[1000,1,1,1,1,1,1,1]"));
        let merged = update(2, "[0,2,2,1,1,1,1,1],[1000,1,1,1,1,1,1,1]");
        assert_eq!(outbox.bytes(), merged.json.len() + 1);
        assert_eq!(taken(&outbox), [String::from_utf8_lossy(&merged.json).into_owned(), "m".to_owned()]);
        outbox.deliver(&update(1, "[0,1,1,1,1,1,1,1]"));
        outbox.deliver(&update(2, "[1000,1,1,1,1,1,1,1]"));
        let merged = update(2, "[0,1,1,1,1,1,1,1],[1000,1,1,1,1,1,1,1]");
        assert_eq!(taken(&outbox), [String::from_utf8_lossy(&merged.json).into_owned()]);
    }

    #[test]
    fn an_update_is_never_silently_dropped() {
        let room = update(1, "").json.len();
        let outbox = Outbox::new(room + 1);
        outbox.deliver(&undroppable("m"));
        outbox.deliver(&ephemeral("e1", 1));
        outbox.deliver(&update(1, ""));
        assert_eq!((outbox.bytes(), orders(&outbox).close), (room + 1, None), "ephemeral frames go first");
        outbox.deliver(&update(2, "[0,1,1,1,1,1,1,1]"));
        assert_eq!(orders(&outbox).close, Some(CloseCode::SlowConsumer));
    }

    #[test]
    fn only_what_waited_at_a_mark_is_taken() {
        let outbox = Outbox::new(100);
        outbox.deliver(&undroppable("1"));
        let mark = outbox.mark();
        outbox.deliver(&undroppable("2"));
        let mut first = Vec::new();
        outbox.take_frames(mark, |delivery| {
            first.push(delivery.json.clone());
            true
        });
        assert_eq!(first, ["1"]);
        assert_eq!(taken(&outbox), ["2"]);
    }

    #[test]
    fn who_has_no_more_room_leaves_the_rest() {
        let outbox = Outbox::new(100);
        for text in ["1", "2", "3"] {
            outbox.deliver(&undroppable(text));
        }
        let mut room = 2;
        outbox.take_frames(Mark::ALL, |_| {
            room -= 1;
            room > 0
        });
        assert_eq!(taken(&outbox), ["3"]);
    }

    #[test]
    fn the_first_reason_to_close_counts_and_orders_come_once() {
        let outbox = Outbox::new(100);
        outbox.close(CloseCode::Replaced);
        outbox.close(CloseCode::Revoked);
        outbox.reconnect(5, Some("ws://n2/v1/ws"));
        outbox.ring();
        let url = Some("ws://n2/v1/ws".to_owned());
        let reconnect = Some(Box::new(Move { after_ms: 5, url }));
        assert_eq!(orders(&outbox), Orders { alarm: true, close: Some(CloseCode::Replaced), reconnect });
        assert_eq!(orders(&outbox), Orders::default());
    }

    #[derive(Default)]
    pub(in crate::ws) struct Wakes(pub(in crate::ws) AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_session_is_woken_once_however_much_comes() {
        let outbox = Outbox::new(100);
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        outbox.begin_turn(&waker);
        for _ in 0..3 {
            outbox.deliver(&undroppable("1"));
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        outbox.begin_turn(&waker);
        outbox.shut();
        outbox.ring();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2, "a closing session has deadlines too");
    }
}
