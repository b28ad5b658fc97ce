//! Unread messages (PROTOCOL §3 "Receipts and unread", §8 "Changes"): counted by the server, exactly, and the same in
//! `sync` and in `conversation_get`.

use serde_json::{Value, json};

use crate::support::{Client, Config, Server};

/// `[unread, read_seq, mentioned_seq]` of the user's only conversation.
async fn counts(client: &mut Client) -> [u64; 3] {
    let sync = client.ask(json!({"type": "sync"})).await;
    let synced = &sync["conversations"][0];
    let about = json!({"type": "conversation_get", "conversation_id": synced["conversation_id"]});
    let conversation = client.ask(about).await;
    for field in ["unread", "read_seq", "last_seq"] {
        assert_eq!(synced[field], conversation[field], "{field}");
    }
    ["unread", "read_seq", "mentioned_seq"].map(|field| synced[field].as_u64().expect(field))
}

/// Alice's group with Bob.
async fn group(server: &Server) -> (Client, Client, Value) {
    let (mut alice, mut bob) = (Client::sign_in(server, "alice").await, Client::sign_in(server, "bob").await);
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob"]});
    let id = alice.ask(create).await["conversation_id"].clone();
    bob.expect("membership").await;
    (alice, bob, id)
}

fn send(conversation: &Value, client_id: &str, content: &Value) -> Value {
    json!({"type": "send", "conversation_id": conversation, "client_id": client_id, "content": content})
}

#[tokio::test]
async fn unread_counts_messages_of_others_until_they_are_read() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = group(&server).await;
    let about = |kind: &str, seq: u64| json!({"type": kind, "conversation_id": id, "seq": seq});
    let plain = json!({"text": "x"});
    for n in ["c1", "c2", "c3"] {
        alice.ask(send(&id, n, &plain)).await;
    }
    assert_eq!(counts(&mut bob).await, [3, 1, 0], "entries that are no messages do not count");
    assert_eq!(counts(&mut alice).await, [0, 4, 0], "one's own never");
    let mut edit = about("edit", 2);
    edit["content"] = json!({"text": "y"});
    assert_eq!(alice.ask(edit).await["seq"], 5);
    assert_eq!(alice.ask(about("delete", 3)).await["seq"], 6);
    assert_eq!(counts(&mut bob).await, [3, 1, 0], "what is deleted counts until it is read");

    bob.ask(about("delivered", 6)).await;
    assert_eq!(counts(&mut bob).await, [3, 1, 0]);
    bob.ask(about("read", 2)).await;
    assert_eq!(counts(&mut bob).await, [2, 2, 0]);
    for seq in [1, 0] {
        assert_eq!(bob.ask(about("read", seq)).await["type"], "ok", "never back");
    }
    assert_eq!(counts(&mut bob).await, [2, 2, 0]);
    bob.ask(about("read", 9_007_199_254_740_991)).await;
    assert_eq!(counts(&mut bob).await, [0, 6, 0], "cut to the last entry");
    for seq in [json!(9_007_199_254_740_992_u64), json!(-1), json!("6"), json!(null)] {
        let refused = bob.ask_in_vain(json!({"type": "read", "conversation_id": id, "seq": seq})).await;
        assert_eq!(refused, ("bad_request".to_owned(), Some("seq".to_owned())));
    }

    alice.ask(send(&id, "c4", &plain)).await;
    alice.ask(send(&id, "c5", &plain)).await;
    assert_eq!(bob.ask(send(&id, "c1", &plain)).await["seq"], 9);
    assert_eq!(counts(&mut bob).await, [0, 9, 0], "a send reads everything before it");
    assert_eq!(counts(&mut alice).await, [1, 8, 0]);
    assert_eq!(alice.ask(send(&id, "c4", &plain)).await["duplicate"], true);
    assert_eq!(counts(&mut alice).await, [1, 8, 0], "a repeat does nothing");

    let server = server.kill_and_restart().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    assert_eq!(counts(&mut alice).await, [1, 8, 0]);
    assert_eq!(counts(&mut bob).await, [0, 9, 0]);
}

#[tokio::test]
async fn who_is_added_starts_with_nothing_unread_and_sees_everything() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = group(&server).await;
    let mention = json!({"text": "@carol", "mentions": ["carol"]});
    alice.ask(send(&id, "c1", &mention)).await;
    alice.ask(json!({"type": "member_add", "conversation_id": id, "user_ids": ["carol"]})).await;
    let mut carol = Client::sign_in(&server, "carol").await;
    assert_eq!(counts(&mut carol).await, [0, 3, 0], "she was no member when she was mentioned");
    let history = carol.ask(json!({"type": "history", "conversation_id": id})).await;
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(1));
    alice.ask(send(&id, "c2", &json!({}))).await;
    assert_eq!(counts(&mut carol).await, [1, 3, 0]);
    assert_eq!(counts(&mut bob).await, [2, 1, 0]);
}

#[tokio::test]
async fn the_newest_mention_is_known() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = group(&server).await;
    let mentioning = |users: &[&str]| json!({"text": "x", "mentions": users});
    for (n, users, newest) in
        [("c1", &["bob"][..], 2), ("c2", &[], 2), ("c3", &["alice", "nobody"], 2), ("c4", &["bob", "bob"], 5)]
    {
        alice.ask(send(&id, n, &mentioning(users))).await;
        assert_eq!(counts(&mut bob).await[2], newest);
    }
    assert_eq!(counts(&mut alice).await[2], 0, "nobody mentions himself");
    bob.ask(json!({"type": "read", "conversation_id": id, "seq": 5})).await;
    assert_eq!(counts(&mut bob).await, [0, 5, 5], "reading it does not undo it");
    let server = server.kill_and_restart().await;
    let mut bob = Client::sign_in(&server, "bob").await;
    assert_eq!(counts(&mut bob).await, [0, 5, 5]);
}

#[tokio::test]
async fn what_comes_together_with_the_close_is_carried_out() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = group(&server).await;
    alice.ask(send(&id, "c1", &json!({"text": "x"}))).await;
    bob.feed(&json!({"type": "read", "conversation_id": id, "seq": 2})).await;
    bob.feed(&send(&id, "c2", &json!({"text": "y"}))).await;
    bob.close().await;
    alice.until("message").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    assert_eq!(counts(&mut bob).await[0], 0);
}
