//! One user's presence at home (PROTOCOL §4, DESIGN §6): the number of sessions by node, the status that the user set,
//! and the grace period that hides a reconnect. Owns no timer and stores nothing: the home calls back at the deadline
//! that it is given, sends the changes to the watchers, and stores the last-seen time of users who are shown as
//! offline.

use switchboard_protocol::Timestamp;
use switchboard_protocol::client::PresenceStatus;
use switchboard_protocol::server::ShownStatus;

use crate::visibility::Shown;

/// One user's presence, during a session or the grace period. 64 bytes, and one small entry per node with sessions of
/// the user, so the view's size bounds it.
///
/// `N` is a node, in the sense of one life of a process. Methods return what is shown from now on if that has changed.
#[derive(Debug)]
pub struct UserPresence<N> {
    nodes: Vec<OnNode<N>>,
    grace_until_ms: Option<u64>,
    chosen: SavedPresence,
}

#[derive(Debug)]
struct OnNode<N> {
    node: N,
    sessions: u32,
}

/// What a new home needs to continue where the former one was: the current status, and what it hides.
///
/// The home sends it to the nodes with the user's sessions whenever it changes; they include it when they register the
/// sessions with a new home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedPresence {
    /// The last status that the user set; `Online` if none was set since the user was offline.
    pub status: PresenceStatus,
    /// Counts the changes of the status since the user was offline. Of two copies the higher revision is the newer one,
    /// whatever their nodes' clocks say.
    pub revision: u32,
    /// When the last session ended, or the user went invisible.
    pub last_seen_at: Option<Timestamp>,
}

impl SavedPresence {
    fn offline(last_seen_at: Option<Timestamp>) -> Self {
        Self { status: PresenceStatus::Online, revision: 0, last_seen_at }
    }

    /// A hidden user stays hidden if the revisions of two copies do not tell which is newer.
    fn supersedes(&self, other: &Self) -> bool {
        let rank = |saved: &Self| (saved.revision, saved.status == PresenceStatus::Invisible);
        rank(self) > rank(other)
    }
}

impl<N: Clone + Eq> UserPresence<N> {
    /// A user without a session, according to the store.
    pub fn offline(last_seen_at: Option<Timestamp>) -> Self {
        Self { nodes: Vec::new(), grace_until_ms: None, chosen: SavedPresence::offline(last_seen_at) }
    }

    /// One more session on `node`.
    #[must_use]
    pub fn connected(&mut self, node: &N) -> Option<Shown> {
        self.changing(|user| user.on_node(node).sessions += 1)
    }

    /// `node` registers with a new home: its number of sessions (replacing the known one), and what the former home had
    /// sent it. The newest copy of several nodes counts, so nothing may be announced before all have registered. A
    /// registration without sessions changes nothing.
    #[must_use]
    pub fn restore(&mut self, node: &N, sessions: u32, saved: SavedPresence) -> Option<Shown> {
        if sessions == 0 {
            return None;
        }
        self.changing(|user| {
            user.on_node(node).sessions = sessions;
            if saved.supersedes(&user.chosen) {
                user.chosen = saved;
            }
        })
    }

    /// One session less on `node`, at the wall time `at`. If it was the user's last one, returns the deadline for
    /// calling [`UserPresence::grace_over`].
    #[must_use]
    pub fn disconnected(&mut self, node: &N, now_ms: u64, at: Timestamp, grace_ms: u64) -> Option<u64> {
        let on_node = self.nodes.iter_mut().find(|on_node| on_node.node == *node)?;
        on_node.sessions -= 1;
        if on_node.sessions == 0 { self.node_gone(node, now_ms, at, grace_ms) } else { None }
    }

    /// `node` died with its sessions. If the user has none elsewhere, returns the deadline as in
    /// [`UserPresence::disconnected`].
    #[must_use]
    pub fn node_gone(&mut self, node: &N, now_ms: u64, at: Timestamp, grace_ms: u64) -> Option<u64> {
        let position = self.nodes.iter().position(|on_node| on_node.node == *node)?;
        self.nodes.remove(position);
        if self.is_connected() {
            return None;
        }
        if self.chosen.status != PresenceStatus::Invisible {
            self.chosen.last_seen_at = Some(at);
        }
        let deadline_ms = now_ms.saturating_add(grace_ms);
        self.grace_until_ms = Some(deadline_ms);
        Some(deadline_ms)
    }

    /// A grace deadline has come. If the user has not reconnected, they are offline now, and their status is forgotten;
    /// a stale or early call changes nothing. An invisible user looked offline before, so there is nothing to announce.
    #[must_use]
    pub fn grace_over(&mut self, now_ms: u64) -> Option<Shown> {
        if self.grace_until_ms.is_none_or(|deadline_ms| now_ms < deadline_ms) {
            return None;
        }
        self.changing(|user| *user = Self::offline(user.chosen.last_seen_at))
    }

    /// `presence_set` of any of the user's devices, at the wall time `at`. It applies until the user is offline;
    /// without a session it comes too late and changes nothing, as does setting the current status.
    #[must_use]
    pub fn set(&mut self, status: PresenceStatus, at: Timestamp) -> Option<Shown> {
        if !self.is_connected() || status == self.chosen.status {
            return None;
        }
        self.changing(|user| {
            if status == PresenceStatus::Invisible {
                user.chosen.last_seen_at = Some(at);
            }
            user.chosen.status = status;
            user.chosen.revision = user.chosen.revision.saturating_add(1);
        })
    }

    /// How the user is shown, unless blocks prevent it.
    pub fn shown(&self) -> Shown {
        if self.is_offline() {
            return Shown::offline(self.chosen.last_seen_at);
        }
        match self.chosen.status {
            PresenceStatus::Online => Shown::present(ShownStatus::Online),
            PresenceStatus::Away => Shown::present(ShownStatus::Away),
            PresenceStatus::Busy => Shown::present(ShownStatus::Busy),
            PresenceStatus::Invisible => Shown::offline(self.chosen.last_seen_at),
        }
    }

    /// What a new home needs to know, to be stored by the nodes of [`UserPresence::nodes`].
    pub fn saved(&self) -> SavedPresence {
        self.chosen
    }

    /// The nodes with sessions of the user, and their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = (&N, u32)> {
        self.nodes.iter().map(|on_node| (&on_node.node, on_node.sessions))
    }

    /// Whether the user has any session.
    pub fn is_connected(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// Whether the user has neither a session nor a grace period, so that the store's last-seen time is all there is to
    /// know and this value may be dropped.
    pub fn is_offline(&self) -> bool {
        !self.is_connected() && self.grace_until_ms.is_none()
    }

    fn on_node(&mut self, node: &N) -> &mut OnNode<N> {
        self.grace_until_ms = None;
        let position = self.nodes.iter().position(|on_node| on_node.node == *node).unwrap_or_else(|| {
            // Most users are on one node, so reserve room for one.
            self.nodes.reserve_exact(1);
            self.nodes.push(OnNode { node: node.clone(), sessions: 0 });
            self.nodes.len() - 1
        });
        &mut self.nodes[position]
    }

    fn changing(&mut self, change: impl FnOnce(&mut Self)) -> Option<Shown> {
        let before = self.shown();
        change(self);
        let after = self.shown();
        (after != before).then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE_MS: u64 = 5_000;

    const fn at(unix_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_ms)
    }

    fn status(status: ShownStatus) -> Option<Shown> {
        Some(Shown::present(status))
    }

    fn last_seen(unix_ms: i64) -> Shown {
        Shown::offline(Some(at(unix_ms)))
    }

    /// A user with one session on each of `nodes`.
    fn online(nodes: &[u32]) -> UserPresence<u32> {
        let mut user = UserPresence::offline(None);
        for node in nodes {
            let _ = user.connected(node);
        }
        user
    }

    #[test]
    fn the_first_session_shows_him_online_and_further_ones_change_nothing() {
        let mut user = UserPresence::offline(Some(at(7)));
        assert_eq!(user.shown(), last_seen(7));
        assert_eq!(user.connected(&1), status(ShownStatus::Online));
        assert_eq!((user.connected(&1), user.connected(&2)), (None, None));
        assert_eq!(user.nodes().collect::<Vec<_>>(), [(&1, 2), (&2, 1)]);
    }

    #[test]
    fn he_is_offline_when_the_grace_is_over_and_not_a_millisecond_before() {
        let mut user = online(&[1]);
        assert_eq!(user.disconnected(&1, 1_000, at(50), GRACE_MS), Some(6_000));
        assert_eq!(user.grace_over(5_999), None);
        assert_eq!(user.shown().status, ShownStatus::Online);
        assert_eq!(user.grace_over(6_000), Some(last_seen(50)));
        assert!(user.is_offline());
        assert_eq!(user.grace_over(6_000), None, "told once");
    }

    #[test]
    fn a_reconnect_within_the_grace_is_not_seen() {
        let mut user = online(&[1]);
        assert_eq!(user.disconnected(&1, 1_000, at(50), GRACE_MS), Some(6_000));
        assert_eq!(user.connected(&2), None);
        assert_eq!(user.grace_over(6_000), None, "the timer is stale");
        assert_eq!(user.disconnected(&2, 6_500, at(60), GRACE_MS), Some(11_500));
        assert_eq!(user.grace_over(6_600), None, "the first grace does not end the second");
        assert_eq!(user.grace_over(11_500), Some(last_seen(60)));
    }

    #[test]
    fn only_the_last_session_of_all_nodes_begins_the_grace() {
        let mut user = online(&[1, 1, 2]);
        assert_eq!(user.disconnected(&1, 10, at(1), GRACE_MS), None);
        assert_eq!(user.disconnected(&1, 20, at(2), GRACE_MS), None);
        assert_eq!(user.disconnected(&1, 30, at(3), GRACE_MS), None, "none was left there");
        assert_eq!(user.disconnected(&2, 40, at(4), GRACE_MS), Some(5_040));
    }

    #[test]
    fn a_node_takes_its_sessions_with_it() {
        let mut user = online(&[1, 1, 2]);
        assert_eq!(user.node_gone(&2, 10, at(1), GRACE_MS), None);
        assert_eq!(user.node_gone(&2, 20, at(2), GRACE_MS), None, "it is gone already");
        assert_eq!(user.node_gone(&1, 30, at(3), GRACE_MS), Some(5_030));
        assert_eq!(user.grace_over(5_030), Some(last_seen(3)));
    }

    #[test]
    fn without_grace_he_is_offline_at_once() {
        let mut user = online(&[1]);
        assert_eq!(user.disconnected(&1, 1_000, at(50), 0), Some(1_000));
        assert_eq!(user.grace_over(1_000), Some(last_seen(50)));
    }

    #[test]
    fn what_he_sets_counts_over_a_reconnect_until_he_is_offline() {
        let mut user = online(&[1, 2]);
        assert_eq!(user.set(PresenceStatus::Busy, at(1)), status(ShownStatus::Busy));
        assert_eq!(user.set(PresenceStatus::Busy, at(2)), None);
        assert_eq!(user.set(PresenceStatus::Away, at(3)), status(ShownStatus::Away), "the last one counts");
        assert_eq!(user.node_gone(&2, 10, at(4), GRACE_MS), None);
        assert!(user.disconnected(&1, 20, at(5), GRACE_MS).is_some());
        assert_eq!(user.connected(&1), None);
        assert_eq!(user.shown().status, ShownStatus::Away);
        let deadline_ms = user.disconnected(&1, 30, at(6), GRACE_MS).expect("a grace");
        assert_eq!(user.grace_over(deadline_ms), Some(last_seen(6)));
        assert_eq!(user.connected(&1), status(ShownStatus::Online), "forgotten");
    }

    #[test]
    fn without_a_session_there_is_nothing_to_set() {
        let mut user = UserPresence::<u32>::offline(Some(at(7)));
        assert_eq!(user.set(PresenceStatus::Invisible, at(9)), None);
        assert_eq!(user.shown(), last_seen(7));
        let mut user = online(&[1]);
        let deadline_ms = user.disconnected(&1, 0, at(50), GRACE_MS).expect("a grace");
        assert_eq!(user.set(PresenceStatus::Invisible, at(60)), None);
        assert_eq!(user.grace_over(deadline_ms), Some(last_seen(50)));
    }

    #[test]
    fn an_invisible_user_was_last_seen_when_he_went_invisible() {
        let mut user = online(&[1]);
        assert_eq!(user.set(PresenceStatus::Invisible, at(100)), Some(last_seen(100)));
        assert_eq!(user.set(PresenceStatus::Invisible, at(200)), None);
        assert_eq!(user.connected(&2), None);
        assert_eq!(user.node_gone(&2, 10, at(300), GRACE_MS), None);
        let deadline_ms = user.disconnected(&1, 20, at(400), GRACE_MS).expect("a grace");
        assert_eq!(user.shown(), last_seen(100));
        assert_eq!(user.grace_over(deadline_ms), None, "he looked offline before");
        assert_eq!(user.shown(), last_seen(100), "that he left is not seen either");
        assert_eq!(user.connected(&1), status(ShownStatus::Online));
    }

    #[test]
    fn a_user_who_comes_out_is_seen_leaving() {
        let mut user = online(&[1]);
        assert_eq!(user.set(PresenceStatus::Invisible, at(100)), Some(last_seen(100)));
        assert_eq!(user.set(PresenceStatus::Online, at(200)), status(ShownStatus::Online));
        let deadline_ms = user.disconnected(&1, 20, at(300), GRACE_MS).expect("a grace");
        assert_eq!(user.grace_over(deadline_ms), Some(last_seen(300)));
    }

    #[test]
    fn a_new_home_goes_on_with_the_newest_copy() {
        let mut former = online(&[1, 2]);
        let early = former.saved();
        let _ = former.set(PresenceStatus::Away, at(90));
        let _ = former.set(PresenceStatus::Invisible, at(100));
        for order in [[early, former.saved()], [former.saved(), early]] {
            let mut user = UserPresence::offline(None);
            let _ = user.restore(&1, 3, order[0]);
            let _ = user.restore(&2, 1, order[1]);
            assert_eq!(user.shown(), last_seen(100));
            assert_eq!(user.nodes().collect::<Vec<_>>(), [(&1, 3), (&2, 1)]);
            assert_eq!(user.saved(), former.saved());
        }
    }

    #[test]
    fn a_registration_replaces_the_count_and_ends_a_grace() {
        let mut user = online(&[1, 1]);
        let saved = user.saved();
        assert_eq!(user.restore(&1, 1, saved), None);
        let deadline_ms = user.disconnected(&1, 0, at(1), GRACE_MS).expect("one was left");
        assert_eq!(user.restore(&1, 0, saved), None);
        assert!(!user.is_connected(), "no sessions are none");
        assert_eq!(user.restore(&2, 1, saved), None);
        assert_eq!(user.grace_over(deadline_ms), None);
        assert!(user.is_connected());
    }

    #[test]
    fn where_copies_disagree_what_is_hidden_stays_hidden() {
        let invisible = SavedPresence { status: PresenceStatus::Invisible, revision: 1, last_seen_at: Some(at(100)) };
        let away = SavedPresence { status: PresenceStatus::Away, revision: 1, last_seen_at: None };
        for order in [[invisible, away], [away, invisible]] {
            let mut user = UserPresence::offline(None);
            let _ = user.restore(&1, 1, order[0]);
            let _ = user.restore(&2, 1, order[1]);
            assert_eq!(user.shown(), last_seen(100));
        }
    }

    #[test]
    fn it_is_held_per_connected_user_so_it_is_small() {
        assert_eq!(size_of::<UserPresence<[u64; 4]>>(), 64);
        assert_eq!(size_of::<SavedPresence>(), 24);
    }
}
