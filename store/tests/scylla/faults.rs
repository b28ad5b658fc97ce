//! A server that is killed, or paused: nothing durable is lost, and everything recovers by itself.

use crate::support::{open, own_keyspace};
use std::sync::Arc;
use std::time::Duration;
use switchboard_protocol::Seq;
use switchboard_store::contract::Conversation;
use switchboard_store::{Appended, Entry, ScyllaOptions, Store, StoreError};
use switchboard_tests::CassandraServer;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

const CONVERSATIONS: u64 = 8;

/// Appends in total before the kill, and after it.
const MESSAGES: u64 = 100;

/// Longer than what a connection is given at least to answer, shorter than the tests' time limit of a statement.
const SHORT_PAUSE: Duration = Duration::from_secs(6);

/// A time limit of a statement that passes soon.
const SHORT_LIMIT_MS: u64 = 1_000;

/// The delay before an append with an open outcome is repeated.
const REPEAT_AFTER: Duration = Duration::from_millis(50);

async fn own_server() -> CassandraServer {
    spawn_blocking(CassandraServer::start).await.expect("no panic").expect("Cassandra starts")
}

async fn store_of(server: &CassandraServer) -> Arc<dyn Store> {
    Arc::new(open(&own_keyspace(server.address())).await.expect("opens"))
}

async fn append(c: &Conversation, entry: &Entry) -> Result<Appended, StoreError> {
    c.store.append(&c.key, c.term, Arc::from([entry.clone()])).await
}

/// Repeats one append unchanged until its outcome is known; counts how often it was not.
async fn append_until_known(c: &Conversation, entry: &Entry, open: &watch::Sender<u64>) {
    loop {
        match append(c, entry).await {
            Ok(appended) => return assert_eq!(appended, Appended::Durable),
            Err(StoreError::Unavailable { .. }) => open.send_modify(|open| *open += 1),
            Err(other) => panic!("{other}"),
        }
        tokio::time::sleep(REPEAT_AFTER).await;
    }
}

#[tokio::test]
async fn killed_under_appends() {
    let mut server = own_server().await;
    let store = store_of(&server).await;
    let (durable, mut so_far) = watch::channel(0);
    let (open, mut left_open) = watch::channel(0);
    let (enough, go_on) = watch::channel(false);
    let mut appending = JoinSet::new();
    for number in 0..CONVERSATIONS {
        let mut c = Conversation::direct(&store, &format!("c{number}")).await;
        let (durable, open, go_on) = (durable.clone(), open.clone(), go_on.clone());
        appending.spawn(async move {
            let mut sent = Vec::new();
            while !*go_on.borrow() {
                let entry = c.message("alice", "hello");
                append_until_known(&c, &entry, &open).await;
                durable.send_modify(|durable| *durable += 1);
                sent.push(entry.json);
            }
            (c, sent)
        });
    }
    so_far.wait_for(|durable| *durable >= MESSAGES).await.expect("they append");
    server.kill();
    left_open.wait_for(|open| *open > 0).await.expect("they append");
    let restarted = spawn_blocking(move || server.start_again().map(|()| server));
    let _server = restarted.await.expect("no panic").expect("Cassandra starts again");
    let killed_at = *so_far.borrow_and_update();
    so_far.wait_for(|durable| *durable >= killed_at + MESSAGES).await.expect("they append");
    enough.send_replace(true);
    for (c, sent) in appending.join_all().await {
        let (next, begun) = Conversation::take_over(&store, &c.key, 2).await;
        assert_eq!(begun.end, Seq::new(sent.len() as u64));
        let log = store.read(&next.key, Seq::ZERO, begun.end, usize::MAX, usize::MAX).await.expect("reads");
        assert_eq!(log.into_iter().map(|entry| entry.json).collect::<Vec<_>>(), sent, "each once, in its place");
    }
}

#[tokio::test]
async fn paused() {
    let server = own_server().await;
    let options = own_keyspace(server.address());
    let patient: Arc<dyn Store> = Arc::new(open(&options).await.expect("opens"));
    let mut c = Conversation::direct(&patient, "c").await;

    // For less than the time limit of a statement: it is answered.
    server.pause().expect("stops");
    let entry = c.message("alice", "before");
    let appended = tokio::join!(append(&c, &entry), async {
        tokio::time::sleep(SHORT_PAUSE).await;
        server.resume().expect("goes on");
    });
    assert!(matches!(appended, (Ok(Appended::Durable), ())), "{appended:?}");

    // For longer. The server has proved that it is ready; from now on it need not be given that long.
    let impatient = ScyllaOptions { request_timeout_ms: SHORT_LIMIT_MS, ..options };
    let store: Arc<dyn Store> = Arc::new(open(&impatient).await.expect("opens"));
    let (mut c, _) = Conversation::take_over(&store, &c.key, 2).await;
    server.pause().expect("stops");
    let entry = c.message("alice", "meanwhile");
    let unanswered = append(&c, &entry).await;
    assert!(matches!(unanswered, Err(StoreError::Unavailable { .. })), "{unanswered:?}");
    assert!(matches!(store.check().await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(store.head(&c.key).await, Err(StoreError::Unavailable { .. })));
    server.resume().expect("goes on");
    append_until_known(&c, &entry, &watch::Sender::default()).await;
    let entry = c.message("alice", "after");
    append_until_known(&c, &entry, &watch::Sender::default()).await;
    while store.check().await.is_err() {
        tokio::time::sleep(REPEAT_AFTER).await;
    }
    let log = patient.read(&c.key, Seq::ZERO, Seq::new(c.end), usize::MAX, usize::MAX).await.expect("reads");
    assert_eq!(log.len(), 3, "the one whose outcome was open is there once");
}
