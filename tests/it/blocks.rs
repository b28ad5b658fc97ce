//! Blocks (PROTOCOL §3, §8 "Blocks").

use serde_json::{Value, json};

use crate::support::{Client, Config};

fn block(kind: &str, user: &str) -> Value {
    json!({"type": kind, "user_id": user})
}

fn send_to(user: &str, client_id: &str) -> Value {
    json!({"type": "send", "to": user, "client_id": client_id, "content": {"text": "x"}})
}

#[tokio::test]
async fn a_block_is_in_force_when_it_is_answered_and_after_a_crash() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let sent = alice.ask(send_to("bob", "c1")).await;
    bob.expect("message").await;
    let id = sent["conversation_id"].clone();

    assert_eq!(bob.ask(block("block", "alice")).await["type"], "ok");
    let refused = alice.ask(send_to("bob", "c2")).await;
    assert_eq!((&refused["code"], &refused["client_id"]), (&json!("blocked"), &json!("c2")));
    let to_conversation = json!({"type": "send", "conversation_id": id, "client_id": "c3", "content": {"text": "x"}});
    assert_eq!(alice.ask_in_vain(to_conversation).await.0, "blocked");
    assert_eq!(bob.ask_in_vain(send_to("alice", "c4")).await.0, "blocked", "neither may write");
    let edit = json!({"type": "edit", "conversation_id": id, "seq": 1, "content": {"text": "y"}});
    let react = json!({"type": "react", "conversation_id": id, "seq": 1, "emoji": "e"});
    for frame in [edit, react] {
        assert_eq!(alice.ask_in_vain(frame).await.0, "blocked");
    }
    bob.expect_quiet().await;

    let server = server.kill_and_restart().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    assert_eq!(alice.ask_in_vain(send_to("bob", "c5")).await.0, "blocked");
    assert_eq!(bob.ask(block("unblock", "alice")).await["type"], "ok");
    assert_eq!(alice.ask(send_to("bob", "c6")).await["seq"], 2, "nothing was stored in between");
}

#[tokio::test]
async fn blocked_users_hide_from_each_other() {
    let server = Config::new().set("presence.batch_ms", 10).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob", "carol"]});
    let group = alice.ask(create).await["conversation_id"].clone();
    let mut carol = Client::sign_in(&server, "carol").await;
    bob.until("membership").await;
    for client in [&mut alice, &mut bob, &mut carol] {
        client.ask(json!({"type": "conversation_open", "conversation_id": group})).await;
    }
    let state = alice.ask(json!({"type": "presence_watch", "user_ids": ["bob"]})).await;
    assert_eq!(state["users"][0]["status"], "online");

    bob.ask(block("block", "alice")).await;
    assert_eq!(alice.until("presence").await["users"][0]["status"], "offline");
    for client in [&mut alice, &mut bob] {
        client.ask(json!({"type": "typing_start", "conversation_id": group})).await;
        client.ask(json!({"type": "signal", "conversation_id": group, "kind": "k", "data": {}})).await;
    }
    for user in ["alice", "bob"] {
        assert_eq!(carol.expect("typing_start").await["user_id"], user);
        assert_eq!(carol.expect("signal").await["user_id"], user);
    }
    for client in [&mut alice, &mut bob] {
        client.expect_quiet().await;
    }
    // In groups messages go on.
    let send = json!({"type": "send", "conversation_id": group, "client_id": "m", "content": {"text": "x"}});
    assert_eq!(alice.ask(send).await["type"], "sent");
    assert_eq!(bob.until("message").await["from"], "alice");
}

#[tokio::test]
async fn nobody_blocks_himself() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let refused = alice.ask_in_vain(block("block", "alice")).await;
    assert_eq!(refused, ("bad_request".to_owned(), Some("user_id".to_owned())));
    let refused = alice.ask_in_vain(block("block", "not a user")).await;
    assert_eq!(refused, ("bad_request".to_owned(), Some("user_id".to_owned())));
    assert_eq!(alice.ask(block("unblock", "bob")).await["type"], "ok");
}
