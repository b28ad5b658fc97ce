//! The reasons for a session's end, and what its client is sent: the `error` frame and the close code (PROTOCOL §7,
//! §8).

use switchboard_protocol::server::{ErrorFrame, Frame};
use switchboard_protocol::{CloseCode, ErrorCode, FrameId, ProtocolError};
use switchboard_router::RETRY_AFTER_MS;
use tungstenite::error::{CapacityError, Error, ProtocolError as WireError};

/// Why a session ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// The client closed, with this code.
    ByClient(CloseCode),
    /// The connection failed, or its framing is invalid.
    Broken(Error),
    /// A binary message, which only `switchboard.v1.msgpack` allows.
    Binary,
    /// Too many frames that were not JSON objects.
    NotAnObject,
    /// No token in time.
    AuthTimeout,
    /// A bad first token, in the frame with this `id` or in the upgrade.
    BadToken(Option<FrameId>, ProtocolError),
    /// The token has expired.
    Expired,
    /// The router refused the session, in answer to the frame with this `id`.
    Refused(Option<FrameId>, ProtocolError),
    /// Nothing was received for too long.
    Silent,
    /// Over its frame rate for too long; the bucket is full again after this many milliseconds.
    RateLimited(u64),
    /// Closed by the router.
    Ordered(CloseCode),
    /// The client did not move to another node in time.
    Moved,
    /// The process shuts down.
    NodeStops,
}

/// What the client is sent when its session ends.
pub(super) struct Farewell {
    pub(super) code: CloseCode,
    pub(super) id: Option<FrameId>,
    /// `None`: only the close frame.
    pub(super) error: Option<ProtocolError>,
}

impl Ending {
    /// The only place that decides what the client is sent.
    pub(super) fn farewell(self) -> Farewell {
        let quietly = |code| Farewell { code, id: None, error: None };
        let saying = |code, error| Farewell { code, id: None, error: Some(error) };
        match self {
            Self::ByClient(code) => quietly(code),
            Self::Broken(error) => quietly(code_of(&error)),
            Self::Binary => quietly(CloseCode::UnsupportedData),
            Self::Moved | Self::NodeStops => quietly(CloseCode::GoingAway),
            Self::NotAnObject => quietly(CloseCode::NotAnObject),
            Self::AuthTimeout => saying(CloseCode::Unauthorized, ProtocolError::unauthorized("no token in time")),
            Self::Expired => saying(CloseCode::Unauthorized, ProtocolError::unauthorized("the token has expired")),
            Self::BadToken(id, error) => Farewell { code: CloseCode::Unauthorized, id, error: Some(error) },
            Self::Refused(id, error) => refused(id, error),
            Self::Silent => ordered(CloseCode::Silent),
            Self::RateLimited(retry_after_ms) => {
                saying(CloseCode::RateLimited, ProtocolError::rate_limited(retry_after_ms))
            }
            Self::Ordered(code) => ordered(code),
        }
    }
}

impl Farewell {
    /// The `error` frame's JSON.
    pub(super) fn error_frame(&self) -> Option<String> {
        self.error.as_ref().map(|error| ErrorFrame::new(None, error).encode(self.id.as_ref()))
    }
}

fn ordered(code: CloseCode) -> Farewell {
    let error = code.error_code().map(|error_code| {
        let message = match error_code {
            ErrorCode::Revoked => "an administrator ended the session",
            ErrorCode::Silent => "nothing was received for too long",
            ErrorCode::Replaced => "a newer socket has the same device_id and instance_id",
            ErrorCode::SlowConsumer => "the client reads too slowly: reconnect, then sync",
            ErrorCode::Overloaded => "the server is overloaded",
            _ => "the session has ended",
        };
        let error = ProtocolError::new(error_code, message);
        match error_code {
            ErrorCode::Overloaded | ErrorCode::SlowConsumer => error.with_retry_after_ms(RETRY_AFTER_MS),
            _ => error,
        }
    });
    Farewell { code, id: None, error }
}

/// The `error` sent before a close frame always has the error code that belongs to the close code (PROTOCOL §8).
fn refused(id: Option<FrameId>, error: ProtocolError) -> Farewell {
    let code = code_of_refusal(error.code());
    let error = match code.error_code().filter(|said| *said != error.code()) {
        Some(said) => ProtocolError::new(said, "can't sign in now: try again later")
            .with_retry_after_ms(error.retry_after_ms().unwrap_or(RETRY_AFTER_MS)),
        None => error,
    };
    Farewell { code, id, error: Some(error) }
}

/// The close codes of framing errors (RFC 6455 §7.4.1).
fn code_of(error: &Error) -> CloseCode {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::FrameTooLarge,
        Error::Utf8(_) => CloseCode::InvalidUtf8,
        Error::Protocol(WireError::ResetWithoutClosingHandshake) => CloseCode::Broken,
        Error::Protocol(_) => CloseCode::ProtocolError,
        _ => CloseCode::Broken,
    }
}

fn code_of_refusal(code: ErrorCode) -> CloseCode {
    match code {
        ErrorCode::Unauthorized => CloseCode::Unauthorized,
        ErrorCode::Revoked => CloseCode::Revoked,
        // Also `unavailable`, while the store does not answer: the client should retry later.
        ErrorCode::Overloaded | ErrorCode::RateLimited | ErrorCode::Unavailable => CloseCode::Overloaded,
        _ => CloseCode::Internal,
    }
}
