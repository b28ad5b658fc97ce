//! The entries of a conversation's log as frames (PROTOCOL §3): sent live once they are durable, and again unchanged in
//! `changes` and `sync`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::client::Role;
use crate::content::{Content, Custom};
use crate::ids::{ClientId, ConversationId, MessageId, Seq, UserId};
use crate::server::{Frame, Tagged, frame_type, frames};
use crate::text::{Emoji, Title};
use crate::timestamp::Timestamp;

frames! {
    /// The frame of one entry. As an item of a list it contains its `type`.
    EntryFrame {
        Message(Message),
        MessageUpdated(MessageUpdated),
        Reaction(Reaction),
        Membership(Membership),
        ConversationUpdated(ConversationUpdated),
    }
}

impl EntryFrame {
    pub fn seq(&self) -> Seq {
        match self {
            Self::Message(entry) => entry.seq,
            Self::MessageUpdated(entry) => entry.seq,
            Self::Reaction(entry) => entry.seq,
            Self::Membership(entry) => entry.seq,
            Self::ConversationUpdated(entry) => entry.seq,
        }
    }
}

impl Serialize for EntryFrame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn tagged<T: Frame>(fields: &T) -> Tagged<'_, T> {
            Tagged { type_name: T::TYPE, id: None, fields }
        }
        match self {
            Self::Message(entry) => tagged(entry).serialize(serializer),
            Self::MessageUpdated(entry) => tagged(entry).serialize(serializer),
            Self::Reaction(entry) => tagged(entry).serialize(serializer),
            Self::Membership(entry) => tagged(entry).serialize(serializer),
            Self::ConversationUpdated(entry) => tagged(entry).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for EntryFrame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not as a tagged enum: serde would parse the content, which must stay as it was written.
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let (_, entry) = Self::decode(raw.get()).map_err(serde::de::Error::custom)?;
        Ok(entry)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub conversation_id: ConversationId,
    pub message_id: MessageId,
    pub seq: Seq,
    pub from: UserId,
    pub client_id: ClientId,
    pub content: Content,
    pub timestamp: Timestamp,
}
frame_type!(Message = "message");

/// An edit (with `content`) or a deletion (with `deleted`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageUpdated {
    pub conversation_id: ConversationId,
    pub seq: Seq,
    /// The message that it changes.
    pub target_seq: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    pub by: UserId,
    pub timestamp: Timestamp,
}
frame_type!(MessageUpdated = "message_updated");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    pub conversation_id: ConversationId,
    pub seq: Seq,
    /// The message that it belongs to.
    pub target_seq: Seq,
    pub user_id: UserId,
    pub emoji: Emoji,
    /// `false`: removed.
    pub added: bool,
    pub timestamp: Timestamp,
}
frame_type!(Reaction = "reaction");

/// Added and removed members, and changed roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub conversation_id: ConversationId,
    pub seq: Seq,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<UserId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<UserId>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<UserId, Role>,
    pub by: UserId,
    pub timestamp: Timestamp,
}
frame_type!(Membership = "membership");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationUpdated {
    pub conversation_id: ConversationId,
    pub seq: Seq,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<Title>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Custom>,
    pub by: UserId,
    pub timestamp: Timestamp,
}
frame_type!(ConversationUpdated = "conversation_updated");

/// For fields that are written only if they are true.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if gives a reference")]
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}
