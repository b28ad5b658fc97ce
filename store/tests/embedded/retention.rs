//! Entries older than their tenant's retention are removed, and the rest stays unchanged.

use crate::options;
use std::sync::Arc;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::{Seq, Timestamp};
use switchboard_store::contract::Conversation;
use switchboard_store::{EmbeddedOptions, EmbeddedStore, HistoryRange, Retention, Store};

/// The time of entry n of the suite: entries are a second apart.
fn time_of(seq: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_700_000_000_000 + i64::try_from(seq).unwrap() * 1_000)
}

fn store_with(path: &std::path::Path, retention: Retention) -> Arc<dyn Store> {
    let options = EmbeddedOptions { retention, ..options(path) };
    Arc::new(EmbeddedStore::open(&options, Clock::system(), &Generator::from_entropy()).expect("opens"))
}

async fn log_of(c: &Conversation) -> Vec<u64> {
    let log = c.store.read(&c.key, Seq::ZERO, Seq::new(c.end), usize::MAX, usize::MAX).await.expect("reads");
    log.iter().map(|entry| entry.seq.get()).collect()
}

#[tokio::test]
async fn old_entries_go_with_what_became_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), Retention::new(100, []));
    // More than one write removes.
    let mut c = Conversation::group(&store, "g").await;
    for _ in 0..600 {
        c.send("alice", "x").await;
    }
    let reaction = c.reaction(Seq::new(2), "bob", "a", true);
    c.append([reaction]).await;
    let last = c.end;
    assert_eq!(store.expire(time_of(1)).await.expect("removes"), 0, "nothing is old enough");
    // What is exactly a hundred seconds old stays.
    assert_eq!(store.expire(time_of(500 + 100)).await.expect("removes"), 499);
    assert_eq!(log_of(&c).await, (500..=last).collect::<Vec<_>>());
    let message = store.message(&c.key, Seq::new(2)).await.expect("reads");
    assert!(message.is_none(), "{message:?}");
    let page = store.history(&c.key, HistoryRange::Newest, Seq::new(last), 1_000, usize::MAX).await.expect("reads");
    assert_eq!((page.messages.len(), page.more), (102, false));

    // The conversation continues normally, also with another owner.
    let next = c.send("bob", "y").await;
    assert_eq!(next.get(), last + 1);
    let (mut c, begun) = Conversation::take_over(&store, &c.key, 2).await;
    assert_eq!((begun.end, begun.messages, begun.members.len()), (next, 601, 2));
    assert_eq!(store.expire(time_of(10_000)).await.expect("removes"), next.get() - 499);
    assert_eq!(log_of(&c).await, [0_u64; 0]);
    c.send("bob", "z").await;
    assert_eq!(log_of(&c).await, [next.get() + 1]);
}

#[tokio::test]
async fn each_tenant_has_his_own() {
    let folder = tempfile::tempdir().unwrap();
    let tenant = || "t".parse().unwrap();
    for (retention, stays) in [
        (Retention::default(), true),
        (Retention::new(1, [(tenant(), 0)]), true),
        (Retention::new(0, [("other".parse().unwrap(), 1)]), true),
        (Retention::new(0, [(tenant(), 1)]), false),
    ] {
        let store = store_with(&folder.path().join(format!("{stays}{}", retention.is_for_ever())), retention.clone());
        let mut c = Conversation::direct(&store, &format!("{}", folder.path().read_dir().unwrap().count())).await;
        c.send("alice", "x").await;
        store.expire(time_of(1_000)).await.expect("removes");
        assert_eq!(!log_of(&c).await.is_empty(), stays, "{retention:?}");
        store.close().await.expect("closes");
    }
}
