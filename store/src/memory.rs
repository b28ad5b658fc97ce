//! A store in memory, for the simulation and for tests: the same operations as the embedded one, on a map behind one
//! lock. It starts no thread or task, keeps nothing over a restart, and fails on request ([`Faults`]).

mod faults;
mod node;

pub use faults::Faults;
pub use node::MemoryNode;

use crate::kv::{Engine, Lives, ReadCost, Rows, Transaction, Write};
use crate::{Incarnation, Store, StoreError};
use async_trait::async_trait;
use faults::Outcome;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_clock::Generator;

/// A store that lives as long as this value.
#[derive(Debug)]
pub struct MemoryStore {
    store_id: String,
    rows: Mutex<MemoryRows>,
    /// Shared by all processes (see [`MemoryNode`]).
    lives: Arc<Lives>,
    faults: Faults,
}

#[derive(Debug, Default)]
pub(crate) struct MemoryRows(BTreeMap<Vec<u8>, Vec<u8>>);

impl MemoryStore {
    /// An empty store without faults.
    pub fn new(store_id: impl Into<String>) -> Self {
        Self {
            store_id: store_id.into(),
            rows: Mutex::default(),
            lives: Arc::default(),
            faults: Faults::new(Generator::from_seed(0)),
        }
    }

    /// The same; faults are drawn from `generator`.
    pub fn with_generator(store_id: impl Into<String>, generator: Generator) -> Self {
        Self { faults: Faults::new(generator), ..Self::new(store_id) }
    }

    /// Loses the `live` row of this incarnation: it counts as fenced.
    pub fn lose_life(&self, incarnation: &Incarnation) {
        self.lives.lose(incarnation);
    }

    /// The incarnations that have been fenced.
    pub fn fenced(&self) -> Vec<Incarnation> {
        self.lives.fenced()
    }

    /// The faults to inject; may be changed at any time.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// A panic while the lock is held can't leave half a batch: batches are applied only when they are complete.
    fn rows(&self) -> MutexGuard<'_, MemoryRows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit<T>(
        &self,
        operation: impl FnOnce(&mut Transaction<'_, MemoryRows>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut rows = self.rows();
        let mut tx = Transaction::new(&*rows)?;
        let outcome = tx.run(operation)?;
        for (key, value) in tx.finish(true)?.map(|(_, staged)| staged).unwrap_or_default() {
            match value {
                Some(value) => rows.0.insert(key, value),
                None => rows.0.remove(&key),
            };
        }
        Ok(outcome)
    }
}

impl Rows for MemoryRows {
    type Bytes = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, range: Range<Vec<u8>>) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> {
        self.0.range(range).map(|(key, value)| Ok((key.clone(), value.clone())))
    }
}

impl Engine for MemoryStore {
    type Rows = MemoryRows;

    async fn write<T: Send + 'static>(
        &self,
        write: Write,
        operation: impl FnOnce(&mut Transaction<'_, MemoryRows>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.faults.delay().await;
        let outcome = self.faults.outcome_of_write()?;
        let answer = match outcome {
            Outcome::Lost => Err(faults::unknown(write.op)),
            Outcome::DoneUnsaid => self.commit(operation).and(Err(faults::unknown(write.op))),
            Outcome::Done => self.commit(operation),
        };
        self.faults.delay().await;
        answer
    }

    async fn read<T: Send + 'static>(
        &self,
        _op: &'static str,
        _cost: ReadCost,
        operation: impl FnOnce(&MemoryRows) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.faults.delay().await;
        self.faults.check()?;
        let answer = operation(&self.rows());
        self.faults.delay().await;
        answer
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn store_id(&self) -> &str {
        &self.store_id
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.faults.check()
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
