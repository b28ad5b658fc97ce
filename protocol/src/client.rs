//! The frames that clients send (PROTOCOL §2 to §5), as types. `parse` reads them from text; an HTTP request is read
//! into the same types (`http`).

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use crate::content::{Content, Custom, SignalData};
use crate::ids::{ClientId, ConversationId, DeviceId, FrameId, InstanceId, Seq, TopicId, UserId};
use crate::server::encode_tagged;
use crate::text::{Emoji, SignalKind, Title};
use crate::timestamp::Timestamp;
use crate::topic::{Event, Window};

/// Defines [`ClientFrame`] from one list of its types: the variant, its payload and its `type`.
macro_rules! client_frames {
    ($($(#[$doc:meta])* $variant:ident($payload:ty) = $name:literal,)*) => {
        /// A client frame.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum ClientFrame {
            $($(#[$doc])* $variant($payload),)*
            /// Answered with `pong`.
            Ping,
        }

        impl ClientFrame {
            /// The types of all frames, as in `type`.
            pub const TYPES: &'static [&'static str] = &[$($name,)* "ping"];

            /// The frame's `type`.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                    Self::Ping => "ping",
                }
            }

            /// The frame's JSON, as a client sends it.
            pub fn encode(&self, id: Option<&FrameId>) -> String {
                match self {
                    $(Self::$variant(payload) => encode_tagged($name, id, payload),)*
                    Self::Ping => encode_tagged("ping", id, &NoFields {}),
                }
            }

            /// Reads the payload of the frame with this `type`; `None` if the type is unknown.
            pub(crate) fn read(
                type_name: &str,
                fields: &crate::fields::Fields<'_>,
                limits: &crate::parse::ParseLimits,
            ) -> Option<Result<Self, crate::error::ProtocolError>> {
                Some(match type_name {
                    $($name => <$payload as crate::parse::Payload>::read(fields, limits).map(Self::$variant),)*
                    "ping" => Ok(Self::Ping),
                    _ => return None,
                })
            }
        }
    };
}

client_frames! {
    Auth(Auth) = "auth",
    Send(Send) = "send",
    ConversationCreate(ConversationCreate) = "conversation_create",
    ConversationGet(ConversationRef) = "conversation_get",
    ConversationUpdate(ConversationUpdate) = "conversation_update",
    ConversationMembers(ConversationMembers) = "conversation_members",
    MemberAdd(MemberAdd) = "member_add",
    MemberRemove(MemberRemove) = "member_remove",
    MemberRole(MemberRole) = "member_role",
    Edit(Edit) = "edit",
    Delete(EntryRef) = "delete",
    React(React) = "react",
    Unreact(React) = "unreact",
    History(HistoryGet) = "history",
    Changes(ChangesGet) = "changes",
    Sync(SyncGet) = "sync",
    ConversationSettings(ConversationSettingsSet) = "conversation_settings",
    Block(UserRef) = "block",
    Unblock(UserRef) = "unblock",
    ConversationOpen(ConversationRef) = "conversation_open",
    ConversationClose(ConversationRef) = "conversation_close",
    Delivered(EntryRef) = "delivered",
    Read(EntryRef) = "read",
    TypingStart(ConversationRef) = "typing_start",
    TypingStop(ConversationRef) = "typing_stop",
    Signal(SignalSend) = "signal",
    PresenceSet(PresenceSet) = "presence_set",
    PresenceWatch(UserList) = "presence_watch",
    PresenceUnwatch(UserList) = "presence_unwatch",
    TopicPublish(TopicPublish) = "topic_publish",
    TopicWatch(TopicWatch) = "topic_watch",
    TopicUnwatch(TopicUnwatch) = "topic_unwatch",
}

/// The payload of a frame without fields.
#[derive(Serialize)]
struct NoFields {}

/// Signs in, or renews the session (PROTOCOL §2).
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Auth {
    pub token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<InstanceId>,
}

impl std::fmt::Debug for Auth {
    /// Omits the token, which must not get into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth")
            .field("device_id", &self.device_id)
            .field("instance_id", &self.instance_id)
            .finish_non_exhaustive()
    }
}

/// A message to a conversation or to a user (PROTOCOL §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Send {
    #[serde(flatten)]
    pub target: SendTarget,
    pub client_id: ClientId,
    pub content: Content,
    /// The `last_seq` that the client knew at its first attempt: a repeat is recognised back to there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_seq: Option<Seq>,
}

/// The destination of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum SendTarget {
    #[serde(rename = "conversation_id")]
    Conversation(ConversationId),
    /// The direct conversation with this user, created on demand.
    #[serde(rename = "to")]
    To(UserId),
}

/// Creates a group; the sender becomes a member and `owner`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConversationCreate {
    pub kind: GroupKind,
    pub client_id: ClientId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Title>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Custom>,
    /// In addition to the creator; sorted, without duplicates, may be empty, may contain the creator.
    pub members: Vec<UserId>,
}

/// The only `kind` that is created by request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    Group,
}

/// Changes the given fields and leaves the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConversationUpdate {
    pub conversation_id: ConversationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Title>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Custom>,
}

/// Asks for members, ordered by user id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConversationMembers {
    pub conversation_id: ConversationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<UserId>,
    pub limit: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberAdd {
    pub conversation_id: ConversationId,
    /// Sorted, without duplicates, at least one.
    pub user_ids: Vec<UserId>,
    /// `member` if the client did not give one.
    pub role: Role,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberRemove {
    pub conversation_id: ConversationId,
    /// Sorted, without duplicates, at least one.
    pub user_ids: Vec<UserId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberRole {
    pub conversation_id: ConversationId,
    pub user_id: UserId,
    pub role: Role,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edit {
    pub conversation_id: ConversationId,
    pub seq: Seq,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct React {
    pub conversation_id: ConversationId,
    pub seq: Seq,
    pub emoji: Emoji,
}

/// Asks for messages in their current state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryGet {
    pub conversation_id: ConversationId,
    #[serde(flatten)]
    pub range: HistoryRange,
    pub limit: u32,
}

/// The requested messages of a conversation; always answered in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryRange {
    Newest,
    /// The newest ones below this seq.
    Before(Seq),
    /// The oldest ones after this seq.
    After(Seq),
}

impl Serialize for HistoryRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Newest => {}
            Self::Before(seq) => map.serialize_entry("before", seq)?,
            Self::After(seq) => map.serialize_entry("after", seq)?,
        }
        map.end()
    }
}

/// Asks for the entries after a seq.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangesGet {
    pub conversation_id: ConversationId,
    pub after: Seq,
    pub limit: u32,
}

/// Asks what changed for the user since `cursor`; without a cursor, for everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncGet {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    pub entries_per_conversation: u32,
    pub limit: u32,
}

/// The user's own settings of a conversation; fields that are `None` stay unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConversationSettingsSet {
    pub conversation_id: ConversationId,
    /// `Some(None)` (a `null`) unmutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<Option<Timestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
}

/// Ephemeral data for the sessions that have the conversation open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignalSend {
    pub conversation_id: ConversationId,
    pub kind: SignalKind,
    pub data: SignalData,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PresenceSet {
    pub status: PresenceStatus,
}

/// A frame that names only a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConversationRef {
    pub conversation_id: ConversationId,
}

/// A frame about an entry (`delete`), or a cursor up to it (`delivered`, `read`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryRef {
    pub conversation_id: ConversationId,
    pub seq: Seq,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserRef {
    pub user_id: UserId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserList {
    /// Sorted, without duplicates, may be empty.
    pub user_ids: Vec<UserId>,
}

/// Events for a topic (PROTOCOL §5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicPublish {
    pub topic: TopicId,
    /// At least one.
    pub events: Vec<Event>,
}

/// Watches a topic's windows of one length, starting `range_s` ago. By HTTP, or with `before_ms`: reads them once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicWatch {
    pub topic: TopicId,
    pub window: Window,
    pub range_s: u32,
    /// Only windows that begin before this time, in milliseconds since 1970: the part that did not fit into the last
    /// answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicUnwatch {
    pub topic: TopicId,
    pub window: Window,
}

/// A member's role in a group (PROTOCOL §3); in a direct conversation both are `member`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Owner,
    Moderator,
    Member,
}

/// The presence that a user sets (PROTOCOL §4). What others see is [`crate::server::ShownStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceStatus {
    Online,
    Away,
    Busy,
    Invisible,
}
