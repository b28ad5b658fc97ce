//! Typing in one conversation against the list of all that was said, and what PROTOCOL §4 promises the readers.

use std::collections::BTreeMap;

use proptest::prelude::*;
use switchboard_presence::{TYPING_EXPIRY_MS, TYPING_INTERVAL_MS, Typing};

/// Time passes in steps that divide the interval and the expiry, so that their ends are met exactly.
const STEP_MS: u64 = 500;

#[derive(Clone, Copy, Debug)]
enum Event {
    Start { user: u8, session: u8 },
    Stop { user: u8, session: u8 },
    StopAll { user: u8 },
    Steps(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3u8, 0..2u8).prop_map(|(user, session)| Event::Start { user, session }),
        3 => (0..3u8, 0..2u8).prop_map(|(user, session)| Event::Stop { user, session }),
        1 => (0..3u8).prop_map(|user| Event::StopAll { user }),
        5 => (1..12u64).prop_map(Event::Steps),
    ]
}

/// What readers were told, and what there was to tell.
#[derive(Default)]
struct Oracle {
    now_ms: u64,
    /// When each user's `typing_start` went out.
    started_ms: BTreeMap<u8, Vec<u64>>,
    /// Who is typing as readers know it.
    told: BTreeMap<u8, bool>,
    /// The last start that counted of each session that types.
    typing_since_ms: BTreeMap<(u8, u8), u64>,
}

impl Oracle {
    fn types(&self, user: u8) -> bool {
        let mut sessions = self.typing_since_ms.range((user, 0)..=(user, u8::MAX));
        sessions.any(|(_, since_ms)| self.now_ms < since_ms + TYPING_EXPIRY_MS)
    }

    fn start(&mut self, user: u8, session: u8, goes_out: bool) {
        let last_ms = self.started_ms.get(&user).and_then(|starts| starts.last());
        let may_go_out = last_ms.is_none_or(|last_ms| self.now_ms - last_ms >= TYPING_INTERVAL_MS);
        assert_eq!(goes_out, may_go_out, "at most one in the interval, and none held back");
        if goes_out || self.types(user) {
            self.typing_since_ms.insert((user, session), self.now_ms);
        }
        if goes_out {
            self.started_ms.entry(user).or_default().push(self.now_ms);
            self.told.insert(user, true);
        }
    }

    fn stop(&mut self, user: u8, ended: impl Fn(u8) -> bool, goes_out: bool) {
        self.typing_since_ms.retain(|(typist, session), _| *typist != user || !ended(*session));
        if goes_out {
            self.stopped(user);
        }
    }

    fn stopped(&mut self, user: u8) {
        assert_eq!(self.told.insert(user, false), Some(true), "a stop only after a start");
    }

    fn check(&self) {
        for user in 0..3 {
            let told = self.told.get(&user).copied().unwrap_or(false);
            assert_eq!(told, self.types(user), "user {user} at {}", self.now_ms);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn readers_know_who_types(events in prop::collection::vec(event(), 0..120)) {
        let mut typing = Typing::default();
        let mut oracle = Oracle::default();
        for event in events {
            match event {
                Event::Start { user, session } => {
                    let goes_out = typing.start(&user, &session, oracle.now_ms);
                    oracle.start(user, session, goes_out);
                }
                Event::Stop { user, session } => {
                    let goes_out = typing.stop(&user, &session);
                    oracle.stop(user, |ended| ended == session, goes_out);
                }
                Event::StopAll { user } => {
                    let goes_out = typing.stop_all(&user);
                    oracle.stop(user, |_| true, goes_out);
                }
                Event::Steps(steps) => {
                    for _ in 0..steps {
                        oracle.now_ms += STEP_MS;
                        // Only the deadline that was given out is relied on.
                        if typing.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= oracle.now_ms) {
                            typing.expire(oracle.now_ms, |user| oracle.stopped(*user));
                        }
                        oracle.check();
                    }
                }
            }
            oracle.check();
        }
        typing.expire(oracle.now_ms + TYPING_EXPIRY_MS, |user| oracle.stopped(*user));
        prop_assert!(typing.is_empty(), "nothing is remembered for ever");
        prop_assert!(!oracle.told.values().any(|told| *told));
    }
}
