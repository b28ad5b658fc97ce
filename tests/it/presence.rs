//! Presence (PROTOCOL §4, §8): who is shown how, and to whom. Never stored, except for last seen.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::tokens::token;
use crate::support::{Client, Config, Connect, Server, Token, soon};

fn set(status: &str) -> Value {
    json!({"type": "presence_set", "status": status})
}

fn watch(users: &[&str]) -> Value {
    json!({"type": "presence_watch", "user_ids": users})
}

/// How the watcher, who watches only this user, is told that the user looks.
async fn told(watcher: &mut Client) -> Value {
    let mut presence = watcher.expect("presence").await;
    assert_eq!(presence["users"].as_array().map(Vec::len), Some(1), "{presence}");
    presence["users"][0].take()
}

/// How the user looks to a new request.
async fn look(watcher: &mut Client, user: &str) -> Value {
    watcher.ask(watch(&[user])).await["users"][0].take()
}

fn present(user: &str, status: &str) -> Value {
    json!({"user_id": user, "status": status, "last_seen_at": null})
}

fn never_seen(user: &str) -> Value {
    present(user, "offline")
}

/// Checks that this is an offline user with a known last-seen time; returns it.
fn last_seen(look: &Value) -> &str {
    assert_eq!(look["status"], "offline", "{look}");
    look["last_seen_at"].as_str().unwrap_or_else(|| panic!("not known: {look}"))
}

/// Changes are sent almost at once.
fn eager() -> Config {
    Config::new().set("presence.batch_ms", 1).set("presence.grace_ms", 1)
}

/// Checks that nothing is sent during a few ticks of the server's timers.
async fn expect_silence(client: &mut Client) {
    const LONGER_THAN_TIMERS: Duration = Duration::from_millis(300);
    assert_eq!(client.try_recv(LONGER_THAN_TIMERS).await, Ok(None));
}

async fn until_open(server: &Server, sessions: f64) {
    let others_gone = async { while server.metric("switchboard_connections", "websocket").await > sessions {} };
    soon("the sessions' end", others_gone).await;
}

#[tokio::test]
async fn presence_is_watched() {
    let server = eager().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let state = alice.ask(watch(&["bob", "carol", "alice"])).await;
    assert_eq!(state["users"], json!([present("alice", "online"), never_seen("bob"), never_seen("carol")]));

    let mut bob = Client::sign_in(&server, "bob").await;
    assert_eq!(told(&mut alice).await, present("bob", "online"));
    for status in ["away", "busy", "online"] {
        bob.ask(set(status)).await;
        assert_eq!(told(&mut alice).await, present("bob", status));
    }
    bob.ask(set("online")).await;
    alice.expect_quiet().await;
    bob.close().await;
    let gone = told(&mut alice).await;
    last_seen(&gone);
    assert_eq!(look(&mut alice, "bob").await, gone);

    assert_eq!(alice.ask(json!({"type": "presence_unwatch", "user_ids": ["bob"]})).await["type"], "ok");
    let _bob = Client::sign_in(&server, "bob").await;
    let _carol = Client::sign_in(&server, "carol").await;
    assert_eq!(told(&mut alice).await, present("carol", "online"));
    alice.expect_quiet().await;
}

#[tokio::test]
async fn a_session_watches_at_most_500_users() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let users = |from: usize, to: usize| (from..to).map(|n| format!("u{n}")).collect::<Vec<_>>();
    let watch = |user_ids: Vec<String>| json!({"type": "presence_watch", "user_ids": user_ids});
    let too_many = ("bad_request".to_owned(), Some("user_ids".to_owned()));
    assert_eq!(alice.ask_in_vain(watch(users(0, 501))).await, too_many);
    assert_eq!(alice.ask(watch(users(0, 500))).await["users"].as_array().map(Vec::len), Some(500));
    assert_eq!(alice.ask(watch(users(0, 10))).await["type"], "presence_state", "again is not more");
    assert_eq!(alice.ask_in_vain(watch(users(499, 501))).await, too_many);
    // Rejected users are not watched; the limit applies to each session.
    let mut late = Client::sign_in(&server, "u500").await;
    alice.expect_quiet().await;
    assert_eq!(late.ask(watch(users(0, 500))).await["type"], "presence_state");
    alice.ask(json!({"type": "presence_unwatch", "user_ids": users(0, 1)})).await;
    assert_eq!(alice.ask(watch(users(500, 501))).await["users"], json!([present("u500", "online")]));
}

#[tokio::test]
async fn malformed_presence_is_named_and_changes_nothing() {
    let server = eager().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    assert_eq!(look(&mut alice, "bob").await, present("bob", "online"));
    for status in [json!("offline"), json!("asleep"), json!(1), json!(null)] {
        let refused = bob.ask_in_vain(json!({"type": "presence_set", "status": status})).await;
        assert_eq!(refused, ("bad_request".to_owned(), Some("status".to_owned())));
    }
    for kind in ["presence_watch", "presence_unwatch"] {
        for (user_ids, field) in [
            (json!("bob"), "user_ids"),
            (json!(null), "user_ids"),
            (json!(["bob", "not a user"]), "user_ids[1]"),
            (json!(["x".repeat(129)]), "user_ids[0]"),
            (json!([7]), "user_ids[0]"),
        ] {
            let refused = alice.ask_in_vain(json!({"type": kind, "user_ids": user_ids})).await;
            assert_eq!(refused, ("bad_request".to_owned(), Some(field.to_owned())), "{kind}");
        }
    }
    assert_eq!(alice.ask(watch(&["x".repeat(128).as_str()])).await["type"], "presence_state");
    // Bob is still watched, and nothing was sent in between.
    bob.ask(set("busy")).await;
    assert_eq!(told(&mut alice).await, present("bob", "busy"));
}

#[tokio::test]
async fn who_is_invisible_looks_offline_since_he_became_so() {
    let server = eager().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    look(&mut alice, "bob").await;
    bob.ask(set("invisible")).await;
    let hidden = told(&mut alice).await;
    last_seen(&hidden);
    // Neither his activity nor his leaving is visible.
    let (laptop, _) = Client::sign_in_as(&server, "bob", "laptop").await;
    bob.ask(set("invisible")).await;
    laptop.close().await;
    bob.close().await;
    until_open(&server, 1.0).await;
    assert_eq!(look(&mut alice, "bob").await, hidden);
    let over_http = server.http().get("/v1/users/bob/presence").token(&token("alice")).send().await.data(200);
    assert_eq!(over_http, hidden);
    alice.expect_quiet().await;
    let comes_back = async {
        loop {
            let mut bob = Client::sign_in(&server, "bob").await;
            if look(&mut bob, "bob").await["status"] == "online" {
                return bob;
            }
            // He was not offline yet, and so is still invisible.
            bob.close().await;
        }
    };
    let _bob = soon("his return", comes_back).await;
    assert_eq!(told(&mut alice).await, present("bob", "online"), "the first that is seen of him");
}

#[tokio::test]
async fn who_becomes_visible_again_is_seen() {
    let server = eager().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    bob.ask(set("invisible")).await;
    last_seen(&look(&mut alice, "bob").await);
    assert_eq!(look(&mut bob, "bob").await["status"], "offline", "to himself as well");
    bob.ask(set("away")).await;
    assert_eq!(told(&mut alice).await, present("bob", "away"));
}

#[tokio::test]
async fn a_reconnect_within_the_grace_is_not_seen() {
    let server = Config::new().set("presence.batch_ms", 1).set("presence.grace_ms", 600_000).start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    bob.ask(set("busy")).await;
    assert_eq!(look(&mut alice, "bob").await, present("bob", "busy"));
    bob.close().await;
    until_open(&server, 1.0).await;
    expect_silence(&mut alice).await;
    assert_eq!(look(&mut alice, "bob").await, present("bob", "busy"));
    let _bob = Client::sign_in(&server, "bob").await;
    assert_eq!(look(&mut alice, "bob").await, present("bob", "busy"), "he was not offline, so it counts");
    alice.expect_quiet().await;
}

#[tokio::test]
async fn of_several_devices_the_last_status_counts_until_the_last_one_has_gone() {
    let server = eager().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut phone, _) = Client::sign_in_as(&server, "bob", "phone").await;
    let (mut laptop, _) = Client::sign_in_as(&server, "bob", "laptop").await;
    look(&mut alice, "bob").await;
    for (device, status) in [(&mut phone, "busy"), (&mut laptop, "away")] {
        device.ask(set(status)).await;
        assert_eq!(told(&mut alice).await, present("bob", status));
    }
    laptop.close().await;
    until_open(&server, 2.0).await;
    assert_eq!(look(&mut alice, "bob").await, present("bob", "away"), "the device that said so has gone");
    alice.expect_quiet().await;

    phone.close().await;
    last_seen(&told(&mut alice).await);
    let _phone = Client::sign_in(&server, "bob").await;
    assert_eq!(told(&mut alice).await, present("bob", "online"), "what was set before is forgotten");
}

#[tokio::test]
async fn changes_come_in_batches_with_the_latest_of_each() {
    let server = Config::new().set("presence.batch_ms", 10_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut bob, mut carol) = (Client::sign_in(&server, "bob").await, Client::sign_in(&server, "carol").await);
    alice.ask(watch(&["bob", "carol"])).await;
    bob.ask(set("away")).await;
    assert_eq!(told(&mut alice).await, present("bob", "away"), "the first one does not wait");
    for status in ["online", "away", "busy"] {
        bob.ask(set(status)).await;
    }
    expect_silence(&mut alice).await;
    carol.ask(set("busy")).await;
    let batch = alice.expect("presence").await;
    let mut users = batch["users"].as_array().unwrap().clone();
    users.sort_by_key(|user| user["user_id"].to_string());
    assert_eq!(users, [present("bob", "busy"), present("carol", "busy")]);
    alice.expect_quiet().await;
}

#[tokio::test]
async fn each_session_watches_for_itself() {
    let server = eager().start().await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let (mut phone, _) = Client::sign_in_as(&server, "alice", "phone").await;
    let (mut laptop, _) = Client::sign_in_as(&server, "alice", "laptop").await;
    look(&mut phone, "bob").await;
    bob.ask(set("away")).await;
    assert_eq!(told(&mut phone).await, present("bob", "away"));
    laptop.expect_quiet().await;
    phone.close().await;
    let (mut phone, _) = Client::sign_in_as(&server, "alice", "phone").await;
    bob.ask(set("busy")).await;
    phone.expect_quiet().await;
    assert_eq!(look(&mut phone, "bob").await, present("bob", "busy"), "after a reconnect a client watches anew");
}

#[tokio::test]
async fn blocked_users_look_offline_to_each_other() {
    let server = eager().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let mut carol = Client::sign_in(&server, "carol").await;
    look(&mut alice, "bob").await;
    look(&mut bob, "alice").await;
    alice.ask(json!({"type": "block", "user_id": "bob"})).await;
    assert_eq!(told(&mut alice).await, never_seen("bob"));
    assert_eq!(told(&mut bob).await, never_seen("alice"));
    for client in [&mut alice, &mut bob] {
        client.ask(set("busy")).await;
    }
    for (client, user, other) in [(&mut alice, "alice", "bob"), (&mut bob, "bob", "alice")] {
        client.expect_quiet().await;
        assert_eq!(look(client, other).await, never_seen(other));
        let path = format!("/v1/users/{other}/presence");
        let over_http = server.http().get(&path).token(&token(user)).send().await.data(200);
        assert_eq!(over_http, never_seen(other));
    }
    // Nor is it visible that he leaves: that would be newer than the block.
    look(&mut carol, "bob").await;
    bob.close().await;
    last_seen(&told(&mut carol).await);
    assert_eq!(look(&mut alice, "bob").await, never_seen("bob"));
    let mut bob = Client::sign_in(&server, "bob").await;
    alice.expect_quiet().await;
    assert_eq!(look(&mut bob, "alice").await, never_seen("alice"));

    alice.ask(json!({"type": "unblock", "user_id": "bob"})).await;
    assert_eq!(told(&mut alice).await, present("bob", "online"));
    assert_eq!(told(&mut bob).await, present("alice", "busy"));
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let server = eager().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let elsewhere = Token::of("bob").claim("tenant", "elsewhere").sign();
    let mut bob = Connect::to(&server).token(&elsewhere).open().await;
    bob.expect("ready").await;
    assert_eq!(look(&mut alice, "bob").await, never_seen("bob"));
    bob.ask(set("busy")).await;
    alice.expect_quiet().await;
    assert_eq!(look(&mut bob, "alice").await, never_seen("alice"));
}

#[tokio::test]
async fn when_someone_was_last_seen_outlives_the_node() {
    let server = Config::new().start().await;
    let bob = Client::sign_in(&server, "bob").await;
    // Within the grace period: the node's end is the session's.
    bob.close().await;
    let ended = server.stop().await;
    let server = Server::start_in(ended.folder, Config::new()).await;
    let mut alice = Client::sign_in(&server, "alice").await;
    last_seen(&look(&mut alice, "bob").await);
}
