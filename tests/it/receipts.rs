//! Receipts (PROTOCOL §3, §8): who gets them, and who does not.

use serde_json::{Value, json};

use crate::support::{Client, Config, bad_request};

fn cursor(kind: &str, conversation: &Value, seq: u64) -> Value {
    json!({"type": kind, "conversation_id": conversation, "seq": seq})
}

fn get(conversation: &Value) -> Value {
    json!({"type": "conversation_get", "conversation_id": conversation})
}

/// A member's cursors: `delivered_seq`, `read_seq`.
async fn cursors_of(client: &mut Client, conversation: &Value, user: &str) -> (u64, u64) {
    let members = client.ask(json!({"type": "conversation_members", "conversation_id": conversation})).await;
    let is_his = |member: &&Value| member["user_id"] == user;
    let member = members["members"].as_array().unwrap().iter().find(is_his).unwrap();
    (member["delivered_seq"].as_u64().unwrap(), member["read_seq"].as_u64().unwrap())
}

#[tokio::test]
async fn who_reads_after_a_restart_is_seen_to_have_read() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let send = |n: u32| json!({"type": "send", "to": "bob", "client_id": format!("c{n}"), "content": {"text": "x"}});
    let first = alice.ask(send(1)).await;
    let second = alice.ask(send(2)).await;
    let edit = json!({"type": "edit", "conversation_id": first["conversation_id"], "seq": 1, "content": {"text": "y"}});
    assert_eq!(alice.ask(edit).await["seq"], 3);

    let server = server.kill_and_restart().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let cursor = |kind: &str, seq: u64| cursor(kind, &first["conversation_id"], seq);
    let about = |receipt: &Value| (receipt["message_id"].clone(), receipt["seq"].clone());
    bob.ask(cursor("delivered", 1)).await;
    assert_eq!(about(&alice.until("delivery_receipt").await), (first["message_id"].clone(), json!(1)));
    // Up to an entry that is not a message: the newest message before it is read.
    bob.ask(cursor("read", 3)).await;
    assert_eq!(about(&alice.until("read_receipt").await), (second["message_id"].clone(), json!(3)));
}

#[tokio::test]
async fn a_direct_conversation_tells_the_other_at_once() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut other, _) = Client::sign_in_as(&server, "alice", "other").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let (mut laptop, _) = Client::sign_in_as(&server, "bob", "laptop").await;
    let send = |n: u32| json!({"type": "send", "to": "bob", "client_id": format!("c{n}"), "content": {"text": "x"}});
    let mut sent = Vec::new();
    for n in 1..=3 {
        sent.push(alice.ask(send(n)).await);
        for client in [&mut other, &mut bob, &mut laptop] {
            client.expect("message").await;
        }
    }
    let id = &sent[0]["conversation_id"];

    let ok = bob.ask(cursor("delivered", id, 2)).await;
    assert_eq!(ok, json!({"type": "ok", "id": ok["id"]}));
    for client in [&mut alice, &mut other] {
        let receipt = client.recv().await;
        let expected = json!({"type": "delivery_receipt", "conversation_id": id, "message_id": sent[1]["message_id"],
            "seq": 2, "delivered_to": "bob", "delivered_at": receipt["delivered_at"]});
        assert_eq!(receipt, expected);
        assert!(receipt["delivered_at"].is_string(), "{receipt}");
    }
    laptop.expect_quiet().await;

    bob.ask(cursor("read", id, 3)).await;
    for client in [&mut alice, &mut other] {
        let receipt = client.recv().await;
        let expected = json!({"type": "read_receipt", "conversation_id": id, "message_id": sent[2]["message_id"],
            "seq": 3, "read_by": "bob", "read_at": receipt["read_at"]});
        assert_eq!(receipt, expected);
        client.expect_quiet().await;
    }
    let marker = json!({"type": "read_marker", "conversation_id": id, "read_seq": 3, "unread": 0});
    assert_eq!(laptop.recv().await, marker);
    assert_eq!(cursors_of(&mut alice, id, "bob").await, (3, 3), "who has read it has it");

    // Never backwards, and nobody is told.
    for (kind, seq) in [("read", 1), ("read", 0), ("delivered", 2), ("delivered", 0), ("read", 3), ("delivered", 3)] {
        assert_eq!(bob.ask(cursor(kind, id, seq)).await["type"], "ok");
    }
    for client in [&mut alice, &mut other, &mut bob, &mut laptop] {
        client.expect_quiet().await;
    }
    assert_eq!(cursors_of(&mut alice, id, "bob").await, (3, 3));
}

#[tokio::test]
async fn a_cursor_is_cut_to_the_last_entry() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let send = |n: u32| json!({"type": "send", "to": "bob", "client_id": format!("c{n}"), "content": {"text": "x"}});
    let id = &alice.ask(send(1)).await["conversation_id"];
    bob.ask(cursor("delivered", id, 9_007_199_254_740_991)).await;
    assert_eq!(alice.expect("delivery_receipt").await["seq"], 1);
    // Also without an `id`.
    bob.send(&cursor("read", id, 2)).await;
    assert_eq!(alice.expect("read_receipt").await["seq"], 1);
    alice.ask(send(2)).await;
    assert_eq!(cursors_of(&mut bob, id, "bob").await, (1, 1));
    let got = bob.ask(get(id)).await;
    assert_eq!((&got["last_seq"], &got["read_seq"], &got["unread"]), (&json!(2), &json!(1), &json!(1)));

    for kind in ["read", "delivered"] {
        for seq in [json!(null), json!(-1), json!("1"), json!(1.5), json!(9_007_199_254_740_992_u64)] {
            let mut frame = cursor(kind, id, 0);
            frame["seq"] = seq;
            assert_eq!(bob.ask_in_vain(frame).await, bad_request("seq"));
        }
    }
    alice.expect_quiet().await;
}

#[tokio::test]
async fn ones_other_sessions_are_told_what_one_has_read() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let (mut laptop, _) = Client::sign_in_as(&server, "bob", "laptop").await;
    let group = alice.make_group(&["bob"]).await;
    for _ in 0..2 {
        alice.say(&group, json!({"text": "x"})).await;
    }
    for client in [&mut bob, &mut laptop] {
        for kind in ["membership", "message", "message"] {
            client.expect(kind).await;
        }
    }
    bob.ask(cursor("delivered", &group, 3)).await;
    laptop.expect_quiet().await;
    bob.send(&cursor("read", &group, 2)).await;
    let marker = json!({"type": "read_marker", "conversation_id": group, "read_seq": 2, "unread": 1});
    assert_eq!(laptop.recv().await, marker);
    bob.expect_quiet().await;
    // A send implies it.
    bob.say(&group, json!({"text": "y"})).await;
    laptop.expect("message").await;
    laptop.expect_quiet().await;
    alice.until("message").await;
    alice.expect_quiet().await;
}

#[tokio::test]
async fn a_group_tells_those_who_have_it_open() {
    const MESSAGES: u64 = 40;
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut open, _) = Client::sign_in_as(&server, "alice", "open").await;
    let (mut readers_own, _) = Client::sign_in_as(&server, "bob", "open").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut carol = Client::sign_in(&server, "carol").await;
    let group = alice.make_group(&["bob", "carol"]).await;
    for _ in 0..MESSAGES {
        alice.say(&group, json!({"text": "x"})).await;
    }
    for client in [&mut open, &mut readers_own] {
        client.ask(json!({"type": "conversation_open", "conversation_id": group})).await;
    }
    carol.until("message").await;
    let last_seq = MESSAGES + 1;
    for seq in 2..=last_seq {
        bob.feed(&cursor("read", &group, seq)).await;
    }
    bob.flush().await;
    let mut told = 0;
    loop {
        let receipts = open.expect("receipts").await;
        let [reader] = &receipts["users"].as_array().unwrap()[..] else { panic!("{receipts}") };
        assert_eq!((&receipts["conversation_id"], &reader["user_id"]), (&group, &json!("bob")));
        assert!(reader["at"].is_string() && reader["delivered_seq"] == reader["read_seq"], "{receipts}");
        told += 1;
        if reader["read_seq"] == last_seq {
            break;
        }
    }
    assert!(told < MESSAGES / 3, "{told} of {MESSAGES}");
    for _ in 2..=last_seq {
        readers_own.expect("read_marker").await;
    }
    readers_own.expect_quiet().await;

    // Both cursors, to the others.
    carol.ask(cursor("delivered", &group, 3)).await;
    carol.ask(cursor("read", &group, 2)).await;
    for client in [&mut open, &mut readers_own] {
        loop {
            let users = client.expect("receipts").await["users"].clone();
            let expected = json!([{"user_id": "carol", "delivered_seq": 3, "read_seq": 2, "at": users[0]["at"]}]);
            if users == expected {
                break;
            }
            assert_eq!((users.as_array().map(Vec::len), &users[0]["user_id"]), (Some(1), &json!("carol")));
        }
    }
    alice.expect_quiet().await;
}

#[tokio::test]
async fn who_has_left_is_in_no_receipt() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut open, _) = Client::sign_in_as(&server, "alice", "open").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut groups = Vec::new();
    for _ in 0..2 {
        let group = alice.make_group(&["bob"]).await;
        for _ in 0..2 {
            alice.say(&group, json!({"text": "x"})).await;
        }
        open.ask(json!({"type": "conversation_open", "conversation_id": group})).await;
        groups.push(group);
    }
    // The first is sent at once, the second after a while: he leaves one of the groups before that.
    for seq in [2, 3] {
        for group in &groups {
            bob.ask(cursor("read", group, seq)).await;
        }
    }
    bob.ask(json!({"type": "member_remove", "conversation_id": groups[0], "user_ids": ["bob"]})).await;
    // By the time it is sent where he still is, it has been sent where he is not, or never is. On a slow machine both may
    // be sent before he leaves.
    let (mut has_left, mut is_told) = (false, false);
    while !(has_left && is_told) {
        let frame = open.recv().await;
        let is_of_first = frame["conversation_id"] == groups[0];
        assert!(!(has_left && is_of_first), "{frame}");
        match frame["type"].as_str() {
            Some("receipts") => is_told |= !is_of_first && frame["users"][0]["read_seq"] == 3,
            Some("membership") => has_left = frame["removed"] == json!(["bob"]),
            _ => panic!("{frame}"),
        }
    }
    open.expect_quiet().await;
}
