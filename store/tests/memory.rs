//! The faults of the store in memory, by which the simulation runs.

use std::sync::Arc;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::Seq;
use switchboard_store::contract::{Conversation, conversation_key, model};
use switchboard_store::{Appended, Entry, Log, MemoryStore, Store, StoreError, Users};

fn store(seed: u64) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::with_generator("store", Generator::from_seed(seed)))
}

#[tokio::test]
async fn switched_off_it_does_nothing() {
    let store = store(1);
    let shared: Arc<dyn Store> = store.clone();
    let mut c = Conversation::direct(&shared, "c").await;
    store.faults().unavailable(true);
    let entry = c.message("alice", "hello");
    let refused = store.append(&c.key, c.term, Arc::from([entry.clone()])).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
    assert!(store.head(&c.key).await.is_err() && store.check().await.is_err());
    store.faults().unavailable(false);
    assert_eq!(store.head(&c.key).await.unwrap().unwrap().end, Seq::ZERO);
    c.append([entry]).await;
}

/// Appends with open outcomes, each repeated as it is until it is known; gives what the run looked like.
async fn run_with_open_outcomes(seed: u64) -> (u64, u64) {
    let store = store(seed);
    let shared: Arc<dyn Store> = store.clone();
    let clock = Clock::simulated(0, Arc::default());
    let generator = Generator::from_seed(seed);
    let mut c = Conversation::group(&shared, "g").await;
    store.faults().unknown_percent(40);
    store.faults().delay_ms_max(50);
    let mut errors = 0;
    for _ in 0..100 {
        let entries: Arc<[Entry]> = (0..=generator.below(3)).map(|_| model::random_entry(&generator, &mut c)).collect();
        loop {
            match store.append(&c.key, c.term, entries.clone()).await {
                Ok(appended) => break assert_eq!(appended, Appended::Durable),
                Err(StoreError::Unavailable { .. }) => errors += 1,
                Err(other) => panic!("seed {seed}: {other}"),
            }
        }
    }
    store.faults().unknown_percent(0);
    model::assert_is_folded(&c, &format!("seed {seed}")).await;
    (errors, clock.monotonic_ms())
}

#[tokio::test(start_paused = true)]
async fn open_outcomes_are_repeated_and_stored_once_the_same_way_each_time() {
    for seed in 0..10 {
        let first = run_with_open_outcomes(seed).await;
        assert!(first.0 > 20 && first.1 > 1_000, "seed {seed}: {first:?}");
        assert_eq!(run_with_open_outcomes(seed).await, first, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_open_outcomes_some_are_done_and_some_are_not() {
    let store = store(3);
    store.faults().unknown_percent(100);
    let mut done = 0;
    for number in 0..100 {
        let user = switchboard_store::contract::user_key(&format!("u{number}"));
        let at = switchboard_protocol::Timestamp::from_unix_ms(1);
        assert!(store.revoke(&user, at).await.is_err());
        done += u32::from(store.user(&user).await.unwrap().revoked_at.is_some());
    }
    assert!((20..80).contains(&done), "{done}");
    assert!(store.head(&conversation_key("c")).await.unwrap().is_none());
}
