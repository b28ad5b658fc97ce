//! A transaction: the staged writes of a batch of operations, each of which sees those before it.

use super::keys::{self, Key};
use super::{Rows, values};
use crate::StoreError;
use hashbrown::HashMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The only row about the store as a whole; written by every batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Counts batches, so that a missing one is detected.
    pub(crate) commit: u64,
    /// The last version given to an inbox row.
    pub(crate) inbox_version: u64,
    /// How many of the newest versions a power failure may undo, so that they are given again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) inbox_unsynced: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Meta {
    pub(crate) fn of(rows: &impl Rows) -> Result<Self, StoreError> {
        let key = keys::meta();
        rows.get(key.as_bytes())?.map_or(Ok(Self::default()), |value| values::decode(&key, value.as_ref()))
    }

    /// The newest inbox version that is never given twice, whatever happens.
    pub(crate) fn inbox_synced(&self) -> u64 {
        self.inbox_version - self.inbox_unsynced
    }
}

/// Rows to be written or removed.
pub(crate) type Staged = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// A batch over `base`, to which operations add. An operation's writes count once it has succeeded.
pub(crate) struct Transaction<'a, R> {
    base: &'a R,
    meta: Meta,
    accepted: Staged,
    current: Staged,
    current_inbox_version: u64,
    synced_before: u64,
}

impl<'a, R: Rows> Transaction<'a, R> {
    pub(crate) fn new(base: &'a R) -> Result<Self, StoreError> {
        let meta = Meta::of(base)?;
        Ok(Self {
            base,
            meta,
            accepted: Staged::new(),
            current: Staged::new(),
            current_inbox_version: meta.inbox_version,
            synced_before: meta.inbox_synced(),
        })
    }

    /// Runs one operation: if it fails, none of its writes count.
    pub(crate) fn run<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let outcome = operation(self);
        match outcome {
            Ok(_) => {
                self.meta.inbox_version = self.current_inbox_version;
                self.accepted.extend(self.current.drain());
            }
            Err(_) => {
                self.current_inbox_version = self.meta.inbox_version;
                self.current.clear();
            }
        }
        outcome
    }

    /// The writes of all operations and the batch's own number, unordered; `None` if nothing was written. With
    /// `synced`, they become visible once they and everything before are durable.
    pub(crate) fn finish(mut self, synced: bool) -> Result<Option<(Meta, Staged)>, StoreError> {
        // A repeat of something visible but not durable changes nothing, yet has to make it durable.
        let makes_durable = synced && self.meta.inbox_unsynced > 0;
        if self.accepted.is_empty() && !makes_durable {
            return Ok(None);
        }
        self.meta.commit += 1;
        self.meta.inbox_unsynced = if synced { 0 } else { self.meta.inbox_version - self.synced_before };
        self.accepted.insert(keys::meta().into_bytes(), Some(values::encode(&self.meta)?));
        Ok(Some((self.meta, self.accepted)))
    }

    /// The row at `key` as the operations so far leave it.
    pub(crate) fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, StoreError> {
        self.with(key, |value| values::decode(key, value))
    }

    /// Like [`Transaction::get`], but not decoded.
    pub(crate) fn get_bytes(&self, key: &Key) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(key, |value| Ok(value.to_vec()))
    }

    fn with<T>(&self, key: &Key, read: impl FnOnce(&[u8]) -> Result<T, StoreError>) -> Result<Option<T>, StoreError> {
        let staged = self.current.get(key.as_bytes()).or_else(|| self.accepted.get(key.as_bytes()));
        match staged {
            Some(value) => value.as_deref().map(read).transpose(),
            None => self.base.get(key.as_bytes())?.map(|value| read(value.as_ref())).transpose(),
        }
    }

    pub(crate) fn put<T: Serialize>(&mut self, key: Key, row: &T) -> Result<(), StoreError> {
        self.put_bytes(key, values::encode(row)?);
        Ok(())
    }

    pub(crate) fn put_bytes(&mut self, key: Key, value: Vec<u8>) {
        self.current.insert(key.into_bytes(), Some(value));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.current.insert(key.into_bytes(), None);
    }

    /// A version above all earlier ones of any user.
    pub(crate) fn next_inbox_version(&mut self) -> u64 {
        self.current_inbox_version += 1;
        self.current_inbox_version
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Key;
    use super::*;
    use crate::memory::MemoryRows;

    fn key(id: &str) -> Key {
        keys::user(&crate::UserKey { tenant: "t".parse().unwrap(), user: id.parse().unwrap() })
    }

    fn fails() -> Result<(), StoreError> {
        Err(StoreError::unavailable("by a test's will"))
    }

    #[test]
    fn operations_see_the_ones_before_them_and_leave_nothing_when_they_fail() {
        let rows = MemoryRows::default();
        let mut tx = Transaction::new(&rows).unwrap();
        tx.run(|tx| tx.put(key("one"), &1)).unwrap();
        let failed = tx.run(|tx| {
            assert_eq!(tx.get::<u32>(&key("one")).unwrap(), Some(1));
            tx.put(key("one"), &2)?;
            tx.remove(key("one"));
            tx.put(key("two"), &2)?;
            assert_eq!(tx.get::<u32>(&key("one")).unwrap(), None, "an operation sees its own writes");
            assert_eq!(tx.next_inbox_version(), 1);
            fails()
        });
        assert!(failed.is_err());
        let version = tx.run(|tx| {
            assert_eq!(tx.get::<u32>(&key("one")).unwrap(), Some(1));
            assert_eq!(tx.get::<u32>(&key("two")).unwrap(), None);
            Ok(tx.next_inbox_version())
        });
        assert_eq!(version.unwrap(), 1, "a version that went to nobody is given again");
        let (meta, writes) = tx.finish(true).unwrap().unwrap();
        assert_eq!(meta, Meta { commit: 1, inbox_version: 1, inbox_unsynced: 0 });
        assert_eq!(writes.len(), 2, "the one row and the batch's own");
        assert_eq!(writes[key("one").as_bytes()], Some(b"1".to_vec()));
    }

    #[test]
    fn a_batch_without_writes_is_none() {
        let rows = MemoryRows::default();
        let mut tx = Transaction::new(&rows).unwrap();
        tx.run(|tx| tx.get::<u32>(&key("one"))).unwrap();
        tx.run(|_| fails()).unwrap_err();
        assert!(tx.finish(true).unwrap().is_none());
    }
}
