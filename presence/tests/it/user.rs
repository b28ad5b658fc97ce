//! A user's presence against a replay of his whole history, with the grace timers on a real wheel.

use proptest::prelude::*;
use switchboard_clock::Wheel;
use switchboard_presence::{Shown, UserPresence};
use switchboard_protocol::Timestamp;
use switchboard_protocol::client::PresenceStatus;
use switchboard_protocol::server::ShownStatus;

const GRACE_MS: u64 = 50;
const NODES: u8 = 3;

#[derive(Clone, Copy, Debug)]
enum Event {
    Connected(u8),
    Disconnected(u8),
    NodeGone(u8),
    Set(PresenceStatus),
    /// The home moves to another node, which knows only what each of the nodes registers.
    HomeMoved,
}

fn event() -> impl Strategy<Value = Event> {
    let status = prop_oneof![
        1 => Just(PresenceStatus::Online),
        1 => Just(PresenceStatus::Away),
        1 => Just(PresenceStatus::Busy),
        2 => Just(PresenceStatus::Invisible),
    ];
    prop_oneof![
        5 => (0..NODES).prop_map(Event::Connected),
        5 => (0..NODES).prop_map(Event::Disconnected),
        1 => (0..NODES).prop_map(Event::NodeGone),
        3 => status.prop_map(Event::Set),
        1 => Just(Event::HomeMoved),
    ]
}

/// Events with the time since the one before. Pauses around the grace are likely.
fn history() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let pause_ms = prop_oneof![4 => 0..10u64, 2 => GRACE_MS - 2..GRACE_MS + 3, 1 => 0..200u64];
    prop::collection::vec((pause_ms, event()), 0..80)
}

fn wall(now_ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_000_000 + i64::try_from(now_ms).expect("a small number"))
}

/// What is shown at `now_ms`, from everything that happened until then.
fn replayed(history: &[(u64, Event)], now_ms: u64) -> Shown {
    let mut sessions = [0u32; NODES as usize];
    let mut status = PresenceStatus::Online;
    let mut last_seen_at = None;
    let mut alone_since_ms = None;
    let is_offline = |alone_since_ms: Option<u64>, then_ms| alone_since_ms.is_none_or(|ms| ms + GRACE_MS <= then_ms);
    for (then_ms, event) in history {
        let was_connected = sessions.iter().any(|count| *count > 0);
        match event {
            Event::Connected(node) => {
                if !was_connected && is_offline(alone_since_ms, *then_ms) {
                    status = PresenceStatus::Online;
                }
                sessions[usize::from(*node)] += 1;
            }
            Event::Disconnected(node) => {
                let count = &mut sessions[usize::from(*node)];
                *count = count.saturating_sub(1);
            }
            Event::NodeGone(node) => sessions[usize::from(*node)] = 0,
            Event::Set(set) if was_connected => {
                if *set == PresenceStatus::Invisible && status != PresenceStatus::Invisible {
                    last_seen_at = Some(wall(*then_ms));
                }
                status = *set;
            }
            Event::Set(_) | Event::HomeMoved => {}
        }
        if was_connected && sessions.iter().all(|count| *count == 0) {
            alone_since_ms = Some(*then_ms);
            if status != PresenceStatus::Invisible {
                last_seen_at = Some(wall(*then_ms));
            }
        }
    }
    let connected = sessions.iter().any(|count| *count > 0);
    if !connected && is_offline(alone_since_ms, now_ms) {
        return Shown::offline(last_seen_at);
    }
    match status {
        PresenceStatus::Online => Shown::present(ShownStatus::Online),
        PresenceStatus::Away => Shown::present(ShownStatus::Away),
        PresenceStatus::Busy => Shown::present(ShownStatus::Busy),
        PresenceStatus::Invisible => Shown::offline(last_seen_at),
    }
}

/// The user's home, as the router does it: one wheel, timers that are never cancelled, what is told to watchers.
struct Home {
    user: UserPresence<u8>,
    wheel: Wheel<()>,
    told: Shown,
}

impl Home {
    fn new() -> Self {
        Self { user: UserPresence::offline(None), wheel: Wheel::new(1, 64, 0), told: Shown::UNKNOWN }
    }

    fn advance(&mut self, now_ms: u64) {
        let mut fired = 0;
        self.wheel.turn(now_ms, |()| fired += 1);
        for _ in 0..fired {
            let shown = self.user.grace_over(now_ms);
            self.tell(shown);
        }
    }

    fn handle(&mut self, event: Event, now_ms: u64) {
        let deadline_ms = match event {
            Event::Disconnected(node) => self.user.disconnected(&node, now_ms, wall(now_ms), GRACE_MS),
            Event::NodeGone(node) => self.user.node_gone(&node, now_ms, wall(now_ms), GRACE_MS),
            _ => None,
        };
        if let Some(deadline_ms) = deadline_ms {
            self.wheel.insert(deadline_ms, ());
        }
        let shown = match event {
            Event::Connected(node) => self.user.connected(&node),
            Event::Set(status) => self.user.set(status, wall(now_ms)),
            _ => None,
        };
        self.tell(shown);
        if matches!(event, Event::HomeMoved) && self.user.is_connected() {
            self.moved();
        }
    }

    /// Every node registers; its watchers are told once all have.
    fn moved(&mut self) {
        let mut user = UserPresence::offline(None);
        for (node, sessions) in self.user.nodes() {
            let _ = user.restore(node, sessions, self.user.saved());
        }
        assert_eq!(user.shown(), self.told, "a moved home is not seen");
        self.user = user;
    }

    fn tell(&mut self, shown: Option<Shown>) {
        if let Some(shown) = shown {
            assert_ne!(shown, self.told, "only changes are told");
            self.told = shown;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_told_is_what_a_replay_of_everything_shows(history in history()) {
        let mut home = Home::new();
        let mut happened = Vec::new();
        let mut now_ms = 0;
        for (pause_ms, event) in history {
            // Looked at in each millisecond, so that a transition that comes early or late is seen.
            for _ in 0..pause_ms {
                now_ms += 1;
                home.advance(now_ms);
                prop_assert_eq!(home.told, replayed(&happened, now_ms), "at {} after {:?}", now_ms, happened);
            }
            home.handle(event, now_ms);
            happened.push((now_ms, event));
            prop_assert_eq!(home.told, replayed(&happened, now_ms), "at {} after {:?}", now_ms, happened);
            prop_assert_eq!(home.user.shown(), home.told);
        }
        home.advance(now_ms + GRACE_MS);
        prop_assert_eq!(home.told, replayed(&happened, now_ms + GRACE_MS));
        prop_assert_eq!(home.user.is_offline(), !home.user.is_connected());
    }
}
