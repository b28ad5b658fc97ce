//! Signals, and which sessions have a conversation open (PROTOCOL §4, §3 "Large groups").

use serde_json::{Value, json};

use crate::support::{Client, Config};

/// Maximum open conversations of a session (docs/protocol.md, "Limits").
const OPEN_MAX: usize = 200;

fn open(conversation: &Value) -> Value {
    json!({"type": "conversation_open", "conversation_id": conversation})
}

fn signal(conversation: &Value, kind: &str, data: &Value) -> Value {
    json!({"type": "signal", "conversation_id": conversation, "kind": kind, "data": data})
}

#[tokio::test]
async fn signals_go_to_the_other_sessions_that_have_the_conversation_open() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = Client::pair(&server).await;
    let (mut laptop, _) = Client::sign_in_as(&server, "alice", "laptop").await;
    let (mut tablet, _) = Client::sign_in_as(&server, "bob", "tablet").await;
    let opened = bob.ask(open(&id)).await;
    assert_eq!(
        (&opened["type"], &opened["last_seq"], &opened["delivery"]),
        (&json!("opened"), &json!(1), &json!("full"))
    );
    for own in [&mut alice, &mut laptop] {
        own.ask(open(&id)).await;
    }
    let data = json!({"x": [1, null]});
    alice.ask(signal(&id, "cursor", &data)).await;
    let expected = json!({"type": "signal", "conversation_id": id, "user_id": "alice", "kind": "cursor", "data": data});
    for client in [&mut bob, &mut laptop] {
        assert_eq!(client.recv().await, expected);
    }
    for client in [&mut alice, &mut tablet] {
        client.expect_quiet().await;
    }
    bob.ask(json!({"type": "conversation_close", "conversation_id": id})).await;
    alice.ask(signal(&id, "cursor", &data)).await;
    bob.expect_quiet().await;
}

#[tokio::test]
async fn signals_have_limits() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = Client::pair(&server).await;
    bob.ask(open(&id)).await;
    let data = |bytes: usize| json!({"x": "y".repeat(bytes - json!({"x": ""}).to_string().len())});
    assert_eq!(alice.ask(signal(&id, &"k".repeat(64), &data(1_024))).await["type"], "ok");
    assert_eq!(bob.expect("signal").await["data"], data(1_024));
    for (frame, field) in [
        (signal(&id, "", &json!({})), "kind"),
        (signal(&id, &"k".repeat(65), &json!({})), "kind"),
        (json!({"type": "signal", "conversation_id": id, "data": {}}), "kind"),
        (signal(&id, "k", &data(1_025)), "data"),
        (json!({"type": "signal", "conversation_id": id, "kind": "k"}), "data"),
        (json!({"type": "signal", "kind": "k", "data": {}}), "conversation_id"),
    ] {
        assert_eq!(alice.ask_in_vain(frame).await, ("bad_request".to_owned(), Some(field.to_owned())));
    }
    bob.expect_quiet().await;
}

#[tokio::test]
async fn what_is_ephemeral_needs_membership() {
    let server = Config::new().start().await;
    let (_alice, mut bob, id) = Client::pair(&server).await;
    bob.ask(open(&id)).await;
    let mut mallory = Client::sign_in(&server, "mallory").await;
    for frame in [signal(&id, "k", &json!({})), open(&id), json!({"type": "conversation_close", "conversation_id": id})]
    {
        assert_eq!(mallory.ask_in_vain(frame).await.0, "not_found");
    }
    bob.expect_quiet().await;
}

#[tokio::test]
async fn who_is_removed_has_the_conversation_open_no_more() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob"]});
    let group = alice.ask(create).await["conversation_id"].clone();
    bob.expect("membership").await;
    bob.ask(open(&group)).await;
    let change = |kind: &str| json!({"type": kind, "conversation_id": group, "user_ids": ["bob"]});
    alice.ask(change("member_remove")).await;
    bob.expect("membership").await;
    alice.ask(signal(&group, "k", &json!({}))).await;
    assert_eq!(bob.ask_in_vain(signal(&group, "k", &json!({}))).await.0, "not_found");
    bob.expect_quiet().await;
    // Being added again does not reopen it.
    alice.ask(change("member_add")).await;
    bob.expect("membership").await;
    alice.ask(signal(&group, "k", &json!({}))).await;
    bob.expect_quiet().await;
}

#[tokio::test]
async fn a_session_has_so_many_conversations_open_and_no_more() {
    let server = Config::new().set("limits.frames_per_s", 10_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    for n in 0..=OPEN_MAX {
        let create = json!({"type": "conversation_create", "kind": "group", "client_id": n.to_string(), "members": []});
        alice.feed(&create).await;
    }
    alice.flush().await;
    let mut groups = Vec::new();
    for _ in 0..=OPEN_MAX {
        groups.push(alice.expect("conversation").await["conversation_id"].clone());
    }
    let last = groups.pop().unwrap();
    for group in &groups {
        assert_eq!(alice.ask(open(group)).await["type"], "opened");
    }
    assert_eq!(alice.ask_in_vain(open(&last)).await.0, "conflict");
    assert_eq!(alice.ask(open(&groups[0])).await["type"], "opened", "again is not more");
    alice.ask(json!({"type": "conversation_close", "conversation_id": groups[0]})).await;
    assert_eq!(alice.ask(open(&last)).await["type"], "opened");
    // The limit applies to each session.
    let (mut laptop, _) = Client::sign_in_as(&server, "alice", "laptop").await;
    assert_eq!(laptop.ask(open(&groups[0])).await["type"], "opened");
}
