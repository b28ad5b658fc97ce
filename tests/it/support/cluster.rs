//! Several server processes that form one gateway, on their own redis-server and a Cassandra.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use switchboard_tests::{CassandraServer, RedisServer};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;

use super::tokens::token;
use super::{Client, Config, Connect, Server, soon};

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
            // Longer than a process may stand still on a busy machine.
            .set("store.scylla.request_timeout_ms", 20_000)
            .set("redis.timeout_ms", 10_000)
            .set("cluster.heartbeat_ttl_ms", 30_000)
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

    /// Nodes take each other for dead after the default time, so that a test can wait for it.
    pub(crate) fn burying_soon(self) -> Self {
        // A process counts as stopped after the longer of the TTL and three of these.
        self.set("cluster.heartbeat_ttl_ms", 3_000).set("redis.timeout_ms", 1_000)
    }

    /// As nodes are by default, and with sends that are rejected soon: for tests of what is unavailable.
    pub(crate) fn impatient(self) -> Self {
        self.set("store.scylla.request_timeout_ms", 3_000)
            .set("redis.timeout_ms", 1_000)
            .set("limits.send_timeout_ms", 1_000)
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

/// Repeats a request while it is answered with `unavailable`, as a client does; returns the answer.
pub(crate) async fn until_answered(client: &mut Client, frame: &Value) -> Value {
    let answered = async {
        loop {
            let answer = client.ask(frame.clone()).await;
            if answer["type"] != "error" {
                return answer;
            }
            assert_eq!(answer["code"], "unavailable", "{answer}");
            assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{answer}");
        }
    };
    soon("an answer", answered).await
}

/// Repeats a send until it is accepted; returns its `seq`.
pub(crate) async fn until_sent(client: &mut Client, frame: &Value) -> u64 {
    let sent = until_answered(client, frame).await;
    assert_eq!(sent["type"], "sent", "{sent}");
    sent["seq"].as_u64().expect("a number")
}

/// Signs in, and again while the server asks to come back later; reads `ready`.
pub(crate) async fn until_signed_in(server: &Server, user: &str) -> Client {
    let signed_in = async {
        loop {
            let connect = Connect::to(server).token(&token(user)).query("device_id", &format!("{user}-device"));
            let mut client = connect.open().await;
            let frame = client.recv().await;
            if frame["type"] == "ready" {
                return client;
            }
            assert_eq!((&frame["code"], client.expect_close().await), (&json!("overloaded"), Some(4503)), "{frame}");
        }
    };
    soon("a sign-in", signed_in).await
}

/// Waits until the user's home answers, so it knows this session: what comes from now on is delivered to it.
pub(crate) async fn until_at_home(client: &mut Client) {
    until_answered(client, &json!({"type": "sync"})).await;
}

/// Creates a group with these other members; returns its id.
pub(crate) async fn until_made(client: &mut Client, name: &str, members: &[&str]) -> Value {
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": name, "members": members});
    let made = until_answered(client, &create).await;
    assert_eq!(made["type"], "conversation", "{made}");
    made["conversation_id"].clone()
}

/// The `client_id` of every entry of a conversation, ordered by `seq`, which must have no gaps.
pub(crate) async fn log_of(client: &mut Client, conversation: &Value) -> Vec<Value> {
    let mut log: Vec<Value> = Vec::new();
    loop {
        let ask = json!({"type": "changes", "conversation_id": conversation, "after": log.len()});
        let page = until_answered(client, &ask).await;
        for entry in page["entries"].as_array().unwrap_or_else(|| panic!("no entries: {page}")) {
            assert_eq!(entry["seq"], json!(log.len() + 1), "{entry}");
            log.push(entry["client_id"].clone());
        }
        if page["more"] == false {
            return log;
        }
    }
}
