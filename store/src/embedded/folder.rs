//! The store's folder: its layout, its lock, and whether it is intact.
//!
//! ```text
//! lock               held by the process that has the store
//! store/format.json  the format's version and the store's id
//! store/commits      see watermark.rs
//! store/db/          fjall's
//! ```
//! `store` is created under another name and then renamed, so it exists as a whole or not at all. Before that, nothing
//! was ever answered; after it, anything missing is damage.

use super::database;
use super::journal;
use super::watermark::Watermark;
use crate::StoreError;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use switchboard_clock::Generator;
use switchboard_protocol::StoreId;

/// A locked folder whose store was intact when it was opened.
pub(super) struct Folder {
    root: PathBuf,
    store_id: StoreId,
    lock: File,
}

const LOCK: &str = "lock";
const STORE: &str = "store";
const MAKING: &str = "store.making";
const FORMAT: &str = "format.json";
const COMMITS: &str = "commits";
const DATABASE: &str = "db";

/// The version that this code writes, and the newest that it reads.
const FORMAT_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Format {
    switchboard_store: u32,
    /// A [`StoreId`], unless an operator has mistyped it.
    store_id: String,
}

impl Folder {
    /// Locks the folder, and creates a store in it if it is missing or empty.
    pub(super) fn open(root: &Path, memtable_bytes: u64, generator: &Generator) -> Result<Self, StoreError> {
        let failed = |source: io::Error| StoreError::Folder { path: root.to_owned(), source };
        std::fs::create_dir_all(root).map_err(failed)?;
        refuse_foreign(root)?;
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(root.join(LOCK)).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked { path: root.to_owned() },
            TryLockError::Error(source) => failed(source),
        })?;
        if !root.join(STORE).exists() {
            make(root, memtable_bytes, generator)?;
        }
        let store_id = read_format(root)?;
        let folder = Self { root: root.to_owned(), store_id, lock };
        folder.verify()?;
        Ok(folder)
    }

    /// Checks that the store is complete, as far as that can be seen without the database. Changes nothing of value.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        for part in database::PARTS {
            if !self.database().join(part).exists() {
                return Err(self.damaged(format!("{STORE}/{DATABASE}/{part} is missing")));
            }
        }
        journal::verify(&self.database(), self.watermark()?).map_err(|why| self.damaged(why))
    }

    pub(super) fn store_id(&self) -> &StoreId {
        &self.store_id
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn database(&self) -> PathBuf {
        self.root.join(STORE).join(DATABASE)
    }

    /// The newest commit known to be durable.
    pub(super) fn watermark(&self) -> Result<u64, StoreError> {
        Watermark::read(&self.commits()).map_err(|error| self.damaged(format!("{STORE}/{COMMITS}: {error}")))
    }

    pub(super) fn open_watermark(&self) -> Result<Watermark, StoreError> {
        Watermark::open(&self.commits()).map_err(|source| StoreError::Folder { path: self.root.clone(), source })
    }

    pub(super) fn damaged(&self, why: impl std::fmt::Display) -> StoreError {
        let why = format!("the store is damaged: {why}. Its data was left as it is; restore it from a backup");
        StoreError::Foreign { path: self.root.clone(), why }
    }

    /// Releases the lock.
    pub(super) fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the store's folder can't be unlocked");
        }
    }

    fn commits(&self) -> PathBuf {
        self.root.join(STORE).join(COMMITS)
    }
}

/// A folder without a store may contain only what an interrupted creation leaves behind.
fn refuse_foreign(root: &Path) -> Result<(), StoreError> {
    let failed = |source: io::Error| StoreError::Folder { path: root.to_owned(), source };
    if root.join(STORE).exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(root).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != LOCK && name != MAKING {
            let why =
                format!("holds no switchboard store, but {}; choose an empty folder (store.path)", name.display());
            return Err(StoreError::Foreign { path: root.to_owned(), why });
        }
    }
    Ok(())
}

fn make(root: &Path, memtable_bytes: u64, generator: &Generator) -> Result<(), StoreError> {
    let failed = |source: io::Error| StoreError::Folder { path: root.to_owned(), source };
    let making = root.join(MAKING);
    if making.exists() {
        std::fs::remove_dir_all(&making).map_err(failed)?;
    }
    std::fs::create_dir(&making).map_err(failed)?;
    let store_id = format!("{:016x}{:016x}", generator.u64(), generator.u64());
    let format = Format { switchboard_store: FORMAT_VERSION, store_id };
    let format = serde_json::to_vec(&format).map_err(|error| failed(error.into()))?;
    write_synced(&making.join(FORMAT), &format).map_err(failed)?;
    Watermark::create(&making.join(COMMITS)).map_err(failed)?;
    database::create(&making.join(DATABASE), memtable_bytes).map_err(failed)?;
    sync_folder(&making).map_err(failed)?;
    std::fs::rename(&making, root.join(STORE)).map_err(failed)?;
    sync_folder(root).map_err(failed)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The store's id.
fn read_format(root: &Path) -> Result<StoreId, StoreError> {
    let foreign = |why: String| StoreError::Foreign { path: root.to_owned(), why };
    let bytes = std::fs::read(root.join(STORE).join(FORMAT))
        .map_err(|error| foreign(format!("{STORE}/{FORMAT} can't be read: {error}; restore it from a backup")))?;
    let format: Format = serde_json::from_slice(&bytes)
        .map_err(|_| foreign(format!("{STORE}/{FORMAT} is not a switchboard store's; restore it from a backup")))?;
    if format.switchboard_store != FORMAT_VERSION {
        return Err(foreign(format!(
            "was written in format {}, this version knows format {FORMAT_VERSION}; use the version that wrote it",
            format.switchboard_store
        )));
    }
    let Format { store_id, .. } = format;
    let checked = StoreId::try_from(store_id.as_str());
    checked.map_err(|error| foreign(format!("store_id in {STORE}/{FORMAT} is {store_id:?}, but {error}")))
}
