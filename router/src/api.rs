//! What the gateway asks of the router: commands in, answers out.

use std::sync::Arc;
use switchboard_protocol::{ClientFrame, ConversationId, DeviceId, InstanceId, NodeId, ServerFrame, SessionId, Timestamp, UserId};
use switchboard_store::UserKey;

/// In whose name a command is carried out, and from which session if it came over one.
#[derive(Clone, Debug)]
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

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The frame that answers it.
    pub frame: ServerFrame,
    /// HTTP 201 rather than 200.
    pub created: bool,
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

/// Where a user is best connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// His home.
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
