//! How a store fails.

use crate::Incarnation;
use std::path::PathBuf;
use thiserror::Error;

/// Errors of a backend. Their texts are for operators' logs; no client ever sees one.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It can't be done now and may be repeated: the disk is full, the server is away, the time is up. Whether the write
    /// took place is open.
    #[error("store unavailable: {reason}")]
    Unavailable {
        /// What was seen, for the log.
        reason: String,
        /// What it came from.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Something stored can't be read back: damage, or written by a newer version.
    #[error("store holds what can't be read: {what}")]
    Unreadable {
        /// Which record and why.
        what: String,
    },
    /// The caller broke the contract: entries that would leave a hole or take another entry's place, a term that never
    /// began. Nothing of it is stored.
    #[error("not what may be stored here: {what}")]
    Misplaced {
        /// Which write and why.
        what: String,
    },
    /// This incarnation has been fenced: others own its conversations, and it will never own one again. The node goes on
    /// as a new incarnation (DESIGN §3).
    #[error("{incarnation} has been fenced")]
    Fenced {
        /// Which life of this node.
        incarnation: Incarnation,
    },
    /// Another process has the folder.
    #[error("{} is in use by another process (is a switchboard running there?)", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds something else, or a store that is damaged or too new. No data in it was changed.
    #[error("{}: {why}", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What was found and what to do.
        why: String,
    },
    /// The folder can't be made or written.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl StoreError {
    /// An [`StoreError::Unavailable`] without a source.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }
}
