//! Typing (PROTOCOL §4): who is told, how often, and what ends it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::tokens::token;
use crate::support::{Client, Config, soon};

/// After this time typing ends by itself, unless it is started again.
const EXPIRY: Duration = Duration::from_secs(5);

fn typing(kind: &str, conversation: &Value) -> Value {
    json!({"type": kind, "conversation_id": conversation})
}

/// The frame that others get.
fn shown(kind: &str, conversation: &Value, user: &str) -> Value {
    json!({"type": kind, "conversation_id": conversation, "user_id": user})
}

async fn group(owner: &mut Client, name: &str, members: &[&str]) -> Value {
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": name, "members": members});
    owner.ask(create).await["conversation_id"].clone()
}

/// The frames that have come by now.
async fn seen_by(reader: &mut Client) -> Vec<Value> {
    reader.send(&json!({"type": "ping", "id": "seen"})).await;
    let mut seen = Vec::new();
    loop {
        let frame = reader.recv().await;
        if frame == json!({"type": "pong", "id": "seen"}) {
            return seen;
        }
        seen.push(frame);
    }
}

/// Whether this may tell that typing which began after `begun` has expired: on a slow machine a test takes that long.
fn may_be_expiry(frame: &Value, begun: Instant) -> bool {
    frame["type"] == "typing_stop" && begun.elapsed() >= EXPIRY
}

/// As [`Client::expect_quiet`], where typing began after `begun`.
async fn expect_no_other(reader: &mut Client, begun: Instant) {
    let seen = seen_by(reader).await;
    assert!(seen.iter().all(|frame| may_be_expiry(frame, begun)), "{seen:?}");
}

/// As [`Client::expect`], where typing began after `begun`.
async fn expect_start(reader: &mut Client, begun: Instant) -> Value {
    loop {
        let frame = reader.recv().await;
        if frame["type"] == "typing_start" {
            return frame;
        }
        assert!(may_be_expiry(&frame, begun), "{frame}");
    }
}

/// Waits for the user's `typing_stop`. Nobody else stops before, except who began after `begun` and may have expired.
async fn until_stopped(reader: &mut Client, conversation: &Value, user: &str, begun: Instant) {
    loop {
        let frame = reader.until("typing_stop").await;
        if frame == shown("typing_stop", conversation, user) {
            return;
        }
        assert!(may_be_expiry(&frame, begun), "{frame}");
    }
}

/// Both start typing after `begun`, the witness first: typing that merely expires ends for the witness first.
async fn begin(witness: &mut Client, typist: &mut Client, reader: &mut Client, conversation: &Value, begun: Instant) {
    for client in [witness, typist] {
        client.ask(typing("typing_start", conversation)).await;
        expect_start(reader, begun).await;
    }
}

#[tokio::test]
async fn typing_is_shown_to_the_others_and_ends() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = Client::pair(&server).await;
    let (mut laptop, _) = Client::sign_in_as(&server, "alice", "laptop").await;
    let (mut tablet, _) = Client::sign_in_as(&server, "bob", "tablet").await;
    assert_eq!(alice.ask(typing("typing_start", &id)).await["type"], "ok");
    for client in [&mut bob, &mut tablet] {
        assert_eq!(client.recv().await, shown("typing_start", &id, "alice"));
    }
    alice.ask(typing("typing_stop", &id)).await;
    alice.ask(typing("typing_stop", &id)).await;
    for client in [&mut bob, &mut tablet] {
        assert_eq!(client.recv().await, shown("typing_stop", &id, "alice"));
        client.expect_quiet().await;
    }
    for own in [&mut alice, &mut laptop] {
        own.expect_quiet().await;
    }
}

#[tokio::test]
async fn a_start_goes_out_once_in_two_seconds_for_each_user_and_conversation() {
    let server = Config::new().set("limits.frames_per_s", 100_000).start().await;
    let (mut alice, mut bob, id) = Client::pair(&server).await;
    let (mut laptop, _) = Client::sign_in_as(&server, "alice", "laptop").await;
    let other = group(&mut alice, "g", &["bob"]).await;
    bob.expect("membership").await;
    let begun = Instant::now();
    for _ in 0..3 {
        for client in [&mut alice, &mut laptop] {
            client.ask(typing("typing_start", &id)).await;
        }
    }
    let start = shown("typing_start", &id, "alice");
    assert_eq!(bob.recv().await, start);
    let seen = seen_by(&mut bob).await;
    assert!(seen.iter().all(|frame| *frame == start || may_be_expiry(frame, begun)), "{seen:?}");
    // Once more for each two seconds that all this took; the server counts whole milliseconds.
    let more = seen.iter().filter(|frame| **frame == start).count() as u128;
    assert!(more <= (begun.elapsed().as_millis() + 1) / 2_000, "{more} more within {:?}", begun.elapsed());
    alice.ask(typing("typing_start", &other)).await;
    assert_eq!(expect_start(&mut bob, begun).await, shown("typing_start", &other, "alice"));

    // Then it is sent again while he is shown as typing, for those who have come since.
    let again = async {
        loop {
            alice.ask(typing("typing_start", &id)).await;
            let seen = seen_by(&mut bob).await;
            if let Some(frame) = seen.into_iter().find(|frame| !may_be_expiry(frame, begun)) {
                return frame;
            }
        }
    };
    assert_eq!(soon("the next start", again).await, start);
}

#[tokio::test]
async fn typing_ends_with_a_message_and_with_the_session() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let mut reader = Client::sign_in(&server, "carol").await;
    let send = json!({"client_id": "c1", "content": {"text": "x"}});
    let begun = Instant::now();
    for how in ["message", "message over HTTP", "session"] {
        let group = group(&mut alice, how, &["bob", "carol"]).await;
        reader.until("membership").await;
        begin(&mut bob, &mut alice, &mut reader, &group, begun).await;
        match how {
            "message" => {
                let mut frame = send.clone();
                (frame["type"], frame["conversation_id"]) = (json!("send"), group.clone());
                alice.ask(frame).await;
            }
            "message over HTTP" => {
                let path = format!("/v1/conversations/{}/messages", group.as_str().unwrap());
                server.http().post(&path, &send).token(&token("alice")).send().await.data(201);
            }
            _ => drop(std::mem::replace(&mut alice, Client::sign_in(&server, "alice").await)),
        }
        until_stopped(&mut reader, &group, "alice", begun).await;
    }
}

#[tokio::test]
async fn he_types_while_one_of_his_sessions_does() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = Client::pair(&server).await;
    let (mut laptop, _) = Client::sign_in_as(&server, "alice", "laptop").await;
    let begun = Instant::now();
    for client in [&mut alice, &mut laptop] {
        client.ask(typing("typing_start", &id)).await;
    }
    alice.close().await;
    let gone = async { while server.metric("switchboard_connections", "websocket").await > 2.0 {} };
    soon("the session's end", gone).await;
    let [start, stop] = ["typing_start", "typing_stop"].map(|kind| shown(kind, &id, "alice"));
    let mut seen = seen_by(&mut bob).await;
    assert_eq!(seen[0], start);
    assert!(seen.iter().all(|frame| *frame == start || may_be_expiry(frame, begun)), "{seen:?}");
    laptop.ask(typing("typing_stop", &id)).await;
    seen.extend(seen_by(&mut bob).await);
    assert_eq!(seen.last(), Some(&stop));
}

/// After five seconds, as the state machine's own tests check.
#[tokio::test]
async fn typing_ends_by_itself() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = Client::pair(&server).await;
    alice.ask(typing("typing_start", &id)).await;
    bob.expect("typing_start").await;
    assert_eq!(bob.expect("typing_stop").await, shown("typing_stop", &id, "alice"));
}

#[tokio::test]
async fn who_is_removed_types_no_more_and_sees_nobody_type() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut bob, mut carol) = (Client::sign_in(&server, "bob").await, Client::sign_in(&server, "carol").await);
    let group = group(&mut alice, "g", &["bob", "carol"]).await;
    for client in [&mut bob, &mut carol] {
        client.expect("membership").await;
    }
    let begun = Instant::now();
    begin(&mut alice, &mut bob, &mut carol, &group, begun).await;
    alice.ask(json!({"type": "member_remove", "conversation_id": group, "user_ids": ["bob"]})).await;
    until_stopped(&mut carol, &group, "bob", begun).await;
    bob.until("membership").await;

    for kind in ["typing_start", "typing_stop"] {
        assert_eq!(bob.ask_in_vain(typing(kind, &group)).await.0, "not_found");
    }
    expect_no_other(&mut carol, begun).await;
    carol.ask(typing("typing_start", &group)).await;
    assert_eq!(alice.until("typing_start").await["user_id"], "carol");
    bob.expect_quiet().await;
}

#[tokio::test]
async fn in_a_large_group_typing_goes_to_those_who_have_it_open() {
    let server = Config::new().set("fanout.push_members_max", 2).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut bob, mut carol) = (Client::sign_in(&server, "bob").await, Client::sign_in(&server, "carol").await);
    let group = group(&mut alice, "g", &["bob", "carol"]).await;
    for client in [&mut bob, &mut carol] {
        client.expect("membership").await;
    }
    bob.ask(json!({"type": "conversation_open", "conversation_id": group})).await;
    alice.ask(typing("typing_start", &group)).await;
    assert_eq!(bob.recv().await, shown("typing_start", &group, "alice"));
    alice.ask(typing("typing_stop", &group)).await;
    assert_eq!(bob.recv().await, shown("typing_stop", &group, "alice"));
    carol.expect_quiet().await;
}

#[tokio::test]
async fn typing_is_not_kept() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = Client::pair(&server).await;
    let cursor = bob.ask(json!({"type": "sync"})).await["cursor"].clone();
    let begun = Instant::now();
    alice.ask(typing("typing_start", &id)).await;
    bob.expect("typing_start").await;
    let changed = bob.ask(json!({"type": "sync", "cursor": cursor})).await;
    assert_eq!(changed["conversations"], json!([]));
    let changes = bob.ask(json!({"type": "changes", "conversation_id": id, "after": 0})).await;
    assert_eq!((changes["entries"].as_array().map(Vec::len), &changes["last_seq"]), (Some(1), &json!(1)));
    let (mut tablet, _) = Client::sign_in_as(&server, "bob", "tablet").await;
    expect_no_other(&mut tablet, begun).await;
}

#[tokio::test]
async fn typing_names_a_conversation_of_ones_own() {
    let server = Config::new().start().await;
    let (mut alice, mut bob, id) = Client::pair(&server).await;
    let mut mallory = Client::sign_in(&server, "mallory").await;
    for kind in ["typing_start", "typing_stop"] {
        assert_eq!(mallory.ask_in_vain(typing(kind, &id)).await.0, "not_found");
        for wrong in [json!({"type": kind}), typing(kind, &json!(7)), typing(kind, &json!("x".repeat(129)))] {
            let refused = alice.ask_in_vain(wrong).await;
            assert_eq!(refused, ("bad_request".to_owned(), Some("conversation_id".to_owned())));
        }
    }
    bob.expect_quiet().await;
}
