//! fjall: opened, read from, committed to, and reopened after a failure.
//!
//! All rows are in one keyspace, so one journal and one memtable hold each batch whole, memory has one bound, and a
//! journal can be deleted as soon as the memtable is flushed.

use super::folder::Folder;
use super::recent::Recent;
use super::watermark::Watermark;
use crate::StoreError;
use crate::kv::{Meta, Rows, Staged};
use fjall::{KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Slice};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, TryLockError};
use std::time::Duration;

/// Files that must exist in a database, or fjall would silently recreate it: its version, the two keyspaces (its own
/// and ours).
pub(super) const PARTS: [&str; 3] = ["version", "keyspaces/0/current", "keyspaces/1/current"];

const KEYSPACE: &str = "rows";

#[derive(Clone, Copy, Debug)]
pub(super) struct DatabaseOptions {
    pub(super) cache_bytes: u64,
    pub(super) reserve_bytes: u64,
}

/// The open database; empty while it is being reopened, and once it is closed.
pub(super) struct DatabaseSlot {
    folder: Folder,
    options: DatabaseOptions,
    open: RwLock<Option<Database>>,
    failed: AtomicBool,
}

/// One batch.
pub(super) struct Commit {
    pub(super) number: u64,
    pub(super) writes: Staged,
    pub(super) synced: bool,
}

impl DatabaseSlot {
    pub(super) fn open(folder: Folder, options: DatabaseOptions) -> Result<Self, StoreError> {
        let database = Database::open(&folder, options)?;
        Ok(Self { folder, options, open: RwLock::new(Some(database)), failed: AtomicBool::new(false) })
    }

    /// Reads a consistent snapshot. Does not wait for a reopen, which may take long.
    pub(super) fn read<T>(
        &self,
        operation: impl FnOnce(&DatabaseRows) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let open = match self.open.try_read() {
            Ok(open) => open,
            Err(TryLockError::Poisoned(open)) => open.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(StoreError::unavailable("the database is being opened")),
        };
        match &*open {
            Some(database) => operation(&database.rows()),
            None => Err(StoreError::unavailable("the database is not open")),
        }
    }

    /// For the commit thread only.
    pub(super) fn write<E: From<StoreError>>(
        &self,
        operation: impl FnOnce(&Database) -> Result<(), E>,
    ) -> Result<(), E> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(database) => operation(database),
            None => Err(StoreError::unavailable("the database is not open").into()),
        }
    }

    /// # Errors
    /// [`StoreError::Unavailable`] if less disk space is free than the reserve.
    pub(super) fn check_space(&self) -> Result<(), StoreError> {
        let disk = rustix::fs::statvfs(self.folder.root()).map_err(io::Error::from).map_err(unavailable)?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes < self.options.reserve_bytes {
            let reserve_bytes = self.options.reserve_bytes;
            let reason = format!("the disk has {free_bytes} bytes free, under store.reserve_bytes ({reserve_bytes})");
            return Err(StoreError::unavailable(reason));
        }
        Ok(())
    }

    /// Whether writes are accepted.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("the database failed and is not open again yet"));
        }
        self.check_space()
    }

    pub(super) fn note_failure(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Closes the failed database, as soon as no read uses it, and reopens it.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        self.check_space()?;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        drop(open.take());
        self.folder.verify()?;
        let database = Database::open(&self.folder, self.options)?;
        // Shows now whether there is room for what the journal holds, not soon after the store has reported that it is
        // open again.
        database.flush()?;
        *open = Some(database);
        self.failed.store(false, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn close(&self) -> Result<(), StoreError> {
        let database = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        let synced =
            database.map_or(Ok(()), |database| database.fjall.persist(PersistMode::SyncAll).map_err(store_error));
        self.folder.unlock();
        synced
    }
}

/// An open fjall database.
pub(super) struct Database {
    fjall: fjall::Database,
    keyspace: fjall::Keyspace,
    watermark: Watermark,
    recent_bytes_max: u64,
}

/// Creates an empty database. fjall stores a keyspace's options in it.
pub(super) fn create(path: &Path, memtable_bytes: u64) -> io::Result<()> {
    let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes);
    let made = fjall::Database::builder(path).worker_threads(1).open();
    let made = made.and_then(|database| database.keyspace(KEYSPACE, options).map(|_| ()));
    made.map_err(io::Error::other)
}

/// The fraction (1/n) of the cache memory that is for recently written rows; the rest is for blocks from the disk.
const RECENT_PART: u64 = 4;
/// The size limit of all journals; the minimum that fjall allows.
const JOURNALS_BYTES_MAX: u64 = 256 << 20;
const FILES_OPEN_MAX: usize = 256;
/// Threads that write and merge tables. With several, fjall stops the first from merging by having it requeue the job
/// over and over, which uses a whole CPU for as long as another thread merges.
const WORKER_THREADS: usize = 1;

impl Database {
    fn open(folder: &Folder, options: DatabaseOptions) -> Result<Self, StoreError> {
        let path = folder.database();
        let recent_bytes_max = options.cache_bytes / RECENT_PART;
        let builder = fjall::Database::builder(&path)
            .cache_size(options.cache_bytes - recent_bytes_max)
            .max_journaling_size(JOURNALS_BYTES_MAX)
            .max_cached_files(Some(FILES_OPEN_MAX))
            .worker_threads(WORKER_THREADS);
        let fjall = builder.open().map_err(|error| open_error(folder, error))?;
        if !fjall.keyspace_exists(KEYSPACE) {
            return Err(folder.damaged("its database has lost its rows"));
        }
        let keyspace =
            fjall.keyspace(KEYSPACE, KeyspaceCreateOptions::default).map_err(|error| open_error(folder, error))?;
        let database = Self { fjall, keyspace, watermark: folder.open_watermark()?, recent_bytes_max };
        let (commit, watermark) = (Meta::of(&database.rows())?.commit, folder.watermark()?);
        if commit < watermark {
            return Err(folder.damaged(format!("it ends at commit {commit}, but {watermark} was synced")));
        }
        Ok(database)
    }

    /// The current rows.
    pub(super) fn rows(&self) -> DatabaseRows {
        self.rows_and(Recent::default())
    }

    /// The same, with some rows cached by the caller. For the commit thread only: nobody else may write meanwhile.
    pub(super) fn rows_and(&self, recent: Recent) -> DatabaseRows {
        DatabaseRows { keyspace: self.keyspace.clone(), snapshot: self.fjall.snapshot(), recent }
    }

    /// Waits until the tables have caught up enough to take one more batch. fjall itself would wait for ever for a
    /// worker that has failed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if that takes too long.
    pub(super) fn wait_until_writable(&self) -> Result<(), StoreError> {
        let is_writable = || {
            self.keyspace.sealed_memtable_count() < SEALED_MEMTABLES_MAX
                && self.keyspace.l0_table_count() < L0_TABLES_MAX
        };
        if wait_until(is_writable) { Ok(()) } else { Err(StoreError::unavailable("the disk does not keep up")) }
    }

    /// Makes one batch visible as a whole; with `synced`, makes it durable first. Updates `recent` accordingly.
    ///
    /// The journal has a fixed length, and `fdatasync` also writes new blocks and lengths if they are needed to read
    /// the data back (POSIX, synchronized I/O data integrity), so that is enough.
    ///
    /// # Errors
    /// It is open whether the batch is stored; this database must not be written to any more.
    pub(super) fn commit(&self, commit: Commit, recent: &mut Recent) -> Result<(), StoreError> {
        let mode = if commit.synced { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = OwnedWriteBatch::with_capacity(self.fjall.clone(), commit.writes.len()).durability(Some(mode));
        for (key, value) in commit.writes {
            let key = Slice::from(key);
            match value.map(Slice::from) {
                Some(value) => {
                    recent.put(&key, &value, self.recent_bytes_max);
                    batch.insert(&self.keyspace, key, value);
                }
                None => {
                    recent.remove(&key);
                    batch.remove(&self.keyspace, key);
                }
            }
        }
        batch.commit().map_err(store_error)?;
        if commit.synced {
            self.watermark.raise(commit.number).map_err(unavailable)?;
        }
        Ok(())
    }

    /// Writes everything that is only in the journal and in memory into tables, synced.
    fn flush(&self) -> Result<(), StoreError> {
        self.keyspace.rotate_memtable().map_err(store_error)?;
        if wait_until(|| self.keyspace.sealed_memtable_count() == 0) {
            Ok(())
        } else {
            Err(StoreError::unavailable("the database can't write its tables"))
        }
    }
}

/// fjall stalls writers at 4 sealed memtables and at 30 runs.
const SEALED_MEMTABLES_MAX: usize = 3;
const L0_TABLES_MAX: usize = 28;
const POLL: Duration = Duration::from_millis(2);
const POLLS_MAX: u32 = 5_000;

fn wait_until(holds: impl Fn() -> bool) -> bool {
    for _ in 0..POLLS_MAX {
        if holds() {
            return true;
        }
        std::thread::sleep(POLL);
    }
    holds()
}

/// A snapshot of the rows.
pub(crate) struct DatabaseRows {
    keyspace: fjall::Keyspace,
    snapshot: fjall::Snapshot,
    recent: Recent,
}

impl DatabaseRows {
    pub(super) fn into_recent(self) -> Recent {
        self.recent
    }
}

impl Rows for DatabaseRows {
    type Bytes = Slice;

    fn get(&self, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        match self.recent.get(key) {
            Some(value) => Ok(Some(value.clone())),
            None => self.snapshot.get(&self.keyspace, key).map_err(store_error),
        }
    }

    fn range(&self, range: Range<Vec<u8>>) -> impl DoubleEndedIterator<Item = Result<(Slice, Slice), StoreError>> {
        let found = (!range.is_empty()).then(|| self.snapshot.range(&self.keyspace, range));
        found.into_iter().flatten().map(|row| row.into_inner().map_err(store_error))
    }
}

fn open_error(folder: &Folder, error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => StoreError::Locked { path: folder.root().to_owned() },
        fjall::Error::Io(source) => StoreError::Folder { path: folder.root().to_owned(), source },
        error => folder.damaged(error),
    }
}

fn store_error(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Io(_) | fjall::Error::Storage(fjall::LsmError::Io(_)) | fjall::Error::Poisoned => {
            unavailable(error)
        }
        error => StoreError::Unreadable { what: error.to_string() },
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable { reason: error.to_string(), source: Some(Box::new(error)) }
}
