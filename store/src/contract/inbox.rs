//! Inbox rows: how changes merge, and how clients catch up.

use super::{Backend, user_key};
use crate::{InboxChange, InboxLast, InboxPage, InboxRange, InboxRow, Settings, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_protocol::{ConversationId, Seq};

pub(super) fn conversation(id: &str) -> ConversationId {
    id.parse().expect("a conversation id")
}

/// An empty change.
pub(super) fn change(id: &str) -> InboxChange {
    let conversation = conversation(id);
    InboxChange { conversation, last: None, mentioned_seq: Seq::ZERO, read: None, membership: None, settings: None }
}

pub(super) fn last(seq: u64) -> InboxLast {
    InboxLast { last_seq: Seq::new(seq), messages: seq, preview: None, ask_owner: false, outline: None }
}

pub(super) const ALL: InboxRange = InboxRange { after: 0, below: None };

async fn put(store: &Arc<dyn Store>, changes: impl IntoIterator<Item = InboxChange>) {
    let changes = changes.into_iter().map(|change| (user_key("alice"), change)).collect();
    store.put_inbox(changes).await.expect("puts");
}

async fn row(store: &Arc<dyn Store>, id: &str) -> InboxRow {
    store.inbox_row(&user_key("alice"), &conversation(id)).await.expect("reads").expect("a row")
}

async fn page(store: &Arc<dyn Store>, range: InboxRange, limit: usize) -> InboxPage {
    store.inbox(&user_key("alice"), range, limit).await.expect("reads")
}

pub async fn changes_merge_by_their_own_order(backend: &dyn Backend) {
    let store = backend.open().await;
    let muted = Settings { muted_until: None, archived: true, pinned: false };
    put(&store, [InboxChange { last: Some(last(5).into()), mentioned_seq: Seq::new(3), ..change("c") }]).await;
    put(&store, [InboxChange { read: Some((Seq::new(4), 4)), membership: Some((Seq::new(2), true)), ..change("c") }])
        .await;
    put(&store, [InboxChange { settings: Some((1, muted.clone())), ..change("c") }]).await;
    let full = row(&store, "c").await;
    assert_eq!((&full.last, full.mentioned_seq.get(), full.read_seq.get(), full.read_messages), (&last(5), 3, 4, 4));
    assert_eq!((full.membership_seq.get(), full.member, full.settings_number), (2, true, 1));
    assert_eq!(full.settings, muted);
    let older = InboxChange {
        last: Some(last(4).into()),
        mentioned_seq: Seq::new(2),
        read: Some((Seq::new(3), 9)),
        membership: Some((Seq::new(1), false)),
        settings: Some((1, Settings::default())),
        ..change("c")
    };
    put(&store, [older]).await;
    assert_eq!(row(&store, "c").await, full, "late changes change nothing, not even the version");
    let mixed = InboxChange { last: Some(last(4).into()), membership: Some((Seq::new(6), false)), ..change("c") };
    put(&store, [mixed]).await;
    let removed = row(&store, "c").await;
    assert_eq!((removed.last.last_seq.get(), removed.member), (5, false), "each part for itself");
    assert!(removed.version > full.version);
}

pub async fn nothing_changed_nothing_raised(backend: &dyn Backend) {
    let store = backend.open().await;
    put(&store, [change("c")]).await;
    let none = store.inbox_row(&user_key("alice"), &conversation("c")).await.expect("reads");
    assert_eq!(none, None, "nothing makes no row");
    put(&store, [InboxChange { last: Some(last(1).into()), ..change("c") }]).await;
    let before = (page(&store, ALL, 10).await, row(&store, "c").await);
    put(&store, [InboxChange { last: Some(last(1).into()), ..change("c") }, change("c")]).await;
    let after = (page(&store, ALL, 10).await, row(&store, "c").await);
    assert_eq!((before.0.rows, before.0.top, before.1), (after.0.rows, after.0.top, after.1));
}

pub async fn those_to_be_asked_are_listed(backend: &dyn Backend) {
    let store = backend.open().await;
    let large = |seq, ask_owner| Some(InboxLast { ask_owner, ..last(seq) }.into());
    let asked = async || {
        // Independent of the page.
        let asked = page(&store, InboxRange { after: u64::MAX, below: None }, 1).await.asked;
        asked.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    put(&store, ["a", "b", "c"].map(|id| InboxChange { last: large(1, id != "b"), ..change(id) })).await;
    let other = vec![(user_key("bob"), InboxChange { last: large(1, true), ..change("d") })];
    store.put_inbox(other).await.expect("puts");
    assert_eq!(asked().await, ["a", "c"]);
    put(&store, [InboxChange { last: large(2, true), ..change("b") }]).await;
    put(&store, [InboxChange { last: large(2, false), ..change("c") }]).await;
    assert_eq!(asked().await, ["a", "b"]);
    put(&store, [InboxChange { membership: Some((Seq::new(3), false)), ..change("a") }]).await;
    assert_eq!(asked().await, ["b"], "nobody asks for who is no member");
    put(&store, [InboxChange { membership: Some((Seq::new(4), true)), ..change("a") }]).await;
    assert_eq!(asked().await, ["a", "b"]);
}

pub async fn pages_by_version(backend: &dyn Backend) {
    let store = backend.open().await;
    let empty = page(&store, ALL, 10).await;
    assert_eq!((empty.rows.len(), empty.more), (0, false));
    put(&store, (1..=5).map(|n| InboxChange { last: Some(last(1).into()), ..change(&format!("c{n}")) })).await;
    put(&store, [InboxChange { last: Some(last(2).into()), ..change("c2") }]).await;
    let other = vec![(user_key("bob"), InboxChange { last: Some(last(1).into()), ..change("c1") })];
    store.put_inbox(other).await.expect("puts");
    let ids = |page: &InboxPage| page.rows.iter().map(|row| row.conversation.to_string()).collect::<Vec<_>>();
    let all = page(&store, ALL, 10).await;
    assert_eq!((ids(&all), all.more), (["c2", "c5", "c4", "c3", "c1"].map(str::to_owned).into(), false));
    assert!(all.rows.is_sorted_by(|a, b| a.version > b.version), "newest first");
    assert!(all.rows[0].version <= all.top);
    let top = async || store.inbox_top(&user_key("alice")).await.expect("reads");
    assert_eq!(top().await, all.top);
    let first = page(&store, ALL, 2).await;
    assert_eq!((ids(&first), first.more), (["c2", "c5"].map(str::to_owned).into(), true));
    let rest = InboxRange { after: 0, below: Some(first.rows[1].version) };
    let rest = page(&store, rest, 3).await;
    assert_eq!((ids(&rest), rest.more), (["c4", "c3", "c1"].map(str::to_owned).into(), false));
    let since = InboxRange { after: all.top, below: None };
    assert_eq!(page(&store, since, 10).await.rows.len(), 0);
    put(&store, [InboxChange { last: Some(last(2).into()), ..change("c4") }]).await;
    assert_eq!(ids(&page(&store, since, 10).await), ["c4"]);
    assert!(top().await > all.top);
    let between = InboxRange { after: all.rows[3].version, below: Some(all.rows[0].version) };
    assert_eq!(ids(&page(&store, between, 10).await), ["c5"], "both bounds are outside");
    assert_eq!(ids(&page(&store, InboxRange { after: 9_999, below: Some(3) }, 10).await), [""; 0]);
    assert!(page(&store, ALL, 0).await.more);
}

/// A client that pages down and then continues from the first page's `top` ends up with every row's newest state, while
/// rows change all the time.
pub async fn paging_under_change_misses_nothing(backend: &dyn Backend) {
    let store = backend.open().await;
    let writer = {
        let store = store.clone();
        let mut writers = tokio::task::JoinSet::new();
        writers.spawn(async move {
            for seq in 1..=200u64 {
                let id = format!("c{}", seq * 7 % 23);
                put(&store, [InboxChange { last: Some(last(seq).into()), ..change(&id) }]).await;
            }
        });
        writers
    };
    let mut known: BTreeMap<ConversationId, InboxRow> = BTreeMap::new();
    let mut after = 0;
    let mut rounds = 0;
    while rounds < 50 || !writer.is_empty() && rounds < 10_000 {
        after = catch_up(&store, after, &mut known).await;
        rounds += 1;
        tokio::task::yield_now().await;
    }
    writer.join_all().await;
    catch_up(&store, after, &mut known).await;
    let truth = page(&store, ALL, 1_000).await.rows;
    assert_eq!(truth.len(), 23);
    for row in truth {
        assert_eq!(known.get(&row.conversation), Some(&row));
    }
}

/// One `sync`: pages of three from the newest down to `after`. Returns the next `after`.
async fn catch_up(store: &Arc<dyn Store>, after: u64, known: &mut BTreeMap<ConversationId, InboxRow>) -> u64 {
    let mut range = InboxRange { after, below: None };
    let mut top = None;
    loop {
        let page = match store.inbox(&user_key("alice"), range, 3).await {
            // It changes faster than it is read.
            Err(StoreError::Unavailable { .. }) => continue,
            page => page.expect("reads"),
        };
        top = top.or(Some(page.top));
        for row in &page.rows {
            range.below = Some(row.version);
            let older = known.get(&row.conversation).is_none_or(|known| known.version < row.version);
            if older {
                known.insert(row.conversation.clone(), row.clone());
            }
        }
        if !page.more {
            return top.unwrap_or(after);
        }
    }
}
