//! Starting a node of a cluster: it waits for dependencies that are not there yet, and reports what can't work
//! (OPERATING, "Start", "Exit codes").

use rustix::process::Signal;
use scylla::client::session_builder::SessionBuilder;
use serde_json::json;
use switchboard_tests::{CassandraOptions, CassandraServer, RedisServer, free_port};
use tempfile::TempDir;

use crate::support::cluster::{Cluster, message, until_sent, until_view};
use crate::support::{Client, Config, Http, soon};

const CERTIFICATE: &str = include_str!("keys/tls-a.cert.pem");

/// Waits until somebody listens there; returns the answer of `/readyz`.
async fn readiness(address: &str) -> (u16, serde_json::Value) {
    let listens = async { while tokio::net::TcpStream::connect(address).await.is_err() {} };
    soon("the port", listens).await;
    let ready = Http::new(address).get("/readyz").send().await;
    (ready.status, ready.json()["data"].clone())
}

fn free_address() -> String {
    format!("127.0.0.1:{}", free_port().unwrap())
}

#[tokio::test]
async fn redis_is_waited_for() {
    let mut cluster = Cluster::new().await;
    cluster.redis.kill().unwrap();
    let address = free_address();
    let config = cluster.config("n1").set("node.listen", &address);
    let mut starting = config.start_in(TempDir::new().unwrap());
    starting.logged("Redis is away; trying again").await;
    let waiting = json!({"status": "starting", "dependencies": {"store": "ok", "redis": "opening"}});
    assert_eq!(readiness(&address).await, (503, waiting));

    cluster.redis.start_again().unwrap();
    let server = starting.ready().await;
    let state = readiness(&address).await;
    assert_eq!(state, (200, json!({"status": "ready", "dependencies": {"store": "ok", "redis": "ok"}})));
    Client::sign_in(&server, "alice").await;
}

#[tokio::test]
async fn the_store_is_waited_for_and_a_node_that_waits_can_be_stopped() {
    let nobody = free_address();
    let address = free_address();
    let config = Config::new().set("store.kind", "scylla").set("store.scylla.nodes", format!("['{nobody}']"));
    let mut waiting = config.set("node.listen", &address).start_in(TempDir::new().unwrap());
    assert_eq!(readiness(&address).await, (503, json!({"status": "starting", "dependencies": {"store": "opening"}})));
    waiting.logged("waiting for the store").await;
    waiting.signal(Signal::TERM);
    assert_eq!(waiting.ended().await, Some(0));
}

#[tokio::test]
async fn a_store_that_is_still_forming_is_waited_for() {
    let locked = || CassandraServer::start_with(CassandraOptions { passwords: true, ..CassandraOptions::default() });
    let store = tokio::task::spawn_blocking(locked).await.unwrap().unwrap();
    let config = Config::new()
        .set("store.kind", "scylla")
        .set("store.scylla.nodes", format!("['{}']", store.address()))
        .set("store.scylla.replication_factor", 1)
        .set("store.scylla.username", "switchboard")
        .set("store.scylla.password", "sesame")
        .set("store.scylla.forming_timeout_ms", 600_000);
    let mut starting = config.start_in(TempDir::new().unwrap());
    starting.logged("waiting for the store, which may still be forming").await;

    let operator = SessionBuilder::new().known_node_addr(store.address()).user("cassandra", "cassandra");
    let operator = operator.build().await.unwrap();
    let user = "CREATE ROLE switchboard WITH PASSWORD = 'sesame' AND LOGIN = true AND SUPERUSER = true";
    operator.query_unpaged(user, ()).await.unwrap();
    let server = starting.ready().await;
    Client::sign_in(&server, "alice").await;
}

#[tokio::test]
async fn redis_speaks_tls_and_must_have_a_certificate_that_is_trusted() {
    let redis = RedisServer::start_with_tls(CERTIFICATE, include_str!("keys/tls-a.key.pem")).unwrap();
    let folder = TempDir::new().unwrap();
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, CERTIFICATE).unwrap();
    let cluster = Cluster::new().await.set("redis.url", format!("rediss://localhost:{}", redis.port()));

    let mut distrustful = cluster.config("n3").start_in(TempDir::new().unwrap());
    distrustful.logged("InvalidCertificate(UnknownIssuer)").await;

    let trusting = |node| cluster.config(node).env("SSL_CERT_FILE", &authority).start();
    let first = trusting("n1").await;
    let second = trusting("n2").await;
    until_view([&first, &second], 2).await;
    let mut alice = Client::sign_in(&first, "alice").await;
    let mut bob = Client::sign_in(&second, "bob").await;
    let group = alice.make_group(&["bob"]).await;
    bob.until("membership").await;
    until_sent(&mut alice, &message(&group, "hello")).await;
    assert_eq!(bob.until("message").await["client_id"], "hello");
}

#[tokio::test]
async fn what_cant_work_is_refused_with_the_keys_name() {
    let cluster = Cluster::new().await;
    let locked = RedisServer::start_with(&["--requirepass", "sesame"]).unwrap();
    let config = || cluster.config("n1");
    for (config, code, key) in [
        (config().set("store.kind", "embedded"), 2, "store.kind: embedded"),
        (
            config().set("store.scylla.replication_factor", 3).set("store.scylla.forming_timeout_ms", 1),
            2,
            "store.scylla.replication_factor 3: the cluster has 1",
        ),
        (
            config().set("redis.url", locked.url()).set("redis.password", "wrong"),
            2,
            "redis.username, redis.password: not let in",
        ),
        (config().set("store.scylla.keyspace", "system_auth"), 2, "store.scylla.keyspace \"system_auth\""),
    ] {
        let (found, said) = config.refused().await;
        assert_eq!((found, said.starts_with(key)), (Some(code), true), "{key}: {said}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_refused_and_its_bearer_stays() {
    let cluster = Cluster::new().await;
    let first = cluster.start("n1").await;
    let mut alice = Client::sign_in(&first, "alice").await;
    let (code, said) = cluster.config("n1").refused().await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.starts_with("node.id: \"n1\" is taken by the node at ws://"), "{said}");
    until_view([&first], 1).await;
    alice.expect_quiet().await;
}
