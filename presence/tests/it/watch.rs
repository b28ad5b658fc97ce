//! The watch table against the plain truth: what each session was told is, once frames have had their time, what it may
//! see.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use switchboard_presence::{Shown, WatchTable, seen};
use switchboard_protocol::Timestamp;
use switchboard_protocol::server::ShownStatus;

const BATCH_MS: u64 = 100;
const SESSIONS: u8 = 4;

/// Tenant and user.
type User = (u8, u8);

#[derive(Clone, Debug)]
enum Event {
    Watch { session: u8, users: Vec<User>, blocked_at: Option<Timestamp> },
    Answer { session: u8, users: Vec<User> },
    Unwatch { session: u8, users: Vec<User> },
    SessionGone { session: u8 },
    Changed { user: User, shown: Shown },
    Blocked { session: u8, user: User, blocked_at: Option<Timestamp> },
    Pause { ms: u64 },
}

fn user() -> impl Strategy<Value = User> {
    (0..2u8, 0..4u8)
}

fn users() -> impl Strategy<Value = Vec<User>> {
    prop::collection::vec(user(), 0..5)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (0..3i64).prop_map(Timestamp::from_unix_ms)
}

fn shown() -> impl Strategy<Value = Shown> {
    prop_oneof![
        Just(Shown::present(ShownStatus::Online)),
        Just(Shown::present(ShownStatus::Away)),
        Just(Shown::UNKNOWN),
        timestamp().prop_map(|at| Shown::offline(Some(at))),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let session = 0..SESSIONS;
    prop_oneof![
        4 => (session.clone(), users(), prop::option::weighted(0.2, timestamp()))
            .prop_map(|(session, users, blocked_at)| Event::Watch { session, users, blocked_at }),
        4 => (session.clone(), users()).prop_map(|(session, users)| Event::Answer { session, users }),
        2 => (session.clone(), users()).prop_map(|(session, users)| Event::Unwatch { session, users }),
        1 => session.clone().prop_map(|session| Event::SessionGone { session }),
        8 => (user(), shown()).prop_map(|(user, shown)| Event::Changed { user, shown }),
        2 => (session, user(), prop::option::of(timestamp()))
            .prop_map(|(session, user, blocked_at)| Event::Blocked { session, user, blocked_at }),
        5 => (1..BATCH_MS * 2).prop_map(|ms| Event::Pause { ms }),
    ]
}

/// One session as the outside knows it.
#[derive(Default)]
struct Session {
    /// The users that it watches, with the block and what it was told last: nothing before the answer.
    watches: BTreeMap<User, (Option<Timestamp>, Option<Shown>)>,
    last_frame_ms: Option<u64>,
}

/// The truth, and what was said of it.
#[derive(Default)]
struct World {
    now_ms: u64,
    /// What the homes said of those who are watched.
    truth: BTreeMap<User, Shown>,
    sessions: BTreeMap<u8, Session>,
}

impl World {
    fn watched(&self) -> BTreeSet<User> {
        self.sessions.values().flat_map(|session| session.watches.keys().copied()).collect()
    }

    fn may_see(&self, user: User, blocked_at: Option<Timestamp>) -> Shown {
        seen(self.truth.get(&user).copied().unwrap_or(Shown::UNKNOWN), blocked_at)
    }

    /// Runs what ends watches, and holds what it gives against who is watched before and after.
    fn ending(&mut self, unwatched: &[User], end: impl FnOnce(&mut Self)) {
        let before = self.watched();
        end(self);
        let after = self.watched();
        assert_eq!(unwatched, before.difference(&after).copied().collect::<Vec<_>>());
        self.truth.retain(|user, _| after.contains(user));
    }

    fn take_frames(&mut self, table: &mut WatchTable<u8, User>) {
        let mut sessions = BTreeSet::new();
        for (session, users) in table.take_due(self.now_ms) {
            assert!(sessions.insert(session), "two frames at once");
            assert!(!users.is_empty() && users.is_sorted_by(|(one, _), (other, _)| one < other));
            let told: Vec<_> = users
                .into_iter()
                .map(|(user, shown)| {
                    let (blocked_at, before) = self.sessions[&session].watches[&user];
                    assert_eq!(shown, self.may_see(user, blocked_at), "the latest is sent");
                    assert!(before.is_some_and(|before| before != shown), "only changes, and only after the state");
                    (user, (blocked_at, Some(shown)))
                })
                .collect();
            let session = self.sessions.get_mut(&session).expect("a session that is there");
            session.watches.extend(told);
            let last_frame_ms = session.last_frame_ms.replace(self.now_ms);
            assert!(last_frame_ms.is_none_or(|last_ms| self.now_ms - last_ms >= BATCH_MS), "frames too close");
        }
    }

    fn check_all_told(&self) {
        for session in self.sessions.values() {
            for (user, (blocked_at, told)) in &session.watches {
                assert!(told.is_none_or(|told| told == self.may_see(*user, *blocked_at)), "{user:?} was not told");
            }
        }
    }

    fn handle(&mut self, event: Event, table: &mut WatchTable<u8, User>) {
        match event {
            Event::Watch { session, users, blocked_at } => {
                let before = self.watched();
                let watches: Vec<_> = users.iter().map(|user| (*user, blocked_at)).collect();
                let new = table.watch(&session, &watches).expect("few users");
                let session = self.sessions.entry(session).or_default();
                session.watches.extend(users.iter().map(|user| (*user, (blocked_at, None))));
                let new_set: BTreeSet<_> = new.iter().copied().collect();
                assert_eq!(new_set.len(), new.len(), "a home is asked once");
                assert_eq!(new_set, self.watched().difference(&before).copied().collect());
            }
            Event::Answer { session, users } => {
                let answered = table.state(&session, &users);
                for (user, shown) in &answered {
                    let (blocked_at, _) = self.sessions[&session].watches[user];
                    assert_eq!(*shown, self.may_see(*user, blocked_at));
                    let session = self.sessions.get_mut(&session).expect("a session that is there");
                    session.watches.insert(*user, (blocked_at, Some(*shown)));
                }
                let watched = |user: &&User| self.sessions.get(&session).is_some_and(|s| s.watches.contains_key(user));
                assert_eq!(answered.len(), users.iter().filter(watched).count());
            }
            Event::Unwatch { session, users } => {
                let unwatched = table.unwatch(&session, &users);
                self.ending(&unwatched, |world| {
                    if let Some(session) = world.sessions.get_mut(&session) {
                        session.watches.retain(|user, _| !users.contains(user));
                    }
                });
            }
            Event::SessionGone { session } => {
                let unwatched = table.session_gone(&session);
                self.ending(&unwatched, |world| drop(world.sessions.remove(&session)));
            }
            Event::Changed { user, shown } => {
                table.changed(&user, shown, self.now_ms);
                if self.watched().contains(&user) {
                    self.truth.insert(user, shown);
                }
            }
            Event::Blocked { session, user, blocked_at } => {
                table.blocked(&session, &user, blocked_at, self.now_ms);
                let session = self.sessions.get_mut(&session);
                if let Some(watch) = session.and_then(|session| session.watches.get_mut(&user)) {
                    watch.0 = blocked_at;
                }
            }
            Event::Pause { ms } => self.now_ms += ms,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_session_is_told_the_truth_in_the_end(events in prop::collection::vec(event(), 0..120)) {
        let mut table = WatchTable::new(BATCH_MS);
        let mut world = World::default();
        for event in events {
            world.handle(event, &mut table);
            // Only the time that was given out is relied on.
            if table.next_due_ms().is_some_and(|due_ms| due_ms <= world.now_ms) {
                world.take_frames(&mut table);
            }
            prop_assert_eq!(table.targets().copied().collect::<BTreeSet<_>>(), world.watched());
        }
        world.now_ms += BATCH_MS;
        world.take_frames(&mut table);
        world.check_all_told();
        prop_assert_eq!(table.next_due_ms(), None);
    }
}
