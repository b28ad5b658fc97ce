//! The driver's session, and what every statement has: a permit to run, a time limit, metrics, and an error that says
//! whether it may be repeated.
//!
//! The driver retries on another server what can safely be repeated: reads, and writes that name their timestamp; at
//! most once per server, and within the statement's time limit. It does not retry a compare-and-set, because it can't
//! know whether that was applied: the caller gets `Unavailable` and decides.

use super::ScyllaOptions;
use crate::{SetupError, StoreError};
use metrics::{Counter, Histogram, counter, histogram};
use scylla::client::execution_profile::{ExecutionProfile, ExecutionProfileHandle};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::errors::{
    BadQuery, ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};
use scylla::policies::retry::{DefaultRetryPolicy, FallthroughRetryPolicy, RetryPolicy};
use scylla::policies::speculative_execution::{SimpleSpeculativeExecutionPolicy, SpeculativeExecutionPolicy};
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::batch::BatchValues;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::{CqlValue, Row};
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use switchboard_clock::Clock;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// The interval of the driver's keepalive on idle connections, and the shortest timeout.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Page size for reads of whole partitions.
const PAGE_ROWS: i32 = 1_000;

/// When a connection that does not answer counts as dead: not before a slow server may have answered, and early enough
/// that what was sent on it can be retried on another server within the time limit of a statement.
fn keepalive_timeout(time_limit: Duration) -> Duration {
    KEEPALIVE.max(time_limit * 2 / 3)
}

/// A prepared statement and its metrics.
pub(super) struct Statement {
    pub(super) prepared: PreparedStatement,
    figures: Figures,
}

/// The metrics of one kind of statement, registered once.
pub(super) struct Figures {
    duration_s: Histogram,
    statements: Counter,
}

impl Figures {
    pub(super) fn of(op: &'static str) -> Self {
        Self {
            duration_s: histogram!("switchboard_store_operation_duration_seconds", "op" => op),
            statements: counter!("switchboard_store_statements_total", "op" => op),
        }
    }
}

pub(super) struct Client {
    pub(super) session: Session,
    pub(super) keyspace: String,
    reads: ExecutionProfileHandle,
    writes: ExecutionProfileHandle,
    under_way: Semaphore,
    waiting: Semaphore,
    time_limit: Duration,
    closed: AtomicBool,
    clock: Clock,
}

impl Client {
    /// Connects. Wrong credentials are reported at once.
    pub(super) async fn connect(options: &ScyllaOptions, clock: Clock) -> Result<Self, StoreError> {
        let time_limit = Duration::from_millis(options.request_timeout_ms);
        let speculation = (options.speculate_after_ms > 0).then(|| {
            let retry_interval = Duration::from_millis(options.speculate_after_ms);
            let policy = SimpleSpeculativeExecutionPolicy { max_retry_count: 1, retry_interval };
            Arc::new(policy) as Arc<dyn SpeculativeExecutionPolicy>
        });
        let once = profile(Arc::new(FallthroughRetryPolicy::new()), None);
        let reads = profile(Arc::new(DefaultRetryPolicy::new()), speculation);
        let writes = profile(Arc::new(DefaultRetryPolicy::new()), None);
        let mut builder = SessionBuilder::new()
            .known_nodes(&options.nodes)
            .default_execution_profile_handle(once)
            .connection_timeout(time_limit)
            .keepalive_interval(KEEPALIVE)
            .keepalive_timeout(keepalive_timeout(time_limit))
            .metadata_request_clientside_timeout(time_limit)
            .metadata_request_serverside_timeout(time_limit)
            .keyspaces_to_fetch([&options.keyspace])
            .refresh_metadata_on_auto_schema_agreement(false);
        if let Some((user, password)) = &options.credentials {
            builder = builder.user(user, password);
        }
        let session = builder.build().await.map_err(|error| session_error(&error))?;
        Ok(Self {
            session,
            keyspace: options.keyspace.clone(),
            reads,
            writes,
            under_way: Semaphore::new(options.statements_max),
            waiting: Semaphore::new(options.statements_waiting_max),
            time_limit,
            closed: AtomicBool::new(false),
            clock,
        })
    }

    /// Prepares a statement, in which `KS` stands for the keyspace. `op` is its name in the metrics.
    pub(super) async fn prepare(&self, op: &'static str, cql: &str) -> Result<Statement, StoreError> {
        let cql = cql.replace("KS.", &format!("{}.", self.keyspace));
        let is_compared = cql.contains(" IF ");
        let profile = if cql.starts_with("SELECT") { &self.reads } else { &self.writes };
        let mut prepared = self.session.prepare(cql).await.map_err(|error| store_error(error.into()))?;
        if !is_compared {
            prepared.set_is_idempotent(true);
            prepared.set_execution_profile_handle(Some(profile.clone()));
        }
        Ok(Statement { prepared, figures: Figures::of(op) })
    }

    /// Prepares a read of a whole partition, or of many rows, which is fetched page by page.
    pub(super) async fn prepare_paged(&self, op: &'static str, cql: &str) -> Result<Statement, StoreError> {
        let mut statement = self.prepare(op, cql).await?;
        statement.prepared.set_page_size(PAGE_ROWS);
        Ok(statement)
    }

    /// Prepares a linearizable read: it sees every compare-and-set that was answered before it.
    pub(super) async fn prepare_serial(&self, op: &'static str, cql: &str) -> Result<Statement, StoreError> {
        let mut statement = self.prepare(op, cql).await?;
        statement.prepared.set_consistency(Consistency::LocalSerial);
        // Speculative execution would run two Paxos rounds that hinder each other.
        statement.prepared.set_is_idempotent(false);
        Ok(statement)
    }

    /// From now on every statement fails with [`StoreError::Unavailable`].
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Runs a statement that returns no rows, or few.
    pub(super) async fn execute(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, StoreError> {
        self.bounded(&statement.figures, Box::pin(self.session.execute_unpaged(&statement.prepared, values))).await
    }

    /// Runs a compare-and-set. Returns whether it was applied.
    pub(super) async fn compare_and_set(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
    ) -> Result<bool, StoreError> {
        let row: Option<Row> = self.row(statement, values).await?;
        // Only the first column (`[applied]`) is the same on both servers.
        match row.and_then(|row| row.columns.into_iter().next().flatten()) {
            Some(CqlValue::Boolean(applied)) => Ok(applied),
            other => Err(unreadable(format!("answer to a compare-and-set: {other:?}"))),
        }
    }

    /// Runs a statement that returns at most one row.
    pub(super) async fn row<R>(&self, statement: &Statement, values: impl SerializeRow) -> Result<Option<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let found = self.execute(statement, values).await?.into_rows_result().map_err(unreadable)?;
        found.maybe_first_row().map_err(unreadable)
    }

    /// Returns all rows of a statement.
    pub(super) async fn rows<R>(&self, statement: &Statement, values: impl SerializeRow) -> Result<Vec<R>, StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let mut all = Vec::new();
        let push = |row| {
            all.push(row);
            Ok(())
        };
        self.each_row(statement, values, push).await.map(|()| all)
    }

    /// Goes through all rows of a statement, page by page, holding one page at a time; the time limit applies to each
    /// page.
    pub(super) async fn each_row<R>(
        &self,
        statement: &Statement,
        values: impl SerializeRow,
        mut visit: impl FnMut(R) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let mut from = PagingState::start();
        loop {
            let page = Box::pin(self.session.execute_single_page(&statement.prepared, &values, from));
            let (page, next): (QueryResult, PagingStateResponse) = self.bounded(&statement.figures, page).await?;
            let page = page.into_rows_result().map_err(unreadable)?;
            for row in page.rows().map_err(unreadable)? {
                visit(row.map_err(unreadable)?)?;
            }
            match next.into_paging_control_flow() {
                ControlFlow::Continue(next) => from = next,
                ControlFlow::Break(()) => return Ok(()),
            }
        }
    }

    /// Runs several writes to one partition as one statement: each replica has all of it or nothing. Not a
    /// compare-and-set.
    pub(super) async fn batch(
        &self,
        figures: &Figures,
        statements: impl IntoIterator<Item = &Statement>,
        values: impl BatchValues,
    ) -> Result<(), StoreError> {
        let prepared = statements.into_iter().map(|statement| statement.prepared.clone());
        let mut batch = Batch::new_with_statements(BatchType::Unlogged, prepared.map(BatchStatement::from).collect());
        batch.set_is_idempotent(true);
        batch.set_execution_profile_handle(Some(self.writes.clone()));
        self.bounded(figures, Box::pin(self.session.batch(&batch, values))).await.map(drop)
    }

    /// Waits for a permit to run a statement, unless too many statements are waiting already.
    async fn permit(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        if let Ok(permit) = self.under_way.try_acquire() {
            return Ok(permit);
        }
        let place = self.waiting.try_acquire();
        let _place = place.map_err(|_| StoreError::unavailable("too many statements wait"))?;
        self.under_way.acquire().await.map_err(|_| StoreError::unavailable("closed"))
    }

    /// `run` is boxed: the driver's futures are large, and would make every future that awaits one as large.
    async fn bounded<T>(
        &self,
        figures: &Figures,
        run: impl Future<Output = Result<T, ExecutionError>>,
    ) -> Result<T, StoreError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("closed"));
        }
        let began_us = self.clock.monotonic_us();
        let answer = timeout(self.time_limit, async {
            let _permit = self.permit().await?;
            run.await.map_err(store_error)
        });
        let answer = answer.await.unwrap_or_else(|_| Err(StoreError::unavailable("no answer in time")));
        #[expect(clippy::cast_precision_loss, reason = "a duration of microseconds within a process's life")]
        figures.duration_s.record(self.clock.monotonic_us().saturating_sub(began_us) as f64 / 1e6);
        figures.statements.increment(1);
        answer
    }
}

fn profile(
    retry: Arc<dyn RetryPolicy>,
    speculation: Option<Arc<dyn SpeculativeExecutionPolicy>>,
) -> ExecutionProfileHandle {
    ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        .retry_policy(retry)
        .speculative_execution_policy(speculation)
        .request_timeout(None)
        .build()
        .into_handle()
}

/// The error for an answer that can't be decoded.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn unreadable(what: impl ToString) -> StoreError {
    StoreError::Unreadable { what: what.to_string() }
}

pub(super) fn store_error(error: ExecutionError) -> StoreError {
    if is_refusal(&error) {
        return StoreError::Refused { source: Box::new(error) };
    }
    StoreError::Unavailable { reason: error.to_string(), source: Some(Box::new(error)) }
}

/// Whether the statement was not applied and never will be. Anything else may have been applied, or may still be. A
/// missing permission does not count: Cassandra also reports it while the tables with the permissions can't be read.
fn is_refusal(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(BadQuery::SerializationError(_) | BadQuery::ValuesTooLongForKey(..)) => true,
        ExecutionError::LastAttemptError(error)
        | ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt: error }) => is_refused(error),
        _ => false,
    }
}

fn is_refused(error: &RequestAttemptError) -> bool {
    match error {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => true,
        RequestAttemptError::DbError(error, _) => matches!(
            error,
            DbError::SyntaxError | DbError::Invalid | DbError::AlreadyExists { .. } | DbError::ConfigError
        ),
        _ => false,
    }
}

fn session_error(error: &NewSessionError) -> StoreError {
    if let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(refused),
    })) = error
        && let ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _)
        | ConnectionSetupRequestErrorKind::MissingAuthentication = refused.error
    {
        return SetupError::Credentials { why: refused.error.to_string() }.into();
    }
    StoreError::unavailable(error.to_string())
}
