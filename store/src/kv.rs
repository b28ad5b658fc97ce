//! The store's data as rows of one ordered map from bytes to bytes, and the effect of each operation on them.
//!
//! Both backends with such a map (the embedded one and the in-memory one) run this code and add only how rows are
//! stored: they provide [`Rows`], and [`Engine`] is how operations reach them. Nothing here does I/O, waits or locks.
//! An operation reads rows and stages writes in a [`Transaction`], which the engine makes durable as a whole or not at
//! all.

mod begun;
mod cursors;
mod engine;
mod expire;
mod inbox;
pub(crate) mod keys;
mod log;
mod log_read;
mod process;
mod projections;
mod push;
mod running;
mod transaction;
mod users;
pub(crate) mod values;

pub(crate) use begun::EntryType;
pub(crate) use engine::{Durability, Engine, OPERATIONS, ReadCost, Write};
pub(crate) use expire::expire;
pub(crate) use process::{Lives, Process};
pub(crate) use running::Running;
pub(crate) use transaction::{Meta, Staged, Transaction};

use crate::StoreError;
use std::ops::Range;

/// A snapshot of the rows, ordered by key.
pub(crate) trait Rows {
    /// A key or a value.
    type Bytes: AsRef<[u8]>;

    fn get(&self, key: &[u8]) -> Result<Option<Self::Bytes>, StoreError>;

    /// The rows whose keys are in `range`, from both ends, read lazily.
    fn range(
        &self,
        range: Range<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Result<(Self::Bytes, Self::Bytes), StoreError>>;
}
