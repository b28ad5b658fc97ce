//! Errors that end the process, and their exit codes (OPERATING, "Exit codes").

use switchboard_config::Mistakes;
use switchboard_router::RedisError;
use switchboard_store::SetupError;

use crate::cli::UsageError;

/// A failure of the whole process. Its message goes to stderr as it is: for configuration, one line a mistake.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Code 2.
    #[error("{0}")]
    Usage(#[from] UsageError),
    /// Code 2.
    #[error("{0}")]
    Configuration(#[from] Mistakes),
    /// Code 2: a cluster that is not as the configuration says. Names the key.
    #[error("{0}")]
    Setup(#[from] SetupError),
    /// Code 2: the same of Redis.
    #[error("{0}")]
    Redis(#[source] RedisError),
    /// Code 3: an address, a file or a lock can't be had. Says what to do.
    #[error("{0}")]
    CantHave(String),
    /// Code 1.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Configuration(_) | Self::Setup(_) | Self::Redis(_) => 2,
            Self::CantHave(_) => 3,
            Self::Other(_) => 1,
        }
    }
}
