//! The decisions of an arbiter, as values: for the durable queue, and for the trace of each message.

use switchboard_protocol::{ConversationId, Seq, Timestamp};
use switchboard_store::{Channel, Priority, PushJob, PushKey, UserKey};

use super::Receipt;

/// One decision about one conversation of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Put into the durable queue, replacing what is there for the same user, conversation and channel, unless that has
    /// a higher `up_to_seq` (so that two homes at once make one).
    Enqueue(Notification),
    /// What was notified up to `up_to_seq` is obsolete: unsent jobs of the conversation up to it are removed from the
    /// queue, on every channel. If it was read, sent notifications are also withdrawn from the devices.
    Withdraw {
        conversation: ConversationId,
        up_to_seq: Seq,
        receipt: Receipt,
        /// Whether anything was notified. If not, the store may know of something, and `up_to_seq` is as a device sent
        /// it, possibly beyond the conversation's end.
        is_known: bool,
    },
    /// The message's step for the trace. Enqueueing and withdrawing are traced by their own outputs.
    Trace { conversation: ConversationId, seq: Seq, step: Step },
}

/// The user's one notification of a conversation, on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub channel: Channel,
    pub conversation: ConversationId,
    /// The newest message that it covers.
    pub up_to_seq: Seq,
    /// The number of messages that it covers, including those that were notified already and are unread. If many came
    /// at once it may count some that were read meanwhile.
    pub count: u32,
    pub priority: Priority,
    /// Must not be sent earlier.
    pub not_before: Timestamp,
    /// Why `not_before` is not now.
    pub delay: Option<Delay>,
}

impl Notification {
    /// The job for the store.
    pub fn into_job(self, user: UserKey) -> PushJob {
        let Self { channel, conversation, up_to_seq, count, priority, not_before, delay: _ } = self;
        let key = PushKey { user, conversation, channel };
        PushJob { key, up_to_seq, count: Some(count), priority, not_before }
    }
}

/// Why a notification waits in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    QuietHours,
    /// The hourly limit has been reached.
    Rate,
}

/// A step of a message on its way to a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Waits for a receipt until then.
    Held { until: Timestamp },
    /// A receipt came in time: no notification is needed.
    Arrived(Receipt),
    /// No notification, for this reason.
    NotTold(Why),
}

/// Why a message causes no notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No device of the user's can be reached.
    NoDevice,
    /// The user muted the conversation.
    Muted,
    /// The user blocks its sender.
    Blocked,
    /// The user is no longer a member of the conversation.
    NotAMember,
    /// The user wants no notifications.
    Disabled,
    /// The user wants none of this kind.
    Unwanted,
    /// The maximum number of conversations already wait for a receipt.
    Full,
}
