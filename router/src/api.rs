//! The types of the router's interface to the gateway: commands in, answers out.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use switchboard_protocol::server::{self, Frame as _};
use switchboard_protocol::{
    ClientFrame, ConversationId, DeviceId, FrameId, InstanceId, NodeId, Seq, ServerFrame, SessionId, Timestamp, UserId,
};
use switchboard_store::UserKey;

/// Who a command is carried out for, and from which session if it came over one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Actor {
    /// The user.
    pub user: UserKey,
    /// The acting session, which gets no copy of what it did. `None` for HTTP.
    pub session: Option<SessionId>,
    /// Whether somebody waits for the answer (the frame has an `id`). Otherwise a `read` or `delivered` is answered
    /// before it is durable, and made durable within a second (PROTOCOL §3, receipts).
    pub awaited: bool,
}

/// A command: a client's frame, unchanged. The gateway handles `auth` and `ping` itself; here they are refused.
pub type Command = ClientFrame;

/// The frame that answers a command.
#[derive(Clone, Debug)]
pub enum Answer {
    /// An answer that is not a list of stored items.
    Frame(ServerFrame),
    /// `conversation` or `sent` for what this command has created: HTTP 201 rather than 200.
    Created(ServerFrame),
    /// `history`, its messages as JSON.
    History(server::History<Box<RawValue>>),
    /// `changes`, its entries as they were stored.
    Changes(server::Changes<Box<RawValue>>),
    /// `sync`, its conversations as JSON.
    Sync(server::Sync<Box<RawValue>>),
}

impl Answer {
    /// `ok` without fields.
    pub fn done() -> Self {
        Self::Frame(ServerFrame::Ok(server::OkFrame::default()))
    }

    /// `ok` with the `seq` of the entry that was made, or of the last one if nothing changed.
    pub fn ok(seq: Seq) -> Self {
        Self::Frame(ServerFrame::Ok(server::OkFrame { seq: Some(seq), ..server::OkFrame::default() }))
    }

    /// The entry that was made, or that had been made before by the same command.
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Self::Created(ServerFrame::Sent(sent)) | Self::Frame(ServerFrame::Sent(sent)) => Some(sent.seq),
            Self::Frame(ServerFrame::Ok(ok)) => ok.seq,
            _ => None,
        }
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

/// A session that connects.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its user.
    pub user: UserKey,
    /// Its device.
    pub device: DeviceId,
    /// The instance of the device.
    pub instance: InstanceId,
    /// The token's `iat`, for revocation.
    pub issued_at: Option<Timestamp>,
    /// The user's name in notifications to others. `None`: the last one stays.
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
    /// Its node.
    pub node_id: NodeId,
    /// When it connected.
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
    /// The blocked user.
    pub user_id: UserId,
    /// When the block was set.
    pub blocked_at: Timestamp,
}

/// The answers to one socket keep the order of their frames among those with the same key.
pub type OrderKey = Option<ConversationId>;
