//! The decisions of an arbiter, as values: for the durable queue, and for the trace of each message.

use switchboard_protocol::{ConversationId, Seq, Timestamp};
use switchboard_store::{Channel, Priority, PushJob, PushKey, UserKey};

use super::Receipt;

/// One decision about one conversation of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Put into the durable queue, in place of what is there for the same user, conversation and channel, unless that has
    /// a higher `up_to_seq` (so that two homes at once make one).
    Enqueue(Notification),
    /// What was told up to `up_to_seq` is no longer to be told: jobs of the conversation up to it that were not sent are
    /// taken out of the queue, on every channel. If it was read, what was sent is taken back from the devices too.
    Withdraw {
        conversation: ConversationId,
        up_to_seq: Seq,
        receipt: Receipt,
        /// Whether something was told. If not, there may be something that only the store knows of, and `up_to_seq` is as
        /// a device said it: maybe beyond the conversation's end.
        is_known: bool,
    },
    /// What became of the message `seq`, for the trace. Enqueueing and withdrawing speak for themselves.
    Trace { conversation: ConversationId, seq: Seq, step: Step },
}

/// The user's one notification of a conversation, on one of his channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub channel: Channel,
    pub conversation: ConversationId,
    /// The newest message that it tells of.
    pub up_to_seq: Seq,
    /// The messages that it tells of: those that were told already and are not read, too. Where many came at once it
    /// may count some that were read meanwhile.
    pub count: u32,
    pub priority: Priority,
    /// Not to be sent before.
    pub not_before: Timestamp,
    /// Why `not_before` is not now.
    pub delay: Option<Delay>,
}

impl Notification {
    /// The job that the store keeps of it.
    pub fn into_job(self, user: UserKey) -> PushJob {
        let Self { channel, conversation, up_to_seq, count, priority, not_before, delay: _ } = self;
        let key = PushKey { user, conversation, channel };
        PushJob { key, up_to_seq, count: Some(count), priority, not_before }
    }
}

/// What makes a notification wait in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    QuietHours,
    /// As many as may be have gone out in the last hour.
    Rate,
}

/// A step in the life of a message on its way to a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waits for a receipt until then.
    Held { until: Timestamp },
    /// A receipt came in time: nobody has to be told.
    Arrived(Receipt),
    /// Nobody is told, for this reason.
    NotTold(Why),
}

/// Why a message makes no notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No device of the user's can be reached.
    NoDevice,
    /// The user muted the conversation.
    Muted,
    /// The user blocks its sender.
    Blocked,
    /// The user is no member of the conversation any more.
    NotAMember,
    /// The user wants no notifications.
    Disabled,
    /// The user wants none of this kind.
    Unwanted,
    /// As many conversations as may be wait for a receipt.
    Full,
}
