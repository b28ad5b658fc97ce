//! The presence watches of this node: who watches whom, and the changes that each session has not been sent yet
//! (PROTOCOL §4 `presence_watch`). Owns the node's copy of what the homes said of watched users; asks no home and sends
//! nothing itself.

mod watcher;

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use slab::Slab;
use switchboard_protocol::limits::PRESENCE_WATCH_MAX;
use switchboard_protocol::{ProtocolError, Timestamp};

use crate::visibility::Shown;
use watcher::Watcher;

/// The session would watch more users than allowed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session watches at most {PRESENCE_WATCH_MAX} users, and this would be {watched}")]
pub struct TooManyWatched {
    /// The resulting number of different users.
    pub watched: usize,
}

impl From<TooManyWatched> for ProtocolError {
    fn from(error: TooManyWatched) -> Self {
        Self::bad_request("user_ids", error.to_string())
    }
}

/// When homes were asked, relative to their announcements ([`WatchTable::asking`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking(u64);

/// The presence watches of one node's sessions.
///
/// `S` is a session of this node. `U` is a user with the tenant: nothing here crosses tenants.
///
/// **How it is used.** [`watch`](Self::watch) takes a `presence_watch`; the node asks the homes of the users that it
/// gives back, once, however many sessions watch them, and hands what they answer to [`answered`](Self::answered), and
/// what they say later to [`changed`](Self::changed). When [`all_known`](Self::all_known), or when it has waited long enough,
/// [`state`](Self::state) is the `presence_state`. From then on, and not before, changes of these users are told to the
/// session by [`take_due`](Self::take_due).
///
/// **Memory**, besides the spare capacity of the standard collections. A session costs its key and 72 bytes from its
/// first watch to its end; a watch 24 bytes with its session and an `S` with its user; a watched user twice the key and
/// about 68 bytes; a change, until it is sent, 32 bytes. With at most [`PRESENCE_WATCH_MAX`] watches per session, the
/// node's bound on sessions bounds the whole.
#[derive(Debug)]
pub struct WatchTable<S, U> {
    batch_ms: u64,
    /// Numbers the requests to homes and their announcements, in this node's order.
    moment: u64,
    sessions: HashMap<S, Watcher>,
    /// The slot of each watched user in `targets`: sessions store it instead of the user's long key.
    slots: HashMap<U, usize>,
    targets: Slab<Target<S, U>>,
    /// The sessions with pending changes, by the time at which they may be sent.
    due: BTreeSet<(u64, S)>,
}

#[derive(Debug)]
struct Target<S, U> {
    user: U,
    /// What the user's home said last; `None` before its answer.
    said: Option<Shown>,
    /// The moment of that.
    said_at: u64,
    /// Ordered: removal stays cheap with very many watchers, and frames come in the same order in every replay.
    watchers: BTreeSet<S>,
}

impl<S, U> Target<S, U> {
    fn shown(&self) -> Shown {
        self.said.unwrap_or(Shown::UNKNOWN)
    }
}

impl<S: Clone + Ord + Hash, U: Clone + Ord + Hash> WatchTable<S, U> {
    /// An empty table. `batch_ms` is `presence.batch_ms`.
    pub fn new(batch_ms: u64) -> Self {
        Self {
            batch_ms,
            moment: 0,
            sessions: HashMap::new(),
            slots: HashMap::new(),
            targets: Slab::new(),
            due: BTreeSet::new(),
        }
    }

    /// `presence_watch`: the session also watches these users, each with the time of the first block between the two.
    /// Returns those whom nobody on this node watched before, in the order of `users`. Until the next
    /// [`WatchTable::state`] for them, the session gets no changes of any of `users`.
    ///
    /// # Errors
    /// [`TooManyWatched`], with nothing changed.
    pub fn watch(&mut self, session: &S, users: &[(U, Option<Timestamp>)]) -> Result<Vec<U>, TooManyWatched> {
        self.check_count(session, users)?;
        let watcher = self.sessions.entry(session.clone()).or_default();
        let mut newly_watched = Vec::new();
        for (user, blocked_at) in users {
            let slot = *self.slots.entry(user.clone()).or_insert_with(|| {
                newly_watched.push(user.clone());
                self.targets.insert(Target { user: user.clone(), said: None, said_at: 0, watchers: BTreeSet::new() })
            });
            self.targets[slot].watchers.insert(session.clone());
            watcher.watch(slot, *blocked_at);
        }
        Ok(newly_watched)
    }

    /// Whether the home of each of these users has answered since the user is watched on this node. Users who are not
    /// watched are not waited for.
    pub fn all_known<'a>(&self, users: impl IntoIterator<Item = &'a U>) -> bool
    where
        U: 'a,
    {
        users.into_iter().all(|user| self.target(user).is_none_or(|target| target.said.is_some()))
    }

    /// The `presence_state` that answers a [`WatchTable::watch`], in the order of `users`; users whom the session does
    /// not watch are left out, and those whose home has not answered are offline for now. The session gets changes from
    /// here on.
    pub fn state<'a>(&mut self, session: &S, users: impl IntoIterator<Item = &'a U>) -> Vec<(U, Shown)>
    where
        U: 'a,
    {
        let Some(watcher) = self.sessions.get_mut(session) else { return Vec::new() };
        let told = users.into_iter().filter_map(|user| {
            let slot = *self.slots.get(user)?;
            let shown = watcher.state(slot, self.targets[slot].shown())?;
            Some((user.clone(), shown))
        });
        told.collect()
    }

    /// `presence_unwatch`. Returns those whom nobody on this node watches any more: their homes can stop announcing
    /// changes.
    #[must_use]
    pub fn unwatch<'a>(&mut self, session: &S, users: impl IntoIterator<Item = &'a U>) -> Vec<U>
    where
        U: 'a,
    {
        let Some(watcher) = self.sessions.get_mut(session) else { return Vec::new() };
        let slots: Vec<usize> = users.into_iter().filter_map(|user| self.slots.get(user).copied()).collect();
        let ended: Vec<usize> = slots.into_iter().filter(|slot| watcher.unwatch(*slot)).collect();
        self.leave(session, ended)
    }

    /// The session ended with its watches. Returns the same as [`WatchTable::unwatch`].
    #[must_use]
    pub fn session_gone(&mut self, session: &S) -> Vec<U> {
        let Some(watcher) = self.sessions.remove(session) else { return Vec::new() };
        if let Some(due_ms) = watcher.due_ms() {
            self.due.remove(&(due_ms, session.clone()));
        }
        self.leave(session, watcher.into_watched())
    }

    /// Must be called before homes are asked; the result goes to [`WatchTable::answered`] with their answer.
    pub fn asking(&mut self) -> Asking {
        self.moment += 1;
        Asking(self.moment)
    }

    /// A user's home has answered. What it announced after it was asked stays: from then on it has announced every
    /// change, and its answer may be older.
    pub fn answered(&mut self, asking: Asking, user: &U, shown: Shown, now_ms: u64) {
        if self.target(user).is_some_and(|target| target.said_at <= asking.0) {
            self.say(asking.0, user, shown, now_ms);
        }
    }

    /// A user's home has announced a change. A difference is recorded for each session that watches the user; the
    /// latest wins, and a change back to what a session was sent last is not sent.
    pub fn changed(&mut self, user: &U, shown: Shown, now_ms: u64) {
        self.moment += 1;
        self.say(self.moment, user, shown, now_ms);
    }

    fn say(&mut self, moment: u64, user: &U, shown: Shown, now_ms: u64) {
        let Some(&slot) = self.slots.get(user) else { return };
        let target = &mut self.targets[slot];
        target.said_at = moment;
        let before = target.shown();
        target.said = Some(shown);
        if before == shown {
            return;
        }
        for session in &target.watchers {
            if let Some(watcher) = self.sessions.get_mut(session) {
                let due_ms = watcher.changed(slot, before, shown, now_ms);
                self.due.extend(due_ms.map(|due_ms| (due_ms, session.clone())));
            }
        }
    }

    /// A block between the session's user and `user` begins, changes or ends.
    pub fn blocked(&mut self, session: &S, user: &U, blocked_at: Option<Timestamp>, now_ms: u64) {
        let Some(&slot) = self.slots.get(user) else { return };
        let Some(watcher) = self.sessions.get_mut(session) else { return };
        let due_ms = watcher.blocked(slot, blocked_at, self.targets[slot].shown(), now_ms);
        self.due.extend(due_ms.map(|due_ms| (due_ms, session.clone())));
    }

    /// When [`WatchTable::take_due`] next has something to do.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// The `presence` frames to send now: at most one per session in each `batch_ms`, the longest due session first,
    /// its users in the order of `U`.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<(S, Vec<(U, Shown)>)> {
        let mut frames = Vec::new();
        while self.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            let Some((_, session)) = self.due.pop_first() else { break };
            let Some(watcher) = self.sessions.get_mut(&session) else { continue };
            let targets = &self.targets;
            let changes = watcher.take(|slot| targets[slot].shown(), now_ms + self.batch_ms);
            if !changes.is_empty() {
                let mut users: Vec<_> =
                    changes.into_iter().map(|(slot, shown)| (targets[slot].user.clone(), shown)).collect();
                users.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                frames.push((session, users));
            }
        }
        frames
    }

    /// All users watched on this node, unordered: those to ask about again when homes have moved.
    pub fn targets(&self) -> impl Iterator<Item = &U> {
        self.targets.iter().map(|(_, target)| &target.user)
    }

    fn check_count(&self, session: &S, users: &[(U, Option<Timestamp>)]) -> Result<(), TooManyWatched> {
        let watcher = self.sessions.get(session);
        let watches = |user| self.slots.get(user).is_some_and(|slot| watcher.is_some_and(|w| w.watches(*slot)));
        let added: BTreeSet<&U> = users.iter().map(|(user, _)| user).filter(|user| !watches(*user)).collect();
        let watched = watcher.map_or(0, Watcher::len) + added.len();
        if watched > PRESENCE_WATCH_MAX { Err(TooManyWatched { watched }) } else { Ok(()) }
    }

    fn target(&self, user: &U) -> Option<&Target<S, U>> {
        self.slots.get(user).map(|slot| &self.targets[*slot])
    }

    fn leave(&mut self, session: &S, slots: Vec<usize>) -> Vec<U> {
        let mut unwatched = Vec::new();
        for slot in slots {
            let target = &mut self.targets[slot];
            target.watchers.remove(session);
            if target.watchers.is_empty() {
                let target = self.targets.remove(slot);
                self.slots.remove(&target.user);
                unwatched.push(target.user);
            }
        }
        unwatched.sort_unstable();
        unwatched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visibility::seen;
    use switchboard_protocol::server::ShownStatus;

    const BATCH_MS: u64 = 1_000;
    const ONLINE: Shown = Shown::present(ShownStatus::Online);
    const AWAY: Shown = Shown::present(ShownStatus::Away);

    /// A user with the tenant, like the router's keys.
    type User = (char, u32);
    type Table = WatchTable<u32, User>;

    const ANN: User = ('t', 1);
    const BOB: User = ('t', 2);
    const BOB_ELSEWHERE: User = ('u', 2);

    /// `session` watches `users` and has got its `presence_state`.
    fn watching(table: &mut Table, session: u32, users: &[User]) -> Vec<User> {
        let new = table.watch(&session, &unblocked(users)).expect("within the limit");
        assert_eq!(table.state(&session, users).len(), users.len());
        new
    }

    fn unblocked(users: &[User]) -> Vec<(User, Option<Timestamp>)> {
        users.iter().map(|user| (*user, None)).collect()
    }

    fn many(count: usize) -> Vec<User> {
        (0u32..).take(count).map(|user| ('t', user)).collect()
    }

    #[test]
    fn a_home_is_asked_once_and_told_when_the_last_watcher_leaves() {
        let mut table = Table::new(BATCH_MS);
        assert_eq!(watching(&mut table, 1, &[ANN, BOB]), [ANN, BOB]);
        assert_eq!(watching(&mut table, 2, &[BOB, BOB_ELSEWHERE]), [BOB_ELSEWHERE]);
        assert_eq!(watching(&mut table, 2, &[BOB]), [], "it watches him already");
        assert_eq!(table.unwatch(&1, &[BOB, BOB_ELSEWHERE]), [], "another session watches them");
        assert_eq!(table.unwatch(&1, &[BOB]), [], "it does not watch him any more");
        assert_eq!(table.session_gone(&2), [BOB, BOB_ELSEWHERE]);
        assert_eq!(table.session_gone(&2), []);
        assert_eq!(table.targets().collect::<Vec<_>>(), [&ANN]);
        assert_eq!(table.unwatch(&1, &[ANN]), [ANN]);
    }

    #[test]
    fn a_session_watches_up_to_the_limit_and_not_one_more() {
        let mut table = Table::new(BATCH_MS);
        let users = many(PRESENCE_WATCH_MAX + 1);
        let (extra, limit) = users.split_last().expect("some");
        assert_eq!(watching(&mut table, 1, limit).len(), PRESENCE_WATCH_MAX);
        let error = table.watch(&1, &unblocked(&[*extra])).expect_err("one too many");
        assert_eq!(error, TooManyWatched { watched: PRESENCE_WATCH_MAX + 1 });
        assert_eq!(ProtocolError::from(error).details()[0].field, "user_ids");
        assert_eq!(table.targets().count(), PRESENCE_WATCH_MAX, "nothing was changed");
        assert_eq!(watching(&mut table, 1, limit), [], "the same ones again are no more");
        assert_eq!(watching(&mut table, 2, &users[1..]), [*extra], "another session has a limit of its own");
        assert_eq!(table.unwatch(&1, &limit[..1]), limit[..1]);
        assert_eq!(watching(&mut table, 1, &[*extra, *extra]), [], "twice is once");
    }

    #[test]
    fn a_refused_watch_leaves_nothing_behind() {
        let mut table = Table::new(BATCH_MS);
        assert!(table.watch(&1, &unblocked(&many(PRESENCE_WATCH_MAX + 1))).is_err());
        assert_eq!((table.targets().count(), table.sessions.len()), (0, 0));
    }

    #[test]
    fn the_state_comes_before_the_changes() {
        let mut table = Table::new(BATCH_MS);
        assert_eq!(table.watch(&1, &unblocked(&[ANN, BOB])), Ok(vec![ANN, BOB]));
        table.changed(&ANN, ONLINE, 0);
        assert!(table.all_known([&ANN]) && !table.all_known([&ANN, &BOB]));
        assert_eq!(table.take_due(5_000), [], "the presence_watch is not answered");
        assert_eq!(table.state(&1, &[BOB, ANN]), [(BOB, Shown::UNKNOWN), (ANN, ONLINE)]);
        table.changed(&BOB, AWAY, 5_000);
        assert!(table.all_known([&ANN, &BOB]));
        assert_eq!(table.take_due(5_000), [(1, vec![(BOB, AWAY)])], "its home was late");
        assert_eq!(table.state(&1, &[BOB_ELSEWHERE]), [], "whom it does not watch it is not told");
    }

    #[test]
    fn a_home_has_answered_even_if_it_says_what_was_supposed() {
        let mut table = Table::new(BATCH_MS);
        watching(&mut table, 1, &[ANN]);
        table.changed(&ANN, Shown::UNKNOWN, 0);
        assert!(table.all_known([&ANN, &BOB]), "who is not watched is not waited for");
        assert_eq!(table.next_due_ms(), None);
    }

    #[test]
    fn a_session_gets_at_most_one_frame_in_the_batching_time() {
        let mut table = Table::new(BATCH_MS);
        watching(&mut table, 1, &[ANN, BOB]);
        table.changed(&BOB, ONLINE, 100);
        assert_eq!(table.next_due_ms(), Some(100));
        assert_eq!(table.take_due(100), [(1, vec![(BOB, ONLINE)])]);
        table.changed(&BOB, AWAY, 200);
        table.changed(&ANN, AWAY, 300);
        table.changed(&ANN, ONLINE, 400);
        assert_eq!(table.next_due_ms(), Some(1_100));
        assert_eq!(table.take_due(1_099), []);
        assert_eq!(table.take_due(1_100), [(1, vec![(ANN, ONLINE), (BOB, AWAY)])], "the latest of each");
        assert_eq!((table.next_due_ms(), table.take_due(9_000)), (None, vec![]));
    }

    #[test]
    fn a_change_back_is_not_sent_and_delays_nothing() {
        let mut table = Table::new(BATCH_MS);
        watching(&mut table, 1, &[ANN]);
        table.changed(&ANN, ONLINE, 0);
        table.changed(&ANN, Shown::UNKNOWN, 10);
        assert_eq!(table.take_due(10), []);
        table.changed(&ANN, ONLINE, 20);
        assert_eq!(table.take_due(20), [(1, vec![(ANN, ONLINE)])]);
    }

    #[test]
    fn the_time_between_frames_outlives_the_watches() {
        let mut table = Table::new(BATCH_MS);
        watching(&mut table, 1, &[ANN]);
        table.changed(&ANN, ONLINE, 0);
        assert_eq!(table.take_due(0).len(), 1);
        assert_eq!(table.unwatch(&1, &[ANN]), [ANN]);
        watching(&mut table, 1, &[ANN]);
        table.changed(&ANN, AWAY, 500);
        assert_eq!(table.take_due(999), []);
        assert_eq!(table.take_due(1_000), [(1, vec![(ANN, AWAY)])]);
    }

    #[test]
    fn what_a_session_no_longer_watches_is_not_told() {
        let mut table = Table::new(BATCH_MS);
        watching(&mut table, 1, &[ANN]);
        watching(&mut table, 2, &[ANN]);
        table.changed(&ANN, ONLINE, 0);
        assert_eq!(table.unwatch(&1, &[ANN]), []);
        assert_eq!(table.session_gone(&2), [ANN]);
        assert_eq!(table.due.len(), 1, "the session that is gone waits for nothing");
        assert_eq!((table.take_due(0), table.next_due_ms()), (vec![], None));
    }

    #[test]
    fn nothing_crosses_a_tenant() {
        let mut table = Table::new(BATCH_MS);
        watching(&mut table, 1, &[BOB]);
        watching(&mut table, 2, &[BOB_ELSEWHERE]);
        table.changed(&BOB, ONLINE, 0);
        assert_eq!(table.take_due(0), [(1, vec![(BOB, ONLINE)])]);
    }

    #[test]
    fn a_block_hides_and_its_end_shows_again() {
        let mut table = Table::new(BATCH_MS);
        let blocked_at = Some(Timestamp::from_unix_ms(50));
        assert_eq!(table.watch(&1, &[(ANN, None), (BOB, blocked_at)]), Ok(vec![ANN, BOB]));
        table.changed(&ANN, ONLINE, 0);
        table.changed(&BOB, ONLINE, 0);
        assert_eq!(table.state(&1, &[ANN, BOB]), [(ANN, ONLINE), (BOB, Shown::UNKNOWN)]);
        table.changed(&BOB, AWAY, 0);
        assert_eq!(table.next_due_ms(), None, "there is nothing that it may see");
        table.blocked(&1, &ANN, blocked_at, 0);
        assert_eq!(table.take_due(0), [(1, vec![(ANN, seen(ONLINE, blocked_at))])]);
        table.blocked(&1, &BOB, None, 100);
        table.blocked(&1, &ANN, None, 200);
        table.blocked(&1, &ANN, blocked_at, 300);
        assert_eq!(table.take_due(1_000), [(1, vec![(BOB, AWAY)])], "a block back is not told either");
    }

    #[test]
    fn frames_come_in_the_order_of_their_times_then_of_the_sessions() {
        let mut table = Table::new(BATCH_MS);
        for session in [3, 2, 1] {
            watching(&mut table, session, &[ANN, BOB]);
        }
        table.changed(&BOB, ONLINE, 10);
        let frames = |frames: Vec<(u32, Vec<_>)>| frames.into_iter().map(|(session, _)| session).collect::<Vec<_>>();
        assert_eq!(frames(table.take_due(10)), [1, 2, 3]);
        watching(&mut table, 0, &[ANN]);
        table.changed(&ANN, ONLINE, 20);
        assert_eq!(frames(table.take_due(2_000)), [0, 1, 2, 3]);
    }

    #[test]
    fn an_answer_undoes_nothing_that_was_said_after_the_question() {
        let mut table = Table::new(BATCH_MS);
        watching(&mut table, 1, &[ANN, BOB]);
        let (first, second) = (table.asking(), table.asking());
        table.changed(&ANN, AWAY, 0);
        table.answered(first, &ANN, ONLINE, 10);
        assert_eq!(table.target(&ANN).map(Target::shown), Some(AWAY));

        table.answered(second, &BOB, AWAY, 20);
        table.answered(first, &BOB, ONLINE, 30);
        assert_eq!(table.target(&BOB).map(Target::shown), Some(AWAY), "a later question's answer is newer");

        let third = table.asking();
        table.answered(third, &ANN, ONLINE, 40);
        assert_eq!(table.target(&ANN).map(Target::shown), Some(ONLINE));
    }

    #[test]
    fn what_is_held_per_watched_user() {
        assert_eq!(size_of::<Target<u64, [u64; 6]>>(), 104);
    }
}
