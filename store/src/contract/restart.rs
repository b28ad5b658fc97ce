//! Closing and reopening.

use super::fixture::time_of;
use super::inbox::{ALL, change, conversation, last};
use super::terms::whole_log;
use super::{Backend, Conversation, incarnation, user, user_key};
use crate::{Cursor, InboxChange, StoreError, TermNumber};
use switchboard_protocol::Seq;

pub async fn everything_outlives_a_restart(backend: &dyn Backend) {
    if !backend.outlives_close() {
        return;
    }
    let store = backend.open().await;
    let store_id = store.store_id().to_owned();
    let mut c = Conversation::group(&store, "g").await;
    let target = c.send("alice", "one").await;
    let entries = [c.reaction(target, "bob", "👍", true), c.update(Some("title"), None), c.edit(target, "edited")];
    c.append(entries).await;
    let cursor = Cursor { delivered_seq: Seq::new(5), read_seq: Seq::new(4), read_messages: 1, ..Cursor::default() };
    store.put_cursors(&c.key, vec![(user("bob"), cursor)]).await.expect("puts");
    let row = InboxChange { last: Some(last(5).into()), ..change("g") };
    store.put_inbox(vec![(user_key("alice"), row)]).await.expect("puts");
    store.block(&user_key("alice"), &user("bob"), time_of(1)).await.expect("blocks");
    store.revoke(&user_key("alice"), time_of(2)).await.expect("revokes");
    store.put_last_seen(vec![(user_key("alice"), time_of(3))]).await.expect("notes");
    store.put_user_name(&user_key("alice"), "Alice").await.expect("puts");
    let log = whole_log(&store, &c).await;
    let head = store.head(&c.key).await.expect("reads").expect("exists");
    let message = store.message(&c.key, target).await.expect("reads").expect("exists");
    let inbox = store.inbox(&user_key("alice"), ALL, 9).await.expect("reads");
    let alice = store.user(&user_key("alice")).await.expect("reads");
    store.close().await.expect("closes");

    let store = backend.open().await;
    assert_eq!(store.store_id(), store_id);
    store.check().await.expect("is well");
    assert_eq!(whole_log(&store, &c).await, log);
    assert_eq!(store.head(&c.key).await.expect("reads").expect("exists"), head);
    let now = store.message(&c.key, target).await.expect("reads").expect("exists");
    assert_eq!((now.json, now.state), (message.json, message.state));
    let now = store.inbox(&user_key("alice"), ALL, 9).await.expect("reads");
    assert_eq!((&now.rows, now.top), (&inbox.rows, inbox.top));
    assert_eq!(store.user(&user_key("alice")).await.expect("reads"), alice);
    assert_eq!(store.active(&[]).await.expect("reads"), [(incarnation(1), c.key.clone())]);
    let (mut c, begun) = Conversation::take_over(&store, &c.key, 2).await;
    assert_eq!((begun.term, begun.end, begun.untold), (TermNumber(2), Seq::new(5), true));
    assert_eq!((begun.recent.len(), begun.members.len(), begun.members[1].1.cursor), (1, 2, cursor));
    c.send("bob", "after").await;
    let row = InboxChange { last: Some(last(6).into()), ..change("g") };
    store.put_inbox(vec![(user_key("alice"), row)]).await.expect("puts");
    let row = store.inbox_row(&user_key("alice"), &conversation("g")).await.expect("reads").expect("a row");
    assert!(row.version > inbox.top, "versions go on where they were");
}

pub async fn a_closed_store_is_unavailable(backend: &dyn Backend) {
    if !backend.outlives_close() {
        return;
    }
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    store.close().await.expect("closes");
    store.close().await.expect("twice is once");
    let entry = c.message("alice", "late");
    assert!(matches!(c.try_append([entry]).await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(store.head(&c.key).await, Err(StoreError::Unavailable { .. })));
    assert!(store.check().await.is_err());
}
