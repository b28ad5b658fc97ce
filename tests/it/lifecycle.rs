//! Start, reload, drain and end of a server (OPERATING, "Signals", "Start"; DESIGN §5.9).

use std::io::Write;

use rustix::process::Signal;
use serde_json::json;
use switchboard_tests::ReservedPort;
use tokio::net::TcpStream;

use crate::support::tokens::token;
use crate::support::{Client, Config, Connect, Http, Server, Token, soon};

#[tokio::test]
async fn one_line_on_stdout_says_that_it_is_ready() {
    let server = Config::new().start().await;
    let expected = json!({"ready": true, "node_id": "n1", "listen": server.listen, "metrics": server.metrics});
    assert_eq!(server.ready, expected);
    let health = server.http().get("/healthz").send().await;
    assert_eq!(health.status, 200);
    assert_eq!(server.http().get("/readyz").send().await.data(200)["status"], "ready");
    let ended = server.stop().await;
    assert_eq!((ended.code, ended.stdout), (Some(0), vec![]));
}

#[tokio::test]
async fn the_figures_have_their_own_listener() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    client.ask(json!({"type": "sync"})).await;
    let page = crate::support::Http::new(&server.metrics).get("/metrics").send().await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/plain"));
    for figure in [
        "switchboard_build_info{version=\"",
        "switchboard_connections{transport=\"websocket\"} 1",
        "switchboard_connects_total{result=\"ok\"} 1",
        "switchboard_frames_sent_total{type=\"ready\"} 1",
        "switchboard_frames_sent_total{type=\"sync\"} 1",
        "switchboard_writes_total{frames=\"1\"} 2",
    ] {
        assert!(page.body.contains(figure), "{figure} in {}", page.body);
    }
    assert!(!page.body.contains("alice"));
    crate::support::Http::new(&server.metrics).get("/healthz").send().await.error(404, "not_found");
}

/// It cuts nothing short, and asks clients to move over a long time.
fn slow_to_drain() -> Config {
    Config::new().set("drain.spread_ms", 3_600_000).set("drain.timeout_ms", 3_600_000)
}

#[tokio::test]
async fn a_drain_tells_each_client_to_move_and_ends_with_0() {
    let server = slow_to_drain().set("drain.spread_ms", 300).start().await;
    let mut clients = Vec::new();
    for n in 0..5 {
        clients.push(Client::sign_in(&server, &format!("user{n}")).await);
    }
    let sent = clients[0].ask(json!({"type": "send", "to": "bob", "client_id": "1", "content": {"text": "x"}})).await;
    assert_eq!(sent["type"], "sent");
    // As long as it is open, the server stays.
    let mut undecided = Connect::to(&server).open().await;
    server.signal(Signal::TERM);
    for client in &mut clients {
        let order = client.until("reconnect").await;
        assert!(order["after_ms"].as_u64().is_some_and(|ms| ms <= 300), "{order}");
        assert!(order.get("url").is_none(), "there is no other node: {order}");
    }
    let ready = server.http().get("/readyz").send().await;
    assert_eq!((ready.status, &ready.json()["data"]["status"]), (503, &json!("draining")));
    assert_eq!(server.http().get("/healthz").send().await.status, 200);
    let refused = Connect::to(&server).refused().await;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    server.http().get("/v1/sync").token(&token("alice")).send().await.error(503, "unavailable");
    undecided.send(&json!({"type": "auth", "token": token("late")})).await;
    assert_eq!(undecided.expect_close().await, Some(1001), "who signs in now goes elsewhere");

    // One client moves by itself; the others are closed when their time is over, long before the end of the drain.
    drop(clients.remove(0));
    for client in &mut clients {
        let (_, code) = client.drain().await;
        assert_eq!(code, Some(1001));
    }
    let ended = server.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[tokio::test]
async fn a_session_that_is_open_goes_on_while_the_node_drains() {
    let server = slow_to_drain().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    server.signal(Signal::INT);
    bob.expect("reconnect").await;
    let sent = alice.ask(json!({"type": "send", "to": "bob", "client_id": "1", "content": {"text": "x"}})).await;
    assert_eq!(sent["type"], "sent", "{sent}");
    bob.expect("message").await;
    for client in [alice, bob] {
        client.close().await;
    }
    assert_eq!(server.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_drain_takes_no_longer_than_its_timeout() {
    let server = slow_to_drain().set("drain.timeout_ms", 20_000).start().await;
    // It is not asked to move.
    let mut undecided = Connect::to(&server).open().await;
    let mut client = Client::sign_in(&server, "alice").await;
    server.signal(Signal::TERM);
    client.until("reconnect").await;
    assert_eq!(client.expect_close().await, Some(1001));
    assert_eq!(undecided.expect_close().await, Some(1001));
    let ended = server.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[tokio::test]
async fn a_second_signal_ends_at_once_with_130() {
    let server = slow_to_drain().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    server.signal(Signal::TERM);
    client.until("reconnect").await;
    server.signal(Signal::INT);
    assert_eq!(server.ended().await.code, Some(130));
}

#[tokio::test]
async fn an_operator_can_drain_over_http() {
    let server = Config::new().start().await;
    let operator = Token::of("ops").scope("operator").sign();
    server.http().post("/v1/admin/drain", &json!({})).token(&operator).send().await.data(200);
    assert_eq!(server.ended().await.code, Some(0));
}

#[tokio::test]
async fn a_signal_behind_a_drain_over_http_cuts_nothing_short() {
    let server = Config::new().set("drain.spread_ms", 500).start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    let operator = Token::of("ops").scope("operator").sign();
    server.http().post("/v1/admin/drain", &json!({})).token(&operator).send().await.data(200);
    client.until("reconnect").await;
    server.signal(Signal::TERM);
    assert_eq!(client.expect_close().await, Some(1001));
    assert_eq!(server.ended().await.code, Some(0));
}

#[tokio::test]
async fn neither_tokens_nor_contents_are_logged() {
    let server = Config::new().set("log.level", "trace").start().await;
    let token = token("alice");
    let mut client = Connect::to(&server).query("token", &token).open().await;
    client.expect("ready").await;
    let content = json!({"text": "a very secret content"});
    client.ask(json!({"type": "send", "to": "bob", "client_id": "1", "content": content})).await;
    client.ask(json!({"type": "auth", "token": token})).await;
    client.ask_in_vain(json!({"type": "auth", "token": format!("{token}x")})).await;
    server.http().get("/v1/sync").token(&token).send().await.data(200);
    client.close().await;
    let log = server.stop().await.log;
    assert!(log.lines().count() > 3, "{log}");
    assert!(!log.contains("very secret"), "{log}");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!log.contains(signature), "{log}");
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not JSON: {line}");
    }
}

#[tokio::test]
async fn health_answers_before_the_store_is_open() {
    // Requests start with the process: the first answers may come while the store opens, and no error but 503 is
    // allowed. (A store that never opens is in `cluster_start.rs`.)
    let folder = tempfile::tempdir().unwrap();
    let port = ReservedPort::new().unwrap();
    let config = Config::new().set("node.listen", port.address());
    let http = Http::new(&port.address().to_string());
    let starting = tokio::spawn(Server::start_in(folder, config));
    soon("the port", async { while TcpStream::connect(port.address()).await.is_err() {} }).await;
    let ready = async {
        loop {
            assert_eq!(http.get("/healthz").send().await.status, 200);
            let status = http.get("/readyz").send().await.status;
            if status == 200 {
                break;
            }
            assert_eq!(status, 503);
        }
    };
    soon("readiness", ready).await;
    starting.await.unwrap().stop().await;
}

#[tokio::test]
async fn slow_or_odd_http_clients_hold_nobody_up() {
    let server = Config::new().start().await;
    let half = |bytes: &'static [u8]| {
        let mut stream = std::net::TcpStream::connect(&server.listen).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    };
    let _open =
        [half(b""), half(b"GET /healthz HTT"), half(b"\x16\x03\x01\x02\x00"), half(b"POST /v1/messages HTTP/1.1\r\n")];
    assert_eq!(server.http().get("/healthz").send().await.status, 200);
}

#[tokio::test]
async fn what_has_not_happened_yet_has_its_metric_already() {
    let server = Config::new().start().await;
    let page = Http::new(&server.metrics).get("/metrics").send().await;
    let dropped = r#"switchboard_frames_dropped_total{reason="slow"} 0"#;
    assert!(page.body.lines().any(|line| line == dropped), "{}", page.body);
}

#[tokio::test]
async fn sends_are_counted_by_what_came_of_them_over_socket_and_http() {
    let server = Config::new().set("limits.frames_per_s", 1).start().await;
    let (http, token) = (server.http(), token("alice"));
    let send = |client_id| json!({"type": "send", "to": "bob", "client_id": client_id, "content": {"text": "Hello"}});
    let mut client = Client::sign_in(&server, "alice").await;
    for client_id in ["one", "two", "over-the-rate"] {
        client.feed(&send(client_id)).await;
    }
    client.flush().await;
    for answer in ["sent", "sent", "error"] {
        client.expect(answer).await;
    }
    for (client_id, status) in [("two", 200), ("three", 201), ("three", 200)] {
        http.post("/v1/messages", &send(client_id)).token(&token).send().await.data(status);
    }
    for (result, sends) in [("ok", 3.0), ("duplicate", 2.0), ("rate_limited", 1.0)] {
        assert_eq!(server.metric("switchboard_sends_total", result).await, sends, "{result}");
    }
    assert_eq!(server.metric("switchboard_send_duration_seconds_count", "").await, 5.0);
}
