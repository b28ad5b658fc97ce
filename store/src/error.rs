//! The store's errors.

use crate::{Incarnation, TermNumber};
use std::path::PathBuf;
use switchboard_protocol::Seq;
use thiserror::Error;

/// Errors of a backend. Their texts are for operators' logs; no client ever sees them.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Not possible now, and may be retried: the disk is full, the server is down, a timeout. Whether the write took
    /// place is open.
    #[error("store unavailable: {reason}")]
    Unavailable {
        /// What happened, for the log.
        reason: String,
        /// The cause.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Stored data can't be read: it is damaged, or written by a newer version.
    #[error("store holds what can't be read: {what}")]
    Unreadable {
        /// Which record and why.
        what: String,
    },
    /// The caller broke the contract: entries that would leave a hole or take another entry's place, or a term that
    /// never began. Nothing of it is stored.
    #[error("not what may be stored here: {what}")]
    Misplaced {
        /// Which write and why.
        what: String,
    },
    /// The database refuses it, and always will: a row that is too large, a missing table, a missing permission.
    #[error("the store refuses it: {source}")]
    Refused {
        /// The database's answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has the conversation, and is not known to have released it or to be gone (see
    /// [`Previous`](crate::quorum::Previous)). Nothing was done.
    #[error("{by} has it, in term {}", term.0)]
    Owned {
        /// The owner: ask it for a release or, if it is gone, have the next begin fence it.
        by: Incarnation,
        /// Its term.
        term: TermNumber,
        /// The end that the head names.
        end: Seq,
    },
    /// The database does not match this version or its configuration. No data in it was changed.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// This incarnation has been fenced: others own its conversations, and it will never own one again. The node goes
    /// on as a new incarnation (DESIGN §3).
    #[error("{incarnation} has been fenced")]
    Fenced {
        /// The fenced life of this node.
        incarnation: Incarnation,
    },
    /// Another process has locked the folder.
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
    /// The folder can't be created or written.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: std::io::Error,
    },
}

/// A problem with the ScyllaDB cluster, or with its configuration.
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
    /// The store's id, which operators change after a restore, is none.
    #[error(
        "store.scylla.keyspace {keyspace:?}: the row store_id of its table store holds {found:?}, which must be {expected}"
    )]
    StoreId {
        /// Its name.
        keyspace: String,
        /// What the row holds.
        found: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// The cluster does not let this user in.
    #[error("store.scylla.username, store.scylla.password: not let in: {why}")]
    Credentials {
        /// The cluster's answer.
        why: String,
    },
    /// The cluster has fewer nodes than the replication factor.
    #[error("store.scylla.replication_factor {wanted}: the cluster has {nodes} nodes")]
    Replication {
        /// The configured number of copies.
        wanted: u32,
        /// The number of nodes.
        nodes: usize,
    },
    /// A quorum in one data centre is not a quorum in two.
    #[error("store.scylla.nodes: the cluster spans the data centres {}; it must be in one", found.join(", "))]
    DataCenters {
        /// Their names.
        found: Vec<String>,
    },
}

impl SetupError {
    /// Whether a cluster that is still forming may report this too: servers that have not joined yet, users that do not
    /// exist yet.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Credentials { .. } | Self::Replication { .. } => true,
            Self::DataCenters { found } => found.is_empty(),
            Self::Keyspace { .. } | Self::NewerSchema { .. } | Self::StoreId { .. } => false,
        }
    }
}

impl StoreError {
    /// An [`StoreError::Unavailable`] without a source.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into(), source: None }
    }
}
