//! Requests between nodes, and their replies.

use super::Look;
use crate::api::Actor;
use crate::topics::TopicKey;
use serde::{Deserialize, Serialize};
use switchboard_protocol::server::ErrorFrame;
use switchboard_protocol::{
    DeviceId, FieldError, InstanceId, NodeId, ProtocolError, Seq, SessionId, TenantId, Timestamp, UserId, Window,
};
use switchboard_store::{ConversationKey, InboxLast, Member, PushDevice, Release, TermNumber, UserKey};
use switchboard_topics::Part;

/// A request to another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// To an owner: carry out a client's frame.
    Conversation { actor: Actor, conversation: ConversationKey, command: Encoded },
    /// To an owner: may this user read, and up to where?
    Peek {
        user: UserKey,
        conversation: ConversationKey,
        /// The last entry that the user has, if they want the ones after it.
        #[serde(default)]
        after: Option<Seq>,
    },
    /// To a new owner: begin a term, and announce what may be unannounced. The sender has released its own term.
    TakeOver { conversation: ConversationKey, released: Option<Release> },
    /// To the owner that the store names: release this term, if the ring assigns the conversation to another node.
    LetGo { conversation: ConversationKey, term: TermNumber },
    /// To a home: carry out a client's frame.
    User { actor: Actor, command: Encoded },
    /// To a topic's owner: count these events.
    TopicPublish { topic: TopicKey, command: Encoded },
    /// To a topic's owner: its windows and, with `watch`, each later change of them.
    TopicState {
        topic: TopicKey,
        window: Window,
        range_s: u32,
        #[serde(default)]
        before_ms: Option<i64>,
        watch: bool,
    },
    /// To a topic's owner or its heir: take these windows, which others have counted.
    TopicCopy { topic: TopicKey, versions: [u64; 2], parts: Vec<Part> },
    /// To any node: answered after everything it has sent before, if it has announced what it owed when this view (by
    /// fingerprint) came. Without `names_untold`, the answer is an error while there are conversations to name.
    Barrier {
        view: u64,
        #[serde(default)]
        names_untold: bool,
    },
    /// To any node: the block between two users was set or removed.
    BlockChanged { tenant: TenantId, by: UserId, other: UserId },
    /// To any node: close these sessions.
    Disconnect { user: UserKey },
    /// To any node: list these sessions.
    Sessions { user: UserKey },
    /// To an owner: these members, and the end of the log.
    Roll { conversation: ConversationKey, asked: RollAsked },
    /// To any node: its trace records for this message and these recipients.
    Trace { conversation: ConversationKey, seq: Seq, users: Vec<UserId> },
    /// To a home: register a device.
    PutPushDevice { user: UserKey, device: DeviceId, registered: PushDevice },
    /// To a home: unregister a device, if `target` is absent or still its target.
    RemovePushDevice { user: UserKey, device: DeviceId, target: Option<String> },
    /// To a home: replace the user's notification preferences, JSON.
    SetNotificationPreferences { user: UserKey, preferences: String },
    /// To a home: the presence of these users and, with `watch`, each later change of it.
    PresenceOf { users: Vec<UserKey>, watch: bool },
}

/// A client's frame or a server's, as its JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Encoded(pub(crate) String);

/// A reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// A frame for the client.
    Frame { json: Encoded, created: bool },
    /// The user may read.
    Peek(Box<Peek>),
    /// Members.
    Roll(Roll),
    /// The term is released.
    LetGo(Release),
    /// Done, without a result.
    Done,
    /// Done, and whether anything had to be done.
    Was(bool),
    /// Everything has been announced, except for these conversations.
    Untold(Vec<ConversationKey>),
    /// Sessions.
    Sessions(Vec<SessionRow>),
    /// Presence, in the order asked for.
    Presence(Vec<Look>),
    /// A list of [`crate::trace::TraceEvent`].
    Trace(Encoded),
}

/// An error on its way to the client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal(pub(crate) ErrorFrame);

impl Refusal {
    pub(crate) fn into_error(self) -> ProtocolError {
        let ErrorFrame { code, message, retry_after_ms, details, .. } = self.0;
        let error = ProtocolError::new(code, message);
        let error =
            details.into_iter().fold(error, |error, FieldError { field, message }| error.with_detail(field, message));
        match retry_after_ms {
            Some(retry_after_ms) => error.with_retry_after_ms(retry_after_ms),
            None => error,
        }
    }
}

/// An owner's reply about a user who may read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peek {
    /// The durable end.
    pub(crate) last: InboxLast,
    /// The newest message known to mention the user; 0: none recently.
    pub(crate) mentioned_seq: Seq,
    /// The user's read cursor, with the number of messages up to it.
    pub(crate) read: (Seq, u64),
    /// All entries after the one that the user has, if they were asked for and the owner has them in memory.
    #[serde(default)]
    pub(crate) entries: Option<Vec<Encoded>>,
}

/// The members that an administrator asks for: one, or those after another in the order of ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RollAsked {
    pub(crate) user: Option<UserId>,
    pub(crate) after: Option<UserId>,
    pub(crate) limit: usize,
}

/// An owner's reply to an administrator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Roll {
    /// The durable end.
    pub(crate) end: Seq,
    pub(crate) members: Vec<(UserId, Member)>,
    pub(crate) more: bool,
}

/// A session, for administrators.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) session_id: SessionId,
    pub(crate) device_id: DeviceId,
    pub(crate) instance_id: InstanceId,
    pub(crate) node_id: NodeId,
    pub(crate) connected_at: Timestamp,
}
