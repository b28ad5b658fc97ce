//! What exceeds a limit gets its typed answer, and nothing of it is stored.

use super::{options, try_open};
use futures_util::FutureExt;
use std::sync::Arc;
use switchboard_protocol::Seq;
use switchboard_store::contract::{Conversation, model};
use switchboard_store::{Appended, EmbeddedOptions, Store, StoreError};

#[tokio::test]
async fn a_full_queue_refuses_writes_and_keeps_what_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { queue_writes_max: 3, ..options(folder.path()) };
    let store: Arc<dyn Store> = try_open(&options).unwrap();
    let mut conversations = Vec::new();
    for number in 0..40 {
        conversations.push(Conversation::group(&store, &format!("g{number}")).await);
    }
    let mut owners = tokio::task::JoinSet::new();
    for c in conversations {
        owners.spawn(async move {
            let (mut c, mut refused) = (c, 0);
            for _ in 0..10 {
                let entry = c.message("alice", "text");
                match c.store.append(&c.key, c.term, Arc::from([entry])).await {
                    Ok(appended) => assert_eq!(appended, Appended::Durable),
                    Err(StoreError::Unavailable { .. }) => {
                        refused += 1;
                        (c.end, c.messages) = (c.end - 1, c.messages - 1);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            (c, refused)
        });
    }
    let mut refused_in_all = 0;
    for (c, refused) in owners.join_all().await {
        let head = store.head(&c.key).await.unwrap().unwrap();
        assert_eq!(head.end, Seq::new(c.end), "what was refused is not stored, what was taken is");
        refused_in_all += refused;
        model::assert_is_folded(&c, "after refusals").await;
    }
    assert!(refused_in_all > 0, "the queue was full at times");
}

#[test]
fn too_many_waiting_reads_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { reads_max: 1, reads_waiting_max: 0, ..options(folder.path()) };
    let store: Arc<dyn Store> = try_open(&options).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        // The only thread that reads is held, so that the first read is not done before the second asks.
        drop(tokio::task::spawn_blocking(move || held.recv()));
        let mut first = store.active(&[]);
        assert!((&mut first).now_or_never().is_none(), "it waits for the thread");
        let second = store.active(&[]).now_or_never();
        assert!(matches!(second, Some(Err(StoreError::Unavailable { .. }))), "{second:?}");
        drop(let_go);
        let first = first.await;
        assert!(first.is_ok(), "who need not wait needs no room to wait in: {first:?}");
    });
}
