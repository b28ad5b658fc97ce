//! The in-memory store as one of several processes sees it: begins and appends are answered as the quorum store answers
//! them. Owns which terms belong to this process.

use super::{MemoryRows, MemoryStore};
use crate::kv::{Engine, Process, ReadCost, Transaction, Write};
use crate::{ConversationKey, Release, Store, StoreError, TermNumber};
use async_trait::async_trait;
use std::sync::Arc;

/// A process's own handle of a shared [`MemoryStore`].
///
/// The [`MemoryStore`] itself shows everything, and gives terms to anyone.
#[derive(Debug)]
pub struct MemoryNode {
    shared: Arc<MemoryStore>,
    process: Arc<Process>,
}

impl MemoryNode {
    /// A process that has no terms yet.
    pub fn new(shared: Arc<MemoryStore>) -> Self {
        let process = Arc::new(Process::new(shared.lives.clone()));
        Self { shared, process }
    }
}

impl Engine for MemoryNode {
    type Rows = MemoryRows;

    async fn write<T: Send + 'static>(
        &self,
        write: Write,
        operation: impl FnOnce(&mut Transaction<'_, MemoryRows>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.shared.write(write, operation).await
    }

    async fn read<T: Send + 'static>(
        &self,
        op: &'static str,
        cost: ReadCost,
        operation: impl FnOnce(&MemoryRows) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        Engine::read(&*self.shared, op, cost, operation).await
    }

    fn process(&self) -> Option<Arc<Process>> {
        Some(self.process.clone())
    }

    fn let_go(&self, conversation: &ConversationKey, term: TermNumber) -> Option<Release> {
        self.process.release(&*self.shared.rows(), conversation, term).ok().flatten()
    }
}

#[async_trait]
impl Store for MemoryNode {
    fn store_id(&self) -> &str {
        self.shared.store_id()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.shared.check().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
