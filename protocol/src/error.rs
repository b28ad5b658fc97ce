//! Error and close codes (PROTOCOL §7), and the error that rejects a request. These errors are shown to clients, so
//! none contains the text of an internal error.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Why a request was refused or a socket is about to be closed (PROTOCOL §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    BadRequest,
    UnknownType,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    Blocked,
    TooLarge,
    RateLimited,
    OutcomeUnknown,
    Revoked,
    Silent,
    Replaced,
    SlowConsumer,
    Overloaded,
    Unavailable,
    Internal,
}

impl ErrorCode {
    pub const ALL: [ErrorCode; 17] = [
        Self::BadRequest,
        Self::UnknownType,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::Blocked,
        Self::TooLarge,
        Self::RateLimited,
        Self::OutcomeUnknown,
        Self::Revoked,
        Self::Silent,
        Self::Replaced,
        Self::SlowConsumer,
        Self::Overloaded,
        Self::Unavailable,
        Self::Internal,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownType => "unknown_type",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Blocked => "blocked",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Revoked => "revoked",
            Self::Silent => "silent",
            Self::Replaced => "replaced",
            Self::SlowConsumer => "slow_consumer",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status. PROTOCOL §7 gives none to `unknown_type`, `revoked`, `silent`, `replaced` and `slow_consumer`,
    /// which concern sockets; theirs are those of the equivalent HTTP refusals.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::UnknownType => 400,
            Self::Unauthorized | Self::Revoked => 401,
            Self::Forbidden | Self::Blocked => 403,
            Self::NotFound => 404,
            Self::Silent => 408,
            Self::Conflict | Self::OutcomeUnknown | Self::Replaced => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::SlowConsumer | Self::Overloaded | Self::Unavailable => 503,
        }
    }
}

/// What a client does after a close (PROTOCOL §7, "reconnect?").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    AsItLikes,
    Yes,
    WithBackoff,
    WithNewToken,
    /// After the `retry_after_ms` of the error before the close.
    AfterRetry,
    ThenSync,
    No,
}

/// The close codes that the server uses, and 1006, which is never sent: clients use it for a broken connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum CloseCode {
    Normal = 1000,
    GoingAway = 1001,
    ProtocolError = 1002,
    UnsupportedData = 1003,
    Broken = 1006,
    InvalidUtf8 = 1007,
    FrameTooLarge = 1009,
    Internal = 1011,
    NotAnObject = 4400,
    Unauthorized = 4401,
    Revoked = 4403,
    Silent = 4408,
    Replaced = 4409,
    RateLimited = 4429,
    Overloaded = 4503,
    SlowConsumer = 4508,
}

impl CloseCode {
    pub const ALL: [CloseCode; 16] = [
        Self::Normal,
        Self::GoingAway,
        Self::ProtocolError,
        Self::UnsupportedData,
        Self::Broken,
        Self::InvalidUtf8,
        Self::FrameTooLarge,
        Self::Internal,
        Self::NotAnObject,
        Self::Unauthorized,
        Self::Revoked,
        Self::Silent,
        Self::Replaced,
        Self::RateLimited,
        Self::Overloaded,
        Self::SlowConsumer,
    ];

    pub const fn as_u16(self) -> u16 {
        self as u16
    }

    pub fn from_u16(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_u16() == code)
    }

    pub const fn reconnect(self) -> Reconnect {
        match self {
            Self::Normal => Reconnect::AsItLikes,
            Self::GoingAway | Self::Silent => Reconnect::Yes,
            Self::Broken | Self::Internal | Self::Overloaded => Reconnect::WithBackoff,
            Self::Unauthorized => Reconnect::WithNewToken,
            Self::RateLimited => Reconnect::AfterRetry,
            Self::SlowConsumer => Reconnect::ThenSync,
            Self::ProtocolError
            | Self::UnsupportedData
            | Self::InvalidUtf8
            | Self::FrameTooLarge
            | Self::NotAnObject
            | Self::Revoked
            | Self::Replaced => Reconnect::No,
        }
    }

    /// The code of the `error` frame that precedes a close with a 44xx or 45xx code (PROTOCOL §2, §8).
    pub const fn error_code(self) -> Option<ErrorCode> {
        match self {
            Self::NotAnObject => Some(ErrorCode::BadRequest),
            Self::Unauthorized => Some(ErrorCode::Unauthorized),
            Self::Revoked => Some(ErrorCode::Revoked),
            Self::Silent => Some(ErrorCode::Silent),
            Self::Replaced => Some(ErrorCode::Replaced),
            Self::RateLimited => Some(ErrorCode::RateLimited),
            Self::Overloaded => Some(ErrorCode::Overloaded),
            Self::SlowConsumer => Some(ErrorCode::SlowConsumer),
            _ => None,
        }
    }
}

/// A rejected field: its path (`limit`, `content.mentions`, `user_ids[3]`) and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    pub field: Cow<'static, str>,
    pub message: Cow<'static, str>,
}

/// An error as the client gets it, over a socket or HTTP. 40 bytes: it is the error of many results.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ProtocolError {
    code: ErrorCode,
    message: Cow<'static, str>,
    rest: Option<Box<Rest>>,
}

/// The fields that few errors have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rest {
    retry_after_ms: Option<u64>,
    details: Vec<FieldError>,
}

impl ProtocolError {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), rest: None }
    }

    /// A malformed field, or one out of its limits.
    pub fn bad_request(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, "a field is malformed or out of its limits").with_detail(field, message)
    }

    pub fn too_large(field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::TooLarge, "a field is too large").with_detail(field, message)
    }

    pub fn unknown_type() -> Self {
        Self::new(ErrorCode::UnknownType, "there is no frame of this type")
    }

    pub fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unauthorized, message)
    }

    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    /// Also used for what the user must not know to exist, so it says nothing about what was looked for.
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "there is no such thing, or you may not see it")
    }

    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Conflict, message)
    }

    pub fn blocked() -> Self {
        Self::new(ErrorCode::Blocked, "one of the two users has blocked the other")
    }

    pub fn rate_limited(retry_after_ms: u64) -> Self {
        Self::new(ErrorCode::RateLimited, "too many requests").with_retry_after_ms(retry_after_ms)
    }

    pub fn outcome_unknown() -> Self {
        Self::new(ErrorCode::OutcomeUnknown, "too old to find out whether it was stored")
    }

    pub fn overloaded(retry_after_ms: u64) -> Self {
        Self::new(ErrorCode::Overloaded, "the server has no room").with_retry_after_ms(retry_after_ms)
    }

    /// A dependency is down; the client repeats the request with the same `client_id`.
    pub fn unavailable(retry_after_ms: u64) -> Self {
        Self::new(ErrorCode::Unavailable, "temporarily unavailable: repeat with the same client_id")
            .with_retry_after_ms(retry_after_ms)
    }

    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "internal error")
    }

    #[must_use]
    pub fn with_retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.rest.get_or_insert_default().retry_after_ms = Some(retry_after_ms);
        self
    }

    #[must_use]
    pub fn with_detail(mut self, field: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        let detail = FieldError { field: field.into(), message: message.into() };
        self.rest.get_or_insert_default().details.push(detail);
        self
    }

    pub fn code(&self) -> ErrorCode {
        self.code
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn retry_after_ms(&self) -> Option<u64> {
        self.rest.as_ref()?.retry_after_ms
    }

    pub fn details(&self) -> &[FieldError] {
        self.rest.as_ref().map_or(&[], |rest| &rest.details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_as_their_names() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.as_str()));
        }
    }

    /// The table of PROTOCOL §7, word for word.
    #[test]
    fn codes_have_the_status_of_the_contract() {
        let table = [
            ("bad_request", 400),
            ("unauthorized", 401),
            ("forbidden", 403),
            ("not_found", 404),
            ("conflict", 409),
            ("blocked", 403),
            ("too_large", 413),
            ("rate_limited", 429),
            ("outcome_unknown", 409),
            ("overloaded", 503),
            ("unavailable", 503),
            ("internal", 500),
        ];
        for (name, status) in table {
            let code: ErrorCode = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            assert_eq!(code.http_status(), status, "{name}");
        }
    }

    #[test]
    fn close_codes_are_known_by_their_number() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from_u16(code.as_u16()), Some(code));
            // PROTOCOL §2: an error before each close with a 44xx or 45xx code, and only those.
            assert_eq!(code.error_code().is_some(), code.as_u16() >= 4400, "{code:?}");
        }
        assert_eq!(CloseCode::from_u16(1005), None);
    }

    #[test]
    fn an_error_is_small_and_says_what_is_wrong() {
        assert_eq!(size_of::<ProtocolError>(), 40);
        let error = ProtocolError::rate_limited(250).with_detail("limit", "is required");
        assert_eq!(error.to_string(), "rate_limited: too many requests");
        assert_eq!((error.retry_after_ms(), error.details().len()), (Some(250), 1));
        assert_eq!((ProtocolError::internal().retry_after_ms(), ProtocolError::internal().details()), (None, &[][..]));
    }
}
