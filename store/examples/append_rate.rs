//! How many messages a second the embedded store makes durable on this machine: the baseline for the durable sends of
//! DESIGN §8. Runs some seconds.
//!
//! `cargo run --release -p switchboard-store --features contract --example append_rate [FOLDER]`

use std::sync::Arc;
use switchboard_clock::{Clock, Generator};
use switchboard_store::contract::Conversation;
use switchboard_store::{Appended, EmbeddedOptions, EmbeddedStore, Entry, Store};
use tokio::task::JoinSet;

const RUN_MS: u64 = 1_500;
const TEXT: &str = "a message of some sixty bytes, as people write them to others";

/// Keeps `conversations` concurrent appends of `batch` messages under way, one per conversation.
async fn run(store: &Arc<dyn Store>, clock: &Clock, conversations: usize, batch: usize) {
    let began_us = clock.monotonic_us();
    let mut owners = JoinSet::new();
    for number in 0..conversations {
        let (store, clock) = (store.clone(), clock.clone());
        owners.spawn(async move {
            let id = format!("c{conversations}.{batch}.{number}");
            let mut conversation = Conversation::direct(&store, &id).await;
            let mut appends = 0u64;
            while clock.monotonic_us() - began_us < RUN_MS * 1_000 {
                let entries: Arc<[Entry]> = (0..batch).map(|_| conversation.message("alice", TEXT)).collect();
                let appended = store.append(&conversation.key, conversation.term, entries).await;
                assert!(matches!(appended, Ok(Appended::Durable)), "{appended:?}");
                appends += 1;
            }
            appends
        });
    }
    let appends: u64 = owners.join_all().await.into_iter().sum();
    let messages = appends * batch as u64;
    let elapsed_us = (clock.monotonic_us() - began_us).max(1);
    let per_second = messages * 1_000_000 / elapsed_us;
    println!("{conversations:>6} conversations, {batch:>4} messages an append: {per_second:>8} durable messages/s");
}

/// The cost of one bare write and sync of a page on this machine, without any store.
fn bare_syncs(clock: &Clock, folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(folder.join("bare"))?;
    file.set_len(64 << 20)?;
    file.sync_all()?;
    let began_us = clock.monotonic_us();
    let mut syncs = 0;
    while clock.monotonic_us() - began_us < 500_000 {
        file.write_all_at(&[1; 512], syncs * 512)?;
        file.sync_data()?;
        syncs += 1;
    }
    println!("bare write + fdatasync: {} a second", syncs * 1_000_000 / (clock.monotonic_us() - began_us));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args_os().nth(1).map_or(temporary.path().to_owned(), Into::into);
    let clock = Clock::system();
    bare_syncs(&clock, temporary.path())?;
    let options = EmbeddedOptions::new(folder.join("store"));
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&options, clock.clone(), &Generator::from_entropy())?);
    for (conversations, batch) in [(1, 1), (1, 16), (1, 256), (64, 1), (512, 1), (512, 16), (4_096, 1)] {
        run(&store, &clock, conversations, batch).await;
    }
    store.close().await?;
    Ok(())
}
