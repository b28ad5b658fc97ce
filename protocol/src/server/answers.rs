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

/// What was asked is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OkFrame {
    /// The entry that it made; `last_seq` where nothing changed. For the acting session it counts as the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// `topic_publish`: events that count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u32>,
    /// `topic_publish`: events that came when their window was closed, and are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<u32>,
}
frame_type!(OkFrame = "ok");

/// What was asked is refused, or the socket is about to be closed.
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
    /// `client_id` is that of the `send` that is refused.
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
    /// The error again, as one node tells it another.
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
    /// It was durable before: this is the first result again.
    pub duplicate: bool,
}
frame_type!(Sent = "sent");

/// A conversation as one of its members sees it.
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
    /// Messages of others after `read_seq`; exact.
    pub unread: u64,
}
frame_type!(Conversation = "conversation");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    Direct,
    Group,
}

/// What a conversation's members get live (PROTOCOL §3, "Large groups").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Every entry.
    Full,
    /// Entries where the conversation is open, else `conversation_activity`.
    Activity,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members<M = Member> {
    pub conversation_id: ConversationId,
    /// In the order of `user_id`.
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

/// Messages as they are now, in ascending order.
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

/// A message with its edits, its deletion and its reactions applied. Carries the `type` of a message.
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
    /// Too old or too many: the client forgets the conversation's messages and uses `history`. No entries then.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reset: bool,
}

impl<E: Serialize> Frame for Changes<E> {
    const TYPE: &'static str = "changes";
}

/// The conversation is open: from `last_seq` on, nothing is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub conversation_id: ConversationId,
    pub last_seq: Seq,
    pub read_seq: Seq,
    pub delivery: Delivery,
}
frame_type!(Opened = "opened");

/// How the watched users are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceState {
    pub users: Vec<UserPresence>,
}
frame_type!(PresenceState = "presence_state");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPresence {
    pub user_id: UserId,
    pub status: ShownStatus,
    /// `None` if it is not known, or not shown.
    pub last_seen_at: Option<Timestamp>,
}

/// A user's presence as others see it: who is invisible looks offline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShownStatus {
    Online,
    Away,
    Busy,
    Offline,
}
