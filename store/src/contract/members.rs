//! Members and their cursors.

use super::fixture::time_of;
use super::{Backend, Conversation, conversation_key, user};
use crate::{Cursor, Kind, Member};
use switchboard_protocol::{Role, Seq, UserId};

async fn members(c: &Conversation) -> Vec<(UserId, Member)> {
    let (_, begun) = Conversation::take_over(&c.store, &c.key, 9).await;
    assert_eq!(begun.members.len(), usize::try_from(begun.meta.members_count).expect("few"));
    begun.members
}

fn cursor(delivered: u64, read: u64, read_messages: u64) -> Cursor {
    Cursor { delivered_seq: Seq::new(delivered), read_seq: Seq::new(read), read_messages, ..Cursor::default() }
}

pub async fn a_direct_conversation_has_two(backend: &dyn Backend) {
    let store = backend.open().await;
    let kind = Kind::Direct(user("alice"), user("bob"));
    let c = Conversation::create(&store, conversation_key("c"), kind.clone()).await;
    let member = Member { role: Role::Member, joined_at: time_of(0), joined_seq: Seq::ZERO, cursor: Cursor::default() };
    assert_eq!(members(&c).await, [(user("alice"), member), (user("bob"), member)]);
    let meta = store.head(&c.key).await.expect("reads").expect("exists").meta;
    assert_eq!((meta.kind, meta.members_count, meta.created_at), (kind, 2, time_of(0)));
}

pub async fn members_come_and_go(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    c.send("alice", "one").await;
    let entries = [
        c.membership(&["zoe", "carl", "b"], &[], &[("carl", Role::Moderator)]),
        c.membership(&[], &["alice"], &[("bob", Role::Owner), ("nobody", Role::Owner)]),
        c.membership(&["carl"], &["nobody"], &[]),
    ];
    c.append(entries).await;
    let now = members(&c).await;
    let roles: Vec<_> = now.iter().map(|(user, member)| (user.as_str(), member.role)).collect();
    let expected = [("b", Role::Member), ("bob", Role::Owner), ("carl", Role::Moderator), ("zoe", Role::Member)];
    assert_eq!(roles, expected, "in the order of their ids");
    let carl = now[2].1;
    assert_eq!((carl.joined_seq, carl.joined_at), (Seq::new(3), time_of(3)), "he was there already");
    let (mut c, _) = Conversation::take_over(&store, &c.key, 1).await;
    let entries = [c.membership(&[], &["carl"], &[]), c.membership(&["carl"], &[], &[])];
    c.append(entries).await;
    let carl = members(&c).await[2].1;
    assert_eq!((carl.role, carl.joined_seq), (Role::Member, Seq::new(7)), "a new start");
    assert_eq!(store.member(&c.key, &user("carl")).await.expect("reads"), Some(carl));
    assert_eq!(store.member(&c.key, &user("alice")).await.expect("reads"), None);
    assert_eq!(store.member(&conversation_key("nowhere"), &user("carl")).await.expect("reads"), None);
    let (mut c, _) = Conversation::take_over(&store, &c.key, 1).await;
    let entry = c.membership(&[], &["b", "bob", "carl", "zoe"], &[]);
    c.append([entry]).await;
    assert_eq!(members(&c).await, []);
}

pub async fn cursors_only_grow(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::direct(&store, "c").await;
    for _ in 0..5 {
        c.send("alice", "text").await;
    }
    let put = async |cursor| store.put_cursors(&c.key, vec![(user("bob"), cursor)]).await.expect("puts");
    let bob = async || members(&c).await[1].1.cursor;
    put(cursor(4, 3, 3)).await;
    assert_eq!(bob().await, cursor(4, 3, 3));
    put(cursor(2, 1, 1)).await;
    assert_eq!(bob().await, cursor(4, 3, 3));
    put(cursor(5, 2, 2)).await;
    assert_eq!(bob().await, cursor(5, 3, 3));
    put(cursor(1, 5, 5)).await;
    assert_eq!(bob().await, cursor(5, 5, 5));
    put(cursor(5, 5, 4)).await;
    assert_eq!(bob().await, cursor(5, 5, 5));
    store.put_cursors(&c.key, vec![(user("nobody"), cursor(1, 1, 1))]).await.expect("drops it");
    store.put_cursors(&conversation_key("nowhere"), vec![(user("bob"), cursor(1, 1, 1))]).await.expect("drops it");
    assert_eq!(members(&c).await.len(), 2);
}

/// Only mentions after the join count, however late they arrive.
pub async fn mentions_stay_with_a_membership(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    let mentioned = async |c: &Conversation, seq| {
        let cursor = Cursor { mentioned_seq: Seq::new(seq), ..Cursor::default() };
        store.put_cursors(&c.key, vec![(user("bob"), cursor)]).await.expect("puts");
        let bob = store.member(&c.key, &user("bob")).await.expect("reads").expect("a member");
        bob.cursor.mentioned_seq.get()
    };
    c.send("alice", "@bob").await;
    assert_eq!((mentioned(&c, 2).await, mentioned(&c, 1).await), (2, 2));
    let (removed, added) = (c.membership(&[], &["bob"], &[]), c.membership(&["bob"], &[], &[]));
    c.append([removed]).await;
    c.append([added]).await;
    assert_eq!(mentioned(&c, 2).await, 0, "of his earlier membership");
    c.send("alice", "@bob").await;
    assert_eq!(mentioned(&c, 5).await, 5);
}

/// All members are listed, ordered by id.
pub async fn members_are_listed(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    let entry = c.membership(&["carl", "aaron"], &["bob"], &[]);
    c.append([entry]).await;
    let listed = store.members(&c.key).await.expect("reads");
    assert_eq!(listed.iter().map(|(user, _)| user.as_str()).collect::<Vec<_>>(), ["aaron", "alice", "carl"]);
    assert_eq!(listed, members(&c).await);
    assert_eq!(store.members(&conversation_key("nowhere")).await.expect("reads"), []);
}

pub async fn entries_move_cursors(backend: &dyn Backend) {
    let store = backend.open().await;
    let mut c = Conversation::group(&store, "g").await;
    let cursors = async |c: &Conversation| {
        let (_, begun) = Conversation::take_over(&store, &c.key, 1).await;
        begun.members.into_iter().map(|(user, member)| (user.to_string(), member.cursor)).collect::<Vec<_>>()
    };
    let of = |user: &str, cursor| (user.to_owned(), cursor);
    assert_eq!(cursors(&c).await, [of("alice", cursor(1, 1, 0)), of("bob", cursor(1, 1, 0))]);
    c.term.0 += 1;
    c.send("alice", "one").await;
    c.send("alice", "two").await;
    let entry = c.membership(&["carl"], &[], &[]);
    c.append([entry]).await;
    let expected = [of("alice", cursor(3, 3, 2)), of("bob", cursor(1, 1, 0)), of("carl", cursor(4, 4, 2))];
    assert_eq!(cursors(&c).await, expected);
}
