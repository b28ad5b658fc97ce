//! The view (which nodes are alive), and the ring (which node does what), a pure function of the view.
//!
//! The ring may be wrong for a moment, at the cost of a detour: no guarantee depends on it (DESIGN §3).

use crate::topics::TopicKey;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use switchboard_protocol::{ClientId, ConversationId, NodeId, TenantId, UserId};
use switchboard_store::{ConversationKey, Incarnation, UserKey};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Points on the ring per unit of weight. With 160 the busiest of ten equal nodes has about 10 % more than its share.
const POINTS_PER_WEIGHT: u16 = 160;

/// A living node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// The life of the node.
    pub incarnation: Incarnation,
    /// Its share of the work relative to others; 1 unless configured.
    pub weight: u16,
    /// Where its clients connect.
    pub url: Arc<str>,
}

/// The living nodes, numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Grows with each change; each node numbers its own views.
    pub number: u64,
    /// Ordered by incarnation; never empty.
    pub nodes: Arc<[NodeEntry]>,
    /// The draining nodes, in the same order: others do their work, but they still have sessions.
    pub leaving: Arc<[Incarnation]>,
}

impl View {
    /// A view of `nodes`, none of which drains.
    pub fn new(number: u64, mut nodes: Vec<NodeEntry>) -> Self {
        nodes.sort_by(|a, b| a.incarnation.cmp(&b.incarnation));
        nodes.dedup_by(|a, b| a.incarnation == b.incarnation);
        Self { number, nodes: nodes.into(), leaving: Arc::default() }
    }

    /// The same view, with these draining nodes.
    pub fn with_leaving(self, mut leaving: Vec<Incarnation>) -> Self {
        leaving.sort();
        leaving.dedup();
        leaving.retain(|node| !self.has(node));
        Self { leaving: leaving.into(), ..self }
    }

    /// The view of a single node.
    pub fn alone(incarnation: Incarnation, url: Arc<str>) -> Self {
        Self::new(1, vec![NodeEntry { incarnation, weight: 1, url }])
    }

    /// Equal for views of the same nodes, whichever node computes it.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.nodes.iter().fold(1, |hash, node| {
            xxh3_64_with_seed(node.incarnation.node.as_str().as_bytes(), hash ^ node.incarnation.life)
        })
    }

    /// The other nodes.
    pub(crate) fn peers<'a>(&'a self, me: &'a Incarnation) -> impl Iterator<Item = &'a Incarnation> {
        self.nodes.iter().map(|node| &node.incarnation).filter(move |peer| *peer != me)
    }

    /// The other nodes, draining ones included.
    pub(crate) fn reached<'a>(&'a self, me: &'a Incarnation) -> impl Iterator<Item = &'a Incarnation> {
        self.peers(me).chain(self.leaving.iter().filter(move |peer| *peer != me))
    }

    /// Whether this very life of the node is in the view, or drains.
    pub(crate) fn reaches(&self, incarnation: &Incarnation) -> bool {
        self.has(incarnation) || self.leaving.binary_search(incarnation).is_ok()
    }

    /// Whether this very life of the node is in the view.
    pub fn has(&self, incarnation: &Incarnation) -> bool {
        self.nodes.binary_search_by(|node| node.incarnation.cmp(incarnation)).is_ok()
    }
}

/// Consistent hashing with virtual nodes (Karger et al., 1997).
///
/// Points come from `node.id`, not from the incarnation: a restarted node gets its old positions.
#[derive(Debug)]
struct Ring {
    /// (position, index into the view's nodes), ascending.
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// The ring of a view.
    fn new(view: &View) -> Self {
        let mut points = Vec::new();
        for (index, node) in (0u32..).zip(view.nodes.iter()) {
            for point in 0..node.weight.max(1).saturating_mul(POINTS_PER_WEIGHT) {
                points.push((xxh3_64_with_seed(node.incarnation.node.as_str().as_bytes(), u64::from(point)), index));
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// The index of the node responsible for a key's hash.
    fn index_of(&self, hash: u64) -> usize {
        let after = self.points.partition_point(|(position, _)| *position < hash);
        let (_, index) = self.points.get(after).or_else(|| self.points.first()).copied().unwrap_or_default();
        index as usize
    }

    /// The index of the node that takes over if that one goes.
    fn next_index_of(&self, hash: u64) -> Option<usize> {
        let responsible = self.index_of(hash);
        let after = self.points.partition_point(|(position, _)| *position < hash);
        let (behind, first) = (self.points.get(after..)?, self.points.get(..after)?);
        let mut indexes = behind.iter().chain(first).map(|(_, index)| *index as usize);
        indexes.find(|index| *index != responsible)
    }
}

/// A view with its ring: where everything is.
#[derive(Debug)]
pub struct Placement {
    /// The view.
    pub view: View,
    ring: Ring,
}

impl Placement {
    /// The placement of a view.
    pub fn new(view: View) -> Self {
        let ring = Ring::new(&view);
        Self { view, ring }
    }

    /// The home of a user.
    pub fn home(&self, user: &UserKey) -> &NodeEntry {
        self.node(hash_key(b'u', &user.tenant, user.user.as_str()))
    }

    /// The owner of a conversation.
    pub fn owner(&self, conversation: &ConversationKey) -> &NodeEntry {
        self.node(hash_key(b'c', &conversation.tenant, conversation.conversation.as_str()))
    }

    /// The owner of a topic.
    pub(crate) fn topic_owner(&self, topic: &TopicKey) -> &NodeEntry {
        self.node(hash_key(b't', &topic.tenant, topic.topic.as_str()))
    }

    /// The owner of a topic if its owner goes; none where there is no other node.
    pub(crate) fn topic_heir(&self, topic: &TopicKey) -> Option<&NodeEntry> {
        let hash = hash_key(b't', &topic.tenant, topic.topic.as_str());
        let heir = self.ring.next_index_of(hash)?;
        self.view.nodes.get(heir)
    }

    fn node(&self, hash: u64) -> &NodeEntry {
        if let [only] = &*self.view.nodes {
            return only;
        }
        &self.view.nodes[self.ring.index_of(hash)]
    }

    /// Where everything is without this node, for clients that must move; `None` if there is no other.
    pub fn without(&self, node_id: &NodeId) -> Option<Self> {
        let others: Vec<NodeEntry> =
            self.view.nodes.iter().filter(|node| node.incarnation.node != *node_id).cloned().collect();
        (!others.is_empty()).then(|| Self::new(View::new(self.view.number, others)))
    }
}

/// The same on every node and in every version: what a key hashes to decides who owns it.
fn hash_key(map: u8, tenant: &TenantId, id: &str) -> u64 {
    // Both ids have at most 128 bytes and no NUL, so the parts can't run into each other.
    let mut key = [0u8; 1 + 128 + 1 + 128];
    let tenant = tenant.as_str().as_bytes();
    let id = id.as_bytes();
    let length = 2 + tenant.len() + id.len();
    key[0] = map;
    key[1..=tenant.len()].copy_from_slice(tenant);
    key[2 + tenant.len()..length].copy_from_slice(id);
    xxh3_64(&key[..length])
}

/// The direct conversation of two users: the same id whoever writes first (PROTOCOL §3), and nobody can make two pairs
/// of users that share one.
pub(crate) fn direct_conversation(tenant: &TenantId, a: &UserId, b: &UserId) -> ConversationId {
    let (first, second) = if a <= b { (a, b) } else { (b, a) };
    hashed_id("d:", &[tenant.as_str(), first.as_str(), second.as_str()])
}

/// The group that a user makes with a `client_id`: the same id for each repeat, at whatever node.
pub(crate) fn group_conversation(tenant: &TenantId, creator: &UserId, client_id: &ClientId) -> ConversationId {
    hashed_id("g:", &[tenant.as_str(), creator.as_str(), client_id.as_str()])
}

fn hashed_id(prefix: &str, parts: &[&str]) -> ConversationId {
    use sha2::{Digest, Sha256};
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut id = String::from(prefix);
    for byte in &hasher.finalize()[..16] {
        id.extend([byte >> 4, byte & 0xf].map(|digit| char::from(HEX[usize::from(digit)])));
    }
    id.parse().unwrap_or_else(|_| unreachable!("hex digits after a prefix are an id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, weight: u16) -> NodeEntry {
        let incarnation = Incarnation { node: name.parse().unwrap(), life: 1 };
        NodeEntry { incarnation, weight, url: name.into() }
    }

    fn placement(names: &[&str]) -> Placement {
        Placement::new(View::new(1, names.iter().map(|name| node(name, 1)).collect()))
    }

    fn user(n: usize) -> UserKey {
        UserKey { tenant: "default".parse().unwrap(), user: format!("user-{n}").parse().unwrap() }
    }

    #[test]
    fn a_node_that_leaves_moves_only_its_own_users() {
        let five = placement(&["a", "b", "c", "d", "e"]);
        let four = placement(&["a", "b", "d", "e"]);
        let mut moved = 0;
        for n in 0..10_000 {
            let (before, after) = (five.home(&user(n)), four.home(&user(n)));
            if before.incarnation.node.as_str() == "c" {
                moved += 1;
            } else {
                assert_eq!(before.incarnation, after.incarnation);
            }
        }
        assert!((1_500..2_500).contains(&moved), "about a fifth: {moved}");
    }

    #[test]
    fn a_topics_heir_is_its_next_owner() {
        let all = ["a", "b", "c", "d", "e"];
        let topic = |n| TopicKey { tenant: TenantId::default(), topic: format!("topic-{n}").parse().unwrap() };
        let name = |node: &NodeEntry| node.incarnation.node.as_str().to_owned();
        let before = placement(&all);
        for n in 0..1_000 {
            let (owner, heir) = (name(before.topic_owner(&topic(n))), name(before.topic_heir(&topic(n)).unwrap()));
            let left: Vec<&str> = all.into_iter().filter(|node| **node != owner).collect();
            assert_eq!(name(placement(&left).topic_owner(&topic(n))), heir);
        }
        assert!(placement(&["a"]).topic_heir(&topic(1)).is_none());
    }

    #[test]
    fn who_drains_is_reached_and_does_no_work() {
        let node = |name: &str| node(name, 1).incarnation;
        let view = placement(&["a", "c"]).view.with_leaving(vec![node("d"), node("b"), node("a")]);
        assert_eq!(*view.leaving, [node("b"), node("d")], "not who is in the view");
        assert!(["a", "b", "c", "d"].map(node).iter().all(|node| view.reaches(node)));
        assert!(!view.has(&node("b")) && !view.reaches(&node("e")));
        assert_eq!(view.reached(&node("b")).collect::<Vec<_>>(), [&node("a"), &node("c"), &node("d")]);
    }

    #[test]
    fn who_must_move_goes_where_he_is_at_home_without_the_node() {
        let without = placement(&["a", "b", "c"]).without(&"c".parse().unwrap()).expect("there are others");
        let expected = placement(&["a", "b"]);
        assert!((0..100).all(|n| without.home(&user(n)).url == expected.home(&user(n)).url));
        assert!(placement(&["a"]).without(&"a".parse().unwrap()).is_none());
    }

    #[test]
    fn weight_is_a_share() {
        let ring = Placement::new(View::new(1, vec![node("a", 1), node("b", 3)]));
        let at_b = (0..10_000).filter(|n| ring.home(&user(*n)).incarnation.node.as_str() == "b").count();
        assert!((7_000..8_000).contains(&at_b), "{at_b}");
    }

    #[test]
    fn ids_made_of_parts_are_unambiguous() {
        let (tenant, other): (TenantId, TenantId) = ("ab".parse().unwrap(), "a".parse().unwrap());
        let id =
            |tenant: &TenantId, a: &str, b: &str| direct_conversation(tenant, &a.parse().unwrap(), &b.parse().unwrap());
        assert_eq!(id(&tenant, "x", "y"), id(&tenant, "y", "x"));
        assert_ne!(id(&tenant, "c", "d"), id(&other, "bc", "d"));
        assert_ne!(hash_key(b'u', &tenant, "c"), hash_key(b'u', &other, "bc"));
        assert_ne!(hash_key(b'u', &tenant, "c"), hash_key(b'c', &tenant, "c"));
    }
}
