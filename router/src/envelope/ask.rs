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

/// What is asked of another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Of an owner: carry out a client's frame.
    Conversation { actor: Actor, conversation: ConversationKey, command: Encoded },
    /// Of an owner: may this user read, and up to where.
    Peek {
        user: UserKey,
        conversation: ConversationKey,
        /// What he has, if he wants the entries behind it.
        #[serde(default)]
        after: Option<Seq>,
    },
    /// Of an owner-to-be: begin a term, and tell what may be untold. Who asks has let go of his own term.
    TakeOver { conversation: ConversationKey, released: Option<Release> },
    /// Of whom the store names as the owner: let go of this term, if the ring has given the conversation to another.
    LetGo { conversation: ConversationKey, term: TermNumber },
    /// Of a home: carry out a client's frame.
    User { actor: Actor, command: Encoded },
    /// Of a topic's owner: count these events.
    TopicPublish { topic: TopicKey, command: Encoded },
    /// Of a topic's owner: its windows and, if `watch`, from now on each change of them.
    TopicState {
        topic: TopicKey,
        window: Window,
        range_s: u32,
        #[serde(default)]
        before_ms: Option<i64>,
        watch: bool,
    },
    /// Of a topic's owner or its heir: take these windows, which others have counted.
    TopicCopy { topic: TopicKey, versions: [u64; 2], parts: Vec<Part> },
    /// Of any node: answered behind all it has sent before, if it has announced everything that it owed when this view (by
    /// fingerprint) came. Who does not say `names_untold` is given no sign while there is something to name.
    Barrier {
        view: u64,
        #[serde(default)]
        names_untold: bool,
    },
    /// Of any node: the block between two users was set or taken back.
    BlockChanged { tenant: TenantId, by: UserId, other: UserId },
    /// Of any node: close these sessions.
    Disconnect { user: UserKey },
    /// Of any node: list these sessions.
    Sessions { user: UserKey },
    /// Of an owner: these members, and where the log ends.
    Roll { conversation: ConversationKey, asked: RollAsked },
    /// Of any node: what it has noted of this message and these recipients.
    Trace { conversation: ConversationKey, seq: Seq, users: Vec<UserId> },
    /// Of a home: register a device.
    PutPushDevice { user: UserKey, device: DeviceId, registered: PushDevice },
    /// Of a home: unregister a device, if it is registered as `target` or that is left out.
    RemovePushDevice { user: UserKey, device: DeviceId, target: Option<String> },
    /// Of a home: keep what the user wants to be told of, JSON.
    SetNotificationPreferences { user: UserKey, preferences: String },
    /// Of a home: how these users look and, if `watch`, from now on each change of it.
    PresenceOf { users: Vec<UserKey>, watch: bool },
}

/// A client's frame or a server's, as its JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Encoded(pub(crate) String);

/// What comes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// A frame for the client.
    Frame { json: Encoded, created: bool },
    /// May read.
    Peek(Box<Peek>),
    /// Members.
    Roll(Roll),
    /// Has let go.
    LetGo(Release),
    /// Done, nothing to tell.
    Done,
    /// Done, and whether there was something to do.
    Was(bool),
    /// All is announced but what these conversations owe.
    Untold(Vec<ConversationKey>),
    /// Sessions.
    Sessions(Vec<SessionRow>),
    /// Presence, in the order asked for.
    Presence(Vec<Look>),
    /// A list of [`crate::trace::TraceEvent`].
    Trace(Encoded),
}

/// A refusal on its way to the client.
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

/// What an owner says to someone who may read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peek {
    /// The durable end.
    pub(crate) last: InboxLast,
    /// The newest message known to mention him; 0: none lately.
    pub(crate) mentioned_seq: Seq,
    /// The asking member's read cursor with the messages up to there.
    pub(crate) read: (Seq, u64),
    /// Every entry after the one that he has, up to the end, if they were asked for and the owner has them in memory.
    #[serde(default)]
    pub(crate) entries: Option<Vec<Encoded>>,
}

/// Which members an administrator asks about: one, or some behind another in the order of ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RollAsked {
    pub(crate) user: Option<UserId>,
    pub(crate) after: Option<UserId>,
    pub(crate) limit: usize,
}

/// What an owner says to an administrator.
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
