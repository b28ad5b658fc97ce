//! A store that accepts no writes for a while, under a running server (PROTOCOL §7 `unavailable`, §6 `/readyz`;
//! docs/configuration.md `store.reserve_bytes`): what needs it is rejected, everything else goes on, and it recovers by
//! itself. Its disk is really full: a small one of the server's own. If the machine does not allow creating one,
//! nothing is tested.

use std::fs::File;
use std::io::Write;

use serde_json::{Value, json};

use crate::support::cluster::{until_answered, until_sent, until_signed_in};
use crate::support::server::may_mount;
use crate::support::tokens::token;
use crate::support::{Client, Config, Connect, Server, soon};

const DISK_MEBIBYTES: u32 = 48;

/// A server on a small disk; `None` if this machine does not allow creating one.
async fn start(config: Config) -> Option<Server> {
    if !may_mount() {
        eprintln!("not run, since unshare or mount is not allowed here");
        return None;
    }
    // Clients that retry without waiting must not be slowed down.
    let config = config.set("limits.frames_per_s", 1_000_000);
    let config = config.set("limits.send_timeout_ms", 200).set("presence.batch_ms", 1);
    Some(config.store_on_disk(DISK_MEBIBYTES).start().await)
}

/// Fills the disk to the last byte.
fn fill(server: &Server) {
    let mut filler = File::create(server.disk().join("filler")).expect("the disk can be reached");
    let (mebibyte, byte) = (vec![1; 1 << 20], [1]);
    while filler.write_all(&mebibyte).is_ok() {}
    while filler.write_all(&byte).is_ok() {}
}

fn make_room(server: &Server) {
    std::fs::remove_file(server.disk().join("filler")).expect("the disk can be reached");
}

fn send_to(user: &str, client_id: &str) -> Value {
    json!({"type": "send", "to": user, "client_id": client_id, "content": {"text": "x"}})
}

/// Waits until `/readyz` reports this state of the store. Its check has a short time limit.
async fn until_store_is(server: &Server, state: &str) {
    let is_so = async {
        loop {
            let ready = server.http().get("/readyz").send().await;
            // Every node depends on a store, so none is taken out of service for it.
            assert_eq!(ready.status, 200);
            if ready.json()["data"]["dependencies"]["store"] == state {
                return;
            }
        }
    };
    soon("the store's state", is_so).await;
}

/// Reads up to a frame of this type. Others may only be about what is not stored: what a client had to repeat, and the
/// end of its typing.
async fn until_unstored(client: &mut Client, kind: &str) {
    loop {
        let frame = client.recv().await;
        if frame["type"] == kind {
            return;
        }
        let unstored = ["typing_start", "typing_stop", "signal", "presence"];
        assert!(unstored.iter().any(|unstored| frame["type"] == *unstored), "{frame}");
    }
}

#[tokio::test]
async fn what_writes_is_refused_and_all_else_goes_on() {
    let Some(server) = start(Config::new().set("store.reserve_bytes", 8 << 20)).await else { return };
    let (mut alice, mut bob) = (until_signed_in(&server, "alice").await, until_signed_in(&server, "bob").await);
    let id = until_answered(&mut alice, &send_to("bob", "c1")).await["conversation_id"].clone();
    bob.expect("message").await;
    for client in [&mut alice, &mut bob] {
        until_answered(client, &json!({"type": "conversation_open", "conversation_id": id})).await;
    }
    let watch = json!({"type": "presence_watch", "user_ids": ["alice"]});
    until_answered(&mut bob, &watch).await;
    until_store_is(&server, "ok").await;

    fill(&server);
    let about = |mut frame: Value| {
        frame["conversation_id"] = id.clone();
        frame
    };
    let edit = about(json!({"type": "edit", "seq": 1, "content": {"text": "y"}}));
    let settings = about(json!({"type": "conversation_settings", "pinned": true}));
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": []});
    let block = json!({"type": "block", "user_id": "mallory"});
    let sends = [send_to("bob", "c2"), send_to("carol", "c3")];
    for frame in sends.iter().chain(&[edit, settings, create, block]) {
        let answer = alice.ask(frame.clone()).await;
        assert_eq!(answer["code"], "unavailable", "{frame}: {answer}");
        assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{answer}");
        if frame["type"] == "send" {
            assert_eq!(answer["client_id"], frame["client_id"]);
        }
    }
    let over_http = json!({"to": "bob", "client_id": "c4", "content": {"text": "x"}});
    let refused = server.http().post("/v1/messages", &over_http).token(&token("alice")).send().await;
    refused.error(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    until_store_is(&server, "unavailable").await;
    assert_eq!(server.http().get("/healthz").send().await.status, 200);

    for frame in [about(json!({"type": "typing_start"})), about(json!({"type": "signal", "kind": "k", "data": {}}))] {
        until_answered(&mut alice, &frame).await;
        until_unstored(&mut bob, frame["type"].as_str().expect("a type")).await;
    }
    until_answered(&mut alice, &json!({"type": "presence_set", "status": "busy"})).await;
    until_unstored(&mut bob, "presence").await;
    let mut carol = until_signed_in(&server, "carol").await;
    let state = until_answered(&mut carol, &watch).await;
    assert_eq!(state["users"][0]["status"], "busy");
    bob.send(&json!({"type": "ping"})).await;
    until_unstored(&mut bob, "pong").await;

    make_room(&server);
    assert_eq!(until_sent(&mut alice, &send_to("bob", "c2")).await, 2);
    assert_eq!(until_sent(&mut alice, &send_to("carol", "c3")).await, 1);
    assert_eq!(carol.until("message").await["client_id"], "c3");
    until_store_is(&server, "ok").await;
}

#[tokio::test]
async fn what_is_there_can_be_read() {
    let config = Config::new().set("store.reserve_bytes", 8 << 20).set("limits.conversation_idle_ms", 1);
    let Some(server) = start(config.set("limits.inbox_flush_ms", 1)).await else { return };
    let mut alice = until_signed_in(&server, "alice").await;
    let id = until_answered(&mut alice, &send_to("bob", "c1")).await["conversation_id"].clone();
    let at_rest = async { while server.metric("switchboard_store_statements_total", "end_term").await < 1.0 {} };
    soon("the conversation's rest, with nothing owed to anyone", at_rest).await;
    fill(&server);
    let mut bob = until_signed_in(&server, "bob").await;
    let sync = until_answered(&mut bob, &json!({"type": "sync", "entries_per_conversation": 50})).await;
    assert_eq!((&sync["conversations"][0]["conversation_id"], &sync["conversations"][0]["unread"]), (&id, &json!(1)));
    let history = until_answered(&mut bob, &json!({"type": "history", "conversation_id": id})).await;
    assert_eq!((&history["messages"][0]["client_id"], &history["last_seq"]), (&json!("c1"), &json!(1)), "{history}");
    let ask = json!({"type": "changes", "conversation_id": id, "after": 0});
    let changes = until_answered(&mut bob, &ask).await;
    assert_eq!(changes["entries"], sync["conversations"][0]["entries"], "{changes}");
}

/// Without a reserve the database itself runs into the full disk, fails, and is reopened.
#[tokio::test]
async fn nothing_that_was_answered_is_lost_when_the_store_fails_and_comes_back() {
    const ROUNDS: usize = 2;
    const SENDS: usize = 20;
    let Some(server) = start(Config::new().set("store.reserve_bytes", 0)).await else { return };
    let (mut alice, mut bob) = (until_signed_in(&server, "alice").await, until_signed_in(&server, "bob").await);
    let mut sends = Vec::new();
    for round in 0..ROUNDS {
        fill(&server);
        let names = (0..SENDS).map(|n| format!("c{round}-{n}"));
        let frames: Vec<Value> = names.map(|name| send_to("bob", &name)).collect();
        for frame in &frames {
            alice.feed(frame).await;
        }
        alice.flush().await;
        let (mut taken, mut refused) = (0, 0);
        while taken + refused < SENDS {
            // What was answered late may come live, too.
            match alice.recv().await["type"].as_str() {
                Some("sent") => taken += 1,
                Some("error") => refused += 1,
                _ => {}
            }
        }
        assert!(refused > 0, "the disk was full");
        make_room(&server);
        for frame in &frames {
            until_sent(&mut alice, frame).await;
        }
        sends.extend(frames);
    }
    // Each message exists once, for new readers and for those who got it live.
    let id = until_answered(&mut alice, &send_to("bob", "last")).await["conversation_id"].clone();
    let names = |entries: &[Value]| entries.iter().map(|entry| entry["client_id"].clone()).collect::<Vec<_>>();
    let ask = json!({"type": "changes", "conversation_id": id, "after": 0});
    let changes = until_answered(&mut alice, &ask).await;
    let stored = names(changes["entries"].as_array().expect("a list"));
    let mut expected = names(&sends);
    expected.push(json!("last"));
    let sorted = |mut names: Vec<Value>| {
        names.sort_by_key(Value::to_string);
        names
    };
    assert_eq!(sorted(stored.clone()), sorted(expected));
    for name in stored {
        assert_eq!(bob.until("message").await["client_id"], name);
    }
}

#[tokio::test]
async fn who_comes_while_the_store_is_closed_is_asked_to_come_back() {
    let Some(server) = start(Config::new().set("store.reserve_bytes", 0)).await else { return };
    let mut alice = until_signed_in(&server, "alice").await;
    fill(&server);
    let turned_away = async {
        let mut n = 0;
        loop {
            n += 1;
            alice.ask(send_to("bob", &format!("c{n}"))).await;
            let mut client = Connect::to(&server).token(&token("carol")).open().await;
            let frame = client.recv().await;
            if frame["type"] == "error" {
                return (frame, client.expect_close().await);
            }
        }
    };
    let (error, code) = soon("a refusal", turned_away).await;
    assert_eq!((&error["code"], code), (&json!("overloaded"), Some(4503)), "{error}");
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{error}");
    make_room(&server);
    until_sent(&mut alice, &send_to("bob", "last")).await;
    until_signed_in(&server, "carol").await;
}
