//! Parses the text of a WebSocket message into a [`ClientFrame`], or into the error that answers it. Never panics.
//!
//! Allocations are bounded by the text, whose size the gateway limits (`frame_bytes`): the scan keeps slices of it, one
//! per known field name; strings, ids and compacted JSON are no longer than their source; and a list stops growing at
//! its limit.

use crate::client::{
    Auth, ChangesGet, ClientFrame, ConversationCreate, ConversationMembers, ConversationRef, ConversationSettingsSet,
    ConversationUpdate, Edit, EntryRef, GroupKind, HistoryGet, HistoryRange, MemberAdd, MemberRemove, MemberRole,
    PresenceSet, PresenceStatus, React, Role, Send, SendTarget, SignalSend, SyncGet, TopicPublish, TopicUnwatch,
    TopicWatch, UserList, UserRef,
};
use crate::content::{Content, Custom, SignalData};
use crate::error::{ErrorCode, ProtocolError};
use crate::fields::{FieldValue, Fields, missing};
use crate::ids::{ClientId, FrameId};
use crate::limits::{
    CHANGES_LIMIT_MAX, CURSOR_BYTES_MAX, GROUP_MEMBERS_MAX, HISTORY_LIMIT_DEFAULT, HISTORY_LIMIT_MAX,
    MEMBERS_LIMIT_MAX, PRESENCE_WATCH_MAX, SYNC_ENTRIES_MAX, SYNC_LIMIT_MAX, TOPIC_RANGE_S_MAX,
};
use crate::server::{ErrorFrame, Frame};
use crate::topic::parse_events;

/// The limits that an operator sets.
#[derive(Debug, Clone, Copy)]
pub struct ParseLimits {
    /// Maximum bytes of `content` as compact JSON.
    pub content_bytes: usize,
}

/// A frame and the `id` for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    pub id: Option<FrameId>,
    pub frame: ClientFrame,
}

/// Why a frame was rejected, and what its `error` contains besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub id: Option<FrameId>,
    /// Only for `send`.
    pub client_id: Option<ClientId>,
    /// The conversation that the frame is about, as far as that can be read: answers keep their order within a
    /// conversation.
    pub about: Option<Box<SendTarget>>,
    pub error: ProtocolError,
    /// The third such frame within a minute closes the socket with 4400 (PROTOCOL §7).
    pub not_an_object: bool,
}

impl Rejection {
    /// The `error` frame.
    pub fn encode(self) -> String {
        ErrorFrame::new(self.client_id, &self.error).encode(self.id.as_ref())
    }
}

/// Every field name of some client frame or HTTP body; others are ignored.
pub(crate) const FIELD_NAMES: &[&str] = &[
    "type",
    "id",
    "conversation_id",
    "seq",
    "client_id",
    "content",
    "to",
    "base_seq",
    "token",
    "device_id",
    "instance_id",
    "kind",
    "title",
    "custom",
    "members",
    "after",
    "before",
    "limit",
    "user_ids",
    "user_id",
    "role",
    "emoji",
    "cursor",
    "topic",
    "events",
    "window",
    "range_s",
    "before_ms",
    "entries_per_conversation",
    "muted_until",
    "archived",
    "pinned",
    "data",
    "status",
    "as",
];

/// Parses one client frame.
///
/// # Errors
/// `bad_request` naming the field that is missing, malformed or out of its limits; `too_large` naming `content`;
/// `unknown_type`.
pub fn parse_client_frame(text: &str, limits: &ParseLimits) -> Result<Incoming, Rejection> {
    let fields = Fields::parse(text, FIELD_NAMES).map_err(|_| Rejection {
        id: None,
        client_id: None,
        about: None,
        error: ProtocolError::new(ErrorCode::BadRequest, "a frame must be one JSON object"),
        not_an_object: true,
    })?;
    let reject = |id, error| {
        let (client_id, about) = (client_id_of_send(&fields), target_of(&fields).map(Box::new));
        Rejection { id, client_id, about, error, not_an_object: false }
    };
    let id = fields.optional::<FrameId>("id").map_err(|error| reject(None, error))?;
    match read_frame(&fields, limits) {
        Ok(frame) => Ok(Incoming { id, frame }),
        Err(error) => Err(reject(id, error)),
    }
}

fn read_frame(fields: &Fields<'_>, limits: &ParseLimits) -> Result<ClientFrame, ProtocolError> {
    let type_name = fields.required::<String>("type")?;
    ClientFrame::read(&type_name, fields, limits).unwrap_or_else(|| Err(ProtocolError::unknown_type()))
}

/// An `error` for a `send` contains its `client_id` (PROTOCOL §3), if that can be read.
fn client_id_of_send(fields: &Fields<'_>) -> Option<ClientId> {
    let type_name = fields.optional::<String>("type").ok()??;
    if type_name == "send" { fields.optional("client_id").ok()? } else { None }
}

fn target_of(fields: &Fields<'_>) -> Option<SendTarget> {
    let conversation = fields.optional("conversation_id").ok().flatten().map(SendTarget::Conversation);
    conversation.or_else(|| fields.optional("to").ok().flatten().map(SendTarget::To))
}

/// A client frame's payload, and how it is read from the fields of a frame or an HTTP request.
pub(crate) trait Payload: Sized {
    fn read(fields: &Fields<'_>, limits: &ParseLimits) -> Result<Self, ProtocolError>;
}

impl Payload for Auth {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            token: fields.required("token")?,
            device_id: fields.optional("device_id")?,
            instance_id: fields.optional("instance_id")?,
        })
    }
}

impl Payload for Send {
    fn read(fields: &Fields<'_>, limits: &ParseLimits) -> Result<Self, ProtocolError> {
        let target = match (fields.optional("conversation_id")?, fields.optional("to")?) {
            (Some(conversation_id), None) => SendTarget::Conversation(conversation_id),
            (None, Some(user_id)) => SendTarget::To(user_id),
            (Some(_), Some(_)) => {
                return Err(ProtocolError::bad_request("to", "must not come together with conversation_id"));
            }
            (None, None) => return Err(ProtocolError::bad_request("conversation_id", "is required, or else to")),
        };
        Ok(Self {
            target,
            client_id: fields.required("client_id")?,
            content: content(fields, limits)?,
            base_seq: fields.optional("base_seq")?,
        })
    }
}

fn content(fields: &Fields<'_>, limits: &ParseLimits) -> Result<Content, ProtocolError> {
    let raw = fields.json("content").ok_or_else(|| missing("content"))?;
    Content::from_raw(raw, limits.content_bytes)
}

fn custom(fields: &Fields<'_>) -> Result<Option<Custom>, ProtocolError> {
    if !fields.has("custom") {
        return Ok(None);
    }
    fields.json("custom").map(Custom::from_raw).transpose()
}

impl Payload for ConversationCreate {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            kind: fields.required("kind")?,
            client_id: fields.required("client_id")?,
            title: fields.optional("title")?,
            custom: custom(fields)?,
            members: fields.user_ids("members", 0, GROUP_MEMBERS_MAX)?,
        })
    }
}

impl Payload for ConversationUpdate {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            title: fields.optional("title")?,
            custom: custom(fields)?,
        })
    }
}

impl Payload for ConversationMembers {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            after: fields.optional("after")?,
            limit: fields.number("limit", MEMBERS_LIMIT_MAX, 1, MEMBERS_LIMIT_MAX)?,
        })
    }
}

impl Payload for MemberAdd {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            user_ids: fields.user_ids("user_ids", 1, GROUP_MEMBERS_MAX)?,
            role: fields.optional("role")?.unwrap_or(Role::Member),
        })
    }
}

impl Payload for MemberRemove {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            user_ids: fields.user_ids("user_ids", 1, GROUP_MEMBERS_MAX)?,
        })
    }
}

impl Payload for MemberRole {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            user_id: fields.required("user_id")?,
            role: fields.required("role")?,
        })
    }
}

impl Payload for Edit {
    fn read(fields: &Fields<'_>, limits: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            seq: fields.required("seq")?,
            content: content(fields, limits)?,
        })
    }
}

impl Payload for React {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            seq: fields.required("seq")?,
            emoji: fields.required("emoji")?,
        })
    }
}

impl Payload for HistoryGet {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        let range = match (fields.optional("before")?, fields.optional("after")?) {
            (None, None) => HistoryRange::Newest,
            (Some(before), None) => HistoryRange::Before(before),
            (None, Some(after)) => HistoryRange::After(after),
            (Some(_), Some(_)) => {
                return Err(ProtocolError::bad_request("after", "must not come together with before"));
            }
        };
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            range,
            limit: fields.number("limit", HISTORY_LIMIT_DEFAULT, 1, HISTORY_LIMIT_MAX)?,
        })
    }
}

impl Payload for ChangesGet {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            after: fields.required("after")?,
            limit: fields.number("limit", CHANGES_LIMIT_MAX, 1, CHANGES_LIMIT_MAX)?,
        })
    }
}

impl Payload for SyncGet {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        let cursor = fields.optional::<String>("cursor")?;
        if cursor.as_ref().is_some_and(|cursor| cursor.len() > CURSOR_BYTES_MAX) {
            return Err(ProtocolError::bad_request("cursor", "is not a cursor that sync gave"));
        }
        Ok(Self {
            cursor,
            entries_per_conversation: fields.number("entries_per_conversation", 0, 0, SYNC_ENTRIES_MAX)?,
            limit: fields.number("limit", SYNC_LIMIT_MAX, 1, SYNC_LIMIT_MAX)?,
        })
    }
}

impl Payload for ConversationSettingsSet {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        let muted_until =
            if fields.is_null("muted_until") { Some(None) } else { fields.optional("muted_until")?.map(Some) };
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            muted_until,
            archived: fields.optional("archived")?,
            pinned: fields.optional("pinned")?,
        })
    }
}

impl Payload for SignalSend {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        let data = fields.json("data").ok_or_else(|| missing("data"))?;
        Ok(Self {
            conversation_id: fields.required("conversation_id")?,
            kind: fields.required("kind")?,
            data: SignalData::from_raw(data)?,
        })
    }
}

impl Payload for PresenceSet {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self { status: fields.required("status")? })
    }
}

impl Payload for ConversationRef {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self { conversation_id: fields.required("conversation_id")? })
    }
}

impl Payload for EntryRef {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self { conversation_id: fields.required("conversation_id")?, seq: fields.required("seq")? })
    }
}

impl Payload for UserRef {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self { user_id: fields.required("user_id")? })
    }
}

impl Payload for UserList {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self { user_ids: fields.user_ids("user_ids", 0, PRESENCE_WATCH_MAX)? })
    }
}

impl Payload for TopicPublish {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        let topic = fields.required("topic")?;
        let events = fields.json("events").filter(|_| fields.has("events")).ok_or_else(|| missing("events"))?;
        Ok(Self { topic, events: parse_events(events)? })
    }
}

impl Payload for TopicWatch {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self {
            topic: fields.required("topic")?,
            window: fields.required("window")?,
            range_s: fields.number("range_s", TOPIC_RANGE_S_MAX, 1, TOPIC_RANGE_S_MAX)?,
            before_ms: fields.optional("before_ms")?,
        })
    }
}

impl Payload for TopicUnwatch {
    fn read(fields: &Fields<'_>, _: &ParseLimits) -> Result<Self, ProtocolError> {
        Ok(Self { topic: fields.required("topic")?, window: fields.required("window")? })
    }
}

impl FieldValue for Role {
    const EXPECTED: &'static str = "owner, moderator or member";
}

impl FieldValue for PresenceStatus {
    const EXPECTED: &'static str = "online, away, busy or invisible";
}

impl FieldValue for GroupKind {
    const EXPECTED: &'static str = "group";
}
