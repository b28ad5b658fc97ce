//! Sends (PROTOCOL §3, §8 "Sends"): each limit at it and one past it.

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

    // The conversation is the same, whoever writes first.
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
    // The same `client_id` of the other user is a different one.
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
async fn two_who_write_first_at_once_are_in_one_conversation() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    alice.send(&send("c", "x")).await;
    bob.send(&with(send("c", "x"), "to", json!("alice"))).await;
    let (from_alice, from_bob) = (alice.until("sent").await, bob.until("sent").await);
    assert_eq!(from_alice["conversation_id"], from_bob["conversation_id"]);
    let mut seqs = [&from_alice, &from_bob].map(|sent| sent["seq"].as_u64().unwrap());
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2]);
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

/// Sends as a session that always has two sends under way: returns the numbers of all entries, its own from their
/// `sent`.
async fn talk(mut client: Client, group: Value, name: &str, entries: u64) -> Vec<u64> {
    let message = |n: u64| json!({"type": "send", "conversation_id": group, "client_id": format!("{name}-{n}"), "content": {"text": "x"}});
    let mut said = 2;
    client.send(&message(1)).await;
    client.send(&message(2)).await;
    let mut heard = Vec::new();
    while heard.last() != Some(&entries) {
        let frame = client.recv().await;
        heard.push(frame["seq"].as_u64().expect("an entry or a `sent`"));
        if frame["type"] == "sent" && said < 50 {
            said += 1;
            client.send(&message(said)).await;
        }
    }
    heard
}

#[tokio::test]
async fn among_the_entries_of_others_sent_has_the_place_of_ones_own() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let bob = Client::sign_in(&server, "bob").await;
    let carol = Client::sign_in(&server, "carol").await;
    let group = alice.make_group(&["bob", "carol"]).await;
    // The group's first entry is its `membership`.
    let last = 1 + 3 * 50;
    let (of_alice, of_bob, of_carol) = tokio::join!(
        talk(alice, group.clone(), "alice", last),
        talk(bob, group.clone(), "bob", last),
        talk(carol, group, "carol", last),
    );
    assert_eq!(of_alice, Vec::from_iter(2..=last));
    assert_eq!(of_bob, Vec::from_iter(1..=last));
    assert_eq!(of_carol, Vec::from_iter(1..=last));
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
async fn who_is_mentioned_is_told_if_he_is_a_member() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut zed = Client::sign_in(&server, "zed").await;
    let group = alice.make_group(&["bob"]).await;
    let mentions = |users: Value| json!({"ciphertext": "AAAA", "mentions": users});
    assert_eq!(alice.say(&group, mentions(json!(["bob", "zed", "alice", "bob"]))).await["seq"], 2);
    alice.say(&group, mentions(json!([]))).await;
    alice.say(&group, mentions(json!(null))).await;
    zed.expect_quiet().await;
    for (client, mentioned_seq) in [(&mut alice, 0), (&mut bob, 2)] {
        let sync = client.ask(json!({"type": "sync"})).await;
        assert_eq!(sync["conversations"][0]["mentioned_seq"], mentioned_seq);
    }
    assert_eq!(zed.ask(json!({"type": "sync"})).await["conversations"], json!([]));
}
