//! Sends, and what becomes of messages (PROTOCOL §3, §8 "Sends", "Changes"): each limit at it and one past it.

use serde_json::{Value, json};

use crate::support::{Client, Config};

fn send(client_id: &str, text: &str) -> Value {
    json!({"type": "send", "to": "bob", "client_id": client_id, "content": {"text": text}})
}

fn with(mut frame: Value, name: &str, value: Value) -> Value {
    frame[name] = value;
    frame
}

#[tokio::test]
async fn a_message_goes_to_every_session_but_the_sending_one() {
    let server = Config::new().start().await;
    let (mut phone, _) = Client::sign_in_as(&server, "alice", "phone").await;
    let (mut laptop, _) = Client::sign_in_as(&server, "alice", "laptop").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut carol = Client::sign_in(&server, "carol").await;

    let content = json!({"text": "Hello", "custom": {"deep": [1, null]}, "mentions": ["bob", "nobody"]});
    let sent = phone.ask(with(send("c1", ""), "content", content.clone())).await;
    assert_eq!((&sent["type"], &sent["client_id"], &sent["seq"]), (&json!("sent"), &json!("c1"), &json!(1)));
    assert_eq!(sent["duplicate"], false);
    let expected = json!({
        "type": "message", "conversation_id": sent["conversation_id"], "message_id": sent["message_id"], "seq": 1,
        "from": "alice", "client_id": "c1", "content": content, "timestamp": sent["timestamp"],
    });
    assert_eq!(laptop.recv().await, expected);
    assert_eq!(bob.recv().await, expected);
    phone.expect_quiet().await;
    carol.expect_quiet().await;

    // The conversation is the same whoever writes first.
    let reply = with(send("c1", "Hi"), "to", json!("alice"));
    let reply = bob.ask(reply).await;
    assert_eq!((&reply["conversation_id"], &reply["seq"]), (&sent["conversation_id"], &json!(2)));
    for client in [&mut phone, &mut laptop] {
        assert_eq!(client.expect("message").await["from"], "bob");
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_result_and_does_nothing() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let first = alice.ask(send("c1", "one")).await;
    let other = alice.ask(send("c2", "two")).await;
    let is_first = |again: &Value| {
        for name in ["conversation_id", "message_id", "seq", "timestamp"] {
            assert_eq!(again[name], first[name], "{again}");
        }
        assert_eq!(again["duplicate"], true);
    };
    is_first(&alice.ask(send("c1", "one")).await);
    is_first(&alice.ask(send("c1", "another content")).await);
    let to_conversation = json!({"type": "send", "conversation_id": first["conversation_id"], "client_id": "c1",
        "content": {"text": "one"}, "base_seq": 0});
    is_first(&alice.ask(to_conversation).await);
    // The other user's `client_id` is another one.
    assert_eq!(bob.ask(with(send("c1", "x"), "to", json!("alice"))).await["duplicate"], false);
    let blocked = bob.ask(json!({"type": "block", "user_id": "alice"})).await;
    assert_eq!(blocked["type"], "ok");
    is_first(&alice.ask(send("c1", "one")).await);

    let server = server.kill_and_restart().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    is_first(&alice.ask(send("c1", "one")).await);
    assert_eq!(alice.ask(send("c2", "two")).await["seq"], other["seq"]);
    let history = alice.ask(json!({"type": "history", "conversation_id": first["conversation_id"]})).await;
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn of_many_repeats_at_once_one_is_stored() {
    let server = Config::new().start().await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut clients = Vec::new();
    for n in 0..4 {
        clients.push(Client::sign_in_as(&server, "alice", &format!("d{n}")).await.0);
    }
    for client in &mut clients {
        for n in 0..5 {
            client.feed(&with(send("same", "x"), "id", json!(n.to_string()))).await;
        }
        client.flush().await;
    }
    let mut firsts = 0;
    for client in &mut clients {
        for _ in 0..5 {
            let sent = client.until("sent").await;
            assert_eq!(sent["seq"], 1);
            firsts += u32::from(sent["duplicate"] == false);
        }
    }
    assert!(firsts >= 1, "{firsts}");
    assert_eq!(bob.expect("message").await["seq"], 1);
    bob.expect_quiet().await;
}

#[tokio::test]
async fn sends_behind_each_other_keep_their_order() {
    let server = Config::new().set("limits.frames_per_s", 10_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    for n in 1..=300 {
        alice.feed(&send(&n.to_string(), "x")).await;
    }
    alice.flush().await;
    for n in 1..=300 {
        let sent = alice.until("sent").await;
        assert_eq!((&sent["client_id"], &sent["seq"]), (&json!(n.to_string()), &json!(n)));
        let message = bob.until("message").await;
        assert_eq!((&message["client_id"], &message["seq"]), (&json!(n.to_string()), &json!(n)));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_send_is_named_and_nothing_is_stored() {
    let server = Config::new().set("limits.frame_bytes", 200_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let good = || send("c", "x");
    let content = |content: Value| with(good(), "content", content);
    let mentions = |n: usize| content(json!({"text": "x", "mentions": vec!["carol"; n]}));
    let text_bytes = 32_768 - json!({"text": ""}).to_string().len();
    for (frame, code, field) in [
        (json!({"type": "send", "to": "bob", "content": {}}), "bad_request", "client_id"),
        (with(good(), "client_id", json!("")), "bad_request", "client_id"),
        (with(good(), "client_id", json!("c".repeat(129))), "bad_request", "client_id"),
        (with(good(), "client_id", json!(7)), "bad_request", "client_id"),
        (json!({"type": "send", "client_id": "c", "content": {}}), "bad_request", "conversation_id"),
        (with(good(), "conversation_id", json!("c1")), "bad_request", "to"),
        (with(good(), "to", json!("not a user")), "bad_request", "to"),
        (with(good(), "to", json!("alice")), "bad_request", "to"),
        (with(good(), "to", json!("b".repeat(129))), "bad_request", "to"),
        (with(good(), "base_seq", json!(-1)), "bad_request", "base_seq"),
        (json!({"type": "send", "to": "bob", "client_id": "c"}), "bad_request", "content"),
        (content(json!("text")), "bad_request", "content"),
        (content(json!({"text": "x", "mentions": "bob"})), "bad_request", "content.mentions"),
        (content(json!({"text": "x", "mentions": ["not a user"]})), "bad_request", "content.mentions"),
        (mentions(101), "bad_request", "content.mentions"),
        (content(json!({"text": "x".repeat(text_bytes + 1)})), "too_large", "content"),
    ] {
        let answer = alice.ask(frame).await;
        assert_eq!((&answer["code"], &answer["details"][0]["field"]), (&json!(code), &json!(field)), "{answer}");
    }
    let unknown = json!({"type": "send", "conversation_id": "g:none", "client_id": "c", "content": {"text": "x"}});
    let error = alice.ask(unknown).await;
    assert_eq!((&error["code"], &error["client_id"]), (&json!("not_found"), &json!("c")));
    bob.expect_quiet().await;
    assert_eq!(alice.ask(json!({"type": "sync"})).await["conversations"], json!([]));

    for (n, frame) in [
        with(good(), "client_id", json!("c".repeat(128))),
        mentions(100),
        with(content(json!({"text": "x".repeat(text_bytes)})), "client_id", json!("largest")),
        with(content(json!({"ciphertext": "AAAA"})), "client_id", json!("sealed")),
        with(content(json!({})), "client_id", json!("empty")),
    ]
    .into_iter()
    .enumerate()
    {
        let sent = alice.ask(frame).await;
        assert_eq!((&sent["type"], &sent["seq"]), (&json!("sent"), &json!(n + 1)), "{sent}");
        bob.expect("message").await;
    }
}

#[tokio::test]
async fn content_is_counted_as_compact_json() {
    let server = Config::new().set("limits.content_bytes", 100).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let content = json!({"text": "x".repeat(100 - json!({"text": ""}).to_string().len())}).to_string();
    let padded = content.replace(':', &format!(":{}", " ".repeat(500)));
    let frame = |content: &str| format!(r#"{{"type":"send","to":"bob","client_id":"c","content":{content}}}"#);
    alice.send_text(&frame(&padded)).await;
    alice.expect("sent").await;
    alice.send_text(&frame(&padded.replace("xx", "xxx"))).await;
    assert_eq!(alice.expect_error("too_large").await.as_deref(), Some("content"));
}

#[tokio::test]
async fn messages_are_edited_deleted_and_reacted_to() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let sent = alice.ask(send("c1", "Hello")).await;
    bob.expect("message").await;
    let about = |kind: &str, seq: u64| json!({"type": kind, "conversation_id": sent["conversation_id"], "seq": seq});
    let edit = |seq: u64| with(about("edit", seq), "content", json!({"text": "Hello!"}));
    let react = |kind: &str, emoji: &str| with(about(kind, 1), "emoji", json!(emoji));

    assert_eq!(bob.ask_in_vain(edit(1)).await.0, "forbidden");
    assert_eq!(bob.ask_in_vain(about("delete", 1)).await.0, "forbidden");
    assert_eq!(alice.ask(edit(1)).await["seq"], 2);
    let updated = bob.expect("message_updated").await;
    assert_eq!((&updated["seq"], &updated["target_seq"], &updated["by"]), (&json!(2), &json!(1), &json!("alice")));
    assert_eq!(updated["content"], json!({"text": "Hello!"}));

    assert_eq!(bob.ask(react("react", "👍")).await["seq"], 3);
    let reaction = alice.expect("reaction").await;
    assert_eq!(
        (&reaction["emoji"], &reaction["added"], &reaction["user_id"]),
        (&json!("👍"), &json!(true), &json!("bob"))
    );
    assert_eq!(bob.ask(react("react", "👍")).await["seq"], 3, "twice is once");
    assert_eq!(bob.ask(react("unreact", "❤")).await["seq"], 3, "what was not there can't go");
    assert_eq!(bob.ask(react("unreact", "👍")).await["seq"], 4);
    assert_eq!(alice.expect("reaction").await["added"], false);
    for emoji in ["", &"e".repeat(65)] {
        assert_eq!(bob.ask_in_vain(react("react", emoji)).await, ("bad_request".to_owned(), Some("emoji".to_owned())));
    }
    assert_eq!(bob.ask(react("react", &"e".repeat(64))).await["seq"], 5);
    alice.expect("reaction").await;

    assert_eq!(alice.ask_in_vain(edit(2)).await.0, "not_found", "an edit is no message");
    assert_eq!(alice.ask_in_vain(edit(99)).await.0, "not_found");
    assert_eq!(alice.ask(about("delete", 1)).await["seq"], 6);
    let deleted = bob.expect("message_updated").await;
    assert_eq!((&deleted["deleted"], deleted.get("content")), (&json!(true), None));
    for frame in [edit(1), about("delete", 1), react("react", "👍")] {
        assert_eq!(alice.ask_in_vain(frame).await.0, "conflict");
    }
    let history = alice.ask(json!({"type": "history", "conversation_id": sent["conversation_id"]})).await;
    let message = &history["messages"][0];
    assert_eq!((&message["deleted"], message.get("content")), (&json!(true), None), "{message}");
}

#[tokio::test]
async fn history_and_changes_come_in_pages() {
    let server = Config::new().set("limits.frames_per_s", 10_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut id = json!(null);
    for n in 1..=250 {
        id = alice.ask(send(&n.to_string(), "x")).await["conversation_id"].clone();
    }
    let page = |kind: &str, name: &str, seq: u64, limit: u64| {
        let mut frame = json!({"type": kind, "conversation_id": id, "limit": limit});
        if !name.is_empty() {
            frame[name] = json!(seq);
        }
        frame
    };
    let seqs = |answer: &Value, list: &str| -> (u64, u64, usize, bool) {
        let items = answer[list].as_array().unwrap();
        let seq = |item: Option<&Value>| item.and_then(|item| item["seq"].as_u64()).unwrap_or(0);
        assert!(items.windows(2).all(|pair| pair[0]["seq"].as_u64() < pair[1]["seq"].as_u64()));
        (seq(items.first()), seq(items.last()), items.len(), answer["more"] == true)
    };
    let history = alice.ask(json!({"type": "history", "conversation_id": id})).await;
    assert_eq!(seqs(&history, "messages"), (201, 250, 50, true));
    assert_eq!(history["last_seq"], 250);
    for (name, seq, limit, expected) in [
        ("", 0, 200, (51, 250, 200, true)),
        ("before", 51, 200, (1, 50, 50, false)),
        ("before", 1, 10, (0, 0, 0, false)),
        ("after", 0, 10, (1, 10, 10, true)),
        ("after", 240, 10, (241, 250, 10, false)),
        ("after", 250, 10, (0, 0, 0, false)),
    ] {
        let history = alice.ask(page("history", name, seq, limit)).await;
        assert_eq!(seqs(&history, "messages"), expected, "{name} {seq}");
    }
    for (after, limit, expected) in
        [(0, 100, (1, 100, 100, true)), (150, 500, (151, 250, 100, false)), (250, 500, (0, 0, 0, false))]
    {
        let changes = alice.ask(page("changes", "after", after, limit)).await;
        assert_eq!(seqs(&changes, "entries"), expected, "after {after}");
    }
    for (kind, limit) in [("history", 201), ("history", 0), ("changes", 501), ("changes", 0)] {
        let refused = alice.ask_in_vain(page(kind, "after", 0, limit)).await;
        assert_eq!(refused, ("bad_request".to_owned(), Some("limit".to_owned())));
    }
    let mut mallory = Client::sign_in(&server, "mallory").await;
    for kind in ["history", "changes"] {
        assert_eq!(mallory.ask_in_vain(page(kind, "after", 0, 10)).await.0, "not_found");
    }
}

#[tokio::test]
async fn who_is_too_far_behind_begins_anew() {
    let server = Config::new().set("changes.max", 5).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut id = json!(null);
    for n in 1..=8 {
        id = alice.ask(send(&n.to_string(), "x")).await["conversation_id"].clone();
    }
    let changes = |after: u64| json!({"type": "changes", "conversation_id": id, "after": after});
    let at_the_limit = alice.ask(changes(3)).await;
    assert_eq!((at_the_limit["entries"].as_array().map(Vec::len), at_the_limit.get("reset")), (Some(5), None));
    let past_it = alice.ask(changes(2)).await;
    assert_eq!((&past_it["entries"], &past_it["reset"], &past_it["last_seq"]), (&json!([]), &json!(true), &json!(8)));
}
