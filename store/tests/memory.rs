//! The in-memory store, which the simulation uses: its faults, and what several processes that share it see.

use std::sync::Arc;
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::{Seq, Timestamp};
use switchboard_store::contract::{Conversation, conversation_key, incarnation, model, user};
use switchboard_store::{
    Appended, Begun, Claim, Entry, Log, MemoryNode, MemoryStore, Previous, RecentWindow, Release, Store, StoreError,
    TermNumber, Users,
};

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

/// Repeats appends with open outcomes unchanged until they are known; returns the characteristics of the run.
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

// Several processes

/// A group whose term belongs to the first of two processes.
async fn shared_by_two() -> (Arc<MemoryStore>, Conversation, Arc<dyn Store>) {
    let shared = store(1);
    let node = || -> Arc<dyn Store> { Arc::new(MemoryNode::new(shared.clone())) };
    let one = node();
    let mut c = Conversation::group(&one, "g").await;
    c.send("alice", "one").await;
    (shared.clone(), c, node())
}

async fn begin(store: &Arc<dyn Store>, by: u64, previous: Previous) -> Result<Begun, StoreError> {
    let recent = RecentWindow { entries_max: u64::MAX, since: Timestamp::MIN };
    let claim = Claim { by: incarnation(by), create: None, recent, previous };
    store.begin_term(&conversation_key("g"), claim).await.map(|begun| begun.expect("exists"))
}

async fn append(c: &mut Conversation) -> Appended {
    let entry = c.message("alice", "more");
    c.store.append(&c.key, c.term, Arc::from([entry])).await.expect("answers")
}

#[tokio::test]
async fn another_process_takes_over_what_was_released() {
    let (_, mut c, other) = shared_by_two().await;
    let owned = begin(&other, 2, Previous::Unknown).await;
    assert!(matches!(&owned, Err(StoreError::Owned { by, term, .. }) if *by == incarnation(1) && *term == c.term));
    assert_eq!(other.release(&c.key, c.term), None, "not its own");
    assert_eq!(append(&mut c).await, Appended::Durable);
    let release = c.store.release(&c.key, c.term).unwrap();
    assert_eq!(release, Release { term: c.term, end: Seq::new(c.end) });
    assert_eq!(append(&mut c).await, Appended::Superseded);
    assert_eq!(c.store.append(&c.key, c.term, Arc::from([])).await.unwrap(), Appended::Superseded);
    assert_eq!(c.store.release(&c.key, c.term), Some(release), "may be asked for again");
    let begun = begin(&other, 2, Previous::Released(release)).await.unwrap();
    assert_eq!((begun.term, begun.end, begun.untold), (TermNumber(2), release.end, true));
    assert_eq!(other.append(&c.key, begun.term, Arc::from([])).await.unwrap(), Appended::Durable);
    let stale = begin(&c.store, 1, Previous::Released(release)).await;
    assert!(matches!(stale, Err(StoreError::Owned { .. })), "a release is of one term: {stale:?}");
}

#[tokio::test]
async fn an_incarnation_that_is_gone_is_fenced_for_ever() {
    let (shared, mut c, other) = shared_by_two().await;
    assert!(matches!(begin(&other, 2, Previous::Gone(incarnation(3))).await, Err(StoreError::Owned { .. })));
    assert_eq!(append(&mut c).await, Appended::Durable);
    let begun = begin(&other, 2, Previous::Gone(incarnation(1))).await.unwrap();
    assert_eq!((begun.end, begun.untold), (Seq::new(c.end), true));
    assert_eq!(append(&mut c).await, Appended::Superseded);
    let back = begin(&c.store, 1, Previous::Gone(incarnation(2))).await;
    assert!(matches!(back, Err(StoreError::Fenced { incarnation: me }) if me == incarnation(1)));
    begin(&c.store, 9, Previous::Gone(incarnation(2))).await.expect("as a new incarnation");

    shared.lose_life(&incarnation(9));
    assert!(matches!(begin(&c.store, 9, Previous::Unknown).await, Err(StoreError::Fenced { .. })));
}

#[tokio::test]
async fn what_another_process_has_may_look_as_it_was_earlier() {
    let (_, c, other) = shared_by_two().await;
    let alice = user("alice");
    let seen = async |store: &Arc<dyn Store>| {
        let head = store.head(&c.key).await.unwrap().unwrap();
        let member = store.member(&c.key, &alice).await.unwrap().is_some();
        (head.end, head.ended, member, store.members(&c.key).await.unwrap().len())
    };
    assert_eq!(seen(&c.store).await, (Seq::new(2), false, true, 2));
    assert_eq!(seen(&other).await, (Seq::ZERO, false, false, 0), "as it was when the term began");
    c.store.end_term(&c.key, c.term).await.unwrap();
    assert_eq!(seen(&other).await, (Seq::new(2), true, true, 2), "at rest it is for all to see");
}
