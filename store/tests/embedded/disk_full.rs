//! A really full disk: a small file system of the test's own, in a mount namespace that ends with it.

use super::{child, options, try_open};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use switchboard_store::contract::{Conversation, model};
use switchboard_store::{Appended, EmbeddedOptions, Entry, Store, StoreError};

/// Space that the store does not get at first.
const FILLER_BYTES: usize = 26 << 20;
/// Enough for the tables to be merged, which takes as much again as they have: with a slow disk, none are when it is full.
const FREED_BYTES: usize = 8 << 20;

/// Runs `test` on a file system of 36 MiB. `false` if this machine does not allow creating one.
fn run_on_small_disk(test: &str) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=36m tmpfs '{}' && exec \"$0\" \"$@\"", folder.path().display());
    let namespaces: &[&str] = &["unshare", "--user", "--map-root-user", "--mount"];
    let is_possible = Command::new(namespaces[0])
        .args(&namespaces[1..])
        .args(["sh", "-c", "mount -t tmpfs tmpfs /mnt"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !is_possible {
        eprintln!("{test}: not run, since unshare or mount is not allowed here");
        return false;
    }
    let before = [namespaces, &["sh", "-c", &mount]].concat();
    let output = child::command(&before, test, folder.path().as_os_str()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
    true
}

async fn append(c: &Conversation, entry: &Entry) -> Result<Appended, StoreError> {
    c.store.append(&c.key, c.term, Arc::from([entry.clone()])).await
}

/// Sends until the store refuses; returns the refused message.
async fn fill(c: &mut Conversation) -> Entry {
    let generator = switchboard_clock::Generator::from_entropy();
    for _ in 0..10_000 {
        let text: String = (0..1_000).map(|_| format!("{:016x}", generator.u64())).collect();
        let entry = c.message("alice", &text);
        match append(c, &entry).await {
            Ok(Appended::Durable) => {}
            Err(StoreError::Unavailable { .. }) => return entry,
            other => panic!("{other:?}"),
        }
    }
    panic!("the disk never filled up");
}

/// Repeats the append unchanged until the store answers it, as an owner does.
async fn repeat_until_durable(c: &Conversation, entry: &Entry) {
    for _ in 0..1_000 {
        match append(c, entry).await {
            Ok(Appended::Durable) => return,
            Err(StoreError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            other => panic!("{other:?}"),
        }
    }
    panic!("the store did not come back");
}

async fn fills_up_and_comes_back(options: EmbeddedOptions) {
    let reserve_bytes = options.reserve_bytes;
    let folder = options.path.parent().unwrap();
    let filler = folder.join("filler");
    fs::write(&filler, vec![1; FILLER_BYTES]).unwrap();
    let store: Arc<dyn Store> = try_open(&options).unwrap();
    store.check().await.unwrap();
    let mut c = Conversation::group(&store, "g").await;
    for round in 0..2 {
        let refused = fill(&mut c).await;
        let durable = c.end - 1;
        assert!(durable > 20, "round {round}: {durable}");
        if reserve_bytes > 0 {
            assert!(store.check().await.is_err(), "round {round}");
            assert!(append(&c, &refused).await.is_err(), "round {round}: still full");
        }
        let head = store.head(&c.key).await;
        if let Ok(head) = head {
            let end = head.expect("exists").end.get();
            assert!(end == durable || end == durable + 1, "reads go on: {end}, {durable}");
        }
        fs::write(&filler, vec![1; (FILLER_BYTES - FREED_BYTES) * (1 - round)]).unwrap();
        repeat_until_durable(&c, &refused).await;
        c.send("bob", "goes on").await;
        store.check().await.unwrap();
    }
    model::assert_is_folded(&c, "after all").await;
    store.close().await.unwrap();
    let store = try_open(&options).unwrap();
    let (again, _) = Conversation::take_over(&store, &c.key, 1).await;
    assert_eq!(again.end, c.end);
    model::assert_is_folded(&again, "opened again").await;
}

#[tokio::test]
async fn with_a_reserve() {
    if let Some(folder) = child::folder() {
        // What is written does not fill a table: merging tables would give room back after a refusal.
        let memtable_bytes = EmbeddedOptions::new(folder.clone()).memtable_bytes;
        let options = options(&folder.join("store"));
        fills_up_and_comes_back(EmbeddedOptions { reserve_bytes: 4 << 20, memtable_bytes, ..options }).await;
    } else {
        run_on_small_disk("disk_full::with_a_reserve");
    }
}

/// Without a reserve the database itself runs into the full disk, and must be reopened.
#[tokio::test]
async fn without_a_reserve() {
    if let Some(folder) = child::folder() {
        fills_up_and_comes_back(EmbeddedOptions { reserve_bytes: 0, ..options(&folder.join("store")) }).await;
    } else {
        run_on_small_disk("disk_full::without_a_reserve");
    }
}
