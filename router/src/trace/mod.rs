//! Message traces: what happened to a message, for the person who is asked "why did Bob not get it?" (DESIGN §7).
//!
//! Each node notes its own actions, in memory and for a limited time (`trace.*`); nothing is stored or sent for it.
//! What the store knows anyway (members, their receipts) is read when somebody asks. Then all nodes return what they
//! noted, and it is grouped by recipient.

mod ask;
mod kept;

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use switchboard_protocol::{DeviceId, MessageId, NodeId, Seq, SessionId, Timestamp, UserId};
use switchboard_store::Channel;

pub(crate) use kept::{GivenTo, Traces};

/// The parameters of a request for a message's trace.
#[derive(Clone, Debug)]
pub struct TraceQuery {
    /// Only this recipient.
    pub user: Option<UserId>,
    /// Only recipients after this one, ordered by id.
    pub after: Option<UserId>,
    /// Maximum number of recipients.
    pub limit: usize,
}

/// A message and its history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// The message.
    pub message_id: MessageId,
    /// Its sender.
    pub from: UserId,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// Events that concern no particular recipient.
    pub events: Vec<TraceEvent>,
    /// The recipients, ordered by id, without the sender.
    pub recipients: Vec<TracedRecipient>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// A recipient, and what happened to the message on its way to them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TracedRecipient {
    /// The recipient.
    pub user_id: UserId,
    /// The outcome in a word.
    pub outcome: Outcome,
    /// Why it got no further, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Cow<'static, str>>,
    /// The nodes' records of it, ordered by time.
    pub events: Vec<TraceEvent>,
}

/// How far a message has got with one recipient, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The user was not a member when it was sent.
    NotAMember,
    /// It waits in the store: the user gets it with their next `sync`.
    Stored,
    /// The user should have been notified, but could not be.
    NotNotified,
    /// A notification waits for its time, or for its next attempt.
    NotificationWaits,
    /// A provider has accepted the notification.
    Notified,
    /// It is in a session's queue, but no device has confirmed it yet.
    Given,
    /// A device has confirmed it.
    Delivered,
    /// The user has read it.
    Read,
}

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// When, by the node's clock.
    pub at: Timestamp,
    /// The node.
    pub node_id: NodeId,
    /// The affected user; `None`: everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// What happened.
    #[serde(flatten)]
    pub step: TraceStep,
}

/// What can happen to a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum TraceStep {
    /// It was durable, and its owner announced it to a home.
    Announced {
        /// The home.
        home_id: NodeId,
        /// How many of the recipients have their home there.
        users: u32,
    },
    /// It was put into a session's queue.
    Given {
        /// The session.
        session_id: SessionId,
        /// Its device.
        device_id: DeviceId,
    },
    /// It was put into the queues of more sessions, which are not named (`trace.sessions_max`).
    GivenToMore {
        /// The number of sessions.
        sessions: u32,
    },
    /// A device confirmed everything up to a `seq`.
    Delivered {
        /// The last `seq`.
        up_to_seq: Seq,
    },
    /// The user has read everything up to a `seq`.
    Read {
        /// The last `seq`.
        up_to_seq: Seq,
    },
    /// Push waits for a receipt.
    Held {
        /// Until when.
        until: Timestamp,
    },
    /// A receipt came before the hold was over: nobody is notified.
    ArrivedInTime,
    /// The user is not notified.
    NotNotified {
        /// The reason.
        why: Cow<'static, str>,
    },
    /// A notification is in the durable queue.
    Queued {
        /// The provider.
        provider: Channel,
        /// The number of messages that it covers.
        count: u32,
        /// The earliest time of sending.
        not_before: Timestamp,
        /// Why it is not sent at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Cow<'static, str>>,
    },
    /// A provider has accepted the notification for a device.
    Notified {
        /// The provider.
        provider: Channel,
        /// The device.
        device_id: DeviceId,
    },
    /// A provider reports that the device is gone: its registration was removed.
    DeviceGone {
        /// The provider.
        provider: Channel,
        /// The device.
        device_id: DeviceId,
    },
    /// An attempt to notify failed.
    Failed {
        /// The provider.
        provider: Channel,
        /// The device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_id: Option<DeviceId>,
        /// The provider's answer.
        reason: String,
        /// The next attempt; `None`: it was given up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again_at: Option<Timestamp>,
    },
    /// A notification was removed from the queue, or withdrawn from the devices.
    Withdrawn,
}

impl TraceEvent {
    /// Whether the event adds something about the entry to those before. A later cursor does not. Nor does a
    /// notification of everything up to a later entry, if this one was already decided and not held again: that is
    /// about other entries.
    fn is_news_after(&self, before: &[Self]) -> bool {
        let mut own = before.iter().filter(|event| event.user_id == self.user_id).map(|event| &event.step);
        match &self.step {
            TraceStep::Delivered { .. } => !own.any(|said| matches!(said, TraceStep::Delivered { .. })),
            TraceStep::Read { .. } => !own.any(|said| matches!(said, TraceStep::Read { .. })),
            step if step.is_up_to() => !own.rev().find_map(TraceStep::ends_notifying).unwrap_or(false),
            _ => true,
        }
    }
}

impl TraceStep {
    /// Whether no later notification covers the entry; `None` if the step does not say.
    fn ends_notifying(&self) -> Option<bool> {
        match self {
            Self::Held { .. } => Some(false),
            Self::ArrivedInTime | Self::NotNotified { .. } | Self::Withdrawn => Some(true),
            _ => None,
        }
    }

    /// How far the message has got with its recipient, according to this step.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Announced { .. } | Self::GivenToMore { .. } | Self::ArrivedInTime | Self::Withdrawn => {
                Outcome::Stored
            }
            Self::NotNotified { .. } | Self::DeviceGone { .. } | Self::Failed { again_at: None, .. } => {
                Outcome::NotNotified
            }
            Self::Held { .. } | Self::Queued { .. } | Self::Failed { .. } => Outcome::NotificationWaits,
            Self::Notified { .. } => Outcome::Notified,
            Self::Given { .. } => Outcome::Given,
            Self::Delivered { .. } => Outcome::Delivered,
            Self::Read { .. } => Outcome::Read,
        }
    }

    /// Whether it covers everything up to a `seq`, as notifications do.
    fn is_up_to(&self) -> bool {
        matches!(
            self,
            Self::Queued { .. }
                | Self::Notified { .. }
                | Self::DeviceGone { .. }
                | Self::Failed { .. }
                | Self::Withdrawn
        )
    }

    /// Whether one device could not be notified, which does not affect the others.
    fn is_failure(&self) -> bool {
        matches!(self, Self::DeviceGone { .. } | Self::Failed { .. })
    }

    /// Why the message got no further, if the step has a reason.
    fn why(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::NotNotified { why } => Some(why.clone()),
            Self::Queued { why, .. } => why.clone(),
            Self::Failed { reason, .. } => Some(Cow::Owned(reason.clone())),
            Self::DeviceGone { .. } => Some(Cow::Borrowed("the device is gone")),
            _ => None,
        }
    }
}
