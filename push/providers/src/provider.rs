//! The common interface of providers: a push and its outcome.

use std::fmt;

use hyper::StatusCode;
use switchboard_protocol::{ConversationId, DeviceId, Seq, TenantId, UserId};
use switchboard_store::Priority;

use crate::client::{ClientError, Response};

/// Maximum length of a reason, in characters.
const REASON_CHARS: usize = 200;

/// A push to one device.
#[derive(Clone, Debug)]
pub struct Push {
    pub tenant: TenantId,
    pub user: UserId,
    pub device: DeviceId,
    pub conversation: ConversationId,
    /// The newest message that it covers.
    pub up_to_seq: Seq,
    pub priority: Priority,
    /// How long the provider keeps it for an unreachable device, in seconds.
    pub ttl_s: u32,
    pub body: Body,
}

/// A notification, or its withdrawal.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// A notification, which replaces an earlier one of the conversation.
    Alert {
        /// The number of messages that it covers.
        count: u32,
        /// The sender's name, or the group's.
        title: String,
        /// The newest message's text, unless it is encrypted or the user wants no preview.
        text: Option<String>,
    },
    /// The messages were read elsewhere: silently removes the conversation's notification.
    Withdraw,
}

/// Without user content, which must not appear in logs.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert { count, .. } => write!(f, "Alert({count})"),
            Self::Withdraw => f.write_str("Withdraw"),
        }
    }
}

/// The result of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has accepted it.
    Sent,
    /// The device no longer exists: its registration should be removed.
    Gone,
    /// Should be retried; not before `after_ms` milliseconds, if the provider requested that.
    Failed { reason: Reason, after_ms: Option<u64> },
    /// Should not be retried: it would be refused again.
    Refused(Reason),
}

/// Why a push failed, for the trace and the dead letters. Contains no content of the push and no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// A reason, truncated to 200 characters.
    pub fn new(text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        if let Some((end, _)) = text.char_indices().nth(REASON_CHARS) {
            text.truncate(end);
        }
        text.retain(|character| !character.is_control());
        Self(text)
    }

    /// A status, and the provider's name of the error.
    pub(crate) fn status(status: StatusCode, named: &str) -> Self {
        if named.is_empty() { Self::new(status.as_str()) } else { Self::new(format!("{} {named}", status.as_str())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Outcome {
    /// The outcome of an answer without a special meaning in the provider's protocol. Errors that may be temporary are
    /// retried. So are refusals of the gateway's credentials: the push is not the cause, and the credentials may be
    /// fixed.
    pub(crate) fn of(response: &Response, named: &str) -> Self {
        let reason = Reason::status(response.status, named);
        match response.status {
            status if status.is_success() => Self::Sent,
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN => Self::Failed { reason, after_ms: response.retry_after_ms },
            status if status.is_server_error() => Self::Failed { reason, after_ms: response.retry_after_ms },
            _ => Self::Refused(reason),
        }
    }
}

impl From<ClientError> for Outcome {
    fn from(error: ClientError) -> Self {
        let reason = Reason::new(error.to_string());
        match error {
            ClientError::Forbidden => Self::Refused(reason),
            ClientError::TimedOut | ClientError::Unreachable(_) => Self::Failed { reason, after_ms: None },
        }
    }
}

/// A provider's configuration is invalid.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("not a private key for {algorithm} in PKCS#8 as PEM")]
    Key { algorithm: &'static str },
    #[error("not a service account's key file in JSON")]
    ServiceAccount,
    #[error("not an https URL, or its address is not allowed: {0}")]
    Url(String),
    #[error("{field} is not a valid header value")]
    Header { field: &'static str },
    #[error("can't read the certificates of this machine")]
    Certificates(#[source] std::io::Error),
    #[error("can't set up TLS")]
    Tls(#[from] tokio_rustls::rustls::Error),
}
