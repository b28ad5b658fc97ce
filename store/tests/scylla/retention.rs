//! Entries older than their tenant's retention are gone for every reader, without leaving a gap.

use crate::support::{open, own_keyspace, shared_server};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use std::net::SocketAddr;
use std::sync::Arc;
use switchboard_protocol::Seq;
use switchboard_store::contract::{Conversation, conversation_key};
use switchboard_store::{HistoryRange, Retention, ScyllaOptions, Store};

const RETENTION_S: u32 = 100_000;

async fn store_with(options: &ScyllaOptions, retention: Retention) -> Arc<dyn Store> {
    Arc::new(open(&ScyllaOptions { retention, ..options.clone() }).await.expect("opens"))
}

fn retention() -> Retention {
    Retention::new(0, [(conversation_key("c").tenant, RETENTION_S)])
}

async fn operator(server: SocketAddr) -> Session {
    SessionBuilder::new().known_node_addr(server).build().await.expect("connects")
}

/// Simulates the passing of time.
async fn expire(session: &Session, options: &ScyllaOptions, upto: u64) {
    let delete = format!(
        "DELETE FROM {}.messages WHERE tenant = 't' AND conversation = 'c' AND bucket = 0 AND seq <= {upto}",
        options.keyspace
    );
    session.query_unpaged(delete, ()).await.expect("deletes");
}

async fn log_of(store: &Arc<dyn Store>, c: &Conversation) -> Vec<u64> {
    let log = store.read(&c.key, Seq::ZERO, Seq::new(c.end), usize::MAX, usize::MAX).await.expect("reads");
    log.iter().map(|entry| entry.seq.get()).collect()
}

#[tokio::test]
async fn what_has_expired_is_no_hole() {
    let server = shared_server().await;
    let options = own_keyspace(server);
    let store = store_with(&options, retention()).await;
    let mut c = Conversation::group(&store, "c").await;
    for _ in 0..3 {
        c.send("alice", "x").await;
    }
    store.end_term(&c.key, c.term).await.expect("ends");
    let session = operator(server).await;
    expire(&session, &options, 3).await;
    assert_eq!(log_of(&store, &c).await, [4]);
    expire(&session, &options, 4).await;
    assert_eq!(log_of(&store, &c).await, [0_u64; 0]);
    let (mut c, begun) = Conversation::take_over(&store, &c.key, 2).await;
    assert_eq!((begun.end, begun.messages, begun.members.len()), (Seq::new(4), 3, 2));
    let next = c.send("bob", "y").await;
    let reaction = c.reaction(next, "alice", "a", true);
    c.append([reaction]).await;
    assert_eq!(log_of(&store, &c).await, [5, 6]);
    for range in [HistoryRange::Newest, HistoryRange::After(Seq::ZERO), HistoryRange::Before(Seq::new(7))] {
        let page = store.history(&c.key, range, Seq::new(c.end), 10, usize::MAX).await.expect("reads");
        let seqs: Vec<_> = page.messages.iter().map(|message| (message.seq, message.state.is_some())).collect();
        assert_eq!((seqs, page.more), (vec![(next, true)], false));
    }
    assert!(store.message(&c.key, Seq::new(2)).await.expect("reads").is_none());
}

/// No node ran for as long as entries live.
#[tokio::test]
async fn what_expired_before_it_was_projected_is_not_waited_for() {
    let server = shared_server().await;
    let options = ScyllaOptions { apply_interval_ms: 3_600_000, ..own_keyspace(server) };
    let store = store_with(&options, retention()).await;
    let mut c = Conversation::direct(&store, "c").await;
    for _ in 0..3 {
        c.send("alice", "x").await;
    }
    // Another process finds the end that is in the head.
    let raise = format!("UPDATE {}.conversation_head SET log_end = 3", options.keyspace);
    let session = operator(server).await;
    let raise = format!("{raise} WHERE tenant = 't' AND conversation = 'c' IF log_end = 0");
    session.query_unpaged(raise, ()).await.expect("raises");
    expire(&session, &options, 3).await;
    let other = store_with(&options, retention()).await;
    let (mut c, begun) = Conversation::take_over(&other, &c.key, 2).await;
    assert_eq!((begun.end, begun.members.len()), (Seq::new(3), 2));
    c.send("bob", "y").await;
    assert_eq!(log_of(&other, &c).await, [4]);
}

#[tokio::test]
async fn rows_expire_also_those_that_are_written_once_more() {
    let server = shared_server().await;
    let options = own_keyspace(server);
    let (one, other) = (store_with(&options, retention()).await, store_with(&options, retention()).await);
    let session = operator(server).await;
    let select = format!("SELECT TTL(payload) FROM {}.messages", options.keyspace);
    let ttl_s = async || {
        let found = session.query_unpaged(select.as_str(), ()).await.expect("reads").into_rows_result().expect("rows");
        let (ttl_s,): (Option<i32>,) = found.single_row().expect("one row");
        ttl_s.unwrap_or_default().cast_unsigned()
    };
    let mut c = Conversation::direct(&one, "c").await;
    c.send("alice", "x").await;
    assert!((1..=RETENTION_S).contains(&ttl_s().await));
    let (_, begun) = Conversation::take_over(&other, &c.key, 2).await;
    assert_eq!(begun.end, Seq::new(1));
    assert!((1..=RETENTION_S).contains(&ttl_s().await));
}
