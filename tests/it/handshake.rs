//! The upgrade (PROTOCOL §1): rejections, and the negotiated subprotocol.

use serde_json::json;

use crate::support::{Client, Config, Connect, Http, Token};

#[tokio::test]
async fn what_is_no_upgrade_is_a_bad_request() {
    let server = Config::new().start().await;
    let plain = server.http().get("/v1/ws").send().await;
    plain.error(400, "bad_request");
    assert_eq!(plain.header("sec-websocket-version"), Some("13"));

    let upgrade = |method| {
        server
            .http()
            .ask(method, "/v1/ws")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let version_8 = upgrade(hyper::Method::GET).header("sec-websocket-version", "8").send().await;
    version_8.error(400, "bad_request");
    let post = upgrade(hyper::Method::POST).header("sec-websocket-version", "13").send().await;
    post.error(405, "bad_request");
    assert_eq!(post.header("allow"), Some("GET, HEAD"));
    let good = upgrade(hyper::Method::GET).header("sec-websocket-version", "13").send().await;
    assert_eq!(good.status, 101);
    assert_eq!(good.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "RFC 6455 §1.3");
}

#[tokio::test]
async fn only_allowed_origins_may_connect() {
    let server = Config::new().set("http.allowed_origins", "[\"https://app.example.com\"]").start().await;
    Connect::to(&server).header("origin", "https://app.example.com").open().await;
    Connect::to(&server).open().await;
    let own = format!("http://{}", server.listen);
    for origin in ["https://evil.example.com", "https://app.example.com.evil.com", "null", &own] {
        let refused = Connect::to(&server).header("origin", origin).refused().await;
        assert_eq!((refused.status, &refused.body["error"]["code"]), (403, &json!("forbidden")), "{origin}");
    }
    assert!(server.metric("switchboard_connects_total", "forbidden").await >= 4.0);
}

#[tokio::test]
async fn without_a_list_only_pages_of_the_server_itself_may_connect() {
    let server = Config::new().start().await;
    let own = format!("http://{}", server.listen);
    Connect::to(&server).header("origin", &own).open().await;
    let other = Connect::to(&server).header("origin", "http://localhost:3000").refused().await;
    assert_eq!(other.status, 403);

    let development = Config::development().start().await;
    Connect::to(&development).header("origin", "http://localhost:3000").open().await;
    let other = Connect::to(&development).header("origin", "http://example.com").refused().await;
    assert_eq!(other.status, 403);
}

#[tokio::test]
async fn of_the_subprotocols_the_first_known_is_chosen() {
    let server = Config::new().start().await;
    let name = "sec-websocket-protocol";
    let client = Connect::to(&server).header(name, "other, switchboard.v1.json").open().await;
    assert_eq!(client.response.headers()[name], "switchboard.v1.json");
    // A client that asks for an unknown subprotocol gets an answer without one. The test's client would reject that
    // answer, so this uses HTTP.
    let unknown = upgrade_with(&server.http(), "switchboard.v9.json").await;
    assert_eq!((unknown.status, unknown.header(name)), (101, None));
    let none = Connect::to(&server).open().await;
    assert!(none.response.headers().get(name).is_none());
}

async fn upgrade_with(http: &Http, protocol: &str) -> crate::support::Response {
    http.get("/v1/ws")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", protocol)
        .send()
        .await
}

#[tokio::test]
async fn connections_have_a_limit_and_come_free_again() {
    let server = Config::new().set("limits.connections", 2).start().await;
    let first = Client::sign_in(&server, "alice").await;
    let _second = Connect::to(&server).open().await;
    let refused = Connect::to(&server).refused().await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (503, &json!("overloaded")));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(server.http().get("/healthz").send().await.status, 200, "HTTP goes on");
    first.close().await;
    until_connected(&server).await;
}

/// The server notices a close a moment after the client.
async fn until_connected(server: &crate::support::Server) {
    crate::support::soon("a free place", async { while Connect::to(server).attempt().await.is_err() {} }).await;
}

#[tokio::test]
async fn connections_of_one_address_have_a_limit() {
    let server = Config::new()
        .set("limits.connections_per_ip", 1)
        .set("http.trusted_proxies", "[\"127.0.0.0/8\"]")
        .start()
        .await;
    let from = |address: &str| Connect::to(&server).header("x-forwarded-for", address);
    let _first = from("192.0.2.1").open().await;
    assert_eq!(from("192.0.2.1").refused().await.status, 503);
    let _other = from("192.0.2.2").open().await;
    assert_eq!(from("192.0.2.9, 192.0.2.2").refused().await.status, 503, "what the client wrote is not believed");
}

#[tokio::test]
async fn an_address_is_not_taken_from_who_is_no_trusted_proxy() {
    let server = Config::new().set("limits.connections_per_ip", 1).start().await;
    let _first = Connect::to(&server).header("x-forwarded-for", "192.0.2.1").open().await;
    assert_eq!(Connect::to(&server).header("x-forwarded-for", "192.0.2.2").refused().await.status, 503);
}

#[tokio::test]
async fn frames_behind_the_upgrade_are_read() {
    let server = Config::new().start().await;
    let token = Token::of("alice").sign();
    let mut client = Connect::to(&server).open().await;
    client
        .feed(&json!({"type": "auth", "id": "1", "token": token, "device_id": "phone", "instance_id": "tab-2"}))
        .await;
    client.feed(&json!({"type": "ping", "id": "2"})).await;
    client.feed(&json!({"type": "sync", "id": "3"})).await;
    client.flush().await;
    let ready = client.expect("ready").await;
    assert_eq!((&ready["id"], &ready["device_id"]), (&json!("1"), &json!("phone")));
    assert_eq!(client.expect("pong").await["id"], "2");
    assert_eq!(client.expect("sync").await["id"], "3");
}
