//! The types of the router's interface to the gateway: commands in, answers out.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use switchboard_protocol::server::{self, Frame as _};
use switchboard_protocol::{
    ClientFrame, ConversationId, DeviceId, FrameId, InstanceId, NodeId, Seq, ServerFrame, SessionId, Timestamp, UserId,
};
use switchboard_store::UserKey;

/// In whose name a command is carried out, and from which session if it came over one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Actor {
    /// The user.
    pub user: UserKey,
    /// The acting session: gets no copy of what it did. `None` for HTTP.
    pub session: Option<SessionId>,
    /// Whether an answer is waited for (the frame has an `id`). A `read` or `delivered` without one is answered before it
    /// is durable, and made durable within a second (PROTOCOL §3, receipts).
    pub awaited: bool,
}

/// What a user asks for. A client's frame is a command as it is; `auth` and `ping` are the gateway's own and are refused.
pub type Command = ClientFrame;

/// What a command came to: the frame that answers it.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Any answer that is not a list of stored things.
    Frame(ServerFrame),
    /// `conversation` or `sent` for what has been made by this very command: HTTP 201 rather than 200.
    Created(ServerFrame),
    /// `history`, its messages as JSON.
    History(server::History<Box<RawValue>>),
    /// `changes`, its entries as they were stored.
    Changes(server::Changes<Box<RawValue>>),
    /// `sync`, its conversations as JSON.
    Sync(server::Sync<Box<RawValue>>),
}

impl Answer {
    /// The bare `ok`.
    pub fn done() -> Self {
        Self::Frame(ServerFrame::Ok(server::OkFrame::default()))
    }

    /// `ok` with the entry that was made, or `last_seq` where nothing changed.
    pub fn ok(seq: Seq) -> Self {
        Self::Frame(ServerFrame::Ok(server::OkFrame { seq: Some(seq), ..server::OkFrame::default() }))
    }

    /// The frame's `type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Frame(frame) | Self::Created(frame) => frame.type_name(),
            Self::History(_) => "history",
            Self::Changes(_) => "changes",
            Self::Sync(_) => "sync",
        }
    }

    /// The frame's JSON, with the `id` of the frame that it answers.
    pub fn encode(&self, id: Option<&FrameId>) -> String {
        match self {
            Self::Frame(frame) | Self::Created(frame) => frame.encode(id),
            Self::History(history) => history.encode(id),
            Self::Changes(changes) => changes.encode(id),
            Self::Sync(sync) => sync.encode(id),
        }
    }
}

/// A session that wants in.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Whose.
    pub user: UserKey,
    /// His device.
    pub device: DeviceId,
    /// Which of its instances.
    pub instance: InstanceId,
    /// The token's `iat`, for revocation.
    pub issued_at: Option<Timestamp>,
    /// What others are shown of him in a notification. `None`: what was said last stays.
    pub name: Option<String>,
}

/// A session as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub session_id: SessionId,
    /// Its device.
    pub device_id: DeviceId,
    /// Its instance.
    pub instance_id: InstanceId,
    /// Where it is.
    pub node_id: NodeId,
    /// Since when.
    pub connected_at: Timestamp,
}

/// The node at which a user is best connected: their home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeNode {
    /// Its id.
    pub node_id: NodeId,
    /// Its `node.advertise_url`.
    pub url: Arc<str>,
}

/// A block as `GET /v1/blocks` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Who is blocked.
    pub user_id: UserId,
    /// Since when.
    pub blocked_at: Timestamp,
}

/// The frames of one socket are answered in the order they came as far as they concern the same one of these.
pub type OrderKey = Option<ConversationId>;
