//! The queue of pushes as several nodes see it, also after a node died at the worst moment.

use crate::support::{open, own_keyspace, shared_server};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_protocol::{Seq, Timestamp};
use switchboard_store::contract::user_key;
use switchboard_store::{Channel, LeasedJob, Priority, PushEnd, PushJob, PushKey, PushStore as _, ScyllaStore};
use tokio::task::JoinSet;

const MINUTE_MS: i64 = 60_000;

struct Nodes {
    one: Arc<ScyllaStore>,
    other: Arc<ScyllaStore>,
    session: Session,
    keyspace: String,
}

impl Nodes {
    async fn new() -> Self {
        let server = shared_server().await;
        let options = own_keyspace(server);
        let one = Arc::new(open(&options).await.expect("opens"));
        let other = Arc::new(open(&options).await.expect("opens"));
        let session = SessionBuilder::new().known_node_addr(server).build().await.expect("connects");
        Self { one, other, session, keyspace: options.keyspace }
    }

    /// The rows of a table.
    async fn rows(&self, table: &str) -> usize {
        let select = format!("SELECT * FROM {}.{table}", self.keyspace);
        let found = self.session.query_unpaged(select, ()).await.expect("reads");
        found.into_rows_result().expect("rows").rows_num()
    }
}

fn key(who: &str, of: &str) -> PushKey {
    PushKey { user: user_key(who), conversation: of.parse().expect("an id"), channel: Channel::Apns }
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_700_000_000_000 + ms)
}

fn job(key: PushKey, up_to: u64, due_ms: i64) -> PushJob {
    let (up_to_seq, not_before) = (Seq::new(up_to), at(due_ms));
    PushJob { key, up_to_seq, count: Some(1), priority: Priority::High, not_before }
}

async fn enqueue(store: &ScyllaStore, job: PushJob) {
    store.enqueue_pushes(vec![job]).await.expect("enqueues");
}

async fn take(store: &ScyllaStore, now_ms: i64, limit: usize) -> Vec<LeasedJob> {
    let lease_until = at(now_ms + MINUTE_MS);
    store.take_pushes(Channel::Apns, at(now_ms), lease_until, limit).await.expect("takes")
}

async fn send(store: &ScyllaStore, leased: LeasedJob, now_ms: i64) {
    store.finish_push(leased, PushEnd::Sent, at(now_ms)).await.expect("finishes");
}

#[tokio::test]
async fn two_homes_and_two_workers_at_once() {
    let nodes = Nodes::new().await;
    let mut homes = JoinSet::new();
    for store in [&nodes.one, &nodes.other] {
        let store = store.clone();
        homes.spawn(async move {
            for up_to in 1..=10 {
                enqueue(&store, job(key("alice", "c"), up_to, 0)).await;
                enqueue(&store, job(key(&format!("u{up_to}"), "c"), up_to, 0)).await;
            }
        });
    }
    homes.join_all().await;
    let mut workers = JoinSet::new();
    for store in [&nodes.one, &nodes.other] {
        let store = store.clone();
        workers.spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..11 {
                taken.extend(take(&store, 1, 2).await);
            }
            taken
        });
    }
    let taken = workers.join_all().await.into_iter().flatten();
    let mut told = BTreeMap::new();
    for leased in taken {
        let before = told.insert(leased.job.key, leased.job.up_to_seq.get());
        assert_eq!(before, None, "one notification, to one worker");
    }
    assert_eq!((told.len(), told[&key("alice", "c")]), (11, 10), "the newest");
}

#[tokio::test]
async fn a_queue_that_was_worked_off_is_empty() {
    let nodes = Nodes::new().await;
    for minute in 0..3 {
        enqueue(&nodes.one, job(key("alice", &format!("c{minute}")), 1, minute * MINUTE_MS)).await;
    }
    assert_eq!(nodes.rows("push_buckets").await, 3);
    let now_ms = 10 * MINUTE_MS;
    for leased in take(&nodes.one, now_ms, 10).await {
        send(&nodes.other, leased, now_ms).await;
    }
    // The minutes in which the jobs were due, and those of their leases.
    for _ in 0..2 {
        assert_eq!(take(&nodes.other, now_ms + 10 * MINUTE_MS, 10).await, []);
    }
    assert_eq!((nodes.rows("push_queue").await, nodes.rows("push_buckets").await), (0, 0));
    assert_eq!(nodes.rows("push_deliveries").await, 3, "what the devices show");
}

#[tokio::test]
async fn what_comes_into_a_minute_that_is_being_closed_is_found() {
    let nodes = Nodes::new().await;
    let mut enqueuing = JoinSet::new();
    let home = nodes.other.clone();
    enqueuing.spawn(async move {
        for up_to in 1..=30 {
            enqueue(&home, job(key(&format!("u{up_to}"), "c"), up_to, 0)).await;
        }
    });
    // Each poll that finds the minute empty and over closes it. No job is so late that it is taken from who enqueues it.
    let (now_ms, mut found, mut was_last) = (50_000, 0, false);
    loop {
        let taken = take(&nodes.one, now_ms, 10).await;
        if was_last && taken.is_empty() {
            break;
        }
        was_last |= enqueuing.try_join_next().is_some();
        found += taken.len();
        for leased in taken {
            send(&nodes.one, leased, now_ms).await;
        }
    }
    assert_eq!(found, 30);
}

#[tokio::test]
async fn what_comes_between_the_steps_in_which_a_minute_is_closed_is_found() {
    let nodes = Nodes::new().await;
    enqueue(&nodes.one, job(key("alice", "c"), 1, 0)).await;
    for leased in take(&nodes.one, MINUTE_MS, 1).await {
        send(&nodes.one, leased, MINUTE_MS).await;
    }
    // A worker has marked it, and found it empty.
    let minute = format!("WHERE channel = 'apns' AND priority = 2 AND bucket = {}", at(0).unix_ms() / MINUTE_MS);
    let mark = format!("UPDATE {}.push_buckets SET state = 'closing' {minute} IF state = 'open'", nodes.keyspace);
    nodes.session.query_unpaged(mark, ()).await.expect("writes");
    enqueue(&nodes.other, job(key("alice", "c"), 2, 0)).await;
    let end = format!("DELETE FROM {}.push_buckets {minute} IF state = 'closing'", nodes.keyspace);
    nodes.session.query_unpaged(end, ()).await.expect("writes");
    assert_eq!(take(&nodes.one, 2 * MINUTE_MS, 10).await.len(), 1);
}

#[tokio::test]
async fn a_home_that_died_before_it_came_to_the_place_holds_nothing_up() {
    let nodes = Nodes::new().await;
    enqueue(&nodes.one, job(key("alice", "c"), 1, 0)).await;
    let shard = format!("SELECT shard FROM {}.push_queue", nodes.keyspace);
    let found = nodes.session.query_unpaged(shard, ()).await.expect("reads").into_rows_result().expect("rows");
    let (shard,) = found.single_row::<(i32,)>().expect("one");
    for leased in take(&nodes.one, 0, 1).await {
        send(&nodes.one, leased, 0).await;
    }
    // Its write: the hint of the change that it died before making.
    let hint = format!(
        "UPDATE {}.push_queue USING TIMESTAMP 9 SET number = 9
         WHERE channel = 'apns' AND priority = 2 AND bucket = ? AND shard = ? AND due_ms = ?
         AND tenant = 't' AND user_id = 'alice' AND conversation = 'c'",
        nodes.keyspace
    );
    let due_ms = at(0).unix_ms();
    nodes.session.query_unpaged(hint, (due_ms / MINUTE_MS, shard, due_ms)).await.expect("writes");
    assert_eq!(nodes.rows("push_queue").await, 1);
    assert_eq!(take(&nodes.other, MINUTE_MS / 2, 10).await, [], "it may live");
    assert_eq!(nodes.rows("push_queue").await, 1);
    assert_eq!(take(&nodes.other, 2 * MINUTE_MS, 10).await, []);
    assert_eq!(nodes.rows("push_queue").await, 0);
    enqueue(&nodes.one, job(key("alice", "c"), 2, 3 * MINUTE_MS)).await;
    assert_eq!(take(&nodes.other, 3 * MINUTE_MS, 10).await.len(), 1);
}
