//! Several server processes that form one gateway, on their own redis-server and a Cassandra.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use switchboard_tests::{CassandraServer, RedisServer};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;

use super::{Client, Config, Server, soon};

/// Concurrent clusters: each is several processes.
static PLACES: Semaphore = Semaphore::const_new(2);

/// The shared parts of a gateway. Nodes are started and stopped individually.
pub(crate) struct Cluster {
    pub(crate) redis: RedisServer,
    config: Config,
    _place: SemaphorePermit<'static>,
}

impl Cluster {
    /// Uses the Cassandra that all tests share, in its own keyspace.
    pub(crate) async fn new() -> Self {
        let place = PLACES.acquire().await.expect("is never closed");
        let shared = spawn_blocking(CassandraServer::shared).await.expect("no panic").expect("Cassandra starts");
        Self::with(place, &shared.to_string())
    }

    /// Uses this Cassandra, which the test may damage.
    pub(crate) async fn on(cassandra: &CassandraServer) -> Self {
        Self::with(PLACES.acquire().await.expect("is never closed"), &cassandra.address().to_string())
    }

    fn with(place: SemaphorePermit<'static>, cassandra: &str) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let redis = RedisServer::start().expect("redis-server starts");
        let config = Config::new()
            .set("store.kind", "scylla")
            .set("store.scylla.nodes", format!("['{cassandra}']"))
            .set("store.scylla.keyspace", format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed)))
            .set("store.scylla.replication_factor", 1)
            .set("bus.kind", "redis")
            .set("redis.url", redis.url())
            .set("presence.batch_ms", 1)
            .set("drain.spread_ms", 0)
            // Clients that retry without waiting must not be slowed down.
            .set("limits.frames_per_s", 1_000_000)
            // Nobody reads from the clients while a server starts, which can take minutes on a busy machine.
            .set("limits.heartbeat_ms", 3_600_000);
        Self { redis, config, _place: place }
    }

    /// The configuration of each node.
    pub(crate) fn config(&self, node: &str) -> Config {
        self.config.clone().set("node.id", node)
    }

    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.config = self.config.set(key, value);
        self
    }

    /// Adds this to the environment of each node.
    pub(crate) fn env(mut self, name: &'static str, value: &Path) -> Self {
        self.config = self.config.env(name, value);
        self
    }

    pub(crate) async fn start(&self, node: &str) -> Server {
        self.config(node).start().await
    }

    /// Three nodes that see each other.
    pub(crate) async fn start_three(&self) -> [Server; 3] {
        // The first one creates the tables.
        let first = self.start("n1").await;
        let (second, third) = tokio::join!(self.start("n2"), self.start("n3"));
        let nodes = [first, second, third];
        until_view(&nodes, 3).await;
        nodes
    }
}

/// Waits until each of these nodes sees this many.
pub(crate) async fn until_view<'a>(nodes: impl IntoIterator<Item = &'a Server>, members: u32) {
    for node in nodes {
        let sees = async { while node.metric("switchboard_view_members", "").await != f64::from(members) {} };
        soon("the view", sees).await;
    }
}

/// A send to a conversation.
pub(crate) fn message(conversation: &Value, client_id: &str) -> Value {
    json!({"type": "send", "conversation_id": conversation, "client_id": client_id, "content": {"text": client_id}})
}

/// Repeats a send until it is accepted, as a client does; returns its `seq`.
pub(crate) async fn until_sent(client: &mut Client, frame: &Value) -> u64 {
    let sent = async {
        loop {
            let answer = client.ask(frame.clone()).await;
            if answer["type"] == "sent" {
                return answer["seq"].as_u64().expect("a number");
            }
            assert_eq!(answer["code"], "unavailable", "{answer}");
            assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{answer}");
        }
    };
    soon("a send that is taken", sent).await
}

/// The `client_id` of every entry of a conversation, ordered by `seq`, which must have no gaps.
pub(crate) async fn log_of(client: &mut Client, conversation: &Value) -> Vec<Value> {
    let mut log: Vec<Value> = Vec::new();
    loop {
        let ask = json!({"type": "changes", "conversation_id": conversation, "after": log.len()});
        let page = client.ask(ask).await;
        for entry in page["entries"].as_array().unwrap_or_else(|| panic!("no entries: {page}")) {
            assert_eq!(entry["seq"], json!(log.len() + 1), "{entry}");
            log.push(entry["client_id"].clone());
        }
        if page["more"] == false {
            return log;
        }
    }
}
