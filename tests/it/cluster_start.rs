//! Starting a node of a cluster: it waits for dependencies that are not there yet, and reports what can't work
//! (OPERATING, "Start", "Exit codes").

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use scylla::client::session_builder::SessionBuilder;
use serde_json::{Value, json};
use switchboard_tests::{CassandraOptions, CassandraServer, RedisServer, ReservedPort};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::cluster::{Cluster, message, until_at_home, until_sent, until_view};
use crate::support::{Client, Config, Http, START_PATIENCE, soon, within};

const CERTIFICATE: &str = include_str!("keys/tls-a.cert.pem");

/// Waits until somebody listens there, and `/readyz` reports these dependencies; each of its answers has this status and
/// state, and no other but the store's changes meanwhile: its check has a short time limit.
async fn until_readyz(address: SocketAddr, (status, state): (u16, &str), dependencies: Value) {
    let listens = async { while TcpStream::connect(address).await.is_err() {} };
    soon("the port", listens).await;
    let told = async {
        loop {
            let ready = Http::new(&address.to_string()).get("/readyz").send().await;
            let told = &ready.json()["data"];
            assert_eq!((ready.status, &told["status"]), (status, &json!(state)), "{told}");
            assert_eq!(told["dependencies"]["redis"], dependencies["redis"], "{told}");
            if told["dependencies"] == dependencies {
                return;
            }
        }
    };
    within(START_PATIENCE, "the dependencies", told).await;
}

#[tokio::test]
async fn redis_is_waited_for() {
    let mut cluster = Cluster::new().await;
    cluster.redis.kill().unwrap();
    let port = ReservedPort::new().unwrap();
    let config = cluster.config("n1").set("node.listen", port.address());
    let mut starting = config.start_in(TempDir::new().unwrap());
    starting.logged("Redis is away; trying again").await;
    until_readyz(port.address(), (503, "starting"), json!({"store": "ok", "redis": "opening"})).await;

    cluster.redis.start_again().unwrap();
    let server = starting.ready().await;
    until_readyz(port.address(), (200, "ready"), json!({"store": "ok", "redis": "ok"})).await;
    Client::sign_in(&server, "alice").await;
}

#[tokio::test]
async fn the_store_is_waited_for_and_a_node_that_waits_can_be_stopped() {
    let (nobody, port) = (ReservedPort::new().unwrap(), ReservedPort::new().unwrap());
    let config =
        Config::new().set("store.kind", "scylla").set("store.scylla.nodes", format!("['{}']", nobody.address()));
    let mut waiting = config.set("node.listen", port.address()).start_in(TempDir::new().unwrap());
    until_readyz(port.address(), (503, "starting"), json!({"store": "opening"})).await;
    assert_eq!(Http::new(&port.address().to_string()).get("/healthz").send().await.status, 200);
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
        .set("store.scylla.request_timeout_ms", 20_000)
        .set("store.scylla.username", "switchboard")
        .set("store.scylla.password", "sesame")
        .set("store.scylla.forming_timeout_ms", 600_000);
    let mut starting = config.start_in(TempDir::new().unwrap());
    starting.logged("waiting for the store, which may still be forming").await;

    // Longer than anything takes on a busy machine.
    let limit = Duration::from_mins(1);
    let operator = SessionBuilder::new()
        .known_node_addr(store.address())
        .user("cassandra", "cassandra")
        .connection_timeout(limit)
        .metadata_request_clientside_timeout(limit)
        .metadata_request_serverside_timeout(limit);
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
    until_at_home(&mut bob).await;
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
