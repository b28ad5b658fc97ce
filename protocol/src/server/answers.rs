//! Answers to client frames (PROTOCOL §3, §4, §7).

use serde::{Deserialize, Serialize};

use crate::client::Role;
use crate::content::{Content, Custom};
use crate::error::{ErrorCode, FieldError, ProtocolError};
use crate::ids::{ClientId, ConversationId, MessageId, Seq, UserId};
use crate::server::entries::is_false;
use crate::server::{EntryFrame, Frame, frame_type};
use crate::text::{Emoji, Title};
use crate::timestamp::Timestamp;

/// The request has been carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OkFrame {
    /// The entry that was created; `last_seq` if nothing changed. For the acting session it counts as the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// `topic_publish`: the number of counted events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u32>,
    /// `topic_publish`: the number of events that arrived after their window was closed, and are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u32>,
}
frame_type!(OkFrame = "ok");

/// The request is rejected, or the socket is about to be closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFrame {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
    pub code: ErrorCode,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<FieldError>,
}
frame_type!(ErrorFrame = "error");

impl ErrorFrame {
    /// `client_id` is that of the rejected `send`.
    pub fn new(client_id: Option<ClientId>, error: &ProtocolError) -> Self {
        Self {
            client_id,
            code: error.code(),
            message: error.message().to_owned(),
            retry_after_ms: error.retry_after_ms(),
            details: error.details().to_vec(),
        }
    }
}

impl From<ErrorFrame> for ProtocolError {
    /// The error again, as a node passes it to another one.
    fn from(frame: ErrorFrame) -> Self {
        let mut error = Self::new(frame.code, frame.message);
        if let Some(retry_after_ms) = frame.retry_after_ms {
            error = error.with_retry_after_ms(retry_after_ms);
        }
        frame.details.into_iter().fold(error, |error, detail| error.with_detail(detail.field, detail.message))
    }
}

/// The message is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub client_id: ClientId,
    pub conversation_id: ConversationId,
    pub message_id: MessageId,
    pub seq: Seq,
    pub timestamp: Timestamp,
    /// It was durable before: this repeats the first result.
    pub duplicate: bool,
}
frame_type!(Sent = "sent");

/// A conversation as a member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    pub conversation_id: ConversationId,
    pub kind: ConversationKind,
    pub title: Option<Title>,
    pub custom: Custom,
    /// The other user of a direct conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<UserId>,
    pub members_count: u32,
    pub created_at: Timestamp,
    pub role: Role,
    pub delivery: Delivery,
    pub last_seq: Seq,
    pub read_seq: Seq,
    /// The exact number of messages of others after `read_seq`.
    pub unread: u64,
}
frame_type!(Conversation = "conversation");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    Direct,
    Group,
}

/// What members of a conversation get live (PROTOCOL §3, "Large groups").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Every entry.
    Full,
    /// Entries if the conversation is open, otherwise `conversation_activity`.
    Activity,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members<M = Member> {
    pub conversation_id: ConversationId,
    /// Ordered by `user_id`.
    pub members: Vec<M>,
    pub more: bool,
}

impl<M: Serialize> Frame for Members<M> {
    const TYPE: &'static str = "members";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub user_id: UserId,
    pub role: Role,
    pub joined_at: Timestamp,
    pub delivered_seq: Seq,
    pub read_seq: Seq,
}

/// Messages in their current state, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History<M = HistoryMessage> {
    pub conversation_id: ConversationId,
    pub messages: Vec<M>,
    pub last_seq: Seq,
    pub more: bool,
}

impl<M: Serialize> Frame for History<M> {
    const TYPE: &'static str = "history";
}

/// A message with its edits, its deletion and its reactions applied. Contains the `type` of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "message")]
pub struct HistoryMessage {
    pub conversation_id: ConversationId,
    pub message_id: MessageId,
    pub seq: Seq,
    pub from: UserId,
    pub client_id: ClientId,
    /// `None` if it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    pub timestamp: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<ReactionCount>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReactionCount {
    pub emoji: Emoji,
    pub count: u32,
    /// Whether the asking user is among them.
    pub me: bool,
}

/// The entries after a seq.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes<E = EntryFrame> {
    pub conversation_id: ConversationId,
    pub entries: Vec<E>,
    pub last_seq: Seq,
    pub more: bool,
    /// Too old or too many: the client discards the conversation's messages and uses `history`. `entries` is empty
    /// then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reset: bool,
}

impl<E: Serialize> Frame for Changes<E> {
    const TYPE: &'static str = "changes";
}

/// The conversation is open: after `last_seq`, nothing is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub conversation_id: ConversationId,
    pub last_seq: Seq,
    pub read_seq: Seq,
    pub delivery: Delivery,
}
frame_type!(Opened = "opened");

/// The presence of the watched users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceState {
    pub users: Vec<UserPresence>,
}
frame_type!(PresenceState = "presence_state");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPresence {
    pub user_id: UserId,
    pub status: ShownStatus,
    /// `None` if it is unknown, or not shown.
    pub last_seen_at: Option<Timestamp>,
}

/// A user's presence as others see it: an invisible user looks offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownStatus {
    Online,
    Away,
    Busy,
    Offline,
}
