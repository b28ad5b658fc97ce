//! One link: the numbers of envelopes sent to a peer and received from it, what each side has confirmed, and what is
//! missing. It waits for nothing and knows no other link.

use super::queue::Queue;
use crate::envelope::{ENVELOPE_VERSION, Envelope, Packet};
use std::collections::VecDeque;
use switchboard_store::Incarnation;

/// Unconfirmed announcements to one peer that are counted, at most.
const OWED_COUNTED_MAX: usize = 65_536;

#[derive(Debug)]
pub(super) struct Link {
    /// The number of the next envelope to the peer.
    next: u64,
    queue: Queue,
    /// Inbox changes from our envelopes up to here are durable at the peer.
    confirmed: u64,
    /// The numbers of the unconfirmed announcements to the peer, ascending.
    owed: VecDeque<u64>,
    /// The number of the next envelope from the peer.
    expected: u64,
    /// The peer's envelopes up to here have been handled.
    handled: u64,
    /// The first and last number from the peer that did not arrive, until the peer says that it has repeated their
    /// content.
    gap: Option<(u64, u64)>,
    /// Whether the gap has grown since it was last handled.
    gap_grew: bool,
    seeing_to: SeeingTo,
    /// The repeat that is running for the peer.
    repeating: Option<Repeat>,
    /// What the peer has missed besides, to be repeated after that.
    repeat_next: Option<Repeat>,
    /// The peer was out of the view, has been asked for everything, and has not answered yet.
    asks_everything: bool,
    /// Inbox changes from the peer's envelopes up to here are durable.
    flushed: u64,
    /// A packet must be sent even if it is empty: to confirm, or to show the next number.
    speak: bool,
}

/// A gap is handled (see [`Link::see_to_gap`]) at most once between two heartbeats: it is expensive, and the more is
/// lost, the less often it should happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeeingTo {
    /// No gap has been handled since the last heartbeat.
    Nothing,
    /// One is being handled.
    Gap,
    /// One has been handled.
    Done,
}

/// What must be repeated to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// It has missed envelopes up to this number.
    pub(crate) upto: u64,
    /// It took this node for dead, and sent it no blocks.
    pub(crate) was_out: bool,
}

impl Repeat {
    /// Whether a repeat that is running is one for `other` too. A peer that asks for everything has forgotten what was
    /// repeated before it asked.
    fn covers(self, other: Self) -> bool {
        self.upto >= other.upto && !other.was_out
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
            asks_everything: false,
            flushed: 0,
            speak: false,
        }
    }
}

/// The result of receiving a packet.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The new envelopes, in order.
    pub(crate) envelopes: Vec<Envelope>,
    /// The number of the last one, for [`super::Links::handled`].
    pub(crate) last: u64,
    /// Whether something before them is missing.
    pub(crate) missed: bool,
}

/// What is missing at a heartbeat.
pub(super) enum Missing {
    /// More than when the gap was last handled.
    More,
    /// Numbers up to this one, in a gap that was handled: ask again.
    Still(u64),
}

impl Link {
    // To the peer

    /// The next number.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Queues an envelope. Returns its number, and whether there was room.
    pub(super) fn send(&mut self, envelope: Envelope, bytes_max: usize) -> (u64, bool) {
        let number = self.take_number();
        (number, self.queue.push(number, envelope, bytes_max))
    }

    /// Takes a number for something that was announced without an envelope, and has taken effect.
    pub(super) fn tell_myself(&mut self) -> u64 {
        let number = self.take_number();
        self.handled = number;
        number
    }

    /// The next packet, if there is anything to send.
    pub(super) fn take_packet(&mut self, me: &Incarnation) -> Option<Packet> {
        let speaks = std::mem::take(&mut self.speak);
        if self.queue.is_empty() && !speaks {
            return None;
        }
        let (first, envelopes) = self.queue.take();
        // An empty packet shows the next number, so that the loss of the last packet is detected.
        let first = if envelopes.is_empty() { self.next } else { first };
        Some(Packet { version: ENVELOPE_VERSION, from: me.clone(), first, confirmed: self.flushed, envelopes })
    }

    /// Records that the peer has to confirm this number.
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

    /// Drops what waits for a dead peer.
    pub(super) fn give_up(&mut self) {
        self.queue = Queue::default();
        self.owed = VecDeque::new();
        self.asks_everything = false;
    }

    // What the peer has missed

    /// Whether the caller should repeat it; otherwise a running repeat covers it or will be followed by another.
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

    /// Ends a repeat; returns the next one.
    pub(super) fn next_repeat(&mut self) -> Option<Repeat> {
        self.repeating = self.repeat_next.take();
        self.repeating
    }

    // From the peer

    /// What is new in a packet, and whether something before it is missing.
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

    /// What a flush that begins now will cover: nothing after a gap.
    pub(super) fn covered(&self) -> u64 {
        self.gap.map_or(self.handled, |(from, _)| self.handled.min(from - 1))
    }

    /// Records that everything up to `number` is durable. Returns whether that is new.
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
            // Not while a gap is being handled: first, everyone here must know that something is missing.
            (_, upto) if self.seeing_to == SeeingTo::Nothing => Some(Missing::Still(upto)),
            _ => None,
        }
    }

    pub(super) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// The number up to which envelopes are missing, if the gap should be handled now.
    pub(super) fn see_to_gap(&mut self) -> Option<u64> {
        let (_, upto) = self.gap.filter(|_| self.gap_grew && self.seeing_to == SeeingTo::Nothing)?;
        self.gap_grew = false;
        self.seeing_to = SeeingTo::Gap;
        Some(upto)
    }

    pub(super) fn has_seen_to_gap(&mut self) {
        self.seeing_to = SeeingTo::Done;
    }

    /// Asks the peer for everything, which `repeated(0)` answers.
    pub(super) fn ask_everything(&mut self) {
        self.asks_everything = true;
    }

    /// Whether that has no answer yet.
    pub(super) fn asks_everything(&self) -> bool {
        self.asks_everything
    }

    /// Records that the peer has repeated what it owed from its envelopes up to `upto`; 0: everything.
    pub(super) fn repeated(&mut self, upto: u64) {
        if upto == 0 {
            self.asks_everything = false;
        }
        if self.gap.is_some_and(|(_, last)| last <= upto) {
            self.gap = None;
        }
    }
}
