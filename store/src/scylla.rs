//! The store in ScyllaDB, or anything that speaks its CQL (the tests run on Apache Cassandra): for several nodes.
//!
//! The log is kept by `crate::quorum`, whose operations are in `quorum.rs`. Beside it:
//!
//! | what | where | how it stays right |
//! |---|---|---|
//! | members, message states, title, preview | `projections.rs` | a fold of the log, written behind; readers fold what is not written yet |
//! | reading | `history.rs`, `scan.rs` | up to an end from the owner or the head, as of that end |
//! | cursors | `members.rs` | each value is its own timestamp |
//! | inboxes | `inbox.rs` | each part has its own timestamp; versions under an epoch that a home takes |
//! | users | `users.rs` | a block by compare-and-set, times as their own timestamps |
//! | push | `push.rs` | a place of the queue by compare-and-set, found by hints that are written first |
//! | the schema | `schema.rs` | versioned |
//!
//! What this must not do: trust a clock, or report success that a quorum has not confirmed.

mod client;
mod history;
mod housekeeping;
mod inbox;
mod log;
mod members;
mod projections;
mod push;
mod quorum;
mod scan;
mod schema;
mod statements;
mod terms;
mod users;

use crate::quorum::QuorumLog;
use crate::{Retention, Store, StoreError};
use async_trait::async_trait;
use client::Client;
use inbox::Inboxes;
use quorum::{CqlQuorum, NoteTimes};
use statements::Statements;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use switchboard_clock::Clock;
use switchboard_protocol::StoreId;
use terms::Terms;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Options of a store in ScyllaDB. No `Debug`: it contains a password.
#[derive(Clone)]
pub struct ScyllaOptions {
    /// Contact points, `host:port`: the driver discovers the other servers from them.
    pub nodes: Vec<String>,
    /// The keyspace; created if it is missing.
    pub keyspace: String,
    /// Replicas of each row.
    pub replication_factor: u32,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// Time limit of each statement, including the wait for a permit.
    pub request_timeout_ms: u64,
    /// Time after which an unanswered read is sent to another server as well; 0: never.
    pub speculate_after_ms: u64,
    /// Concurrent statements; more wait.
    pub statements_max: usize,
    /// Waiting statements; more are refused.
    pub statements_waiting_max: usize,
    /// How often projections are written behind.
    pub apply_interval_ms: u64,
    /// How often the ends of heads are raised to what is durable. Must be short against the retention.
    pub raise_interval_ms: u64,
    /// Users whose inbox epochs this process keeps in memory.
    pub inbox_writers_max: usize,
    /// Memory for cached inbox rows: the next change to a cached row needs no read.
    pub inbox_rows_bytes: usize,
    /// How long entries are kept after they are written. Must be much longer than two rounds of raising.
    pub retention: Retention,
}

impl ScyllaOptions {
    /// The default options for a keyspace of the cluster that `address` belongs to.
    pub fn new(address: impl Into<String>, keyspace: impl Into<String>) -> Self {
        Self {
            nodes: vec![address.into()],
            keyspace: keyspace.into(),
            replication_factor: 1,
            credentials: None,
            request_timeout_ms: 3_000,
            speculate_after_ms: 100,
            statements_max: 1_024,
            statements_waiting_max: 65_536,
            apply_interval_ms: 10_000,
            raise_interval_ms: 60_000,
            inbox_writers_max: 100_000,
            inbox_rows_bytes: 32 << 20,
            retention: Retention::default(),
        }
    }
}

/// A store in a ScyllaDB cluster.
pub struct ScyllaStore {
    store_id: StoreId,
    core: Arc<Core>,
    /// The tasks end when the store is dropped.
    housekeeping: Mutex<JoinSet<()>>,
}

/// What all operations share.
struct Core {
    client: Arc<Client>,
    statements: Arc<Statements>,
    quorum: CqlQuorum,
    log: QuorumLog<CqlQuorum>,
    terms: Terms,
    inboxes: Inboxes,
    closing_buckets: push::Buckets,
    /// Held while a dead letter is written.
    burying: tokio::sync::Mutex<()>,
}

/// How long [`Store::check`] waits for an answer.
const CHECK_LIMIT: Duration = Duration::from_secs(1);

impl ScyllaStore {
    /// Connects, and migrates the schema to this version. `opener` is a number that no other process has and that stays
    /// the same across attempts: it identifies who migrates the schema, and the store if it is new.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if no server answers yet, or another node is preparing the schema: retry.
    /// [`StoreError::Setup`] if the cluster or the configuration has to be changed first, unless the cluster is still
    /// forming ([`SetupError::may_pass`](crate::SetupError::may_pass)).
    pub async fn open(options: &ScyllaOptions, clock: Clock, opener: u64) -> Result<Self, StoreError> {
        let client = Arc::new(Box::pin(Client::connect(options, clock.clone())).await?);
        let store_id = Box::pin(schema::prepare(&client, options, &format!("{opener:016x}"))).await;
        let store_id = store_id.map_err(may_pass)?;
        let statements = Arc::new(Box::pin(Statements::prepare(&client)).await.map_err(may_pass)?);
        let notes = Arc::new(NoteTimes::new(clock.clone()));
        let retention = Arc::new(options.retention.clone());
        let quorum = CqlQuorum { client: client.clone(), statements: statements.clone(), notes, retention };
        let core = Arc::new(Core {
            log: QuorumLog::new(quorum.clone()),
            quorum,
            client,
            statements,
            terms: Terms::default(),
            inboxes: Inboxes::new(options.inbox_writers_max, options.inbox_rows_bytes),
            closing_buckets: push::Buckets::new(opener),
            burying: tokio::sync::Mutex::default(),
        });
        let housekeeping = Mutex::new(housekeeping::start(&core, options, &clock));
        Ok(Self { store_id, core, housekeeping })
    }
}

/// Not every server knows a table that another node has created a moment ago, so what is refused while the schema is
/// prepared is retried.
fn may_pass(error: StoreError) -> StoreError {
    match error {
        StoreError::Refused { source } => {
            StoreError::Unavailable { reason: format!("the schema is not ready: {source}"), source: Some(source) }
        }
        other => other,
    }
}

#[async_trait]
impl Store for ScyllaStore {
    fn store_id(&self) -> &str {
        self.store_id.as_str()
    }

    async fn check(&self) -> Result<(), StoreError> {
        let check = self.core.client.row::<(String,)>(&self.core.statements.check, ());
        let found = timeout(CHECK_LIMIT, check).await;
        found.unwrap_or_else(|_| Err(StoreError::unavailable("no answer in time"))).map(drop)
    }

    async fn close(&self) -> Result<(), StoreError> {
        let mut tasks = std::mem::take(&mut *self.housekeeping.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
        // Saves the next owner work, and lets readers see where logs end. Everything is durable without it.
        if let Err(error) = housekeeping::apply_all(&self.core).await {
            tracing::debug!(%error, "projections are left to the next owners");
        }
        self.core.client.close();
        Ok(())
    }
}
