//! A keyspace for each test.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_clock::{Clock, Generator};
use switchboard_store::{ScyllaOptions, ScyllaStore, StoreError};
use switchboard_tests::CassandraServer;

/// A server under load is slow.
const REQUEST_TIMEOUT_MS: u64 = 60_000;

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
    let opener = Generator::from_entropy().u64();
    loop {
        match ScyllaStore::open(options, Clock::system(), opener).await {
            Err(StoreError::Unavailable { .. }) => tokio::time::sleep(OPEN_AGAIN).await,
            opened => return opened,
        }
    }
}

/// Counts the statements of stores that are opened while it is the thread's recorder.
#[derive(Clone, Default)]
pub(crate) struct Statements(Arc<Mutex<HashMap<String, Arc<AtomicU64>>>>);

impl Statements {
    /// The number of statements so far that are called `op` in the metrics.
    pub(crate) fn of(&self, op: &str) -> u64 {
        self.0.lock().expect("no panic").get(op).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Recorder for Statements {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let op = key
            .labels()
            .find(|label| label.key() == "op")
            .filter(|_| key.name() == "switchboard_store_statements_total");
        match op {
            Some(op) => self.0.lock().expect("no panic").entry(op.value().to_owned()).or_default().clone().into(),
            None => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
