//! HTTP requests and answers (PROTOCOL §6). A request is the equivalent client frame: the route determines its type,
//! and the path, the query and the body hold its fields, with the same checks. An answer's `data` is the payload of the
//! server frame that answers it. Routes, methods and headers are the gateway's.

use serde::{Deserialize, Serialize};

use crate::client::ClientFrame;
use crate::error::{ErrorCode, FieldError, ProtocolError};
use crate::fields::Fields;
use crate::ids::{ConversationId, DeviceId, InstanceId, NodeId, Seq, SessionId, UserId};
use crate::parse::{FIELD_NAMES, ParseLimits};
use crate::timestamp::Timestamp;

/// A write, and the user on whose behalf it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub frame: ClientFrame,
    /// `as`: only with the scope `server`, which the gateway checks.
    pub on_behalf_of: Option<UserId>,
}

/// Reads a write: the frame with this `type`, with its fields from the body (one JSON object, or nothing) and from the
/// path, which takes precedence. The path's values are percent-decoded and named like the frame's fields.
///
/// # Errors
/// As [`crate::parse_client_frame`].
pub fn parse_write(
    frame_type: &str,
    path: &[(&str, &str)],
    body: &[u8],
    limits: &ParseLimits,
) -> Result<Write, ProtocolError> {
    let body = std::str::from_utf8(body).map_err(|_| not_an_object())?;
    let mut fields = if body.is_empty() {
        Fields::default()
    } else {
        Fields::parse(body, FIELD_NAMES).map_err(|_| not_an_object())?
    };
    set_all(&mut fields, path);
    let on_behalf_of = fields.optional("as")?;
    Ok(Write { frame: read_frame(frame_type, &fields, limits)?, on_behalf_of })
}

/// Reads a query: the frame with this `type`, with its fields from the query string and from the path, which takes
/// precedence; both percent-decoded. Of a repeated parameter the last one counts; unknown ones are ignored.
///
/// # Errors
/// As [`crate::parse_client_frame`].
pub fn parse_read(
    frame_type: &str,
    path: &[(&str, &str)],
    query: &[(&str, &str)],
    limits: &ParseLimits,
) -> Result<ClientFrame, ProtocolError> {
    let mut fields = Fields::default();
    set_all(&mut fields, query);
    set_all(&mut fields, path);
    read_frame(frame_type, &fields, limits)
}

fn set_all<'a>(fields: &mut Fields<'a>, values: &[(&str, &'a str)]) {
    for (name, value) in values {
        if let Some(name) = FIELD_NAMES.iter().copied().find(|known| known == name) {
            fields.set_text(name, value);
        }
    }
}

fn read_frame(frame_type: &str, fields: &Fields<'_>, limits: &ParseLimits) -> Result<ClientFrame, ProtocolError> {
    ClientFrame::read(frame_type, fields, limits).unwrap_or_else(|| Err(ProtocolError::unknown_type()))
}

fn not_an_object() -> ProtocolError {
    ProtocolError::new(ErrorCode::BadRequest, "the body must be one JSON object")
}

/// The body of a successful answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success<T, M = ()> {
    pub data: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta: Option<M>,
}

/// The body `{"data":…}`.
pub fn data_body<T: Serialize>(data: &T) -> String {
    serde_json::to_string(&Success::<&T> { data, meta: None }).expect("payloads serialise")
}

/// The body of an error. `retry_after_ms` becomes `Retry-After`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub error: FailureError,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureError {
    pub code: ErrorCode,
    pub message: String,
    pub details: Vec<FieldError>,
}

/// The body `{"error":…}`.
pub fn error_body(error: &ProtocolError) -> String {
    let error =
        FailureError { code: error.code(), message: error.message().to_owned(), details: error.details().to_vec() };
    serde_json::to_string(&Failure { error }).expect("errors serialise")
}

/// `GET /v1/connect`: the node that the ring gives this user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    pub url: String,
    pub node_id: NodeId,
    pub ttl_s: u32,
}

/// `GET /v1/blocks`: whom the user has blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    pub user_ids: Vec<UserId>,
}

/// `GET /v1/admin/users/{id}/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    pub sessions: Vec<SessionInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    pub session_id: SessionId,
    pub device_id: DeviceId,
    pub instance_id: InstanceId,
    pub node_id: NodeId,
    pub connected_at: Timestamp,
}

/// `GET /v1/admin/push/dead-letters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetters {
    /// In the order in which they died.
    pub dead_letters: Vec<DeadLetter>,
    /// Whether there are others after the last one.
    pub more: bool,
}

/// A notification that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// A number in decimal, as `after` and `retry` take it.
    pub id: String,
    pub user_id: UserId,
    pub conversation_id: ConversationId,
    pub provider: String,
    /// The newest message that it is about.
    pub up_to_seq: Seq,
    /// The messages that it tells of.
    pub count: u32,
    pub attempts: u32,
    /// Why it failed last.
    pub reason: String,
    pub died_at: Timestamp,
}
