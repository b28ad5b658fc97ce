//! Damage to the store's files: it is reported, or everything is there. Nothing is ever silently missing.

use super::{open, options, try_open};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use switchboard_clock::Generator;
use switchboard_protocol::{Seq, Timestamp};
use switchboard_store::contract::{Conversation, conversation_key, model, user, user_key};
use switchboard_store::{HistoryRange, InboxChange, InboxLast, InboxRange, Store, StoreError};

const CONVERSATIONS: usize = 3;

/// Creates a store whose rows are partly in tables and partly in the journal.
async fn make(folder: &Path) {
    let store = open(folder);
    let generator = Generator::from_seed(5);
    for number in 0..CONVERSATIONS {
        let mut c = Conversation::group(&store, &format!("g{number}")).await;
        for _ in 0..60 {
            let entries = [(); 3].map(|()| model::random_entry(&generator, &mut c));
            c.append(entries).await;
            let text = format!("{:x}", generator.u64()).repeat(150);
            c.send("alice", &text).await;
        }
        let last = InboxLast {
            last_seq: Seq::new(c.end),
            messages: c.messages,
            preview: None,
            ask_owner: false,
            outline: None,
        };
        let change = InboxChange {
            conversation: c.key.conversation.clone(),
            last: Some(last.into()),
            mentioned_seq: Seq::ZERO,
            read: None,
            membership: None,
            settings: None,
        };
        store.put_inbox(vec![(user_key("alice"), change)]).await.unwrap();
    }
    store.block(&user_key("alice"), &user("bob"), Timestamp::from_unix_ms(1)).await.unwrap();
    store.revoke(&user_key("alice"), Timestamp::from_unix_ms(2)).await.unwrap();
    store.close().await.unwrap();
}

/// Everything that was acknowledged, as text, by where it is read; `Err` where the store reports that it can't be read.
async fn everything(store: &Arc<dyn Store>) -> BTreeMap<String, Result<String, StoreError>> {
    let mut found = BTreeMap::new();
    let everywhere = Seq::new(1 << 40);
    for number in 0..CONVERSATIONS {
        let key = conversation_key(&format!("g{number}"));
        let head = store.head(&key).await.map(|head| head.map(|head| (head.end, head.meta, head.last_message)));
        found.insert(format!("head of {number}"), head.map(|head| format!("{head:?}")));
        let log = store.read(&key, Seq::ZERO, everywhere, usize::MAX, usize::MAX).await;
        found.insert(format!("log of {number}"), log.map(|log| format!("{log:?}")));
        let history = store.history(&key, HistoryRange::Newest, everywhere, usize::MAX, usize::MAX).await;
        found.insert(format!("history of {number}"), history.map(|history| format!("{history:?}")));
        for name in ["alice", "bob", "carl"] {
            let member = store.member(&key, &user(name)).await;
            found.insert(format!("{name} in {number}"), member.map(|member| format!("{member:?}")));
        }
    }
    let inbox = store.inbox(&user_key("alice"), InboxRange { after: 0, below: None }, 100).await;
    found.insert("inbox".to_owned(), inbox.map(|inbox| format!("{:?}", inbox.rows)));
    let alice = store.user(&user_key("alice")).await;
    found.insert("user".to_owned(), alice.map(|alice| format!("{alice:?}")));
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(folder).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

/// Journals are created at a fixed length; without the unused part they are copied faster.
fn cut_off_zeros(folder: &Path) {
    for journal in files(folder).iter().filter(|path| path.extension().is_some_and(|extension| extension == "jnl")) {
        let used = fs::read(journal).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        OpenOptions::new().write(true).open(journal).unwrap().set_len(used as u64).unwrap();
    }
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Remove,
    CutTo(u64),
    Flip(u64),
    Zero(u64),
}

fn damages(len: u64) -> Vec<Damage> {
    let mut damages = vec![Damage::Remove];
    if len > 0 {
        damages.extend([Damage::CutTo(0), Damage::CutTo(len / 2), Damage::CutTo(len - 1), Damage::Zero(len / 2)]);
        let step = (len / 10).max(1);
        damages.extend((0..len).step_by(usize::try_from(step).unwrap()).map(Damage::Flip));
        damages.push(Damage::Flip(len - 1));
    }
    damages
}

fn inflict(damage: Damage, path: &Path) {
    let open = || OpenOptions::new().read(true).write(true).open(path).unwrap();
    match damage {
        Damage::Remove => fs::remove_file(path).unwrap(),
        Damage::CutTo(len) => open().set_len(len).unwrap(),
        Damage::Flip(at) => {
            let mut byte = [0];
            open().read_exact_at(&mut byte, at).unwrap();
            open().write_all_at(&[byte[0] ^ 0x41], at).unwrap();
        }
        Damage::Zero(at) => open().write_all_at(&[0; 64], at).unwrap(),
    }
}

/// One of fjall's `v…` files: fjall keeps the newest, and removes the others when it opens.
fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"v"))
}

/// What is wrong with the store's reaction to a damage.
async fn faults(whole: &Path, name: &Path, damage: Damage, expected: &BTreeMap<String, String>) -> Vec<String> {
    let damaged = tempfile::tempdir().unwrap();
    copy(whole, damaged.path());
    inflict(damage, &damaged.path().join(name));
    let before = contents(damaged.path());
    let mut faults = Vec::new();
    match panic::catch_unwind(|| try_open(&options(damaged.path()))) {
        Err(_) | Ok(Err(StoreError::Foreign { .. } | StoreError::Folder { .. } | StoreError::Unreadable { .. })) => {
            let after = contents(damaged.path());
            let is_changed = |(path, bytes): &(&PathBuf, &Vec<u8>)| match after.get(*path) {
                Some(after) => after != *bytes,
                None => !is_manifest(path),
            };
            faults.extend(before.iter().find(is_changed).map(|(path, _)| format!("refused, but changed {path:?}")));
        }
        Ok(Err(other)) => faults.push(format!("not named: {other}")),
        Ok(Ok(store)) => {
            for (what, found) in everything(&store).await {
                match found {
                    Ok(found) if found != expected[&what] => faults.push(format!("{what} is another one")),
                    Ok(_) | Err(StoreError::Unreadable { .. }) => {}
                    Err(other) => faults.push(format!("{what}: {other}")),
                }
            }
        }
    }
    faults
}

#[tokio::test]
async fn every_file_damaged_in_every_way_is_named_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path()).await;
    cut_off_zeros(folder.path());
    let expected = {
        let whole = tempfile::tempdir().unwrap();
        copy(folder.path(), whole.path());
        everything(&open(whole.path())).await
    };
    let expected = expected.into_iter().map(|(what, found)| (what, found.expect("is whole"))).collect();
    let mut cases = 0;
    for file in files(folder.path()) {
        let name = file.strip_prefix(folder.path()).unwrap();
        for damage in damages(fs::metadata(&file).unwrap().len()) {
            let faults = faults(folder.path(), name, damage, &expected).await;
            assert!(faults.is_empty(), "{damage:?} of {}: {faults:?}", name.display());
            cases += 1;
        }
    }
    assert!(cases > 150, "tables and journals were there to be damaged: {cases}");
}
