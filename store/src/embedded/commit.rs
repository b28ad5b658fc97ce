//! The commit thread: takes all waiting writes, makes them one batch, syncs it and answers them. It is the only writer
//! of the database, so it can check terms and ends against rows that nobody else can change.
//!
//! After any error of the database the outcome of the batch is open, and the next sync can't be trusted: nothing more
//! is written until the database has been reopened ([`DatabaseSlot::reopen`]), which is retried automatically.

use super::database::{Commit, DatabaseRows, DatabaseSlot};
use super::figures::{COMMIT, Figures};
use super::queue::{Queue, Taken, Waiting};
use super::recent::Recent;
use crate::StoreError;
use crate::kv::Transaction;
use std::sync::Arc;
use std::time::Duration;
use switchboard_clock::Clock;
use tokio::sync::oneshot;

/// A waiting write of any operation.
pub(super) trait Request: Send {
    /// Runs the operation; its writes count if it succeeds.
    fn apply(&mut self, tx: &mut Transaction<'_, DatabaseRows>);

    /// Answers the caller. An error means that the batch failed: whether it is stored is open.
    fn answer(self: Box<Self>, committed: Result<(), &str>);
}

/// One operation and the channel for its outcome.
pub(super) struct Typed<T, F> {
    operation: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Typed<T, F> {
    pub(super) fn new(operation: F, reply: oneshot::Sender<Result<T, StoreError>>) -> Self {
        Self { operation: Some(operation), outcome: None, reply }
    }
}

impl<T, F> Request for Typed<T, F>
where
    T: Send,
    F: FnOnce(&mut Transaction<'_, DatabaseRows>) -> Result<T, StoreError> + Send,
{
    fn apply(&mut self, tx: &mut Transaction<'_, DatabaseRows>) {
        if let Some(operation) = self.operation.take() {
            self.outcome = Some(tx.run(operation));
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), &str>) {
        let outcome = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(StoreError::unavailable("not carried out")),
            (Err(reason), _) => Err(StoreError::unavailable(reason)),
        };
        // A caller that has gone away does not need the outcome.
        let _ = self.reply.send(outcome);
    }
}

/// The state of the commit thread.
pub(super) struct Committer {
    slot: Arc<DatabaseSlot>,
    queue: Arc<Queue>,
    clock: Clock,
    figures: Arc<Figures>,
    reopen_interval: Duration,
    state: State,
    /// Empty after an error: then it is unknown what was written.
    recent: Recent,
}

/// The state after the last batch. Only transitions are logged, not each batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    /// The disk has too little space. Checked again for each batch.
    Refusing,
    /// The database failed and must be reopened. Holds whether reopening it has failed already.
    Failed {
        again: bool,
    },
}

impl Committer {
    pub(super) fn new(
        slot: Arc<DatabaseSlot>,
        queue: Arc<Queue>,
        clock: Clock,
        figures: Arc<Figures>,
        reopen_interval_ms: u64,
    ) -> Self {
        let reopen_interval = Duration::from_millis(reopen_interval_ms);
        Self { slot, queue, clock, figures, reopen_interval, state: State::Serving, recent: Recent::default() }
    }

    pub(super) fn run(mut self) {
        // However this ends, no caller is left waiting.
        let _abandon = AbandonOnDrop(self.queue.clone());
        let mut reopen_at_us = 0;
        loop {
            let patience = self.has_failed().then_some(self.reopen_interval);
            match self.queue.take(patience) {
                Taken::Closed => break,
                Taken::Nothing => {}
                Taken::Batch(batch) => self.serve(batch),
            }
            if self.has_failed() && self.clock.monotonic_us() >= reopen_at_us {
                self.reopen();
                let interval_us = u64::try_from(self.reopen_interval.as_micros()).unwrap_or(u64::MAX);
                reopen_at_us = self.clock.monotonic_us().saturating_add(interval_us);
            }
        }
    }

    fn has_failed(&self) -> bool {
        matches!(self.state, State::Failed { .. })
    }

    fn reopen(&mut self) {
        match self.slot.reopen() {
            Ok(()) => {
                tracing::info!("the store is open again");
                self.state = State::Serving;
            }
            Err(error) => {
                if self.state == (State::Failed { again: false }) {
                    tracing::warn!(%error, "the store can't be reopened yet");
                }
                self.state = State::Failed { again: true };
            }
        }
    }

    fn serve(&mut self, mut batch: Vec<Waiting>) {
        if self.has_failed() {
            return answer(batch, Err("the database failed and is not open again yet"));
        }
        let began_us = self.clock.monotonic_us();
        #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 writes")]
        self.figures.commit_writes.record(batch.len() as f64);
        match self.commit(&mut batch) {
            Ok(()) => {
                self.figures.observe(COMMIT, self.clock.monotonic_us().saturating_sub(began_us));
                if self.state == State::Refusing {
                    tracing::info!("the store accepts writes again");
                    self.state = State::Serving;
                }
                answer(batch, Ok(()));
            }
            Err(Refusal::Untouched(reason)) => {
                if self.state == State::Serving {
                    tracing::warn!(%reason, "the store refuses writes");
                    self.state = State::Refusing;
                }
                answer(batch, Err(&reason));
            }
            Err(Refusal::Failed(reason)) => {
                tracing::error!(%reason, writes = batch.len(), "the store's database failed");
                self.state = State::Failed { again: false };
                self.slot.note_failure();
                answer(batch, Err(&reason));
            }
        }
    }

    fn commit(&mut self, batch: &mut [Waiting]) -> Result<(), Refusal> {
        self.slot.check_space().map_err(|error| Refusal::Untouched(error.to_string()))?;
        let failed = |error: StoreError| Refusal::Failed(error.to_string());
        self.slot.write(|database| {
            let recent = std::mem::take(&mut self.recent);
            database.wait_until_writable().map_err(failed)?;
            let rows = database.rows_and(recent);
            let mut tx = Transaction::new(&rows).map_err(failed)?;
            for waiting in batch.iter_mut() {
                waiting.request.apply(&mut tx);
            }
            let synced = batch.iter().any(|waiting| waiting.synced);
            let finished = tx.finish(synced).map_err(failed)?;
            let mut recent = rows.into_recent();
            if let Some((meta, writes)) = finished {
                let commit = Commit { number: meta.commit, writes, synced };
                database.commit(commit, &mut recent).map_err(failed)?;
            }
            self.recent = recent;
            Ok(())
        })
    }
}

/// Why a batch was not committed.
pub(super) enum Refusal {
    /// The database was not touched.
    Untouched(String),
    /// Whether the batch is stored is open.
    Failed(String),
}

impl From<StoreError> for Refusal {
    /// There is no open database, so none was touched.
    fn from(error: StoreError) -> Self {
        Self::Untouched(error.to_string())
    }
}

fn answer(batch: Vec<Waiting>, committed: Result<(), &str>) {
    for waiting in batch {
        waiting.request.answer(committed);
    }
}

struct AbandonOnDrop(Arc<Queue>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
