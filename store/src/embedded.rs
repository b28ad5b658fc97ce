//! The embedded store: one folder, one process, on fjall (an LSM tree with a journal).
//!
//! Writes of all conversations wait in one bounded queue. A dedicated thread takes all waiting writes, makes them one
//! atomic batch, syncs the journal once and then answers them (group commit); while one sync runs, the next batch
//! gathers. Reads go to the database directly, and see only what is committed.
//!
//! What it must not do: answer a write before it is synced, show one that is not, or touch a folder that does not hold
//! an intact store of its own.

mod commit;
mod database;
mod figures;
mod folder;
mod journal;
mod queue;
mod recent;
mod watermark;

use crate::kv::{Durability, Engine, Meta, ReadCost, Running, Transaction, Write, expire};
use crate::{Retention, Store, StoreError};
use async_trait::async_trait;
use commit::{Committer, Typed};
use database::{DatabaseOptions, DatabaseRows, DatabaseSlot};
use figures::Figures;
use folder::Folder;
use queue::Queue;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::{StoreId, Timestamp};
use tokio::sync::{Semaphore, oneshot};

/// Options of an embedded store.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Its folder; created if it is missing.
    pub path: PathBuf,
    /// Memory for caches: blocks from the disk, and recently written rows.
    pub cache_bytes: u64,
    /// Memory for writes that are in the journal, but not in tables yet; four times as much while the disk does not
    /// keep up. Fixed when the folder is created.
    pub memtable_bytes: u64,
    /// Free disk space below which writes are refused, so that the disk never fills up under the database.
    pub reserve_bytes: u64,
    /// Concurrent reads; more wait.
    pub reads_max: usize,
    /// Waiting reads; more are refused.
    pub reads_waiting_max: usize,
    /// Writes that may wait for the next batch.
    pub queue_writes_max: usize,
    /// Memory that the waiting writes may take.
    pub queue_bytes_max: usize,
    /// How often a failed database is reopened.
    pub reopen_interval_ms: u64,
    /// How long entries are kept.
    pub retention: Retention,
}

impl EmbeddedOptions {
    /// The defaults for the store in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cache_bytes: 64 << 20,
            memtable_bytes: 16 << 20,
            reserve_bytes: 64 << 20,
            reads_max: 64,
            reads_waiting_max: 65_536,
            queue_writes_max: 65_536,
            queue_bytes_max: 64 << 20,
            reopen_interval_ms: 500,
            retention: Retention::default(),
        }
    }
}

/// A store in a local folder.
pub struct EmbeddedStore {
    store_id: StoreId,
    clock: Clock,
    slot: Arc<DatabaseSlot>,
    queue: Arc<Queue>,
    reads: Semaphore,
    reads_waiting: Semaphore,
    figures: Arc<Figures>,
    retention: Retention,
    running: Arc<Running>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens the store in `options.path`, or creates one in an empty or missing folder. Blocks: it reads the journal.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Foreign`] (also for a damaged store; no data in the folder was changed) or
    /// [`StoreError::Folder`].
    ///
    /// # Panics
    /// fjall panics at some unexpected contents of its files; that is damage too.
    pub fn open(options: &EmbeddedOptions, clock: Clock, generator: &Generator) -> Result<Self, StoreError> {
        let folder = Folder::open(&options.path, options.memtable_bytes, generator)?;
        let store_id = folder.store_id().clone();
        let database_options =
            DatabaseOptions { cache_bytes: options.cache_bytes, reserve_bytes: options.reserve_bytes };
        let slot = Arc::new(DatabaseSlot::open(folder, database_options)?);
        let queue = Arc::new(Queue::new(options.queue_writes_max, options.queue_bytes_max));
        let figures = Arc::new(Figures::new());
        let committer =
            Committer::new(slot.clone(), queue.clone(), clock.clone(), figures.clone(), options.reopen_interval_ms);
        let thread = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(|source| StoreError::Folder { path: options.path.clone(), source })?;
        Ok(Self {
            store_id,
            clock,
            slot,
            queue,
            reads: Semaphore::new(options.reads_max),
            reads_waiting: Semaphore::new(options.reads_waiting_max),
            figures,
            retention: options.retention.clone(),
            running: Arc::default(),
            committer: Mutex::new(Some(thread)),
        })
    }

    /// Lets the committer finish the waiting writes, and joins it.
    fn stop(queue: &Queue, committer: Option<JoinHandle<()>>) {
        queue.close();
        if let Some(thread) = committer
            && thread.join().is_err()
        {
            tracing::error!("the store's commit thread panicked");
        }
    }

    fn take_committer(&self) -> Option<JoinHandle<()>> {
        self.committer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn read_off_thread<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&DatabaseRows) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _permit = match self.reads.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let place = self.reads_waiting.try_acquire();
                let _place = place.map_err(|_| StoreError::unavailable("too many reads wait"))?;
                self.reads.acquire().await.map_err(|_| StoreError::unavailable("closed"))?
            }
        };
        let slot = self.slot.clone();
        let read = tokio::task::spawn_blocking(move || slot.read(operation)).await;
        read.map_err(|error| StoreError::Unavailable {
            reason: "a read broke off".to_owned(),
            source: Some(Box::new(error)),
        })?
    }

    fn observe(&self, op: &'static str, began_us: u64) {
        self.figures.observe(op, self.clock.monotonic_us().saturating_sub(began_us));
    }
}

impl Drop for EmbeddedStore {
    /// Like [`Store::close`], for callers that did not call it: the thread does not outlive its owner.
    fn drop(&mut self) {
        Self::stop(&self.queue, self.take_committer());
    }
}

impl Engine for EmbeddedStore {
    type Rows = DatabaseRows;

    async fn write<T: Send + 'static>(
        &self,
        write: Write,
        operation: impl FnOnce(&mut Transaction<'_, DatabaseRows>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let began_us = self.clock.monotonic_us();
        let (reply, answer) = oneshot::channel();
        let synced = write.durability == Durability::Synced;
        self.queue.push(Box::new(Typed::new(operation, reply)), write.bytes, synced)?;
        let answer = answer.await.map_err(|_| StoreError::unavailable("closed"))?;
        self.observe(write.op, began_us);
        answer
    }

    async fn read<T: Send + 'static>(
        &self,
        op: &'static str,
        cost: ReadCost,
        operation: impl FnOnce(&DatabaseRows) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let began_us = self.clock.monotonic_us();
        let answer = match cost {
            // On the caller's thread: 1 to 4 µs, whereas a switch to another thread and back costs 12 to 18 µs of CPU,
            // and every connection does one such read. A row that is only on the disk costs one read of 4 KiB.
            ReadCost::Point => self.slot.read(operation),
            ReadCost::Scan => self.read_off_thread(operation).await,
        };
        self.observe(op, began_us);
        answer
    }

    fn running(&self) -> Option<Arc<Running>> {
        Some(self.running.clone())
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    fn store_id(&self) -> &str {
        self.store_id.as_str()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.slot.check()?;
        Engine::read(self, "check", ReadCost::Point, |rows| Meta::of(rows).map(|_| ())).await
    }

    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        if self.retention.is_for_ever() { Ok(0) } else { expire(self, &self.retention, now).await }
    }

    async fn close(&self) -> Result<(), StoreError> {
        let committer = self.take_committer();
        let (queue, slot) = (self.queue.clone(), self.slot.clone());
        let closing = tokio::task::spawn_blocking(move || {
            Self::stop(&queue, committer);
            slot.close()
        });
        closing.await.map_err(|error| StoreError::Unavailable {
            reason: "closing broke off".to_owned(),
            source: Some(Box::new(error)),
        })?
    }
}
