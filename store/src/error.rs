//! The store's errors.

use crate::{Incarnation, TermNumber};
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
    /// The database refuses it, and always will: a row that is too large, a table that is gone, a right that is missing.
    #[error("the store refuses it: {source}")]
    Refused {
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the conversation, and it is not known that it let go or is gone (see
    /// [`Previous`](crate::quorum::Previous)). Nothing was done.
    #[error("{by} has it, in term {}", term.0)]
    Owned {
        /// Who: to be asked to let go, or, if it is gone, to be fenced by the next begin.
        by: Incarnation,
        /// Its term.
        term: TermNumber,
    },
    /// The database is not as this version and its configuration need it. No data in it was changed.
    #[error(transparent)]
    Setup(#[from] SetupError),
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

/// What is wrong with the ScyllaDB cluster, or with what the configuration says of it.
#[derive(Debug, Error)]
pub enum SetupError {
    /// `store.scylla.keyspace` can't be used.
    #[error("store.scylla.keyspace {keyspace:?}: {why}")]
    Keyspace {
        /// Its name.
        keyspace: String,
        /// What was found.
        why: String,
    },
    /// A newer version has changed the schema.
    #[error("store.scylla.keyspace {keyspace:?} has schema {found}, this version knows up to {known}: use a newer one")]
    NewerSchema {
        /// Its name.
        keyspace: String,
        /// The version there.
        found: u32,
        /// The newest one known here.
        known: u32,
    },
    /// The cluster does not let this user in.
    #[error("store.scylla.username, store.scylla.password: not let in: {why}")]
    Credentials {
        /// What it said.
        why: String,
    },
    /// There are not as many nodes as copies are to be kept.
    #[error("store.scylla.replication_factor {wanted}: the cluster has {nodes} nodes")]
    Replication {
        /// As configured.
        wanted: u32,
        /// How many there are.
        nodes: usize,
    },
    /// What is a quorum in one data centre is none in two.
    #[error("store.scylla.nodes: the cluster spans the data centres {}; it must be in one", found.join(", "))]
    DataCenters {
        /// Their names.
        found: Vec<String>,
    },
}

impl SetupError {
    /// Whether a cluster that is still forming says so too: servers that have not joined yet, users that are not made yet.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Credentials { .. } | Self::Replication { .. } => true,
            Self::DataCenters { found } => found.is_empty(),
            Self::Keyspace { .. } | Self::NewerSchema { .. } => false,
        }
    }
}

impl StoreError {
    /// An [`StoreError::Unavailable`] without a source.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }
}
