//! Random interleavings of messages, repeats, receipts, timers, changed preferences and failing providers: never a push
//! for what was delivered or read before its hold was over, one notification per conversation, and nothing forgotten.

use proptest::prelude::*;
use switchboard_protocol::{ConversationId, Timestamp};
use switchboard_push::{Arbiter, Message, Now, Occasion, Output, Preferences, QuietHours, Receipt, Rules};
use switchboard_store::Channel;

use crate::naive::{HOUR_MS, World, seq};

/// 05:00 UTC; the user's zone is UTC+3, where it is 08:00.
const BEGIN_AT_MS: i64 = 1_767_330_000_000;
const EAST_MS: i64 = 3 * 3_600_000;
const RULES: Rules =
    Rules { hold_ms: 5_000, collapse_ms: 30_000, per_hour: 10, conversations_max: 8, messages_max: 1_000 };

#[derive(Clone, Copy, Debug)]
enum Event {
    Message {
        conversation: usize,
        occasion: Occasion,
    },
    /// The newest message arrives again.
    Repeat {
        conversation: usize,
    },
    /// Up to this many messages after the newest one, or before it.
    Receipt {
        conversation: usize,
        ahead: i64,
        receipt: Receipt,
    },
    Steps(u64),
    Hours(u64),
    Mute {
        conversation: usize,
        minutes: i64,
    },
    Enable(bool),
    Quiet(bool),
    /// The user's phone is registered, or unregistered.
    Phone(bool),
    /// Hands over as if to another arbiter, but the same one continues.
    HandOver,
    Provider {
        fails: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let occasion = prop::sample::select(vec![Occasion::Direct, Occasion::Mention, Occasion::Group, Occasion::Other]);
    let receipt = prop::sample::select(vec![Receipt::Delivered, Receipt::Read]);
    prop_oneof![
        12 => (0..3usize, occasion).prop_map(|(conversation, occasion)| Event::Message { conversation, occasion }),
        1 => (0..3usize).prop_map(|conversation| Event::Repeat { conversation }),
        5 => (0..3usize, -2..3i64, receipt)
            .prop_map(|(conversation, ahead, receipt)| Event::Receipt { conversation, ahead, receipt }),
        8 => (1..12u64).prop_map(Event::Steps),
        2 => (1..80u64).prop_map(Event::Steps),
        1 => (1..9u64).prop_map(Event::Hours),
        1 => (0..3usize, 0..5i64).prop_map(|(conversation, minutes)| Event::Mute { conversation, minutes }),
        1 => prop::bool::weighted(0.7).prop_map(Event::Enable),
        1 => any::<bool>().prop_map(Event::Quiet),
        1 => any::<bool>().prop_map(Event::Phone),
        2 => Just(Event::HandOver),
        1 => any::<bool>().prop_map(|fails| Event::Provider { fails }),
    ]
}

/// 22:00 to 07:00 local time, computed without a time zone database.
fn is_quiet(now: Now) -> bool {
    let hour = (now.at.unix_ms() + EAST_MS).rem_euclid(86_400_000) / 3_600_000;
    !(7..22).contains(&hour)
}

struct Run {
    arbiter: Arbiter,
    world: World,
    rules: Rules,
    now_ms: u64,
    conversations: [Conversation; 3],
    preferences: Preferences,
}

#[derive(Default)]
struct Conversation {
    last_seq: u64,
    muted_until: Option<Timestamp>,
    arrived_ms: u64,
    was_wanted: bool,
}

fn id(conversation: usize) -> ConversationId {
    format!("c{conversation}").parse().unwrap()
}

impl Run {
    fn new(rules: Rules) -> Self {
        let preferences = Preferences::default();
        let arbiter = Arbiter::new(rules, preferences.clone(), &[Channel::WebPush]);
        let world = World::new(rules, rules.messages_max == RULES.messages_max);
        Self { arbiter, world, rules, now_ms: 0, conversations: Default::default(), preferences }
    }

    fn now(&self) -> Now {
        let elapsed = i64::try_from(self.now_ms).unwrap();
        Now { ms: self.now_ms, at: Timestamp::from_unix_ms(BEGIN_AT_MS + elapsed) }
    }

    fn with(&mut self, change: impl FnOnce(&mut Arbiter, Now, &mut Vec<Output>)) {
        let (now, mut out) = (self.now(), Vec::new());
        change(&mut self.arbiter, now, &mut out);
        self.world.take(out, now);
        self.work();
    }

    fn work(&mut self) {
        let before = self.world.attempts.len();
        self.world.work(self.now());
        let is_quiet = self.preferences.quiet_hours.is_some() && is_quiet(self.now());
        assert!(!is_quiet || self.world.attempts.len() == before, "sent in quiet hours");
    }

    /// Lets time pass, with every deadline met.
    fn until(&mut self, end_ms: u64) {
        loop {
            let deadline = self.arbiter.next_deadline_ms().into_iter().chain(self.world.next_ms()).min();
            let Some(at_ms) = deadline.filter(|at_ms| *at_ms <= end_ms) else { break };
            self.now_ms = self.now_ms.max(at_ms);
            self.work();
            self.with(Arbiter::wake);
            let again = self.arbiter.next_deadline_ms();
            assert!(again.is_none_or(|again_ms| again_ms > self.now_ms), "nothing was done at a deadline");
        }
        self.now_ms = end_ms;
    }

    fn message(&mut self, of: usize, seq: u64, occasion: Occasion) {
        let muted_until = self.conversations[of].muted_until;
        let message = Message { conversation: id(of), seq: self::seq(seq), occasion, unread: None, muted_until };
        self.with(|arbiter, now, out| arbiter.message(message, now, out));
    }

    fn step(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Message { conversation: of, occasion } => {
                let conversation = &mut self.conversations[of];
                conversation.last_seq += 1 + now.ms % 2;
                conversation.arrived_ms = now.ms;
                let muted = conversation.muted_until.is_some_and(|until| now.at < until);
                conversation.was_wanted = self.preferences.enabled && !muted;
                let (seq, wanted) = (conversation.last_seq, conversation.was_wanted);
                self.world.message(&id(of), seq, wanted, now);
                self.message(of, seq, occasion);
            }
            Event::Repeat { conversation: of } => {
                let conversation = &self.conversations[of];
                let is_recent = now.ms < conversation.arrived_ms + 2 * self.rules.hold_ms;
                if conversation.was_wanted && is_recent {
                    self.message(of, conversation.last_seq, Occasion::Mention);
                }
            }
            Event::Receipt { conversation: of, ahead, receipt } => {
                let up_to = self.conversations[of].last_seq.saturating_add_signed(ahead);
                self.world.receipt(&id(of), up_to, receipt, now);
                self.with(|arbiter, now, out| arbiter.receipt(&id(of), seq(up_to), receipt, now, out));
            }
            Event::Steps(steps) => self.until(self.now_ms + steps * 500),
            Event::Hours(hours) => self.until(self.now_ms + hours * HOUR_MS),
            Event::Mute { conversation: of, minutes } => {
                let muted_until = (minutes > 0).then(|| Timestamp::from_unix_ms(now.at.unix_ms() + minutes * 60_000));
                self.conversations[of].muted_until = muted_until;
                if muted_until.is_some() {
                    self.world.give_up(Some(&id(of)));
                }
                self.with(|arbiter, now, out| arbiter.mute(&id(of), muted_until, now, out));
            }
            Event::Enable(enabled) => {
                self.preferences.enabled = enabled;
                if !enabled {
                    self.world.give_up(None);
                }
                self.set_preferences();
            }
            Event::Quiet(quiet) => {
                self.preferences.quiet_hours = quiet.then(|| QuietHours::new("22:00", "07:00", "Etc/GMT-3").unwrap());
                self.set_preferences();
            }
            Event::Phone(registered) => {
                let channels: &[Channel] =
                    if registered { &[Channel::Fcm, Channel::WebPush] } else { &[Channel::WebPush] };
                if !registered {
                    self.world.unregister(Channel::Fcm);
                }
                self.with(|arbiter, now, out| arbiter.set_channels(channels, now, out));
            }
            Event::HandOver => self.with(|arbiter, now, out| {
                arbiter.hand_over(now, out);
                assert_eq!(arbiter.held(u64::MAX).count(), 0);
            }),
            Event::Provider { fails } => self.world.fails_for_ms = fails.then_some(300_000),
        }
    }

    fn set_preferences(&mut self) {
        let preferences = self.preferences.clone();
        self.with(|arbiter, now, out| arbiter.set_preferences(preferences, now, out));
    }

    /// Runs until nothing is pending, and checks the result.
    fn end(mut self) {
        self.world.fails_for_ms = None;
        self.until(self.now_ms + 400 * HOUR_MS);
        for channel in Channel::ALL {
            assert!(self.world.most_in_an_hour(channel) <= self.rules.per_hour, "too many in an hour");
        }
        let mut expected = self.world.expected();
        for ((channel, conversation), shown) in &self.world.shown {
            assert!(self.world.may_show(conversation, shown.up_to), "{shown:?} of {conversation} is over");
            // Only the browser was registered all the time.
            if *channel == Channel::WebPush
                && let Some(least) = expected.remove(conversation)
            {
                assert!(shown.up_to >= least.up_to && shown.count >= least.count, "{shown:?}, not {least:?}");
            }
        }
        assert!(expected.is_empty(), "forgotten: {expected:?}");
        for conversation in 0..self.conversations.len() {
            self.step(Event::Receipt { conversation, ahead: 0, receipt: Receipt::Read });
        }
        self.until(self.now_ms + HOUR_MS);
        assert!(self.world.shown.is_empty(), "shown though everything was read");
        assert!(self.arbiter.is_idle(), "{:?}", self.arbiter);
    }
}

fn run(rules: Rules, events: &[Event]) {
    let mut run = Run::new(rules);
    events.iter().for_each(|event| run.step(*event));
    run.end();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn nothing_is_told_in_vain_twice_or_not_at_all(events in prop::collection::vec(event(), 1..60)) {
        run(RULES, &events);
    }

    /// With few notifications per hour, and few individually tracked messages.
    #[test]
    fn bounds_make_nothing_forgotten(
        events in prop::collection::vec(event(), 1..60),
        per_hour in 1..4usize,
        messages_max in 3..6usize,
    ) {
        run(Rules { per_hour, messages_max, ..RULES }, &events);
    }
}
