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

/// What is asked of a message's trace.
#[derive(Clone, Debug)]
pub struct TraceQuery {
    /// Only this recipient, or whoever else is asked about.
    pub user: Option<UserId>,
    /// Only recipients behind this one, in the order of ids.
    pub after: Option<UserId>,
    /// At most so many recipients.
    pub limit: usize,
}

/// A message, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// The message.
    pub message_id: MessageId,
    /// Its sender.
    pub from: UserId,
    /// When it was stored.
    pub stored_at: Timestamp,
    /// What concerns no single recipient.
    pub events: Vec<TraceEvent>,
    /// The recipients in the order of their ids, the sender left out.
    pub recipients: Vec<TracedRecipient>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// A recipient, and what happened to the message on its way to them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TracedRecipient {
    /// Who.
    pub user_id: UserId,
    /// In a word.
    pub outcome: Outcome,
    /// Why it went no further, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Cow<'static, str>>,
    /// What nodes noted of it, in the order of time.
    pub events: Vec<TraceEvent>,
}

/// How far a message has got with one recipient; each is more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The user was not a member when it was sent.
    NotAMember,
    /// It waits in the store: the user gets it with their next `sync`.
    Stored,
    /// The user was to be notified, but could not be.
    NotNotified,
    /// A notification waits for its time, or for its next attempt.
    NotificationWaits,
    /// A provider has the notification.
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
    /// When, by the clock of the node.
    pub at: Timestamp,
    /// At which node.
    pub node_id: NodeId,
    /// The user that it concerns; `None`: everyone.
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
        /// How many.
        sessions: u32,
    },
    /// A device confirmed everything up to a `seq`.
    Delivered {
        /// Up to where.
        up_to_seq: Seq,
    },
    /// The user has read everything up to a `seq`.
    Read {
        /// Up to where.
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
        /// For which provider.
        provider: Channel,
        /// How many messages it is about.
        count: u32,
        /// The earliest time of sending.
        not_before: Timestamp,
        /// Why it is not sent at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Cow<'static, str>>,
    },
    /// A provider has the notification for a device.
    Notified {
        /// Which provider.
        provider: Channel,
        /// Which device.
        device_id: DeviceId,
    },
    /// A provider says that the device is no longer there: its registration was removed.
    DeviceGone {
        /// Which provider.
        provider: Channel,
        /// Which device.
        device_id: DeviceId,
    },
    /// An attempt to notify failed.
    Failed {
        /// Which provider.
        provider: Channel,
        /// For which device.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device_id: Option<DeviceId>,
        /// What it answered.
        reason: String,
        /// The next attempt; none: it was given up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again_at: Option<Timestamp>,
    },
    /// A notification was removed from the queue, or withdrawn from the devices.
    Withdrawn,
}

impl TraceEvent {
    /// Whether the event adds something about the entry to those before. A later cursor does not. Nor does a
    /// notification of everything up to a later entry, if this one was already decided and not held again: it is about
    /// others.
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
    /// Whether no notification is about the entry from here on; `None` if the step does not say.
    fn ends_notifying(&self) -> Option<bool> {
        match self {
            Self::Held { .. } => Some(false),
            Self::ArrivedInTime | Self::NotNotified { .. } | Self::Withdrawn => Some(true),
            _ => None,
        }
    }

    /// How far the message has got with its recipient, by this step.
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

    /// Whether it is about everything up to a `seq`, as notifications are.
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

    /// Whether one device could not be notified, which says nothing about the others.
    fn is_failure(&self) -> bool {
        matches!(self, Self::DeviceGone { .. } | Self::Failed { .. })
    }

    /// The reason why the message got no further, if the step has one.
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
