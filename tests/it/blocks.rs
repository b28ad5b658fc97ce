//! Blocks (PROTOCOL §3, §8 "Blocks").

use serde_json::{Value, json};

use crate::support::tokens::token;
use crate::support::{Client, Config, Server};

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
    // Messages in groups are not affected.
    let send = json!({"type": "send", "conversation_id": group, "client_id": "m", "content": {"text": "x"}});
    assert_eq!(alice.ask(send).await["type"], "sent");
    assert_eq!(bob.until("message").await["from"], "alice");
}

/// The content of a user's block list.
async fn list(server: &Server, user: &str) -> Value {
    server.http().get("/v1/blocks").token(&token(user)).send().await.data(200)["user_ids"].clone()
}

#[tokio::test]
async fn nobody_blocks_himself() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    for kind in ["block", "unblock"] {
        for wrong in
            [block(kind, "alice"), block(kind, "not a user"), block(kind, &"b".repeat(129)), json!({"type": kind})]
        {
            let refused = alice.ask_in_vain(wrong).await;
            assert_eq!(refused, ("bad_request".to_owned(), Some("user_id".to_owned())));
        }
    }
    assert_eq!(list(&server, "alice").await, json!([]));
    assert_eq!(alice.ask(block("block", &"b".repeat(128))).await["type"], "ok");
    assert_eq!(list(&server, "alice").await, json!(["b".repeat(128)]));
}

#[tokio::test]
async fn a_block_is_lifted_by_who_made_it() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    for user in ["bob", "carol", "bob"] {
        assert_eq!(alice.ask(block("block", user)).await["type"], "ok");
    }
    assert_eq!(list(&server, "alice").await, json!(["bob", "carol"]));
    assert_eq!(list(&server, "bob").await, json!([]), "who is blocked is not told");
    assert_eq!(bob.ask(block("unblock", "alice")).await["type"], "ok");
    assert_eq!(bob.ask_in_vain(send_to("alice", "c1")).await.0, "blocked");

    // Each of them has blocked the other.
    bob.ask(block("block", "alice")).await;
    alice.ask(block("unblock", "bob")).await;
    assert_eq!(list(&server, "alice").await, json!(["carol"]));
    assert_eq!(list(&server, "bob").await, json!(["alice"]));
    assert_eq!(alice.ask_in_vain(send_to("bob", "c1")).await.0, "blocked");
    bob.ask(block("unblock", "alice")).await;
    assert_eq!(alice.ask(send_to("bob", "c1")).await["seq"], 1);
}

#[tokio::test]
async fn a_message_that_is_blocked_makes_no_conversation() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    bob.ask(block("block", "alice")).await;
    let refused = alice.ask(send_to("bob", "c1")).await;
    assert_eq!((&refused["code"], &refused["client_id"]), (&json!("blocked"), &json!("c1")));
    let over_http = json!({"to": "bob", "client_id": "c1", "content": {"text": "x"}});
    let refused = server.http().post("/v1/messages", &over_http).token(&token("alice")).send().await;
    refused.error(403, "blocked");
    for client in [&mut alice, &mut bob] {
        client.expect_quiet().await;
        assert_eq!(client.ask(json!({"type": "sync"})).await["conversations"], json!([]));
    }
}

#[tokio::test]
async fn in_a_direct_conversation_only_what_says_something_is_blocked() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let id = alice.ask(send_to("bob", "c1")).await["conversation_id"].clone();
    bob.ask(send_to("alice", "c2")).await;
    let about = |kind: &str, seq: u64| json!({"type": kind, "conversation_id": id, "seq": seq});
    let mut reaction = about("react", 2);
    reaction["emoji"] = json!("e");
    alice.ask(reaction.clone()).await;
    for client in [&mut alice, &mut bob] {
        client.ask(json!({"type": "conversation_open", "conversation_id": id})).await;
    }
    bob.ask(block("block", "alice")).await;

    reaction["type"] = json!("unreact");
    let mut edit = about("edit", 1);
    edit["content"] = json!({"text": "y"});
    for frame in [reaction, edit] {
        assert_eq!(alice.ask_in_vain(frame).await.0, "blocked");
    }
    let mut edit = about("edit", 2);
    edit["content"] = json!({"text": "y"});
    assert_eq!(bob.ask_in_vain(edit).await.0, "blocked", "neither may");
    for kind in ["typing_start", "typing_stop"] {
        assert_eq!(alice.ask(json!({"type": kind, "conversation_id": id})).await["type"], "ok");
    }
    bob.expect_quiet().await;

    // Reading, marking as read, and deleting one's own messages stay allowed.
    assert_eq!(alice.ask(json!({"type": "history", "conversation_id": id})).await["last_seq"], 3);
    assert_eq!(alice.ask(about("read", 3)).await["type"], "ok");
    assert_eq!(bob.expect("read_receipt").await["read_by"], "alice");
    assert_eq!(alice.ask(about("delete", 1)).await["seq"], 4);
    assert_eq!(bob.expect("message_updated").await["deleted"], true);
}

#[tokio::test]
async fn a_user_blocks_as_many_as_is_configured_and_not_one_more() {
    let server = Config::new().set("limits.blocks_per_user", 2).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    // The frames arrive in one segment, so none has been answered when the last is read.
    for user in ["bob", "carol", "dave"] {
        alice.feed(&json!({"type": "block", "id": user, "user_id": user})).await;
    }
    alice.flush().await;
    let (mut blocked, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let answer = alice.recv().await;
        let user = answer["id"].as_str().unwrap().to_owned();
        if answer["type"] == "ok" {
            blocked.push(user);
        } else {
            assert_eq!(answer["code"], "conflict", "{answer}");
            refused.push(user);
        }
    }
    assert_eq!((blocked.len(), refused.len()), (2, 1));
    assert_eq!(alice.ask(block("block", &blocked[0])).await["type"], "ok", "he is blocked already");
    assert_eq!(alice.ask(block("unblock", &blocked[0])).await["type"], "ok");
    assert_eq!(alice.ask(block("block", &refused[0])).await["type"], "ok");
    assert_eq!(alice.ask_in_vain(block("block", &blocked[0])).await.0, "conflict");
}
