//! The common interface of providers: a push and its outcome.

use std::fmt;

use hyper::StatusCode;
use switchboard_protocol::{ConversationId, DeviceId, Seq, TenantId, UserId};
use switchboard_store::Priority;

use crate::client::{ClientError, Response};

/// Characters of a provider's answer that are kept for the trace and the dead letters.
const REASON_CHARS: usize = 200;

/// What one device is to be told.
#[derive(Clone, Debug)]
pub struct Push {
    pub tenant: TenantId,
    pub user: UserId,
    pub device: DeviceId,
    pub conversation: ConversationId,
    /// The newest message that it is about.
    pub up_to_seq: Seq,
    pub priority: Priority,
    /// How long the provider keeps it for a device that it can't reach, seconds.
    pub ttl_s: u32,
    pub body: Body,
}

/// A notification, or its end.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// Shown, in place of an earlier one of the conversation.
    Alert {
        /// The messages that it tells of.
        count: u32,
        /// The sender's name, or the group's.
        title: String,
        /// The newest message's text, unless it is encrypted or the user wants no preview.
        text: Option<String>,
    },
    /// It was read elsewhere: what is shown of the conversation goes, without a sound.
    Withdraw,
}

/// Without what users wrote: it must not get into a log.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert { count, .. } => write!(f, "Alert({count})"),
            Self::Withdraw => f.write_str("Withdraw"),
        }
    }
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider has it.
    Sent,
    /// The device is no longer there: its registration is to be removed.
    Gone,
    /// To be tried again, not before `after_ms` milliseconds if the provider said so.
    Failed { reason: Reason, after_ms: Option<u64> },
    /// To be tried no more: it would be refused again.
    Refused(Reason),
}

/// Why a push failed, for the trace and the dead letters: never what was sent, nor a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// At most 200 characters are kept.
    pub fn new(text: impl Into<String>) -> Self {
        let mut text: String = text.into();
        if let Some((end, _)) = text.char_indices().nth(REASON_CHARS) {
            text.truncate(end);
        }
        text.retain(|character| !character.is_control());
        Self(text)
    }

    /// A status, and what the provider calls the error.
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
    /// What an answer means that the provider's own protocol says nothing special of: what may pass is tried again. So is
    /// what the gateway's own credentials are refused for: it is no fault of this push, and may be mended.
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

/// A provider that can't be made of what was configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("no private key for {algorithm} in PKCS#8, as PEM")]
    Key { algorithm: &'static str },
    #[error("not a service account's key file in JSON")]
    ServiceAccount,
    #[error("not an https URL of a host: {0}")]
    Url(String),
    #[error("{field} can't be a header's value")]
    Header { field: &'static str },
    #[error("the certificates of this machine can't be read")]
    Certificates(#[source] std::io::Error),
    #[error("TLS can't be set up")]
    Tls(#[from] tokio_rustls::rustls::Error),
}
