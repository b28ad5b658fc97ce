//! Typing, signals and presence (PROTOCOL §4): passed on, throttled, and never kept.

use serde_json::{Value, json};

use crate::support::{Client, Config, Server};

/// Alice and Bob in their conversation, which is given back.
async fn pair(server: &Server) -> (Client, Client, Value) {
    let mut alice = Client::sign_in(server, "alice").await;
    let mut bob = Client::sign_in(server, "bob").await;
    let sent = alice.ask(json!({"type": "send", "to": "bob", "client_id": "c", "content": {"text": "x"}})).await;
    bob.expect("message").await;
    (alice, bob, sent["conversation_id"].clone())
}

#[tokio::test]
async fn typing_is_shown_and_ends() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = pair(&server).await;
    let (mut other, _) = Client::sign_in_as(&server, "bob", "other").await;
    let typing = |kind: &str| json!({"type": kind, "conversation_id": id});
    let shown = |kind: &str| json!({"type": kind, "conversation_id": id, "user_id": "alice"});
    for _ in 0..5 {
        assert_eq!(alice.ask(typing("typing_start")).await["type"], "ok");
    }
    for client in [&mut bob, &mut other] {
        assert_eq!(client.recv().await, shown("typing_start"));
        client.expect_quiet().await;
    }
    alice.ask(typing("typing_stop")).await;
    assert_eq!(bob.recv().await, shown("typing_stop"));
    alice.ask(typing("typing_stop")).await;
    bob.expect_quiet().await;
}

#[tokio::test]
async fn typing_ends_with_a_message_and_with_the_session() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = pair(&server).await;
    let typing = json!({"type": "typing_start", "conversation_id": id});
    alice.ask(typing.clone()).await;
    bob.expect("typing_start").await;
    alice.ask(json!({"type": "send", "to": "bob", "client_id": "c2", "content": {"text": "x"}})).await;
    let frames = [bob.recv().await, bob.recv().await];
    assert!(frames.iter().any(|frame| frame["type"] == "typing_stop"), "{frames:?}");
    assert!(frames.iter().any(|frame| frame["type"] == "message"), "{frames:?}");

    let mut carol = Client::sign_in(&server, "carol").await;
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob"]});
    let group = carol.ask(create).await["conversation_id"].clone();
    bob.until("membership").await;
    carol.ask(json!({"type": "typing_start", "conversation_id": group})).await;
    bob.expect("typing_start").await;
    drop(carol);
    assert_eq!(bob.expect("typing_stop").await["user_id"], "carol");
}

#[tokio::test]
async fn typing_ends_by_itself_after_five_seconds() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = pair(&server).await;
    alice.ask(json!({"type": "typing_start", "conversation_id": id})).await;
    bob.expect("typing_start").await;
    let begun = tokio::time::Instant::now();
    bob.expect("typing_stop").await;
    assert!((4.5..7.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn signals_go_to_those_who_have_the_conversation_open() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = pair(&server).await;
    let (mut other, _) = Client::sign_in_as(&server, "bob", "other").await;
    let opened = bob.ask(json!({"type": "conversation_open", "conversation_id": id})).await;
    assert_eq!(
        (&opened["type"], &opened["last_seq"], &opened["delivery"]),
        (&json!("opened"), &json!(1), &json!("full"))
    );
    let signal = |kind: &str, data: Value| json!({"type": "signal", "conversation_id": id, "kind": kind, "data": data});
    let empty = json!({"x": ""}).to_string().len();
    let largest = json!({"x": "y".repeat(1_024 - empty)});
    assert_eq!(alice.ask(signal(&"k".repeat(64), largest.clone())).await["type"], "ok");
    let got = bob.expect("signal").await;
    assert_eq!((&got["user_id"], &got["data"]), (&json!("alice"), &largest));
    other.expect_quiet().await;
    let too_large = json!({"x": "y".repeat(1_025 - empty)});
    for (frame, field) in [
        (signal("", json!({})), "kind"),
        (signal(&"k".repeat(65), json!({})), "kind"),
        (signal("k", too_large), "data"),
    ] {
        assert_eq!(alice.ask_in_vain(frame).await, ("bad_request".to_owned(), Some(field.to_owned())));
    }
    bob.ask(json!({"type": "conversation_close", "conversation_id": id})).await;
    alice.ask(signal("k", json!({}))).await;
    bob.expect_quiet().await;
}

#[tokio::test]
async fn what_is_ephemeral_needs_membership() {
    let server = Config::new().start().await;
    let (_alice, mut bob, id) = pair(&server).await;
    let mut mallory = Client::sign_in(&server, "mallory").await;
    for frame in [
        json!({"type": "typing_start", "conversation_id": id}),
        json!({"type": "signal", "conversation_id": id, "kind": "k", "data": {}}),
        json!({"type": "conversation_open", "conversation_id": id}),
    ] {
        assert_eq!(mallory.ask_in_vain(frame).await.0, "not_found");
    }
    bob.expect_quiet().await;
}

#[tokio::test]
async fn presence_is_watched() {
    let server = Config::new().set("presence.batch_ms", 10).set("presence.grace_ms", 10).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let state = alice.ask(json!({"type": "presence_watch", "user_ids": ["bob", "carol"]})).await;
    let offline = |user: &str| json!({"user_id": user, "status": "offline", "last_seen_at": null});
    assert_eq!(state["users"], json!([offline("bob"), offline("carol")]));

    let status = |frame: &Value| -> String { frame["users"][0]["status"].as_str().unwrap().to_owned() };
    let mut bob = Client::sign_in(&server, "bob").await;
    let presence = alice.expect("presence").await;
    assert_eq!((&presence["users"][0]["user_id"], status(&presence).as_str()), (&json!("bob"), "online"));
    for shown in ["away", "busy", "online"] {
        bob.ask(json!({"type": "presence_set", "status": shown})).await;
        assert_eq!(status(&alice.expect("presence").await), shown);
    }
    bob.ask(json!({"type": "presence_set", "status": "invisible"})).await;
    let gone = alice.expect("presence").await;
    assert_eq!(status(&gone), "offline");
    bob.ask(json!({"type": "presence_set", "status": "online"})).await;
    alice.expect("presence").await;
    bob.close().await;
    let gone = alice.expect("presence").await;
    assert_eq!(status(&gone), "offline");
    assert!(gone["users"][0]["last_seen_at"].is_string(), "{gone}");

    alice.ask(json!({"type": "presence_unwatch", "user_ids": ["bob"]})).await;
    let _bob = Client::sign_in(&server, "bob").await;
    let _carol = Client::sign_in(&server, "carol").await;
    assert_eq!(alice.expect("presence").await["users"][0]["user_id"], "carol");
    alice.expect_quiet().await;
}

#[tokio::test]
async fn presence_has_limits() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let users = |from: usize, to: usize| (from..to).map(|n| format!("u{n}")).collect::<Vec<_>>();
    let watch = |user_ids: Vec<String>| json!({"type": "presence_watch", "user_ids": user_ids});
    assert_eq!(alice.ask_in_vain(watch(users(0, 501))).await, ("bad_request".to_owned(), Some("user_ids".to_owned())));
    assert_eq!(alice.ask(watch(users(0, 500))).await["users"].as_array().map(Vec::len), Some(500));
    assert_eq!(alice.ask(watch(users(0, 10))).await["type"], "presence_state", "again is not more");
    let (code, _) = alice.ask_in_vain(watch(users(500, 501))).await;
    assert_eq!(code, "bad_request");
    alice.ask(json!({"type": "presence_unwatch", "user_ids": users(0, 1)})).await;
    assert_eq!(alice.ask(watch(users(500, 501))).await["type"], "presence_state");
    for status in [json!("offline"), json!("asleep"), json!(1)] {
        let refused = alice.ask_in_vain(json!({"type": "presence_set", "status": status})).await;
        assert_eq!(refused, ("bad_request".to_owned(), Some("status".to_owned())));
    }
}
