//! The life of a session (PROTOCOL §2, §7, §8): renewal and end of its token, heartbeats, replacement, revocation.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::support::tokens::token;
use crate::support::{Client, Config, Connect, Server, Token, soon};

async fn sign_in_with(server: &Server, token: &str) -> Client {
    let mut client = Connect::to(server).token(token).open().await;
    client.expect("ready").await;
    client
}

fn renewal(token: &str) -> Value {
    json!({"type": "auth", "token": token})
}

/// A token that expires soon, but not before it has been used: then it would be refused.
fn brief(user: &str) -> String {
    Token::of(user).expires_in(8.0).sign()
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let server = Config::new().start().await;
    let mut client = sign_in_with(&server, &brief("alice")).await;
    client.expect_quiet().await;
    assert_eq!(client.expect_farewell("unauthorized").await, Some(4401));
}

#[tokio::test]
async fn a_renewal_keeps_the_session_open() {
    let server = Config::new().start().await;
    let mut client = sign_in_with(&server, &brief("alice")).await;
    let answer = client.ask(renewal(&Token::of("alice").expires_in(3_600.0).sign())).await;
    assert_eq!(answer["type"], "authenticated");
    assert!(answer["expires_at"].as_str().is_some_and(|at| at.ends_with('Z')));
    // The end of another, whose token is newer, shows that the first one has expired.
    let mut other = sign_in_with(&server, &brief("bob")).await;
    assert_eq!(other.expect_farewell("unauthorized").await, Some(4401));
    client.expect_quiet().await;
}

#[tokio::test]
async fn a_renewal_may_bring_the_end_nearer() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    assert_eq!(client.ask(renewal(&brief("alice"))).await["type"], "authenticated");
    assert_eq!(client.expect_farewell("unauthorized").await, Some(4401));
}

#[tokio::test]
async fn a_renewal_that_is_refused_changes_nothing() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    for (token, code) in [
        (token("bob"), "forbidden"),
        (Token::of("alice").claim("tenant", "other").sign(), "forbidden"),
        (Token::of("alice").expires_in(-1.0).sign(), "unauthorized"),
        ("nonsense".to_owned(), "unauthorized"),
    ] {
        assert_eq!(client.ask_in_vain(renewal(&token)).await.0, code);
    }
    client.expect_quiet().await;
}

#[tokio::test]
async fn a_newer_socket_of_the_same_device_and_instance_replaces_the_older() {
    let server = Config::new().start().await;
    let connect = |device: &str, instance: Option<&str>| {
        let connect = Connect::to(&server).token(&token("alice")).query("device_id", device);
        match instance {
            Some(instance) => connect.query("instance_id", instance),
            None => connect,
        }
    };
    let mut first = connect("phone", None).open().await;
    first.expect("ready").await;
    let mut tab = connect("phone", Some("tab")).open().await;
    tab.expect("ready").await;
    let mut laptop = connect("laptop", None).open().await;
    laptop.expect("ready").await;
    let mut bob = Connect::to(&server).token(&token("bob")).query("device_id", "phone").open().await;
    bob.expect("ready").await;

    // A missing instance is the empty one.
    let mut second = connect("phone", Some("")).open().await;
    second.expect("ready").await;
    assert_eq!(first.expect_farewell("replaced").await, Some(4409));
    for client in [&mut tab, &mut laptop, &mut bob, &mut second] {
        client.expect_quiet().await;
    }
    // The end of the older session did not remove the registration of the newer one.
    bob.send(&json!({"type": "send", "to": "alice", "client_id": "1", "content": {"text": "x"}})).await;
    for client in [&mut tab, &mut laptop, &mut second] {
        client.expect("message").await;
    }
}

/// That who answers them stays is tested with a clock that does not depend on the machine (`gateway/src/ws/tests.rs`).
#[tokio::test]
async fn the_server_pings_at_each_heartbeat() {
    let server = Config::new().set("limits.heartbeat_ms", 4_000).start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    for _ in 0..2 {
        assert!(matches!(client.next_message().await, Some(Message::Ping(_))));
    }
    client.send(&json!({"type": "ping", "id": "p"})).await;
    client.expect("pong").await;
}

#[tokio::test]
async fn who_is_silent_for_two_and_a_half_heartbeats_is_closed() {
    let server = Config::new().set("limits.heartbeat_ms", 3_000).start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    // It doesn't read, so its pongs don't leave.
    until_disconnected(&server, "4408").await;
    assert_eq!(client.expect_farewell("silent").await, Some(4408));
}

async fn until_disconnected(server: &Server, code: &str) {
    let is_counted = async { while server.metric("switchboard_disconnects_total", code).await < 1.0 {} };
    soon("the disconnect", is_counted).await;
}

#[tokio::test]
async fn a_user_has_a_limit_of_sessions() {
    let server = Config::new().set("limits.connections_per_user", 2).start().await;
    let (_first, _) = Client::sign_in_as(&server, "alice", "d1").await;
    let (second, _) = Client::sign_in_as(&server, "alice", "d2").await;
    let mut third = Connect::to(&server).token(&token("alice")).query("device_id", "d3").open().await;
    let error = third.expect("error").await;
    assert_eq!(error["code"], "overloaded");
    assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0));
    assert_eq!(third.expect_close().await, Some(4503));
    Client::sign_in(&server, "bob").await;
    second.close().await;
    let again = async {
        loop {
            let mut client = Connect::to(&server).token(&token("alice")).query("device_id", "d3").open().await;
            if client.recv().await["type"] == "ready" {
                break;
            }
        }
    };
    soon("a place", again).await;
}

#[tokio::test]
async fn a_session_that_replaces_another_needs_no_place_of_its_own() {
    let server = Config::new().set("limits.connections_per_user", 1).start().await;
    let (mut first, _) = Client::sign_in_as(&server, "alice", "phone").await;
    let (mut second, _) = Client::sign_in_as(&server, "alice", "phone").await;
    assert_eq!(first.expect_farewell("replaced").await, Some(4409));
    let mut third = Connect::to(&server).token(&token("alice")).query("device_id", "laptop").open().await;
    assert_eq!(third.expect_farewell("overloaded").await, Some(4503));
    second.expect_quiet().await;
}

#[tokio::test]
async fn frames_behind_a_bad_token_are_not_carried_out() {
    let server = Config::new().start().await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut client = Connect::to(&server).open().await;
    client.feed(&renewal("nonsense")).await;
    client.feed(&renewal(&token("alice"))).await;
    client.feed(&json!({"type": "send", "to": "bob", "client_id": "1", "content": {"text": "x"}})).await;
    client.flush().await;
    assert_eq!(client.expect_farewell("unauthorized").await, Some(4401));
    bob.expect_quiet().await;
}

#[tokio::test]
async fn frames_behind_a_good_token_are_carried_out_in_order() {
    let server = Config::new().start().await;
    let mut client = Connect::to(&server).open().await;
    client.feed(&renewal(&token("alice"))).await;
    for n in 1..=3 {
        let name = n.to_string();
        client.feed(&json!({"type": "send", "to": "bob", "client_id": name, "content": {"text": "x"}})).await;
    }
    client.flush().await;
    client.expect("ready").await;
    for n in 1..=3 {
        assert_eq!(client.expect("sent").await["seq"], n);
    }
}

#[tokio::test]
async fn an_administrator_can_see_and_end_sessions() {
    let server = Config::new().start().await;
    let admin = Token::of("root").scope("admin").sign();
    let (mut phone, ready) = Client::sign_in_as(&server, "alice", "phone").await;
    let (mut laptop, _) = Client::sign_in_as(&server, "alice", "laptop").await;
    let mut bob = Client::sign_in(&server, "bob").await;

    let sessions = server.http().get("/v1/admin/users/alice/sessions").token(&admin).send().await.data(200);
    let sessions = sessions["sessions"].as_array().unwrap().clone();
    assert_eq!(sessions.len(), 2);
    let first = sessions.iter().find(|session| session["device_id"] == "phone").unwrap();
    assert_eq!((&first["session_id"], &first["node_id"]), (&ready["session_id"], &json!("n1")));

    let disconnect = server.http().post("/v1/admin/users/alice/disconnect", &json!({})).token(&admin).send().await;
    disconnect.data(200);
    for client in [&mut phone, &mut laptop] {
        assert_eq!(client.expect_farewell("revoked").await, Some(4403));
    }
    bob.expect_quiet().await;
    Client::sign_in(&server, "alice").await;
}

#[tokio::test]
async fn a_revocation_is_for_good() {
    let server = Config::new().start().await;
    let admin = Token::of("root").scope("admin").sign();
    let old = Token::of("alice").claim("iat", 1_600_000_000).sign();
    let without_iat = Token::of("alice").without("iat").sign();
    let mut client = sign_in_with(&server, &old).await;
    server.http().post("/v1/admin/users/alice/revoke", &json!({})).token(&admin).send().await.data(200);
    assert_eq!(client.expect_farewell("revoked").await, Some(4403));

    let server = server.kill_and_restart().await;
    for token in [&old, &without_iat] {
        let mut client = Connect::to(&server).token(token).open().await;
        assert_eq!(client.expect_farewell("revoked").await, Some(4403));
        server.http().get("/v1/sync").token(token).send().await.error(401, "revoked");
    }
    let fresh = Token::of("alice").claim("iat", crate::support::tokens::now_s() + 2.0).sign();
    let mut client = sign_in_with(&server, &fresh).await;
    assert_eq!(client.ask_in_vain(renewal(&old)).await.0, "revoked");
}

#[tokio::test]
async fn a_client_may_close_with_its_own_code() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    client.send_message(Message::Close(Some(close))).await;
    assert_eq!(client.expect_close().await, Some(1000), "it is answered (RFC 6455 §5.5.1)");
    until_disconnected(&server, "1000").await;
    let gone = async { while server.metric("switchboard_connections", "websocket").await > 0.0 {} };
    soon("the session's end", gone).await;
}

#[tokio::test]
async fn a_client_that_breaks_off_is_noticed() {
    let server = Config::new().start().await;
    let client = Client::sign_in(&server, "alice").await;
    drop(client);
    until_disconnected(&server, "1006").await;
}
