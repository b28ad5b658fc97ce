//! Three servers with three replicas: any one of them may be paused or killed, and everything goes on.

use crate::support::{open, own_keyspace};
use std::sync::Arc;
use std::time::Duration;
use switchboard_protocol::Seq;
use switchboard_store::contract::Conversation;
use switchboard_store::{Appended, ScyllaOptions, SetupError, Store, StoreError};
use switchboard_tests::{CLUSTER_NODES, CassandraServer};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

const CONVERSATIONS: u64 = 8;

/// Appends in total that must become durable while one server is down.
const MEANWHILE: u64 = 200;

/// For a statement whose server has been paused or killed, and for the delay before it is repeated.
const REQUEST_TIMEOUT_MS: u64 = 1_000;

/// For one that is not repeated.
const PATIENT_TIMEOUT_MS: u64 = 60_000;

const REPEAT_AFTER: Duration = Duration::from_millis(20);

/// Appends entries sequentially until `enough`; returns their number.
async fn append_on(
    mut c: Conversation,
    durable: watch::Sender<u64>,
    mut enough: watch::Receiver<bool>,
) -> Conversation {
    while !*enough.borrow_and_update() {
        let entry = c.message("alice", "hello");
        loop {
            match c.store.append(&c.key, c.term, Arc::from([entry.clone()])).await {
                Ok(appended) => break assert_eq!(appended, Appended::Durable),
                Err(StoreError::Unavailable { .. }) => tokio::time::sleep(REPEAT_AFTER).await,
                Err(other) => panic!("{other}"),
            }
        }
        durable.send_modify(|durable| *durable += 1);
    }
    c
}

/// Opens a store as soon as the servers have formed a cluster of three.
async fn open_when_formed(options: &ScyllaOptions) -> Arc<dyn Store> {
    loop {
        match open(options).await {
            Ok(store) => return Arc::new(store),
            Err(StoreError::Setup(SetupError::Replication { .. })) => tokio::time::sleep(REPEAT_AFTER).await,
            Err(other) => panic!("{other}"),
        }
    }
}

async fn until_more(durable: &mut watch::Receiver<u64>) {
    let before = *durable.borrow();
    durable.wait_for(|durable| *durable >= before + MEANWHILE).await.expect("they append");
}

#[tokio::test]
async fn one_of_three_is_paused_and_one_is_killed() {
    let started = spawn_blocking(CassandraServer::start_cluster).await.expect("no panic");
    let mut servers = started.expect("three Cassandras start");
    let options = ScyllaOptions {
        nodes: servers.iter().map(|server| server.address().to_string()).collect(),
        replication_factor: u32::from(CLUSTER_NODES),
        request_timeout_ms: REQUEST_TIMEOUT_MS,
        ..own_keyspace(servers[0].address())
    };
    let store = open_when_formed(&options).await;
    let patient = ScyllaOptions { request_timeout_ms: PATIENT_TIMEOUT_MS, ..options };
    let patient = open_when_formed(&patient).await;
    let (durable, mut so_far) = watch::channel(0);
    let (enough, go_on) = watch::channel(false);
    let mut appending = JoinSet::new();
    for number in 0..CONVERSATIONS {
        let c = Conversation::direct(&store, &format!("c{number}")).await;
        appending.spawn(append_on(c, durable.clone(), go_on.clone()));
    }
    until_more(&mut so_far).await;

    servers[1].pause().expect("stops");
    until_more(&mut so_far).await;
    servers[1].resume().expect("goes on");
    until_more(&mut so_far).await;

    servers[2].kill();
    until_more(&mut so_far).await;
    // Others begin terms and read, with two of three.
    enough.send_replace(true);
    for c in appending.join_all().await {
        let (next, begun) = Conversation::take_over(&patient, &c.key, 2).await;
        assert_eq!(begun.end, Seq::new(c.end));
        let log = patient.read(&next.key, Seq::ZERO, begun.end, usize::MAX, usize::MAX).await.expect("reads");
        assert_eq!(log.len() as u64, c.end, "each once");
    }
}
