//! Large groups (PROTOCOL §3): what members get if not everyone gets every entry.

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Client, Config, Server};

/// A server on which a group of three is the largest whose entries are delivered in full.
async fn server() -> Server {
    Config::new().set("fanout.push_members_max", 3).start().await
}

fn about(kind: &str, group: &Value) -> Value {
    json!({"type": kind, "conversation_id": group})
}

fn change(kind: &str, group: &Value, users: &[&str]) -> Value {
    json!({"type": kind, "conversation_id": group, "user_ids": users})
}

fn activity(group: &Value, last_seq: u64, mentioned_seq: u64) -> Value {
    json!({"type": "conversation_activity", "conversation_id": group, "last_seq": last_seq,
        "mentioned_seq": mentioned_seq})
}

#[tokio::test]
async fn entries_go_where_the_conversation_is_open_and_activity_elsewhere() {
    let server = server().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut open, _) = Client::sign_in_as(&server, "bob", "open").await;
    let (mut closed, _) = Client::sign_in_as(&server, "bob", "closed").await;
    let group = alice.make_group(&["bob", "carol", "dave"]).await;
    for client in [&mut open, &mut closed] {
        client.expect("membership").await;
    }
    for _ in 0..2 {
        let opened = open.ask(about("conversation_open", &group)).await;
        let expected = json!({"type": "opened", "id": opened["id"], "conversation_id": group, "last_seq": 1,
            "read_seq": 1, "delivery": "activity"});
        assert_eq!(opened, expected, "again is the same");
    }
    let sent = alice.say(&group, json!({"text": "x"})).await;
    assert_eq!(open.recv().await["message_id"], sent["message_id"]);
    let edit = json!({"type": "edit", "conversation_id": group, "seq": 2, "content": {"text": "y"}});
    assert_eq!(alice.ask(edit).await["seq"], 3);
    assert_eq!(open.recv().await["type"], "message_updated");
    // Elsewhere it may take two frames: what happens within a second is announced at its end.
    while closed.expect("conversation_activity").await != activity(&group, 3, 0) {}

    open.ask(about("conversation_close", &group)).await;
    alice.say(&group, json!({"text": "z"})).await;
    for client in [&mut open, &mut closed] {
        assert_eq!(client.recv().await, activity(&group, 4, 0));
    }
    // What he was not sent can be fetched.
    let changes = json!({"type": "changes", "conversation_id": group, "after": 3});
    assert_eq!(closed.ask(changes).await["entries"][0]["content"], json!({"text": "z"}));
}

#[tokio::test]
async fn activity_is_told_seldom_and_the_last_one_always() {
    const SENDS: u64 = 40;
    let server = server().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let (mut open, _) = Client::sign_in_as(&server, "bob", "open").await;
    let group = alice.make_group(&["bob", "carol", "dave"]).await;
    open.ask(about("conversation_open", &group)).await;
    let begun = Instant::now();
    // Sequentially, so that no two are appended and announced together.
    for _ in 0..SENDS {
        alice.say(&group, json!({"text": "x"})).await;
    }
    let last_seq = SENDS + 1;
    for seq in 2..=last_seq {
        assert_eq!(open.expect("message").await["seq"], seq, "nothing is left out where it is open");
    }
    bob.expect("membership").await;
    let mut told = 0;
    while bob.recv().await != activity(&group, last_seq, 0) {
        told += 1;
    }
    let may_be = 2 + begun.elapsed().as_secs();
    assert!(told <= may_be, "{told} of {may_be}");
    bob.expect_quiet().await;
}

#[tokio::test]
async fn who_is_mentioned_gets_the_whole_message() {
    let server = server().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let (mut open, _) = Client::sign_in_as(&server, "bob", "open").await;
    let mut carol = Client::sign_in(&server, "carol").await;
    let group = alice.make_group(&["bob", "carol", "dave"]).await;
    for client in [&mut bob, &mut carol] {
        client.expect("membership").await;
    }
    open.ask(about("conversation_open", &group)).await;
    let content = json!({"text": "@bob", "mentions": ["bob"]});
    alice.say(&group, content.clone()).await;
    for client in [&mut bob, &mut open] {
        let message = client.expect("message").await;
        assert_eq!((&message["seq"], &message["content"]), (&json!(2), &content));
    }
    open.expect_quiet().await;
    assert_eq!(carol.recv().await, activity(&group, 2, 0));
    assert_eq!(bob.recv().await, activity(&group, 2, 2));
    alice.say(&group, json!({"text": "x"})).await;
    assert_eq!(bob.recv().await, activity(&group, 3, 2), "the newest mention is told still");
    let sync = bob.ask(json!({"type": "sync"})).await;
    assert_eq!(
        (&sync["conversations"][0]["mentioned_seq"], &sync["conversations"][0]["unread"]),
        (&json!(2), &json!(2))
    );
}

#[tokio::test]
async fn a_group_becomes_large_and_small_again() {
    let server = server().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut carol = Client::sign_in(&server, "carol").await;
    let group = alice.make_group(&["bob", "carol"]).await;
    bob.expect("membership").await;
    carol.expect("membership").await;
    let delivery = async |client: &mut Client| client.ask(about("conversation_get", &group)).await["delivery"].clone();
    assert_eq!(delivery(&mut bob).await, "full");
    alice.say(&group, json!({"text": "to all"})).await;
    bob.expect("message").await;
    carol.expect("message").await;

    // Everyone gets the entry that changes how entries are delivered.
    alice.ask(change("member_add", &group, &["dave"])).await;
    assert_eq!(bob.expect("membership").await["added"], json!(["dave"]));
    assert_eq!(carol.expect("membership").await["added"], json!(["dave"]));
    assert_eq!(delivery(&mut bob).await, "activity");
    alice.say(&group, json!({"text": "to those who have it open"})).await;
    while bob.expect("conversation_activity").await != activity(&group, 4, 0) {}
    while carol.expect("conversation_activity").await != activity(&group, 4, 0) {}

    alice.ask(change("member_remove", &group, &["dave"])).await;
    assert_eq!(bob.expect("membership").await["removed"], json!(["dave"]));
    assert_eq!(carol.expect("membership").await["removed"], json!(["dave"]));
    assert_eq!(delivery(&mut bob).await, "full");
    alice.say(&group, json!({"text": "to all"})).await;
    assert_eq!(bob.until("message").await["seq"], 6);
    assert_eq!(carol.until("message").await["seq"], 6);
}

#[tokio::test]
async fn who_comes_and_goes_is_told_and_sees_no_more() {
    let server = server().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut eve = Client::sign_in(&server, "eve").await;
    let group = alice.make_group(&["bob", "carol", "dave"]).await;
    alice.ask(change("member_add", &group, &["eve"])).await;
    assert_eq!(eve.expect("membership").await["added"], json!(["eve"]));
    eve.ask(about("conversation_open", &group)).await;
    alice.say(&group, json!({"text": "x"})).await;
    eve.until("message").await;
    alice.ask(change("member_remove", &group, &["eve"])).await;
    assert_eq!(eve.expect("membership").await["removed"], json!(["eve"]));

    // Remaining members are told of the last message within a second; by then she would have been told, too.
    let mut bob = Client::sign_in(&server, "bob").await;
    alice.say(&group, json!({"text": "y", "mentions": ["eve"]})).await;
    while bob.expect("conversation_activity").await["last_seq"] != 5 {}
    eve.expect_quiet().await;
    assert_eq!(eve.ask_in_vain(about("conversation_open", &group)).await.0, "not_found");
}

#[tokio::test]
async fn a_sender_is_told_how_many_have_his_newest_message() {
    let server = server().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut open, _) = Client::sign_in_as(&server, "alice", "open").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut carol = Client::sign_in(&server, "carol").await;
    let group = alice.make_group(&["bob", "carol", "dave"]).await;
    for client in [&mut open, &mut bob] {
        client.ask(about("conversation_open", &group)).await;
    }
    let cursor = |kind: &str, seq: u64| json!({"type": kind, "conversation_id": group, "seq": seq});
    let counts = |seq: u64, delivered: u64, read: u64| json!({"type": "receipt_counts", "conversation_id": group, "seq": seq, "delivered": delivered, "read": read});
    alice.say(&group, json!({"text": "x"})).await;
    open.expect("message").await;
    bob.expect("message").await;
    carol.ask(cursor("delivered", 2)).await;
    assert_eq!(open.recv().await, counts(2, 1, 0));
    carol.ask(cursor("read", 2)).await;
    bob.ask(cursor("read", 2)).await;
    while open.expect("receipt_counts").await != counts(2, 2, 2) {}

    // Counts are for the newest message, without the sender.
    alice.say(&group, json!({"text": "y"})).await;
    open.expect("message").await;
    alice.ask(cursor("read", 3)).await;
    carol.ask(cursor("read", 3)).await;
    while open.recv().await != counts(3, 1, 1) {}
    // Members who sent nothing get no counts, open or not.
    assert_eq!(bob.expect("message").await["seq"], 3);
    bob.expect_quiet().await;
}
