//! `sync` and the user's own settings of conversations (PROTOCOL §3).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::ids::{ConversationId, Seq, UserId};
use crate::server::entries::is_false;
use crate::server::{Conversation, EntryFrame, Frame, frame_type};
use crate::timestamp::Timestamp;

/// What changed for the user since a cursor, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync<C = SyncConversation> {
    pub cursor: String,
    pub conversations: Vec<C>,
    /// Ask again with the new cursor.
    pub more: bool,
    /// The cursor is no longer known: this is everything.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reset: bool,
}

impl<C: Serialize> Frame for Sync<C> {
    const TYPE: &'static str = "sync";
}

/// A conversation in `sync`: the fields of `conversation`, and those of [`SyncState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncConversation<E = EntryFrame> {
    #[serde(flatten)]
    pub conversation: Conversation,
    #[serde(flatten)]
    pub state: SyncState<E>,
}

/// What `sync` says about a conversation in addition to the fields of `conversation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncState<E = EntryFrame> {
    /// The newest message that mentions the user; 0: none.
    pub mentioned_seq: Seq,
    /// `None` if there is no message yet.
    pub last_message: Option<LastMessage>,
    pub settings: Settings,
    /// The user is no longer a member.
    #[serde(default, skip_serializing_if = "is_false")]
    pub removed: bool,
    /// The newest ones; `None` if none were requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<E>>,
}

impl<'de> Deserialize<'de> for SyncConversation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not flattened: serde would parse `custom` and the entries' content, which must stay as they were written. So
        // both parts read the same object.
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let conversation = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        let state = serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)?;
        Ok(Self { conversation, state })
    }
}

/// The newest message, for a list of conversations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastMessage {
    pub seq: Seq,
    pub from: UserId,
    /// The first 200 characters; empty if it is deleted, encrypted or has no text.
    pub text: String,
    pub timestamp: Timestamp,
}

/// The user's own settings of a conversation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub muted_until: Option<Timestamp>,
    pub archived: bool,
    pub pinned: bool,
}

/// One of the user's other sessions changed the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationSettings {
    pub conversation_id: ConversationId,
    pub settings: Settings,
}
frame_type!(ConversationSettings = "conversation_settings");
