//! The embedded store's promises beyond the contract: it survives its process's death, refuses folders that are not its
//! own, reports damage, and recovers from a full disk.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

mod child;
mod damage;
mod disk_full;
mod folder;
mod kill;
mod limits;
mod retention;

use std::path::Path;
use std::sync::Arc;
use switchboard_clock::{Clock, Generator};
use switchboard_store::{EmbeddedOptions, EmbeddedStore, Store, StoreError};

/// Small tables, so that little data makes many.
fn options(path: &Path) -> EmbeddedOptions {
    EmbeddedOptions { reserve_bytes: 0, memtable_bytes: 256 << 10, ..EmbeddedOptions::new(path) }
}

fn try_open(options: &EmbeddedOptions) -> Result<Arc<dyn Store>, StoreError> {
    let store = EmbeddedStore::open(options, Clock::system(), &Generator::from_entropy())?;
    Ok(Arc::new(store))
}

fn open(path: &Path) -> Arc<dyn Store> {
    try_open(&options(path)).expect("opens")
}
