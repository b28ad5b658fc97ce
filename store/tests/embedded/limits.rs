//! What exceeds a limit gets its typed answer, and nothing of it is stored.

use super::{options, try_open};
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

#[tokio::test]
async fn too_many_waiting_reads_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { reads_max: 1, reads_waiting_max: 0, ..options(folder.path()) };
    let store: Arc<dyn Store> = try_open(&options).unwrap();
    // The first one's slot is free when it is polled again, after the second.
    let (taken, refused) = tokio::join!(store.active(&[]), store.active(&[]));
    assert!(taken.is_ok(), "who need not wait needs no room to wait in: {taken:?}");
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}
