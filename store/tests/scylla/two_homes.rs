//! Two homes write one user's inbox, as they do for a moment when the ring changes: nobody misses a change.

use crate::support::{Statements, open, own_keyspace, shared_server};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use switchboard_protocol::{ConversationId, Seq};
use switchboard_store::contract::user_key;
use switchboard_store::{
    Inbox as _, InboxChange, InboxLast, InboxPage, InboxRange, ScyllaOptions, ScyllaStore, StoreError,
};
use tokio::task::JoinSet;

async fn stores<const N: usize>() -> [Arc<ScyllaStore>; N] {
    stores_with(own_keyspace(shared_server().await)).await
}

async fn stores_with<const N: usize>(options: ScyllaOptions) -> [Arc<ScyllaStore>; N] {
    let mut stores = Vec::new();
    for _ in 0..N {
        stores.push(Arc::new(open(&options).await.expect("opens")));
    }
    stores.try_into().unwrap_or_else(|_| unreachable!("as many as were opened"))
}

fn ends_at(id: &str, seq: u64) -> InboxChange {
    let last = InboxLast { last_seq: Seq::new(seq), messages: seq, preview: None, ask_owner: false, outline: None };
    InboxChange {
        conversation: id.parse().expect("an id"),
        last: Some(Arc::new(last)),
        mentioned_seq: Seq::ZERO,
        read: None,
        membership: None,
        settings: None,
    }
}

async fn put(store: &ScyllaStore, change: InboxChange) {
    store.put_inbox(vec![(user_key("alice"), change)]).await.expect("puts");
}

async fn read_since(store: &ScyllaStore, after: u64) -> Result<InboxPage, StoreError> {
    store.inbox(&user_key("alice"), InboxRange { after, below: None }, 100).await
}

async fn since(store: &ScyllaStore, after: u64) -> InboxPage {
    read_since(store, after).await.expect("reads")
}

#[tokio::test]
async fn in_turn() {
    let [one, other] = stores().await;
    let mut top = 0;
    for seq in 1..=6 {
        let (writer, reader) = if seq % 2 == 0 { (&one, &other) } else { (&other, &one) };
        put(writer, ends_at("c", seq)).await;
        for store in [writer, reader] {
            let page = since(store, top).await;
            assert_eq!(page.rows.len(), 1, "{seq}: the change has a version above every one that was told");
            assert_eq!(page.rows[0].last.last_seq, Seq::new(seq));
        }
        top = since(reader, top).await.top;
        put(writer, ends_at("c", seq)).await;
        put(writer, ends_at("c", seq - 1)).await;
        assert_eq!(since(reader, top).await.rows, [], "{seq}: nothing has changed");
    }
    // What a home has not itself seen as written is written again, once.
    put(&other, ends_at("c", 6)).await;
    assert_eq!(since(&one, top).await.rows.len(), 1);
}

#[tokio::test]
async fn what_one_has_kept_of_a_row_is_old() {
    let [one, other] = stores().await;
    put(&one, ends_at("c", 5)).await;
    let newer = InboxChange { read: Some((Seq::new(6), 6)), ..ends_at("c", 9) };
    put(&other, newer.clone()).await;
    let top = since(&other, 0).await.top;
    // Each part is new to this home; except for the mention, the row has newer ones.
    let older = InboxChange { mentioned_seq: Seq::new(4), read: Some((Seq::new(3), 3)), ..ends_at("c", 7) };
    put(&one, older).await;
    let page = since(&other, top).await;
    assert_eq!(page.rows.len(), 1, "the change has a version above every one that was told");
    let row = &page.rows[0];
    let parts = [row.last.last_seq, row.read_seq, row.mentioned_seq].map(Seq::get);
    assert_eq!((parts, row.read_messages), ([9, 6, 4], 6), "nothing of what the other home wrote is lost");
    // It does not know of those yet, and writes them once.
    for rows in [1, 0] {
        let top = since(&other, 0).await.top;
        put(&one, newer.clone()).await;
        let page = since(&other, top).await;
        assert_eq!(page.rows.len(), rows);
    }
}

#[tokio::test]
async fn who_has_written_the_newest_row_knows_the_top() {
    let statements = Statements::default();
    let _counted = metrics::set_default_local_recorder(&statements);
    let [one, other] = stores().await;
    let user = user_key("alice");
    let top = async |store: &ScyllaStore| {
        let before = statements.of("inbox");
        let top = store.inbox_top(&user).await.expect("reads");
        (top, statements.of("inbox") - before)
    };
    put(&one, ends_at("c", 5)).await;
    let page = since(&one, 0).await;
    assert_eq!(top(&one).await, (page.top, 0));
    assert_eq!(top(&other).await, (page.top, 2), "rows are read until nothing newer comes up");
    put(&other, ends_at("d", 6)).await;
    let page = since(&other, 0).await;
    assert_eq!(top(&other).await, (page.top, 0));
    assert_eq!(top(&one).await.0, page.top, "it finds out that another home writes");
}

#[tokio::test]
async fn an_epoch_takes_one_compare_and_set() {
    let statements = Statements::default();
    let _counted = metrics::set_default_local_recorder(&statements);
    let [one, other] = stores().await;
    let costs = || ["inbox_epoch_serial", "first_inbox_epoch", "next_inbox_epoch"].map(|op| statements.of(op));
    put(&one, ends_at("c", 5)).await;
    assert_eq!(costs(), [0, 1, 0]);
    put(&other, ends_at("c", 6)).await;
    assert_eq!(costs(), [0, 1, 1]);
}

#[tokio::test]
async fn a_long_inbox_is_read_in_parts() {
    const ROWS: usize = 2_500;
    let statements = Statements::default();
    let _counted = metrics::set_default_local_recorder(&statements);
    let [home] = stores().await;
    let changes = (0..ROWS).map(|n| (user_key("alice"), ends_at(&format!("c{n}"), 1))).collect();
    home.put_inbox(changes).await.expect("puts");
    let before = statements.of("inbox");
    let range = InboxRange { after: 0, below: None };
    let page = home.inbox(&user_key("alice"), range, ROWS).await.expect("reads");
    let ids: BTreeSet<_> = page.rows.iter().map(|row| row.conversation.clone()).collect();
    assert_eq!((page.rows.len(), ids.len(), page.more), (ROWS, ROWS, false), "each row once");
    assert_eq!(statements.of("inbox") - before, 3, "a thousand rows at a time");
}

#[tokio::test]
async fn there_is_no_room_for_rows() {
    let options = ScyllaOptions { inbox_rows_bytes: 0, ..own_keyspace(shared_server().await) };
    let [one] = stores_with(options).await;
    put(&one, ends_at("c", 5)).await;
    put(&one, InboxChange { mentioned_seq: Seq::new(4), ..ends_at("c", 3) }).await;
    let page = since(&one, 0).await;
    let row = &page.rows[0];
    assert_eq!((row.last.last_seq.get(), row.mentioned_seq.get()), (5, 4), "they are read");
    put(&one, ends_at("c", 5)).await;
    assert_eq!(since(&one, page.top).await.rows.len(), 1, "what was read is written again");
}

#[tokio::test]
async fn at_once() {
    let [one, other, reader] = stores().await;
    let mut writing = JoinSet::new();
    for (number, store) in [one, other].into_iter().enumerate() {
        writing.spawn(async move {
            for seq in 1..=40u64 {
                // Each has its own conversations and one that both write.
                let own = format!("c{number}-{}", seq % 3);
                let changes = [ends_at(&own, seq), ends_at("both", 2 * seq + number as u64)];
                let changes = changes.map(|change| (user_key("alice"), change));
                while store.put_inbox(changes.to_vec()).await.is_err() {}
            }
        });
    }
    let mut known: BTreeMap<ConversationId, (u64, Seq)> = BTreeMap::new();
    let mut top = 0;
    loop {
        let done = writing.is_empty();
        // `Unavailable`: it changes faster than it is read.
        let Ok(page) = read_since(&reader, top).await else { continue };
        assert!(page.top >= top, "tops only grow");
        for row in page.rows {
            known.insert(row.conversation, (row.version, row.last.last_seq));
        }
        top = page.top;
        if done {
            break;
        }
        while let Some(written) = writing.try_join_next() {
            written.expect("no panic");
        }
    }
    let truth = since(&reader, 0).await.rows;
    assert_eq!(truth.len(), 7);
    let truth: BTreeMap<_, _> =
        truth.into_iter().map(|row| (row.conversation, (row.version, row.last.last_seq))).collect();
    assert_eq!(known, truth);
}
