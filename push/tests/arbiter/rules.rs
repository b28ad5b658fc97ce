//! Tests of each rule at its limit, and one past it.

use switchboard_protocol::{ConversationId, Seq, Timestamp};
use switchboard_push::{
    Arbiter, Delay, Groups, Message, Notification, Now, Occasion, Output, Preferences, QuietHours, Receipt, Rules,
    Step, Why,
};
use switchboard_store::{Channel, Priority, PushJob, PushKey, UserKey};

/// 12:00 UTC.
const NOON_MS: i64 = 1_767_355_200_000;
const RULES: Rules = Rules { hold_ms: 5_000, collapse_ms: 30_000, per_hour: 10, conversations_max: 4, messages_max: 4 };

fn now(ms: u64) -> Now {
    Now { ms, at: at(ms) }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_unix_ms(NOON_MS + i64::try_from(ms).unwrap())
}

fn id(conversation: &str) -> ConversationId {
    conversation.parse().unwrap()
}

/// An arbiter with shorthand methods.
struct User(Arbiter);

impl User {
    fn new(channels: &[Channel]) -> Self {
        Self(Arbiter::new(RULES, Preferences::default(), channels))
    }

    fn out(&mut self, call: impl FnOnce(&mut Arbiter, &mut Vec<Output>)) -> Vec<Output> {
        let mut out = Vec::new();
        call(&mut self.0, &mut out);
        out
    }

    fn message(&mut self, conversation: &str, seq: u64, occasion: Occasion, ms: u64) -> Option<Step> {
        let message =
            Message { conversation: id(conversation), seq: Seq::new(seq), occasion, unread: None, muted_until: None };
        let out = self.out(|arbiter, out| arbiter.message(message, now(ms), out));
        out.into_iter().find_map(|output| if let Output::Trace { step, .. } = output { Some(step) } else { None })
    }

    fn wake(&mut self, ms: u64) -> Vec<Notification> {
        enqueued(self.out(|arbiter, out| arbiter.wake(now(ms), out)))
    }

    fn receipt(&mut self, conversation: &str, up_to: u64, receipt: Receipt, ms: u64) -> Vec<Output> {
        self.out(|arbiter, out| arbiter.receipt(&id(conversation), Seq::new(up_to), receipt, now(ms), out))
    }
}

fn enqueued(out: Vec<Output>) -> Vec<Notification> {
    out.into_iter().filter_map(|output| if let Output::Enqueue(job) = output { Some(job) } else { None }).collect()
}

fn withdrawn(out: &[Output]) -> Vec<(u64, Receipt)> {
    let withdrawal = |output: &Output| match output {
        Output::Withdraw { up_to_seq, receipt, .. } => Some((up_to_seq.get(), *receipt)),
        _ => None,
    };
    out.iter().filter_map(withdrawal).collect()
}

fn summary(jobs: &[Notification]) -> Vec<(u64, u32, Priority)> {
    jobs.iter().map(|job| (job.up_to_seq.get(), job.count, job.priority)).collect()
}

#[test]
fn a_message_is_told_when_its_hold_is_over_and_not_a_millisecond_before() {
    let mut user = User::new(&[Channel::WebPush]);
    assert_eq!(user.message("c", 7, Occasion::Group, 0), Some(Step::Held { until: at(5_000) }));
    assert_eq!(user.0.next_deadline_ms(), Some(5_000));
    assert_eq!(user.wake(4_999), []);
    let jobs = user.wake(5_000);
    assert_eq!(summary(&jobs), [(7, 1, Priority::Normal)]);
    assert_eq!((jobs[0].not_before, jobs[0].delay), (at(5_000), None));
    assert_eq!((user.wake(5_001), user.0.next_deadline_ms()), (vec![], None));
}

#[test]
fn any_receipt_in_time_is_enough() {
    for receipt in [Receipt::Delivered, Receipt::Read] {
        let mut user = User::new(&[Channel::WebPush]);
        user.message("c", 1, Occasion::Direct, 0);
        user.message("c", 2, Occasion::Direct, 1_000);
        let arrived = Output::Trace { conversation: id("c"), seq: Seq::new(1), step: Step::Arrived(receipt) };
        assert_eq!(user.receipt("c", 1, receipt, 4_999), [arrived]);
        assert_eq!(user.wake(5_999), []);
        assert_eq!(summary(&user.wake(6_000)), [(2, 1, Priority::High)]);
    }
}

#[test]
fn what_came_later_waits_for_its_own_hold_and_is_told_together() {
    let mut user = User::new(&[Channel::WebPush]);
    user.message("c", 1, Occasion::Mention, 0);
    user.message("c", 2, Occasion::Group, 4_000);
    assert_eq!(summary(&user.wake(5_000)), [(1, 1, Priority::High)]);
    user.message("c", 3, Occasion::Group, 10_000);
    assert_eq!(user.0.next_deadline_ms(), Some(9_000));
    // The mention has been notified. Later messages enter the queue when their holds are over, and are sent together.
    let jobs = user.wake(9_000);
    assert_eq!((summary(&jobs), jobs[0].not_before), (vec![(2, 2, Priority::Normal)], at(35_000)));
    let jobs = user.wake(15_000);
    assert_eq!((summary(&jobs), jobs[0].not_before), (vec![(3, 3, Priority::Normal)], at(35_000)));
    user.message("c", 4, Occasion::Group, 36_000);
    assert_eq!(user.wake(41_000)[0].not_before, at(65_000));
}

#[test]
fn what_is_with_the_user_is_taken_back_when_read_and_only_then() {
    let mut user = User::new(&[Channel::WebPush, Channel::Apns]);
    user.message("c", 1, Occasion::Direct, 0);
    let channels: Vec<_> = user.wake(5_000).iter().map(|job| job.channel).collect();
    assert_eq!(channels, [Channel::WebPush, Channel::Apns]);
    assert_eq!(withdrawn(&user.receipt("c", 1, Receipt::Delivered, 6_000)), []);
    assert_eq!(withdrawn(&user.receipt("c", 1, Receipt::Read, 7_000)), [(1, Receipt::Read)]);
    assert_eq!(withdrawn(&user.receipt("c", 1, Receipt::Read, 8_000)), [], "once");
}

#[test]
fn a_receipt_is_for_what_has_come_by_then() {
    let mut user = User::new(&[Channel::WebPush]);
    user.message("c", 1, Occasion::Direct, 0);
    user.wake(5_000);
    assert_eq!(withdrawn(&user.receipt("c", 99, Receipt::Read, 6_000)), [(1, Receipt::Read)]);
    assert!(matches!(user.message("c", 2, Occasion::Direct, 7_000), Some(Step::Held { .. })));
    user.receipt("c", 99, Receipt::Delivered, 8_000);
    user.message("c", 3, Occasion::Direct, 9_000);
    assert_eq!(summary(&user.wake(40_000)), [(3, 1, Priority::High)]);
}

#[test]
fn the_eleventh_in_an_hour_waits_on_its_channel_and_takes_in_what_comes() {
    let mut user =
        User(Arbiter::new(Rules { conversations_max: 20, ..RULES }, Preferences::default(), &[Channel::Fcm]));
    for n in 0..11 {
        user.message(&format!("c{n}"), 1, Occasion::Direct, 0);
    }
    let jobs = user.wake(5_000);
    let hour = at(5_000 + 3_600_000);
    assert!(jobs[..10].iter().all(|job| (job.not_before, job.delay) == (at(5_000), None)));
    assert_eq!((jobs[10].not_before, jobs[10].delay), (hour, Some(Delay::Rate)));
    user.message("c10", 2, Occasion::Group, 60_000);
    let more = user.wake(65_000);
    assert_eq!(summary(&more), [(2, 2, Priority::High)]);
    assert_eq!((more[0].not_before, more[0].delay), (hour, Some(Delay::Rate)));
    assert_eq!(withdrawn(&user.receipt("c10", 2, Receipt::Delivered, 70_000)), [(2, Receipt::Delivered)]);
}

#[test]
fn quiet_hours_put_off_and_their_end_may_change() {
    let mut user = User::new(&[Channel::WebPush]);
    let quiet = |to: &str| Preferences {
        quiet_hours: Some(QuietHours::new("11:00", to, "UTC").unwrap()),
        ..Preferences::default()
    };
    user.out(|arbiter, out| arbiter.set_preferences(quiet("14:00"), now(0), out));
    user.message("c", 1, Occasion::Direct, 0);
    let jobs = user.wake(5_000);
    assert_eq!((jobs[0].not_before, jobs[0].delay), (at(2 * 3_600_000), Some(Delay::QuietHours)));
    let jobs = enqueued(user.out(|arbiter, out| arbiter.set_preferences(quiet("13:00"), now(10_000), out)));
    assert_eq!((jobs[0].not_before, jobs[0].delay), (at(3_600_000), Some(Delay::QuietHours)));
    let out = user.out(|arbiter, out| {
        arbiter.set_preferences(Preferences { enabled: false, ..quiet("13:00") }, now(20_000), out);
    });
    assert_eq!(withdrawn(&out).len(), 1);
}

#[test]
fn who_does_not_want_to_know_is_not_told_and_it_is_said_why() {
    let mut user = User::new(&[Channel::WebPush]);
    let prefer = |enabled, groups| Preferences { enabled, groups, ..Preferences::default() };
    for (preferences, occasion, why) in [
        (prefer(false, Groups::All), Occasion::Direct, Some(Why::Disabled)),
        (prefer(true, Groups::Mentions), Occasion::Group, Some(Why::Unwanted)),
        (prefer(true, Groups::Mentions), Occasion::Mention, None),
        (prefer(true, Groups::None), Occasion::Mention, Some(Why::Unwanted)),
        (prefer(true, Groups::None), Occasion::Direct, None),
    ] {
        user.out(|arbiter, out| arbiter.set_preferences(preferences, now(0), out));
        let step = user.message("c", user.0.next_deadline_ms().map_or(1, |_| 2), occasion, 0);
        assert_eq!(step.and_then(|step| if let Step::NotTold(why) = step { Some(why) } else { None }), why);
    }
}

#[test]
fn a_muted_conversation_is_silent_and_what_was_held_is_given_up() {
    let mut user = User::new(&[Channel::WebPush]);
    user.message("c", 1, Occasion::Direct, 0);
    let out = user.out(|arbiter, out| arbiter.mute(&id("c"), Some(at(60_000)), now(1_000), out));
    let step = Step::NotTold(Why::Muted);
    assert_eq!(out, [Output::Trace { conversation: id("c"), seq: Seq::new(1), step }]);
    let message = |ms| Message {
        conversation: id("c"),
        seq: Seq::new(ms),
        occasion: Occasion::Direct,
        unread: None,
        muted_until: Some(at(60_000)),
    };
    let held = |out: &[Output]| matches!(out, [Output::Trace { step: Step::Held { .. }, .. }]);
    assert!(!held(&user.out(|arbiter, out| arbiter.message(message(59_999), now(59_999), out))));
    assert!(held(&user.out(|arbiter, out| arbiter.message(message(60_000), now(60_000), out))));
    assert_eq!(user.wake(65_000).len(), 1);
}

#[test]
fn who_has_gone_is_not_told_of_what_came_before_and_of_what_comes_when_he_is_back() {
    let mut user = User::new(&[Channel::WebPush]);
    user.message("c", 1, Occasion::Group, 0);
    user.message("c", 3, Occasion::Group, 1_000);
    let out = user.out(|arbiter, out| arbiter.remove_member(&id("c"), Seq::new(2), now(2_000), out));
    let step = Step::NotTold(Why::NotAMember);
    assert_eq!(out, [Output::Trace { conversation: id("c"), seq: Seq::new(1), step }]);
    let told = user.wake(6_000);
    assert!(matches!(&told[..], [Notification { count: 1, .. }]), "{told:?}");
}

#[test]
fn without_a_device_nothing_is_held() {
    let mut user = User::new(&[]);
    assert_eq!(user.message("c", 1, Occasion::Direct, 0), Some(Step::NotTold(Why::NoDevice)));
    assert!(user.0.is_idle());
    user.out(|arbiter, out| arbiter.set_channels(&[Channel::Apns], now(1), out));
    user.message("c", 2, Occasion::Direct, 1);
    user.out(|arbiter, out| arbiter.set_channels(&[], now(2), out));
    let out = user.out(|arbiter, out| arbiter.wake(now(5_001), out));
    let step = Step::NotTold(Why::NoDevice);
    assert_eq!(out, [Output::Trace { conversation: id("c"), seq: Seq::new(2), step }]);
}

#[test]
fn a_new_device_is_told_what_waits_in_the_queue() {
    let mut user = User::new(&[Channel::WebPush]);
    let hours = QuietHours::new("11:00", "14:00", "UTC").unwrap();
    let quiet = Preferences { quiet_hours: Some(hours), ..Preferences::default() };
    user.out(|arbiter, out| arbiter.set_preferences(quiet, now(0), out));
    user.message("c", 1, Occasion::Direct, 0);
    user.wake(5_000);
    let jobs = enqueued(user.out(|arbiter, out| arbiter.set_channels(&[Channel::Apns], now(6_000), out)));
    assert_eq!((jobs.len(), jobs[0].channel, jobs[0].not_before), (1, Channel::Apns, at(2 * 3_600_000)));
}

#[test]
fn what_is_told_is_forgotten_before_what_is_held() {
    let mut user = User::new(&[Channel::WebPush]);
    user.message("told", 1, Occasion::Direct, 0);
    user.wake(5_000);
    for n in 0..4 {
        assert!(matches!(user.message(&format!("c{n}"), 1, Occasion::Direct, 6_000), Some(Step::Held { .. })));
    }
    assert_eq!(user.message("c4", 1, Occasion::Direct, 6_000), Some(Step::NotTold(Why::Full)));
    // The arbiter still knows that there may be a notification of the forgotten conversation.
    assert_eq!(withdrawn(&user.receipt("told", 1, Receipt::Read, 7_000)), [(1, Receipt::Read)]);
}

#[test]
fn many_messages_at_once_are_all_counted_and_wait_for_two_holds_at_most() {
    let mut user = User::new(&[Channel::WebPush]);
    for n in 1..=1_000 {
        user.message("c", n, Occasion::Group, 5 * n);
    }
    assert_eq!(user.0.next_deadline_ms(), Some(5_005));
    let mut told = Vec::new();
    while let Some(ms) = user.0.next_deadline_ms() {
        told.extend(summary(&user.wake(ms)));
    }
    assert_eq!(told.last(), Some(&(1_000, 1_000, Priority::Normal)));
    let mut endless = User(Arbiter::new(Rules { collapse_ms: 0, ..RULES }, Preferences::default(), &[Channel::Fcm]));
    let mut newest = 0;
    for n in 1..=20_000 {
        endless.message("c", n, Occasion::Group, n);
        newest = endless.wake(n).last().map_or(newest, |job| job.up_to_seq.get());
        assert!(newest + 2 * RULES.hold_ms >= n, "{newest} at {n}");
    }
}

#[test]
fn a_new_home_goes_on_where_the_former_one_was() {
    let mut user = User::new(&[Channel::WebPush]);
    for (conversation, not_before) in [("sent", at(0)), ("queued", at(60_000))] {
        let (up_to_seq, count, priority) = (Seq::new(5), Some(3), Priority::High);
        let alice = UserKey { tenant: "t".parse().unwrap(), user: "alice".parse().unwrap() };
        let key = PushKey { user: alice, conversation: id(conversation), channel: Channel::WebPush };
        let outstanding = PushJob { key, up_to_seq, count, priority, not_before };
        user.0.restore(outstanding, now(10_000));
        user.message("sent", 5, Occasion::Direct, 10_000);
    }
    user.message("sent", 6, Occasion::Direct, 10_000);
    assert_eq!(summary(&user.wake(15_000)), [(6, 4, Priority::High)]);
    assert_eq!(withdrawn(&user.receipt("queued", 5, Receipt::Delivered, 16_000)), [(5, Receipt::Delivered)]);
    assert_eq!(withdrawn(&user.receipt("sent", 6, Receipt::Read, 16_000)), [(6, Receipt::Read)]);
}

#[test]
fn an_arbiter_empties_itself() {
    let mut user = User::new(&[Channel::WebPush]);
    user.message("c", 1, Occasion::Direct, 0);
    user.receipt("c", 1, Receipt::Delivered, 1_000);
    assert!(!user.0.is_idle(), "a repeat is still known as one");
    assert_eq!(user.0.next_deadline_ms(), Some(11_000));
    user.wake(11_000);
    assert!(user.0.is_idle());
}

#[test]
fn what_is_handed_over_waits_for_a_receipt_in_the_queue() {
    let mut user = User::new(&[Channel::WebPush]);
    user.message("c", 1, Occasion::Direct, 0);
    user.message("c", 2, Occasion::Direct, 1_000);
    assert_eq!((user.0.holds(&id("c"), Seq::new(1)), user.0.holds(&id("c"), Seq::new(3))), (true, false));
    let jobs = enqueued(user.out(|arbiter, out| arbiter.hand_over(now(2_000), out)));
    assert_eq!((summary(&jobs), jobs[0].not_before), (vec![(2, 2, Priority::High)], at(6_000)));
    assert!(!user.0.holds(&id("c"), Seq::new(1)) && !user.0.holds(&id("c"), Seq::new(2)));
    assert_eq!(user.wake(5_000), []);
    assert_eq!(withdrawn(&user.receipt("c", 2, Receipt::Delivered, 5_999)), [(2, Receipt::Delivered)]);
}

#[test]
fn what_waits_in_the_queue_waits_longer_for_what_is_handed_over_with_it() {
    let mut user = User::new(&[Channel::WebPush]);
    user.message("c", 1, Occasion::Direct, 0);
    user.out(|arbiter, out| arbiter.hand_over(now(0), out));
    user.message("c", 2, Occasion::Direct, 2_000);
    let jobs = enqueued(user.out(|arbiter, out| arbiter.hand_over(now(2_000), out)));
    assert_eq!(summary(&jobs), [(2, 2, Priority::High)]);
    assert!(jobs[0].not_before >= at(7_000), "{jobs:?}");
}

#[test]
fn of_messages_that_were_missed_the_newest_tells() {
    let mut user = User::new(&[Channel::WebPush]);
    user.message("c", 3, Occasion::Direct, 0);
    let message = Message {
        conversation: id("c"),
        seq: Seq::new(6),
        occasion: Occasion::Direct,
        unread: Some(4),
        muted_until: None,
    };
    user.out(|arbiter, out| arbiter.message(message, now(1_000), out));
    let held: Vec<_> = user.0.held(5_000).map(|(of, up_to)| (of.clone(), up_to)).collect();
    assert_eq!(held, [(id("c"), Seq::new(6))]);
    assert_eq!(summary(&user.wake(6_000)), [(6, 4, Priority::High)]);
}
