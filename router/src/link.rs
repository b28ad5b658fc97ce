//! The links to other nodes: numbering, gaps and confirmations. On a bus that drops, repeats and delays packets, they
//! make sure that every loss is detected (DESIGN §4).
//!
//! This file has all links of a node under one lock, and wakes the sender when there is something to send. The state of
//! one link is in `peer.rs`, its queue in `queue.rs`. Links do not interpret envelopes, except that
//! [`Envelope::Missed`] asks for a repeat of what is owed.

mod peer;
mod queue;

use crate::envelope::{Envelope, Packet};
use crate::push::{Ticket, Undecided};
use metrics::Counter;
use peer::{Link, Missing};
pub(crate) use peer::{Received, Repeat};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_store::Incarnation;
use tokio::sync::Notify;

/// Peers, alive or dead, whose numbers are kept.
const LINKS_MAX: usize = 1_024;

/// All links of a node, including one to itself (which carries nothing, but whose numbers are confirmed in the same
/// way).
pub(crate) struct Links {
    me: Incarnation,
    /// Bytes that may wait for one peer. Beyond that, envelopes are dropped, and the peer detects the gap in the
    /// numbers.
    queue_bytes: usize,
    dropped: Counter,
    links: Mutex<BTreeMap<Incarnation, Link>>,
    /// Envelopes that must not be confirmed yet, although they are handled and flushed.
    undecided: Undecided,
    /// Notified when there is something to send.
    waiting: Notify,
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

    /// Runs `work` on the link to a peer, if there is one.
    fn with<T>(&self, peer: &Incarnation, work: impl FnOnce(&mut Link) -> T) -> Option<T> {
        self.lock().get_mut(peer).map(work)
    }

    /// Queues an envelope for sending at once, and returns its number. Everything queued for a peer leaves as one
    /// packet.
    pub(crate) fn send(&self, to: &Incarnation, envelope: Envelope) -> u64 {
        let number = self.queue(to, envelope);
        self.leave();
        number
    }

    /// Queues an envelope that leaves with the next one that is sent, or at [`Links::leave`].
    pub(crate) fn queue(&self, to: &Incarnation, envelope: Envelope) -> u64 {
        let mut links = self.lock();
        let (number, has_room) = links.entry(to.clone()).or_default().send(envelope, self.queue_bytes);
        drop(links);
        if !has_room {
            self.dropped.increment(1);
        }
        number
    }

    /// Sends what is queued.
    pub(crate) fn leave(&self) {
        self.waiting.notify_one();
    }

    /// Takes a number for something that this node announced to itself. Called after it has taken effect.
    pub(crate) fn told_myself(&self) -> u64 {
        self.lock().entry(self.me.clone()).or_default().tell_myself()
    }

    /// The same, but the number is not confirmed as long as the ticket exists.
    pub(crate) fn told_myself_undecided(&self) -> (u64, Arc<Ticket>) {
        let mut links = self.lock();
        let link = links.entry(self.me.clone()).or_default();
        // Before it counts as handled: a flush may begin at any time.
        let ticket = self.undecided.hold(&self.me, link.next());
        (link.tell_myself(), ticket)
    }

    /// Prevents the confirmation of the peer's envelope as long as the ticket exists. Must be called before the
    /// envelope is [handled](Links::handled).
    pub(crate) fn hold(&self, peer: &Incarnation, number: u64) -> Arc<Ticket> {
        self.undecided.hold(peer, number)
    }

    /// Records that the peer has to confirm the envelope with this number.
    pub(crate) fn owe(&self, peer: &Incarnation, number: u64) {
        self.with(peer, |link| link.owe(number));
    }

    /// The number of announcements owed to all peers.
    pub(crate) fn owed(&self) -> usize {
        self.lock().values().map(Link::owed).sum()
    }

    /// Waits until there is something to send.
    pub(crate) async fn waiting(&self) {
        self.waiting.notified().await;
    }

    /// The packets to send now.
    pub(crate) fn take_packets(&self) -> Vec<(Incarnation, Packet)> {
        let mut packets = Vec::new();
        for (peer, link) in self.lock().iter_mut().filter(|(peer, _)| **peer != self.me) {
            packets.extend(std::iter::from_fn(|| link.take_packet(&self.me)).map(|packet| (peer.clone(), packet)));
        }
        packets
    }

    /// The heartbeat: makes every link to `peers` send a packet, and asks again for what was missed. Returns the peers
    /// whose gaps must be handled now.
    pub(crate) fn heartbeat<'a>(&self, peers: impl Iterator<Item = &'a Incarnation>) -> Vec<Incarnation> {
        let (mut missed, mut grown) = (Vec::new(), Vec::new());
        {
            let mut links = self.lock();
            for peer in peers.filter(|peer| **peer != self.me) {
                match links.entry(peer.clone()).or_default().beat() {
                    Some(Missing::More) => grown.push(peer.clone()),
                    Some(Missing::Still(upto)) => missed.push((peer.clone(), upto)),
                    None => {}
                }
            }
        }
        for (peer, upto) in missed {
            self.send(&peer, Envelope::Missed { upto });
        }
        self.waiting.notify_one();
        grown
    }

    /// Takes a packet. Returns what is new in it, and whether something before it is missing.
    pub(crate) fn receive(&self, packet: Packet) -> Received {
        self.lock().entry(packet.from.clone()).or_default().receive(packet)
    }

    /// Records that the peer's envelopes up to `number` have taken effect.
    pub(crate) fn handled(&self, peer: &Incarnation, number: u64) {
        self.with(peer, |link| link.handled(number));
    }

    /// Asks a peer that was out of the view for everything it owes: what it said before has been forgotten.
    pub(crate) fn ask_everything(&self, peer: &Incarnation) {
        self.lock().entry(peer.clone()).or_default().ask_everything();
        self.send(peer, Envelope::Missed { upto: 0 });
    }

    /// The peer has missed something, perhaps that question: asks once more if it has not answered.
    pub(crate) fn ask_everything_again(&self, peer: &Incarnation) {
        if self.with(peer, |link| link.asks_everything()) == Some(true) {
            self.send(peer, Envelope::Missed { upto: 0 });
        }
    }

    /// Records that the peer has repeated what it owed from its envelopes up to `upto`; 0: everything.
    pub(crate) fn repeated(&self, peer: &Incarnation, upto: u64) {
        self.with(peer, |link| link.repeated(upto));
    }

    /// The number up to which the peer's envelopes are missing, if the gap should be handled now; otherwise the
    /// heartbeat says when.
    pub(crate) fn see_to_gap(&self, peer: &Incarnation) -> Option<u64> {
        self.with(peer, Link::see_to_gap).flatten()
    }

    /// Records that a gap has been handled, and asks the peer for what was in it.
    pub(crate) fn has_seen_to_gap(&self, peer: &Incarnation, upto: u64) {
        self.with(peer, Link::has_seen_to_gap);
        self.send(peer, Envelope::Missed { upto });
    }

    /// Records that the peer has missed something. Returns whether the caller should repeat it; otherwise the repeat
    /// that is running will be followed by another.
    pub(crate) fn begin_repeat(&self, peer: &Incarnation, repeat: Repeat) -> bool {
        self.lock().entry(peer.clone()).or_default().begin_repeat(repeat)
    }

    /// Ends a repeat. Returns the next one, if the peer has missed something else meanwhile.
    pub(crate) fn next_repeat(&self, peer: &Incarnation) -> Option<Repeat> {
        self.with(peer, Link::next_repeat).flatten()
    }

    /// Whether envelopes of this peer are missing.
    pub(crate) fn has_gap(&self, peer: &Incarnation) -> bool {
        self.lock().get(peer).is_some_and(Link::has_gap)
    }

    /// What a flush that begins now will cover: for each peer, the number that [`Links::flushed`] may then confirm.
    pub(crate) fn before_flush(&self) -> Vec<(Incarnation, u64)> {
        let decided = |peer: &Incarnation, number| (peer.clone(), self.undecided.decided(peer, number));
        self.lock().iter().map(|(peer, link)| decided(peer, link.covered())).collect()
    }

    /// Records that the flush is durable.
    pub(crate) fn flushed(&self, covered: Vec<(Incarnation, u64)>) {
        let mut links = self.lock();
        for (peer, number) in covered {
            let Some(link) = links.get_mut(&peer) else { continue };
            if link.flushed(number) && peer == self.me {
                link.confirm(number);
            }
        }
        drop(links);
        self.waiting.notify_one();
    }

    /// Whether the peer's inbox changes from our envelopes up to `number` are durable.
    pub(crate) fn is_confirmed(&self, peer: &Incarnation, number: u64) -> bool {
        self.lock().get(peer).is_some_and(|link| link.is_confirmed(number))
    }

    /// Drops what waits for dead peers.
    ///
    /// Their numbers stay, because a node that was only taken for dead continues with its own; beyond `LINKS_MAX` they
    /// are dropped too.
    pub(crate) fn forget_queues(&self, lives: impl Fn(&Incarnation) -> bool) {
        let mut links = self.lock();
        if links.len() > LINKS_MAX {
            links.retain(|peer, _| *peer == self.me || lives(peer));
        }
        drop(links);
        self.lock().iter_mut().filter(|(peer, _)| !lives(peer)).for_each(|(_, link)| link.give_up());
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
        assert!(!missed(5, false));
        assert_eq!(pair.a.next_repeat(&b), None);
        assert!(missed(5, true), "asked for again");
        assert!(!missed(0, true));
        assert_eq!(pair.a.next_repeat(&b), Some(Repeat { upto: 0, was_out: true }), "it was out once more");
    }
}
