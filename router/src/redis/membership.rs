//! Decides which nodes are alive, from the heartbeats seen in Redis: a state machine without Redis, tasks or a clock.
//!
//! DESIGN §1: a node is only removed by a node that has seen no heartbeat of it for a whole TTL while its own key
//! stood. So no node is removed because Redis lost its keys or was unreachable, or because this process was suspended:
//! in these cases the last view stays, and every node gets a whole TTL again.

use super::beat::Beat;
use crate::view::NodeEntry;
use std::collections::BTreeMap;
use switchboard_protocol::NodeId;
use switchboard_store::Incarnation;

/// The result of one look at Redis.
#[derive(Debug)]
pub(super) struct Seen {
    /// When Redis was asked (monotonic clock). A node is missing only up to this time.
    pub(super) asked_ms: u64,
    /// When it had answered.
    pub(super) answered_ms: u64,
    /// Whether this node's own key was there as this node had written it.
    pub(super) own_stood: bool,
    /// The content of the other nodes' keys that were there.
    pub(super) others: BTreeMap<NodeId, Beat>,
}

/// The nodes that this node considers alive.
#[derive(Debug)]
pub(super) struct Membership {
    me: NodeEntry,
    ttl_ms: u64,
    others: BTreeMap<NodeId, Other>,
}

#[derive(Debug)]
struct Other {
    beat: Beat,
    /// When `beat` was first seen.
    changed_ms: u64,
}

impl Membership {
    /// A node that knows no others.
    pub(super) fn new(me: NodeEntry, ttl_ms: u64) -> Self {
        Self { me, ttl_ms, others: BTreeMap::new() }
    }

    /// Takes a look into account.
    pub(super) fn look(&mut self, seen: Seen) {
        if seen.own_stood {
            // A node that has drained removes its key.
            self.others.retain(|node, other| !other.beat.leaving || seen.others.contains_key(node));
        }
        for (node, beat) in seen.others {
            if self.others.get(&node).is_none_or(|known| known.beat != beat) {
                self.others.insert(node, Other { beat, changed_ms: seen.answered_ms });
            }
        }
        if seen.own_stood {
            let ttl_ms = self.ttl_ms;
            self.others.retain(|_, other| seen.asked_ms.saturating_sub(other.changed_ms) < ttl_ms);
        } else {
            self.spare(seen.answered_ms);
        }
    }

    /// When the next node is to be taken out, if it gives no sign until then.
    pub(super) fn next_end_ms(&self) -> Option<u64> {
        self.others.values().map(|other| other.changed_ms + self.ttl_ms).min()
    }

    /// Redis showed nothing: every node that has not been missing for a whole TTL gets a whole one again.
    pub(super) fn spare(&mut self, now_ms: u64) {
        for other in self.others.values_mut() {
            other.changed_ms = now_ms;
        }
    }

    /// The other nodes that count as alive, including those that leave.
    pub(super) fn others(&self) -> impl Iterator<Item = &NodeId> {
        self.others.keys()
    }

    /// The nodes of the view. Nodes that leave are not among them, unless there are no others.
    pub(super) fn nodes(&self, leaving: bool) -> Vec<NodeEntry> {
        let staying = self.others.iter().filter(|(_, other)| !other.beat.leaving);
        let mut nodes: Vec<NodeEntry> = staying.map(|(node, other)| other.beat.entry(node)).collect();
        if !leaving || nodes.is_empty() {
            nodes.push(self.me.clone());
        }
        nodes
    }

    /// The nodes that leave. The view gives them no work, but they have sessions until their clients have moved.
    pub(super) fn leaving(&self, me_too: bool) -> Vec<Incarnation> {
        let others = self.others.iter().filter(|(_, other)| other.beat.leaving);
        let others = others.map(|(node, other)| other.beat.entry(node).incarnation);
        others.chain(me_too.then(|| self.me.incarnation.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_MS: u64 = 3_000;

    fn entry(name: &str, life: u64) -> NodeEntry {
        NodeEntry { incarnation: Incarnation { node: name.parse().unwrap(), life }, weight: 1, url: name.into() }
    }

    fn beat(name: &str, life: u64, number: u64) -> (NodeId, Beat) {
        (name.parse().unwrap(), Beat { number, ..Beat::first(&entry(name, life)) })
    }

    struct Fixture {
        membership: Membership,
        now_ms: u64,
    }

    impl Fixture {
        fn new() -> Self {
            Self { membership: Membership::new(entry("me", 1), TTL_MS), now_ms: 0 }
        }

        /// A look `after_ms` later; who is then in the view besides this node.
        fn look(&mut self, after_ms: u64, own_stood: bool, others: &[(NodeId, Beat)]) -> Vec<String> {
            self.now_ms += after_ms;
            let others = others.iter().cloned().collect();
            self.membership.look(Seen { asked_ms: self.now_ms, answered_ms: self.now_ms, own_stood, others });
            self.others()
        }

        fn others(&self) -> Vec<String> {
            let nodes = self.membership.nodes(false);
            let others = nodes.iter().filter(|node| node.incarnation.node.as_str() != "me");
            others.map(|node| node.incarnation.to_string()).collect()
        }
    }

    #[test]
    fn a_node_without_a_sign_is_taken_out_after_a_whole_ttl_and_not_before() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.look(0, true, &[beat("a", 1, 1)]), ["a~1"]);
        assert_eq!(fixture.look(TTL_MS - 1, true, &[]), ["a~1"], "its key is gone, its time is not over");
        assert_eq!(fixture.look(1, true, &[]), [""; 0]);
        assert_eq!(fixture.look(1, true, &[beat("a", 1, 2)]), ["a~1"], "it was only slow");
    }

    #[test]
    fn it_is_known_when_the_next_one_is_to_be_taken_out() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.membership.next_end_ms(), None);
        fixture.look(0, true, &[beat("a", 1, 1)]);
        fixture.look(100, true, &[beat("a", 1, 1), beat("b", 1, 1)]);
        assert_eq!(fixture.membership.next_end_ms(), Some(TTL_MS));
        fixture.look(100, true, &[beat("a", 1, 2), beat("b", 1, 1)]);
        assert_eq!(fixture.membership.next_end_ms(), Some(100 + TTL_MS));
        assert_eq!(fixture.look(TTL_MS - 100, true, &[]), ["a~1"], "at that time, b is taken out");
    }

    #[test]
    fn a_key_that_does_not_change_is_no_sign() {
        let mut fixture = Fixture::new();
        fixture.look(0, true, &[beat("a", 1, 1)]);
        assert_eq!(fixture.look(TTL_MS, true, &[beat("a", 1, 1)]), [""; 0]);
        assert_eq!(fixture.look(1, true, &[beat("a", 1, 2)]), ["a~1"]);
        assert_eq!(fixture.look(TTL_MS, true, &[beat("a", 1, 3)]), ["a~1"]);
    }

    #[test]
    fn nobody_is_taken_out_while_ones_own_key_is_missing_or_nothing_can_be_seen() {
        let mut fixture = Fixture::new();
        fixture.look(0, true, &[beat("a", 1, 1)]);
        assert_eq!(fixture.look(10 * TTL_MS, false, &[]), ["a~1"], "Redis has lost its keys, or this process slept");
        assert_eq!(fixture.look(TTL_MS - 1, true, &[]), ["a~1"], "a whole TTL from there");
        fixture.now_ms += TTL_MS;
        fixture.membership.spare(fixture.now_ms);
        assert_eq!(fixture.look(TTL_MS - 1, true, &[]), ["a~1"], "and from where Redis was away");
        assert_eq!(fixture.look(1, true, &[]), [""; 0]);
    }

    #[test]
    fn a_long_answer_is_no_absence() {
        let mut fixture = Fixture::new();
        fixture.look(0, true, &[beat("a", 1, 1)]);
        fixture.membership.look(Seen {
            asked_ms: TTL_MS - 1,
            answered_ms: 5 * TTL_MS,
            own_stood: true,
            others: BTreeMap::new(),
        });
        assert_eq!(fixture.others(), ["a~1"]);
    }

    #[test]
    fn a_new_life_takes_the_place_of_the_old_one() {
        let mut fixture = Fixture::new();
        fixture.look(0, true, &[beat("a", 1, 7)]);
        assert_eq!(fixture.look(1, true, &[beat("a", 2, 7)]), ["a~2"]);
    }

    #[test]
    fn who_leaves_is_out_at_once_unless_alone() {
        let mut fixture = Fixture::new();
        let (node, staying) = beat("a", 1, 1);
        let leaving = Beat { leaving: true, ..staying.clone() };
        fixture.look(0, true, &[(node.clone(), staying)]);
        let names = |nodes: Vec<NodeEntry>| -> Vec<String> {
            nodes.iter().map(|node| node.incarnation.node.as_str().to_owned()).collect()
        };
        assert_eq!(names(fixture.membership.nodes(true)), ["a"]);
        assert_eq!(fixture.look(1, true, &[(node, leaving)]), [""; 0]);
        assert_eq!(names(fixture.membership.nodes(true)), ["me"], "somebody has to finish the work");
    }

    #[test]
    fn who_leaves_has_sessions_until_its_key_is_gone() {
        let mut fixture = Fixture::new();
        let (node, staying) = beat("a", 1, 1);
        let leaving = Beat { leaving: true, ..staying };
        let names = |membership: &Membership, me_too| -> Vec<String> {
            membership.leaving(me_too).iter().map(ToString::to_string).collect()
        };
        fixture.look(0, true, &[(node, leaving)]);
        assert_eq!(names(&fixture.membership, true), ["a~1", "me~1"]);
        fixture.look(1, false, &[]);
        assert_eq!(names(&fixture.membership, false), ["a~1"], "Redis has lost its keys");
        fixture.look(1, true, &[]);
        assert_eq!(names(&fixture.membership, false), [""; 0]);
    }
}
