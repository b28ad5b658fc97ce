//! Ownership of the folder.

use super::{child, open, options, try_open};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use switchboard_clock::{Clock, Generator};
use switchboard_store::contract::Conversation;
use switchboard_store::{EmbeddedStore, StoreError};

#[tokio::test]
async fn a_second_store_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let second = try_open(&options(folder.path()));
    assert!(matches!(second, Err(StoreError::Locked { .. })), "{:?}", second.err());
    Conversation::direct(&first, "c").await.send("alice", "still works").await;
    first.close().await.unwrap();
    open(folder.path());
}

/// The child of the next test: holds the store until its input ends.
#[test]
fn holds_the_folder() {
    let Some(folder) = child::folder() else { return };
    let _store = EmbeddedStore::open(&options(&folder), Clock::system(), &Generator::from_entropy()).unwrap();
    println!("\nopen");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_second_process_is_refused_and_let_in_when_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = child::command(&[], "folder::holds_the_folder", folder.path().as_os_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"), "the child has the store");
    let refused = try_open(&options(folder.path()));
    let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(message.contains("in use by another process"), "{message}");
    first.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(first.wait().unwrap().success());
    open(folder.path());
}

/// All files in a folder, with their content.
fn contents(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_foreign_folder_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    fs::write(folder.path().join("photos/one.jpg"), b"jpg").unwrap();
    let before = contents(folder.path());
    let refused = try_open(&options(folder.path())).err().expect("refused");
    assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
    let message = refused.to_string();
    assert!(message.contains("photos") && message.contains(folder.path().to_str().unwrap()), "{message}");
    assert_eq!(contents(folder.path()), before);
}

#[tokio::test]
async fn a_newer_format_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).close().await.unwrap();
    let format = folder.path().join("store/format.json");
    fs::write(&format, br#"{"switchboard_store":2,"store_id":"x"}"#).unwrap();
    let before = contents(folder.path());
    let refused = try_open(&options(folder.path())).err().expect("refused");
    assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
    assert!(refused.to_string().contains("format 2"), "{refused}");
    assert_eq!(contents(folder.path()), before);
}

/// Operators change it after a restore.
#[tokio::test]
async fn an_id_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).close().await.unwrap();
    let format = folder.path().join("store/format.json");
    for id in ["", "after the restore", "v1.2"] {
        fs::write(&format, format!(r#"{{"switchboard_store":1,"store_id":"{id}"}}"#)).unwrap();
        let refused = try_open(&options(folder.path())).err().expect("refused");
        assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
        let message = refused.to_string();
        let names_it = message.contains("store_id in store/format.json") && message.contains(&format!("{id:?}"));
        assert!(names_it && message.contains("must be a string of 1 to 128 bytes of"), "{message}");
    }
    fs::write(&format, br#"{"switchboard_store":1,"store_id":"after-the-restore"}"#).unwrap();
    assert_eq!(open(folder.path()).store_id(), "after-the-restore");
}

#[tokio::test]
async fn a_store_that_was_being_made_when_the_process_died_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lock"), b"").unwrap();
    fs::create_dir_all(folder.path().join("store.making/db")).unwrap();
    fs::write(folder.path().join("store.making/format.json"), b"{\"swi").unwrap();
    let store = open(folder.path());
    Conversation::direct(&store, "c").await.send("alice", "hello").await;
    assert!(!folder.path().join("store.making").exists());
}

#[test]
fn a_folder_that_cannot_be_made_or_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.join("store"), file] {
        let refused = try_open(&options(&path)).err().expect("refused");
        assert!(matches!(refused, StoreError::Folder { .. }), "{refused}");
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
    }
    let unwritable = Path::new("/proc/self");
    let refused = try_open(&options(unwritable)).err().expect("refused");
    assert!(matches!(refused, StoreError::Folder { .. } | StoreError::Foreign { .. }), "{refused}");
}

#[tokio::test]
async fn each_store_has_an_id_of_its_own_for_life() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut ids = Vec::new();
    for folder in &folders {
        for _ in 0..2 {
            let store = open(folder.path());
            ids.push(store.store_id().to_owned());
            store.close().await.unwrap();
        }
    }
    assert!(ids[0] == ids[1] && ids[2] == ids[3] && ids[0] != ids[2], "{ids:?}");
    assert!(ids[0].parse::<switchboard_protocol::StoreId>().is_ok());
}
