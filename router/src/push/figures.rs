//! The metrics of push at a home, and its steps in message traces. The worker that sends notifications counts and
//! traces what happens to them later.

use crate::figures::{count, shown};
use crate::trace::TraceStep;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use std::borrow::Cow;
use switchboard_protocol::{ConversationId, Seq};
use switchboard_push::{Delay, Notification, Output, Step, Why};

pub(crate) struct PushFigures {
    held: Counter,
    arrived: Counter,
    enqueued: Counter,
    withdrawn: Counter,
    no_device: Counter,
    muted: Counter,
    blocked: Counter,
    not_a_member: Counter,
    disabled: Counter,
    unwanted: Counter,
    full: Counter,
    pub(super) dropped_users: Counter,
    pub(super) dropped_waiting: Counter,
    pub(super) dropped_writes: Counter,
    users: Gauge,
    undecided: Gauge,
    writes: Gauge,
}

impl PushFigures {
    pub(crate) fn new() -> Self {
        describe();
        let decided = |what| shown(counter!("switchboard_push_decisions_total", "decision" => what));
        let dropped = |what| shown(counter!("switchboard_push_dropped_total", "reason" => what));
        Self {
            held: decided("held"),
            arrived: decided("arrived"),
            enqueued: decided("enqueued"),
            withdrawn: decided("withdrawn"),
            no_device: decided("no_device"),
            muted: decided("muted"),
            blocked: decided("blocked"),
            not_a_member: decided("not_a_member"),
            disabled: decided("disabled"),
            unwanted: decided("unwanted"),
            full: decided("full"),
            dropped_users: dropped("users"),
            dropped_waiting: dropped("waiting"),
            dropped_writes: dropped("writes"),
            users: gauge!("switchboard_push_users"),
            undecided: gauge!("switchboard_push_undecided"),
            writes: gauge!("switchboard_push_writes_waiting"),
        }
    }

    pub(super) fn note(&self, output: &Output) {
        let counter = match output {
            Output::Enqueue(_) => &self.enqueued,
            Output::Withdraw { .. } => &self.withdrawn,
            Output::Trace { step, .. } => match step {
                Step::Held { .. } => &self.held,
                Step::Arrived(_) => &self.arrived,
                Step::NotTold(Why::NoDevice) => &self.no_device,
                Step::NotTold(Why::Muted) => &self.muted,
                Step::NotTold(Why::Blocked) => &self.blocked,
                Step::NotTold(Why::NotAMember) => &self.not_a_member,
                Step::NotTold(Why::Disabled) => &self.disabled,
                Step::NotTold(Why::Unwanted) => &self.unwanted,
                Step::NotTold(Why::Full) => &self.full,
            },
        };
        counter.increment(1);
    }

    pub(super) fn gauge(&self, users: usize, undecided: usize, writes: usize) {
        self.users.set(count(users));
        self.undecided.set(count(undecided));
        self.writes.set(count(writes));
    }
}

/// The trace step of a decision, and its message. None for users without a device: later messages to them reach no arbiter,
/// so only the first would have the step. None either for what may have been withdrawn.
pub(super) fn traced(output: &Output) -> Option<(&ConversationId, Seq, TraceStep)> {
    Some(match output {
        Output::Enqueue(Notification { channel, conversation, up_to_seq, count, not_before, delay, .. }) => {
            let why = delay.map(|delay| match delay {
                Delay::QuietHours => "quiet_hours",
                Delay::Rate => "rate",
            });
            let (provider, count, not_before) = (*channel, *count, *not_before);
            (conversation, *up_to_seq, TraceStep::Queued { provider, count, not_before, why: why.map(Cow::Borrowed) })
        }
        Output::Withdraw { is_known: false, .. } => return None,
        Output::Withdraw { conversation, up_to_seq, .. } => (conversation, *up_to_seq, TraceStep::Withdrawn),
        Output::Trace { step: Step::NotTold(Why::NoDevice), .. } => return None,
        Output::Trace { conversation, seq, step } => (conversation, *seq, traced_step(*step)),
    })
}

fn traced_step(step: Step) -> TraceStep {
    match step {
        Step::Held { until } => TraceStep::Held { until },
        Step::Arrived(_) => TraceStep::ArrivedInTime,
        Step::NotTold(why) => TraceStep::NotNotified { why: Cow::Borrowed(word(why)) },
    }
}

/// The word in metrics and traces.
fn word(why: Why) -> &'static str {
    match why {
        Why::NoDevice => "no_device",
        Why::Muted => "muted",
        Why::Blocked => "blocked",
        Why::NotAMember => "not_a_member",
        Why::Disabled => "disabled",
        Why::Unwanted => "unwanted",
        Why::Full => "full",
    }
}

fn describe() {
    describe_counter!(
        "switchboard_push_decisions_total",
        "Decisions about messages to users (held, arrived, or why nobody is notified) and about notifications"
    );
    describe_counter!(
        "switchboard_push_dropped_total",
        "Messages without a notification (users, waiting) and withdrawals (writes) dropped because a queue was full"
    );
    describe_gauge!("switchboard_push_users", "Users with a device for whom this node decides about notifications");
    describe_gauge!("switchboard_push_undecided", "Messages to them waiting for a receipt or a decision");
    describe_gauge!("switchboard_push_writes_waiting", "Decisions about notifications waiting to be written");
}
