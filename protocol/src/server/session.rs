//! Frames about the session itself (PROTOCOL §2).

use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, NodeId, SessionId, StoreId, TenantId, UserId};
use crate::server::frame_type;
use crate::timestamp::Timestamp;

/// The session is authenticated: the first frame, or the answer to the first `auth`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub user_id: UserId,
    pub tenant: TenantId,
    pub device_id: DeviceId,
    pub session_id: SessionId,
    pub node_id: NodeId,
    pub store_id: StoreId,
    pub heartbeat_ms: u64,
    pub expires_at: Timestamp,
    pub reconnect: ReconnectRange,
    pub limits: SessionLimits,
    pub server_time: Timestamp,
}
frame_type!(Ready = "ready");

/// After its n-th failure a client waits a random time up to min(`max_ms`, `min_ms`·2ⁿ).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconnectRange {
    pub min_ms: u64,
    pub max_ms: u64,
}

/// The operator's limits for each session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    pub frame_bytes: usize,
    pub content_bytes: usize,
    pub frames_per_s: u32,
}

/// The session is renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authenticated {
    pub expires_at: Timestamp,
}
frame_type!(Authenticated = "authenticated");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {}
frame_type!(Pong = "pong");

/// Asks the client to move elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconnect {
    pub after_ms: u64,
    /// `None` if there is no other node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}
frame_type!(Reconnect = "reconnect");

/// Events may have been lost: the client must `sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resync {}
frame_type!(Resync = "resync");
