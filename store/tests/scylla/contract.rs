//! The contract suite.

use crate::support::{open, own_keyspace, shared_server};
use async_trait::async_trait;
use std::sync::Arc;
use switchboard_store::contract::Backend;
use switchboard_store::{ScyllaOptions, Store};

struct Scylla(ScyllaOptions);

#[async_trait]
impl Backend for Scylla {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(open(&self.0).await.expect("opens"))
    }

    fn outlives_close(&self) -> bool {
        true
    }
}

switchboard_store::contract_tests!(Scylla(own_keyspace(shared_server().await)));
