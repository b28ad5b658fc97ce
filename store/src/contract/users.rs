//! User records.

use super::fixture::time_of;
use super::{Backend, user, user_key};
use crate::UserRecord;

pub async fn blocks_are_seen_from_both_sides(backend: &dyn Backend) {
    let store = backend.open().await;
    let read = async |id: &str| store.user(&user_key(id)).await.expect("reads");
    assert_eq!(read("alice").await, UserRecord::default());
    let alice = user_key("alice");
    store.block(&alice, &user("carl"), time_of(2)).await.expect("blocks");
    store.block(&alice, &user("bob"), time_of(1)).await.expect("blocks");
    store.block(&user_key("bob"), &user("alice"), time_of(3)).await.expect("blocks");
    store.block(&alice, &user("bob"), time_of(9)).await.expect("twice is once");
    let record = read("alice").await;
    assert_eq!(record.blocks, [(user("bob"), time_of(1)), (user("carl"), time_of(2))]);
    assert_eq!(record.blocked_by, [(user("bob"), time_of(3))]);
    let record = read("bob").await;
    assert_eq!(record.blocks, [(user("alice"), time_of(3))]);
    assert_eq!(record.blocked_by, [(user("alice"), time_of(1))]);
    assert_eq!(read("carl").await.blocked_by, [(user("alice"), time_of(2))]);
    store.unblock(&alice, &user("bob")).await.expect("unblocks");
    store.unblock(&alice, &user("bob")).await.expect("twice is once");
    store.unblock(&alice, &user("nobody")).await.expect("nothing happens");
    assert_eq!(read("alice").await.blocks, [(user("carl"), time_of(2))]);
    assert_eq!(read("bob").await.blocked_by, []);
    store.unblock(&user_key("bob"), &user("alice")).await.expect("unblocks");
    store.unblock(&alice, &user("carl")).await.expect("unblocks");
    for id in ["alice", "bob", "carl"] {
        assert_eq!(read(id).await, UserRecord::default(), "{id}");
    }
}

pub async fn revocation_and_last_seen_only_grow(backend: &dyn Backend) {
    let store = backend.open().await;
    let alice = user_key("alice");
    for (at, expected) in [(5, 5), (3, 5), (8, 8)] {
        store.revoke(&alice, time_of(at)).await.expect("revokes");
        store.put_last_seen(vec![(alice.clone(), time_of(at + 1))]).await.expect("notes");
        let record = store.user(&alice).await.expect("reads");
        assert_eq!(record.revoked_at, Some(time_of(expected)));
        assert_eq!(record.last_seen_at, Some(time_of(expected + 1)));
    }
    let seen = vec![(user_key("bob"), time_of(1)), (user_key("carl"), time_of(2)), (user_key("bob"), time_of(3))];
    store.put_last_seen(seen).await.expect("notes");
    assert_eq!(store.user(&user_key("bob")).await.expect("reads").last_seen_at, Some(time_of(3)));
    assert_eq!(store.user(&user_key("bob")).await.expect("reads").revoked_at, None);
}

pub async fn a_name_is_the_one_put_last(backend: &dyn Backend) {
    let store = backend.open().await;
    let alice = user_key("alice");
    store.put_last_seen(vec![(alice.clone(), time_of(1))]).await.expect("notes");
    store.block(&user_key("bob"), &user("carl"), time_of(1)).await.expect("blocks");
    for (id, name) in [("alice", "Alice"), ("alice", "Ålice"), ("alice", "Ålice"), ("bob", "Bob")] {
        store.put_user_name(&user_key(id), name).await.expect("puts");
        assert_eq!(store.user(&user_key(id)).await.expect("reads").name.as_deref(), Some(name));
    }
    let record = store.user(&alice).await.expect("reads");
    assert_eq!((record.name.as_deref(), record.last_seen_at), (Some("Ålice"), Some(time_of(1))), "and nothing else");
    assert_eq!(store.user(&user_key("carl")).await.expect("reads").name, None);
}
