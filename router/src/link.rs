//! Links to other nodes: numbers, gaps, confirmations. Makes of a bus that drops, repeats and delays one of which no
//! loss goes unnoticed (DESIGN §4).
//!
//! Owns, per peer, the number of the next envelope, what the peer has confirmed as flushed, and what it has sent us.
//! Knows nothing of what envelopes mean, except that [`Envelope::Missed`] asks for a repeat of what is owed.

use crate::envelope::{ENVELOPE_VERSION, Envelope, Packet};
use crate::push::{Ticket, Undecided};
use metrics::Counter;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_store::Incarnation;
use tokio::sync::Notify;

/// Peers, living or dead, whose numbers are kept.
const LINKS_MAX: usize = 1_024;

/// What is in one packet at most; one envelope always fits.
const PACKET_ENVELOPES_MAX: usize = 256;
const PACKET_BYTES_MAX: usize = 1024 * 1024;

/// Announcements to one peer that are counted while it has not confirmed them.
const OWED_COUNTED_MAX: usize = 65_536;

/// All links of a node, the one to itself included (which carries nothing, but whose numbers are confirmed alike).
pub(crate) struct Links {
    me: Incarnation,
    /// What may wait for one peer. Beyond it envelopes are dropped, and the peer notices the hole in the numbers.
    queue_bytes: usize,
    dropped: Counter,
    links: Mutex<BTreeMap<Incarnation, Link>>,
    /// What is not to be confirmed though it is handled and flushed.
    undecided: Undecided,
    /// Told when there is something to send.
    waiting: Notify,
}

/// Envelopes that wait: a run of numbers.
#[derive(Debug, Default)]
struct Queue {
    /// Number of the first.
    first: u64,
    envelopes: VecDeque<Envelope>,
    bytes: usize,
}

impl Queue {
    /// Whether it took the envelope: not with a hole before it, and not beyond `bytes_max` (one always has room).
    fn push(&mut self, number: u64, envelope: Envelope, bytes_max: usize) -> bool {
        let bytes = envelope.bytes();
        if self.envelopes.is_empty() {
            self.first = number;
        } else if self.first + self.envelopes.len() as u64 != number || self.bytes + bytes > bytes_max {
            return false;
        }
        self.bytes += bytes;
        self.envelopes.push_back(envelope);
        true
    }

    /// What leaves in the next packet, and the number of its first.
    fn take(&mut self) -> (u64, Vec<Envelope>) {
        let (first, mut taken, mut bytes) = (self.first, Vec::new(), 0);
        while let Some(next) = self.envelopes.front() {
            bytes += next.bytes();
            if taken.len() == PACKET_ENVELOPES_MAX || (bytes > PACKET_BYTES_MAX && !taken.is_empty()) {
                break;
            }
            self.bytes -= next.bytes();
            taken.extend(self.envelopes.pop_front());
        }
        self.first += taken.len() as u64;
        (first, taken)
    }
}

#[derive(Debug)]
struct Link {
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

/// A gap is seen to (see [`Links::see_to_gap`]) at most once between two heartbeats: it costs much, and the more that is
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

impl Link {
    fn confirm(&mut self, number: u64) {
        self.confirmed = self.confirmed.max(number);
        while self.owed.pop_front_if(|owed| *owed <= self.confirmed).is_some() {}
    }
}

/// What a packet came to.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The envelopes that are new, in their order.
    pub(crate) envelopes: Vec<Envelope>,
    /// The number of the last of them, for [`Links::handled`].
    pub(crate) last: u64,
    /// Whether something before them is missing.
    pub(crate) missed: bool,
}

impl Links {
    pub(crate) fn new(me: Incarnation, queue_bytes: usize, dropped: Counter) -> Self {
        Self {
            me,
            queue_bytes,
            dropped,
            links: Mutex::default(),
            undecided: Undecided::default(),
            waiting: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Incarnation, Link>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an envelope; returns its number. What waits leaves as one packet per peer.
    pub(crate) fn send(&self, to: &Incarnation, envelope: Envelope) -> u64 {
        let mut links = self.lock();
        let link = links.entry(to.clone()).or_default();
        let number = link.next;
        link.next += 1;
        if !link.queue.push(number, envelope, self.queue_bytes) {
            self.dropped.increment(1);
        }
        drop(links);
        self.waiting.notify_one();
        number
    }

    /// The number of something that this node has told itself, to be called after it has taken effect.
    pub(crate) fn told_myself(&self) -> u64 {
        let mut links = self.lock();
        let link = links.entry(self.me.clone()).or_default();
        let number = link.next;
        link.next += 1;
        link.handled = number;
        number
    }

    /// The same, not to be confirmed for as long as the ticket is there.
    pub(crate) fn told_myself_undecided(&self) -> (u64, Arc<Ticket>) {
        let mut links = self.lock();
        let link = links.entry(self.me.clone()).or_default();
        let number = link.next;
        // Before it counts as handled: a flush may begin at any time.
        let ticket = self.undecided.hold(&self.me, number);
        link.next += 1;
        link.handled = number;
        (number, ticket)
    }

    /// An envelope of the peer is not to be confirmed for as long as the ticket is there. To be called before it is
    /// [handled](Links::handled).
    pub(crate) fn hold(&self, peer: &Incarnation, number: u64) -> Arc<Ticket> {
        self.undecided.hold(peer, number)
    }

    /// The peer is to confirm the envelope with this number.
    pub(crate) fn owe(&self, peer: &Incarnation, number: u64) {
        if let Some(link) = self.lock().get_mut(peer)
            && link.owed.len() < OWED_COUNTED_MAX
        {
            link.owed.push_back(number);
        }
    }

    /// How many announcements are owed to all peers.
    pub(crate) fn owed(&self) -> usize {
        self.lock().values().map(|link| link.owed.len()).sum()
    }

    /// Waits until there is something to send.
    pub(crate) async fn waiting(&self) {
        self.waiting.notified().await;
    }

    /// The packets that are to leave now.
    pub(crate) fn take_packets(&self) -> Vec<(Incarnation, Packet)> {
        let mut packets = Vec::new();
        for (peer, link) in self.lock().iter_mut() {
            if *peer == self.me {
                continue;
            }
            while !link.queue.envelopes.is_empty() || std::mem::take(&mut link.speak) {
                let (first, envelopes) = link.queue.take();
                // An empty packet shows the next number, so that a lost last packet is noticed.
                let first = if envelopes.is_empty() { link.next } else { first };
                link.speak = false;
                let packet = Packet {
                    version: ENVELOPE_VERSION,
                    from: self.me.clone(),
                    first,
                    confirmed: link.flushed,
                    envelopes,
                };
                packets.push((peer.clone(), packet));
            }
        }
        packets
    }

    /// The heartbeat: has every link to `peers` speak, and asks again for what was missed. Returns who has gaps that are
    /// to be seen to now.
    pub(crate) fn heartbeat<'a>(&self, peers: impl Iterator<Item = &'a Incarnation>) -> Vec<Incarnation> {
        let (mut missed, mut grown) = (Vec::new(), Vec::new());
        {
            let mut links = self.lock();
            for peer in peers.filter(|peer| **peer != self.me) {
                let link = links.entry(peer.clone()).or_default();
                link.speak = true;
                if link.seeing_to == SeeingTo::Done {
                    link.seeing_to = SeeingTo::Nothing;
                }
                match link.gap {
                    Some(_) if link.gap_grew => grown.push(peer.clone()),
                    // It must not be asked before all here know that something is missing.
                    Some((_, upto)) if link.seeing_to == SeeingTo::Nothing => missed.push((peer.clone(), upto)),
                    _ => {}
                }
            }
        }
        for (peer, upto) in missed {
            self.send(&peer, Envelope::Missed { upto });
        }
        self.waiting.notify_one();
        grown
    }

    /// Takes a packet: what in it is new, and whether something before it is missing.
    pub(crate) fn receive(&self, packet: Packet) -> Received {
        let mut links = self.lock();
        let link = links.entry(packet.from).or_default();
        link.confirm(packet.confirmed);
        let mut received = Received::default();
        if packet.first > link.expected {
            let from = link.gap.map_or(link.expected, |(from, _)| from);
            link.gap = Some((from, packet.first - 1));
            link.gap_grew = true;
            link.expected = packet.first;
            received.missed = true;
        }
        let known = usize::try_from(link.expected - packet.first).unwrap_or(usize::MAX);
        received.envelopes = packet.envelopes.into_iter().skip(known).collect();
        link.expected += received.envelopes.len() as u64;
        received.last = link.expected - 1;
        received
    }

    /// The peer's envelopes up to `number` have taken effect.
    pub(crate) fn handled(&self, peer: &Incarnation, number: u64) {
        if let Some(link) = self.lock().get_mut(peer) {
            link.handled = link.handled.max(number);
        }
    }

    /// The peer has told again what it owed from its envelopes up to `upto`.
    pub(crate) fn repeated(&self, peer: &Incarnation, upto: u64) {
        if let Some(link) = self.lock().get_mut(peer)
            && link.gap.is_some_and(|(_, last)| last <= upto)
        {
            link.gap = None;
        }
    }

    /// Up to which number envelopes of the peer are missing, if that is to be seen to now; else the heartbeat says when.
    pub(crate) fn see_to_gap(&self, peer: &Incarnation) -> Option<u64> {
        let mut links = self.lock();
        let link = links.get_mut(peer)?;
        let (_, upto) = link.gap.filter(|_| link.gap_grew && link.seeing_to == SeeingTo::Nothing)?;
        link.gap_grew = false;
        link.seeing_to = SeeingTo::Gap;
        Some(upto)
    }

    /// The gap has been seen to: what was in it is asked for.
    pub(crate) fn has_seen_to_gap(&self, peer: &Incarnation, upto: u64) {
        if let Some(link) = self.lock().get_mut(peer) {
            link.seeing_to = SeeingTo::Done;
        }
        self.send(peer, Envelope::Missed { upto });
    }

    /// The peer has missed something. Whether that is to be told again from here; else it is by who tells it again now.
    pub(crate) fn begin_repeat(&self, peer: &Incarnation, repeat: Repeat) -> bool {
        let mut links = self.lock();
        let link = links.entry(peer.clone()).or_default();
        match link.repeating {
            None => link.repeating = Some(repeat),
            Some(running) if running.covers(repeat) => return false,
            Some(_) => {
                link.repeat_next = Some(link.repeat_next.map_or(repeat, |next| next.and(repeat)));
                return false;
            }
        }
        true
    }

    /// It has been told again. What it has missed besides is to be told again now.
    pub(crate) fn next_repeat(&self, peer: &Incarnation) -> Option<Repeat> {
        let mut links = self.lock();
        let link = links.get_mut(peer)?;
        link.repeating = link.repeat_next.take();
        link.repeating
    }

    /// Whether something of this peer is missing.
    pub(crate) fn has_gap(&self, peer: &Incarnation) -> bool {
        self.lock().get(peer).is_some_and(|link| link.gap.is_some())
    }

    /// What a flush that begins now will cover: per peer, the number that [`Links::flushed`] may then confirm.
    pub(crate) fn before_flush(&self) -> Vec<(Incarnation, u64)> {
        let covered = |link: &Link| link.gap.map_or(link.handled, |(from, _)| link.handled.min(from - 1));
        let decided = |peer: &Incarnation, number| (peer.clone(), self.undecided.decided(peer, number));
        self.lock().iter().map(|(peer, link)| decided(peer, covered(link))).collect()
    }

    /// The flush is durable.
    pub(crate) fn flushed(&self, covered: Vec<(Incarnation, u64)>) {
        let mut links = self.lock();
        for (peer, number) in covered {
            let Some(link) = links.get_mut(&peer) else { continue };
            if number > link.flushed {
                link.flushed = number;
                link.speak = true;
                if peer == self.me {
                    link.confirm(number);
                }
            }
        }
        drop(links);
        self.waiting.notify_one();
    }

    /// Whether the peer's inbox changes from our envelopes up to `number` are durable.
    pub(crate) fn is_confirmed(&self, peer: &Incarnation, number: u64) -> bool {
        self.lock().get(peer).is_some_and(|link| link.confirmed >= number)
    }

    /// Gives up what waits for peers that live no more.
    ///
    /// Their numbers stay, as a node that was only taken for dead goes on with its own; of the very many, they go.
    pub(crate) fn forget_queues(&self, lives: impl Fn(&Incarnation) -> bool) {
        let mut links = self.lock();
        if links.len() > LINKS_MAX {
            links.retain(|peer, _| *peer == self.me || lives(peer));
        }
        drop(links);
        for (_, link) in self.lock().iter_mut().filter(|(peer, _)| !lives(peer)) {
            link.queue = Queue::default();
            link.owed = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incarnation(name: &str) -> Incarnation {
        Incarnation { node: name.parse().unwrap(), life: 1 }
    }

    struct Pair {
        a: Links,
        b: Links,
    }

    impl Pair {
        fn new() -> Self {
            let links = |name| Links::new(incarnation(name), 1_000, Counter::noop());
            Self { a: links("a"), b: links("b") }
        }

        fn say(&self, n: u64) -> Packet {
            self.a.send(&incarnation("b"), Envelope::Repeated { upto: n });
            self.packet()
        }

        fn packet(&self) -> Packet {
            self.a.take_packets().pop().expect("a packet").1
        }
    }

    fn views(received: &Received) -> Vec<u64> {
        let view = |envelope: &Envelope| match envelope {
            Envelope::Repeated { upto } => *upto,
            other => panic!("{other:?}"),
        };
        received.envelopes.iter().map(view).collect()
    }

    #[test]
    fn what_comes_twice_is_handled_once() {
        let pair = Pair::new();
        let packet = pair.say(1);
        let again = Packet::decode(&packet.encode()).unwrap();
        assert_eq!(views(&pair.b.receive(packet)), [1]);
        assert_eq!(views(&pair.b.receive(again)), [0; 0]);
    }

    #[test]
    fn a_hole_is_noticed_and_nothing_behind_it_is_confirmed_until_it_is_repeated() {
        let pair = Pair::new();
        let (a, b) = (incarnation("a"), incarnation("b"));
        pair.b.receive(pair.say(1));
        pair.b.handled(&a, 1);
        let lost = pair.say(2);
        let received = pair.b.receive(pair.say(3));
        assert_eq!((views(&received), pair.b.see_to_gap(&a)), (vec![3], Some(2)));
        pair.b.handled(&a, received.last);
        pair.b.flushed(pair.b.before_flush());
        assert_eq!(pair.b.before_flush(), [(a.clone(), 1)], "3 is handled, 2 is not");
        drop(pair.say(4));
        let received = pair.b.receive(pair.say(5));
        assert!(received.missed);
        pair.b.handled(&a, received.last);
        assert_eq!(pair.b.before_flush(), [(a.clone(), 1)], "the second hole does not fill the first");
        assert_eq!(views(&pair.b.receive(lost)), [0; 0], "too late: it will be told again");

        pair.b.repeated(&a, 3);
        assert!(pair.b.has_gap(&a), "an older repeat does not fill it");
        pair.b.repeated(&a, 4);
        pair.b.flushed(pair.b.before_flush());
        let (_, back) = pair.b.take_packets().pop().unwrap();
        pair.a.receive(back);
        assert!(pair.a.is_confirmed(&b, 5));
        assert!(!pair.a.is_confirmed(&b, 6));
    }

    #[test]
    fn what_waits_for_a_peer_is_bounded_in_bytes_and_what_is_dropped_is_a_hole() {
        let pair = Pair::new();
        let settled = |n| {
            pair.a.send(&incarnation("b"), Envelope::Repeated { upto: n });
        };
        (1..=100).for_each(settled);
        let taken = views(&pair.b.receive(pair.packet()));
        assert!((2..100).contains(&taken.len()), "{taken:?}");
        assert!(taken.iter().copied().eq(1..=taken.len() as u64), "the newest are dropped: {taken:?}");
        settled(101);
        let received = pair.b.receive(pair.packet());
        assert_eq!((views(&received), pair.b.see_to_gap(&incarnation("a"))), (vec![101], Some(100)));
    }

    #[test]
    fn the_heartbeat_shows_a_lost_last_packet() {
        let pair = Pair::new();
        let _lost = pair.say(1);
        pair.a.heartbeat([incarnation("b")].iter());
        assert!(pair.b.receive(pair.packet()).missed);
        assert_eq!(pair.b.heartbeat([incarnation("a")].iter()), [incarnation("a")], "to be seen to");
        assert_eq!(pair.b.see_to_gap(&incarnation("a")), Some(1));
        pair.b.has_seen_to_gap(&incarnation("a"), 1);
        assert_eq!(asked(&pair.b), [1]);
        assert_eq!(pair.b.heartbeat([incarnation("a")].iter()), []);
        assert_eq!(asked(&pair.b), [1], "again");
    }

    fn asked(links: &Links) -> Vec<u64> {
        let envelopes = links.take_packets().into_iter().flat_map(|(_, packet)| packet.envelopes);
        let upto = |envelope| match envelope {
            Envelope::Missed { upto } => upto,
            other => panic!("{other:?}"),
        };
        envelopes.map(upto).collect()
    }

    #[test]
    fn gaps_are_seen_to_once_between_two_heartbeats_and_nothing_is_asked_for_before() {
        let pair = Pair::new();
        let a = incarnation("a");
        let lose_one = || {
            drop(pair.say(0));
            assert!(pair.b.receive(pair.say(0)).missed);
        };
        let beat = || pair.b.heartbeat([incarnation("a")].iter());
        lose_one();
        assert_eq!(pair.b.see_to_gap(&a), Some(1));
        lose_one();
        assert_eq!(pair.b.see_to_gap(&a), None, "one is being seen to");
        assert_eq!(beat(), [incarnation("a")]);
        assert_eq!((pair.b.see_to_gap(&a), asked(&pair.b)), (None, vec![]), "it still is");
        pair.b.has_seen_to_gap(&a, 1);
        assert_eq!((pair.b.see_to_gap(&a), asked(&pair.b)), (None, vec![1]), "once is enough");
        assert_eq!(beat(), [incarnation("a")]);
        assert_eq!((pair.b.see_to_gap(&a), asked(&pair.b)), (Some(3), vec![]));
        pair.b.has_seen_to_gap(&a, 3);
        pair.b.repeated(&a, 3);
        assert_eq!((beat(), asked(&pair.b)), (vec![], vec![3]));
        assert_eq!((beat(), asked(&pair.b)), (vec![], vec![]), "it has been told again");
        lose_one();
        assert_eq!(pair.b.see_to_gap(&a), Some(5), "at once");
    }

    #[test]
    fn one_repeat_at_a_time_is_told_to_a_peer_and_what_it_missed_besides_behind_it() {
        let pair = Pair::new();
        let b = incarnation("b");
        let missed = |upto, was_out| pair.a.begin_repeat(&b, Repeat { upto, was_out });
        assert!(missed(3, false));
        assert!(!missed(3, false) && !missed(2, false), "covered by the one that runs");
        assert!(!missed(5, false) && !missed(0, true) && !missed(4, false));
        assert_eq!(pair.a.next_repeat(&b), Some(Repeat { upto: 5, was_out: true }));
        assert!(!missed(5, true));
        assert_eq!(pair.a.next_repeat(&b), None);
        assert!(missed(5, false), "asked for again");
    }
}
