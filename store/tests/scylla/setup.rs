//! Problems of the cluster or the configuration are reported, and nothing is changed.

use crate::support::{open, own_keyspace, shared_server};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use std::net::SocketAddr;
use switchboard_clock::{Clock, Generator};
use switchboard_store::{PushStore as _, ScyllaOptions, ScyllaStore, SetupError, Store, StoreError};
use switchboard_tests::{CassandraOptions, CassandraServer};

async fn refused(options: &ScyllaOptions) -> SetupError {
    match open(options).await {
        Err(StoreError::Setup(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened"),
    }
}

async fn operator(server: SocketAddr) -> Session {
    SessionBuilder::new().known_node_addr(server).build().await.expect("connects")
}

/// Changes the store's schema record.
async fn note(session: &Session, options: &ScyllaOptions, part: &str, value: &str) {
    let update = format!("UPDATE {}.store SET value = ? WHERE part = ? IF EXISTS", options.keyspace);
    session.query_unpaged(update, (value, part)).await.expect("writes");
}

async fn make_keyspace(session: &Session, keyspace: &str, copies: u32) {
    let make = format!(
        "CREATE KEYSPACE {keyspace}
         WITH replication = {{'class': 'NetworkTopologyStrategy', 'datacenter1': {copies}}}"
    );
    session.query_unpaged(make, ()).await.expect("makes it");
}

#[tokio::test]
async fn a_keyspace_that_is_of_something_else() {
    let server = shared_server().await;
    let options = own_keyspace(server);
    let session = operator(server).await;
    make_keyspace(&session, &options.keyspace, 1).await;
    let table = format!("CREATE TABLE {}.orders (id int PRIMARY KEY)", options.keyspace);
    session.query_unpaged(table, ()).await.expect("makes it");
    let error = refused(&options).await;
    assert!(matches!(&error, SetupError::Keyspace { keyspace, .. } if *keyspace == options.keyspace), "{error}");
    let name = ScyllaOptions { keyspace: "No-Name".to_owned(), ..options };
    assert!(matches!(refused(&name).await, SetupError::Keyspace { .. }));
}

#[tokio::test]
async fn a_schema_of_a_newer_version() {
    let server = shared_server().await;
    let options = own_keyspace(server);
    drop(open(&options).await.expect("opens"));
    let session = operator(server).await;
    note(&session, &options, "schema", "1000").await;
    drop(open(&options).await.expect("a later version that works with this one has been here"));
    note(&session, &options, "schema_oldest", "3").await;
    let error = refused(&options).await;
    assert!(matches!(error, SetupError::NewerSchema { found: 1000, known: 2, .. }), "{error}");
}

/// Operators change it after a restore.
#[tokio::test]
async fn an_id_that_is_none() {
    let server = shared_server().await;
    let options = own_keyspace(server);
    drop(open(&options).await.expect("opens"));
    let session = operator(server).await;
    for id in ["", "after the restore", "v1.2"] {
        note(&session, &options, "store_id", id).await;
        let error = refused(&options).await;
        assert!(!error.may_pass() && matches!(&error, SetupError::StoreId { found, .. } if found == id), "{error}");
        let message = error.to_string();
        let names_it = message.contains(&options.keyspace) && message.contains("row store_id of its table store");
        assert!(names_it && message.contains("must be a string of 1 to 128 bytes of"), "{message}");
    }
    note(&session, &options, "store_id", "after-the-restore").await;
    assert_eq!(open(&options).await.expect("opens").store_id(), "after-the-restore");
}

#[tokio::test]
async fn a_migration_that_was_broken_off_is_done_again() {
    let server = shared_server().await;
    let options = own_keyspace(server);
    drop(open(&options).await.expect("opens"));
    let session = operator(server).await;
    note(&session, &options, "schema", "1").await;
    let last = format!("DROP TABLE {}.dead_letters", options.keyspace);
    session.query_unpaged(last, ()).await.expect("drops it");
    let store = open(&options).await.expect("opens");
    let tenant = "t".parse().expect("a tenant id");
    assert_eq!(store.dead_letters(&tenant, 0, 1).await.expect("reads"), []);
}

#[tokio::test]
async fn more_copies_than_nodes_and_another_number_than_configured() {
    let server = shared_server().await;
    let options = own_keyspace(server);
    let many = ScyllaOptions { replication_factor: 3, ..options.clone() };
    let error = refused(&many).await;
    assert!(matches!(error, SetupError::Replication { wanted: 3, nodes: 1 }), "{error}");
    make_keyspace(&operator(server).await, &options.keyspace, 3).await;
    let error = refused(&options).await.to_string();
    assert!(error.contains("keeps 3 copies") && error.contains("replication_factor is 1"), "{error}");
}

#[tokio::test]
async fn statements_that_need_not_wait_need_no_room_to_wait_in() {
    let server = shared_server().await;
    let options = ScyllaOptions { statements_waiting_max: 0, ..own_keyspace(server) };
    let store = open(&options).await.expect("opens");
    store.check().await.expect("answers");
}

#[tokio::test]
async fn nobody_there_is_no_mistake() {
    let port = switchboard_tests::ReservedPort::new().expect("a port");
    let options = ScyllaOptions::new(port.address().to_string(), "nobody");
    let opened = ScyllaStore::open(&options, Clock::system(), Generator::from_entropy().u64()).await;
    assert!(matches!(opened, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn wrong_credentials() {
    let start = || CassandraServer::start_with(CassandraOptions { passwords: true, ..CassandraOptions::default() });
    let server = tokio::task::spawn_blocking(start).await.expect("no panic").expect("Cassandra starts");
    let options = own_keyspace(server.address());
    let credentials = |password: &str| Some(("cassandra".to_owned(), password.to_owned()));
    let right = ScyllaOptions { credentials: credentials("cassandra"), ..options.clone() };
    drop(open(&right).await.expect("opens"));
    let wrong = ScyllaOptions { credentials: credentials("wrong"), ..options.clone() };
    for options in [wrong, options] {
        let error = refused(&options).await;
        assert!(matches!(error, SetupError::Credentials { .. }), "{error}");
    }
}

#[tokio::test]
async fn several_nodes_start_at_once() {
    let options = own_keyspace(shared_server().await);
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let options = options.clone();
        opening.spawn(async move {
            open(&options).await.map(|store| switchboard_store::Store::store_id(&store).to_owned())
        });
    }
    let ids: Vec<String> = opening.join_all().await.into_iter().map(|opened| opened.expect("opens")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}
