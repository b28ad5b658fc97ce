//! A keyspace for each test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use switchboard_clock::{Clock, Generator};
use switchboard_store::{ScyllaOptions, ScyllaStore, StoreError};
use switchboard_tests::CassandraServer;

/// A server under load is slow.
const REQUEST_TIMEOUT_MS: u64 = 20_000;

/// The delay before opening a store is retried.
const OPEN_AGAIN: Duration = Duration::from_millis(100);

/// The server that all tests share.
pub(crate) async fn shared_server() -> SocketAddr {
    let started = tokio::task::spawn_blocking(CassandraServer::shared);
    started.await.expect("no panic").expect("Cassandra starts")
}

/// Options for a new keyspace.
pub(crate) fn own_keyspace(server: SocketAddr) -> ScyllaOptions {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let keyspace = format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed));
    ScyllaOptions { request_timeout_ms: REQUEST_TIMEOUT_MS, ..ScyllaOptions::new(server.to_string(), keyspace) }
}

/// Opens a store as soon as the server is ready.
pub(crate) async fn open(options: &ScyllaOptions) -> Result<ScyllaStore, StoreError> {
    loop {
        match ScyllaStore::open(options, Clock::system(), Generator::from_entropy().u64()).await {
            Err(StoreError::Unavailable { .. }) => tokio::time::sleep(OPEN_AGAIN).await,
            opened => return opened,
        }
    }
}
