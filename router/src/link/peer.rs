//! One link: the numbers of envelopes sent to a peer and received from it, what each side has confirmed, and what is
//! missing. It waits for nothing and knows no other link.

use super::queue::Queue;
use crate::envelope::{ENVELOPE_VERSION, Envelope, Packet};
use std::collections::VecDeque;
use switchboard_store::Incarnation;

/// Announcements to one peer that are counted while it has not confirmed them.
const OWED_COUNTED_MAX: usize = 65_536;

#[derive(Debug)]
pub(super) struct Link {
    /// Number of the next envelope to the peer.
    next: u64,
    queue: Queue,
    /// Inbox changes from our envelopes up to here are durable at the peer.
    confirmed: u64,
    /// The numbers of announcements to the peer beyond that, ascending.
    owed: VecDeque<u64>,
    /// Number of the next envelope from the peer.
    expected: u64,
    /// The peer's envelopes up to here have been handled.
    handled: u64,
    /// Numbers from the peer that did not come, first and last, until it says that it has repeated what they held.
    gap: Option<(u64, u64)>,
    /// Whether there is more in the gap than what was last seen to.
    gap_grew: bool,
    seeing_to: SeeingTo,
    /// What the peer has missed, while it is told that again.
    repeating: Option<Repeat>,
    /// What it has missed besides, to be told behind that.
    repeat_next: Option<Repeat>,
    /// Inbox changes from the peer's envelopes up to here are durable.
    flushed: u64,
    /// A packet must leave even if it holds nothing new: to confirm, or to show the next number.
    speak: bool,
}

/// A gap is seen to (see [`Link::see_to_gap`]) at most once between two heartbeats: it costs much, and the more that is
/// lost, the less there may be of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeeingTo {
    /// None has been since the last heartbeat.
    Nothing,
    /// One is.
    Gap,
    /// One has been.
    Done,
}

/// What a peer is to be told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// It has missed envelopes up to this number.
    pub(crate) upto: u64,
    /// It took this node for dead, and told it of no block.
    pub(crate) was_out: bool,
}

impl Repeat {
    fn covers(self, other: Self) -> bool {
        self.upto >= other.upto && (self.was_out || !other.was_out)
    }

    fn and(self, other: Self) -> Self {
        Self { upto: self.upto.max(other.upto), was_out: self.was_out || other.was_out }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self {
            next: 1,
            queue: Queue::default(),
            confirmed: 0,
            owed: VecDeque::new(),
            expected: 1,
            handled: 0,
            gap: None,
            gap_grew: false,
            seeing_to: SeeingTo::Nothing,
            repeating: None,
            repeat_next: None,
            flushed: 0,
            speak: false,
        }
    }
}

/// What a packet came to.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The envelopes that are new, in their order.
    pub(crate) envelopes: Vec<Envelope>,
    /// The number of the last of them, for [`super::Links::handled`].
    pub(crate) last: u64,
    /// Whether something before them is missing.
    pub(crate) missed: bool,
}

/// What a heartbeat finds missing.
pub(super) enum Missing {
    /// More than was last seen to.
    More,
    /// What has been seen to, up to this number: it is to be asked for again.
    Still(u64),
}

impl Link {
    // To the peer

    /// The number of what is told next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Queues an envelope: its number, and whether there was room for it.
    pub(super) fn send(&mut self, envelope: Envelope, bytes_max: usize) -> (u64, bool) {
        let number = self.take_number();
        (number, self.queue.push(number, envelope, bytes_max))
    }

    /// Something has been told without an envelope, and has taken effect: its number.
    pub(super) fn tell_myself(&mut self) -> u64 {
        let number = self.take_number();
        self.handled = number;
        number
    }

    /// The next packet, if there is something to say.
    pub(super) fn take_packet(&mut self, me: &Incarnation) -> Option<Packet> {
        let speaks = std::mem::take(&mut self.speak);
        if self.queue.is_empty() && !speaks {
            return None;
        }
        let (first, envelopes) = self.queue.take();
        // An empty packet shows the next number, so that a lost last packet is noticed.
        let first = if envelopes.is_empty() { self.next } else { first };
        Some(Packet { version: ENVELOPE_VERSION, from: me.clone(), first, confirmed: self.flushed, envelopes })
    }

    /// The peer is to confirm this number.
    pub(super) fn owe(&mut self, number: u64) {
        if self.owed.len() < OWED_COUNTED_MAX {
            self.owed.push_back(number);
        }
    }

    pub(super) fn owed(&self) -> usize {
        self.owed.len()
    }

    pub(super) fn is_confirmed(&self, number: u64) -> bool {
        self.confirmed >= number
    }

    pub(super) fn confirm(&mut self, number: u64) {
        self.confirmed = self.confirmed.max(number);
        while self.owed.pop_front_if(|owed| *owed <= self.confirmed).is_some() {}
    }

    /// The peer lives no more.
    pub(super) fn give_up(&mut self) {
        self.queue = Queue::default();
        self.owed = VecDeque::new();
    }

    // What the peer has missed

    /// Whether it is to be told again from here; else it is by who tells it again now.
    pub(super) fn begin_repeat(&mut self, repeat: Repeat) -> bool {
        match self.repeating {
            None => {
                self.repeating = Some(repeat);
                true
            }
            Some(running) if running.covers(repeat) => false,
            Some(_) => {
                self.repeat_next = Some(self.repeat_next.map_or(repeat, |next| next.and(repeat)));
                false
            }
        }
    }

    /// It has been told again: what is to be told next.
    pub(super) fn next_repeat(&mut self) -> Option<Repeat> {
        self.repeating = self.repeat_next.take();
        self.repeating
    }

    // From the peer

    /// What in a packet is new, and whether something before it is missing.
    pub(super) fn receive(&mut self, packet: Packet) -> Received {
        self.confirm(packet.confirmed);
        let mut received = Received::default();
        if packet.first > self.expected {
            let from = self.gap.map_or(self.expected, |(from, _)| from);
            self.gap = Some((from, packet.first - 1));
            self.gap_grew = true;
            self.expected = packet.first;
            received.missed = true;
        }
        let known = usize::try_from(self.expected - packet.first).unwrap_or(usize::MAX);
        received.envelopes = packet.envelopes.into_iter().skip(known).collect();
        self.expected += received.envelopes.len() as u64;
        received.last = self.expected - 1;
        received
    }

    pub(super) fn handled(&mut self, number: u64) {
        self.handled = self.handled.max(number);
    }

    /// What a flush that begins now will cover: nothing behind a gap.
    pub(super) fn covered(&self) -> u64 {
        self.gap.map_or(self.handled, |(from, _)| self.handled.min(from - 1))
    }

    /// What has come up to `number` is durable: whether that is new.
    pub(super) fn flushed(&mut self, number: u64) -> bool {
        let is_new = number > self.flushed;
        if is_new {
            self.flushed = number;
            self.speak = true;
        }
        is_new
    }

    // What was missed from the peer

    /// The heartbeat.
    pub(super) fn beat(&mut self) -> Option<Missing> {
        self.speak = true;
        if self.seeing_to == SeeingTo::Done {
            self.seeing_to = SeeingTo::Nothing;
        }
        match self.gap? {
            _ if self.gap_grew => Some(Missing::More),
            // It must not be asked before all here know that something is missing.
            (_, upto) if self.seeing_to == SeeingTo::Nothing => Some(Missing::Still(upto)),
            _ => None,
        }
    }

    pub(super) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// Up to which number something is missing, if that is to be seen to now.
    pub(super) fn see_to_gap(&mut self) -> Option<u64> {
        let (_, upto) = self.gap.filter(|_| self.gap_grew && self.seeing_to == SeeingTo::Nothing)?;
        self.gap_grew = false;
        self.seeing_to = SeeingTo::Gap;
        Some(upto)
    }

    pub(super) fn has_seen_to_gap(&mut self) {
        self.seeing_to = SeeingTo::Done;
    }

    /// The peer has told again what it owed from its envelopes up to `upto`.
    pub(super) fn repeated(&mut self, upto: u64) {
        if self.gap.is_some_and(|(_, last)| last <= upto) {
            self.gap = None;
        }
    }
}
