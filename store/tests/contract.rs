//! The contract suite on every backend of this crate.

use async_trait::async_trait;
use std::sync::Arc;
use switchboard_clock::{Clock, Generator};
use switchboard_store::contract::Backend;
use switchboard_store::{EmbeddedOptions, EmbeddedStore, MemoryNode, MemoryStore, Store};

struct Embedded(tempfile::TempDir);

impl Embedded {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }
}

#[async_trait]
impl Backend for Embedded {
    async fn open(&self) -> Arc<dyn Store> {
        let options = EmbeddedOptions { reserve_bytes: 0, ..EmbeddedOptions::new(self.0.path()) };
        Arc::new(EmbeddedStore::open(&options, Clock::system(), &Generator::from_entropy()).expect("opens"))
    }

    fn outlives_close(&self) -> bool {
        true
    }
}

struct Memory;

#[async_trait]
impl Backend for Memory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new("store"))
    }

    fn outlives_close(&self) -> bool {
        false
    }
}

struct OneOfSeveral;

#[async_trait]
impl Backend for OneOfSeveral {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(MemoryNode::new(Arc::new(MemoryStore::new("store"))))
    }

    fn outlives_close(&self) -> bool {
        false
    }
}

mod embedded {
    use super::*;
    switchboard_store::contract_tests!(Embedded::new());
}

mod memory {
    use super::*;
    switchboard_store::contract_tests!(Memory);
}

mod memory_of_several_processes {
    use super::*;
    switchboard_store::contract_tests!(OneOfSeveral);
}
