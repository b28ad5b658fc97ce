//! Rejections of the HTTP API (PROTOCOL §6, §8).

use hyper::Method;
use serde_json::json;

use crate::support::tokens::token;
use crate::support::{Config, Token};

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Config::new().start().await;
    let http = server.http();
    for path in ["/", "/v1", "/v1/", "/v1/nothing", "/v2/sync", "/v1/sync/", "/metrics", "/v1/topics/x/y", "/js/no.js"]
    {
        http.get(path).send().await.error(404, "not_found");
    }
    http.post("/v1/dev/token", &json!({"name": "alice"})).send().await.error(404, "not_found");
    http.get("/v1/conversations/not%20an%20id").token(&token("a")).send().await.error(400, "bad_request");
    http.get("/v1/conversations/%ff").token(&token("a")).send().await.error(404, "not_found");
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let server = Config::new().start().await;
    let http = server.http();
    for (method, path, allowed) in [
        (Method::POST, "/healthz", "GET, HEAD"),
        (Method::GET, "/v1/messages", "POST"),
        (Method::PUT, "/v1/conversations/c1", "GET, PATCH, HEAD"),
        (Method::GET, "/v1/conversations/c1/messages/1/reactions/x", "PUT, DELETE"),
    ] {
        let answer = http.ask(method, path).send().await;
        answer.error(405, "bad_request");
        assert_eq!(answer.header("allow"), Some(allowed), "{path}");
    }
}

#[tokio::test]
async fn a_token_is_needed() {
    let server = Config::new().start().await;
    let http = server.http();
    let missing = http.get("/v1/sync").send().await;
    missing.error(401, "unauthorized");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    http.get("/v1/sync").header("authorization", "Basic YTpi").send().await.error(401, "unauthorized");
    http.get("/v1/sync").token("nonsense").send().await.error(401, "unauthorized");
    http.get("/v1/sync").token(&Token::of("a").expires_in(-1.0).sign()).send().await.error(401, "unauthorized");
    http.get(&format!("/v1/sync?token={}", token("a"))).send().await.data(200);
}

#[tokio::test]
async fn a_body_is_json_and_at_most_one_mebibyte() {
    let server = Config::new().start().await;
    let (http, token) = (server.http(), token("alice"));
    let post = || http.ask(Method::POST, "/v1/messages").token(&token);
    let send = json!({"to": "bob", "client_id": "c", "content": {"text": "x"}, "pad": ""}).to_string();
    post().body(send.clone()).send().await.error(415, "bad_request");
    post().header("content-type", "text/plain").body(send.clone()).send().await.error(415, "bad_request");
    let json = || post().header("content-type", "application/json; charset=utf-8");
    json().body("[]").send().await.error(400, "bad_request");
    json().body(b"\xff".to_vec()).send().await.error(400, "bad_request");
    assert_eq!(json().body("{}").send().await.error(400, "bad_request").as_deref(), Some("conversation_id"));

    let largest = 1_048_576;
    let body = |bytes: usize| send.replace("\"pad\":\"\"", &format!("\"pad\":\"{}\"", "x".repeat(bytes - send.len())));
    json().body(body(largest)).send().await.data(201);
    json().body(body(largest + 1)).send().await.error(413, "too_large");
    // More than sockets buffer: the answer comes while the client is still writing, and the client can read it.
    json().body(body(8 * largest)).send().await.error(413, "too_large");
}

#[tokio::test]
async fn a_malformed_id_in_a_path_is_named() {
    let server = Config::new().start().await;
    let (http, admin) = (server.http(), Token::of("alice").scope("admin").sign());
    for (method, path, field) in [
        (Method::GET, "/v1/users/a%20b/presence", "user_id"),
        (Method::GET, "/v1/admin/users/a%20b/sessions", "user_id"),
        (Method::DELETE, "/v1/conversations/g:1/members/a%20b", "user_id"),
        (Method::DELETE, "/v1/conversations/g%20/members/a", "conversation_id"),
        (Method::GET, "/v1/conversations/g%20", "conversation_id"),
    ] {
        let answer = http.ask(method, path).token(&admin).send().await;
        assert_eq!(answer.error(400, "bad_request").as_deref(), Some(field), "{path}");
    }
}

#[tokio::test]
async fn fields_are_named() {
    let server = Config::new().start().await;
    let (http, token) = (server.http(), token("alice"));
    let sent = http
        .post("/v1/messages", &json!({"to": "bob", "client_id": "c", "content": {"text": "x"}}))
        .token(&token)
        .send()
        .await
        .data(201);
    let id = sent["conversation_id"].as_str().unwrap();
    for (path, field) in [
        ("messages?limit=201", "limit"),
        ("messages?limit=0", "limit"),
        ("messages?before=-1", "before"),
        ("messages?before=1&after=1", "after"),
        ("changes", "after"),
        ("changes?after=0&limit=501", "limit"),
        ("members?limit=1001", "limit"),
    ] {
        let answer = http.get(&format!("/v1/conversations/{id}/{path}")).token(&token).send().await;
        assert_eq!(answer.error(400, "bad_request").as_deref(), Some(field), "{path}");
    }
    let both = json!({"to": "bob", "client_id": "c", "content": {"text": "x"}});
    let answer = http.post(&format!("/v1/conversations/{id}/messages"), &both).token(&token).send().await;
    assert_eq!(answer.error(400, "bad_request").as_deref(), Some("to"));
    let large = json!({"to": "bob", "client_id": "c2", "content": {"text": "x".repeat(32_768)}});
    let answer = http.post("/v1/messages", &large).token(&token).send().await;
    assert_eq!(answer.error(413, "too_large").as_deref(), Some("content"));
}

#[tokio::test]
async fn requests_are_limited_per_user() {
    let server = Config::new().set("limits.http_requests_per_s", 3).start().await;
    let (http, alice) = (server.http(), token("alice"));
    let ask = |token: &str| http.get("/v1/blocks").token(token).send();
    // Three at once, since the bucket refills while a slow machine sends requests.
    let limited = loop {
        let answer = ask(&alice).await;
        assert_eq!(answer.header("x-ratelimit-limit"), Some("3"));
        let remaining: u32 = answer.header("x-ratelimit-remaining").unwrap().parse().unwrap();
        assert!(remaining < 3);
        let reset: u32 = answer.header("x-ratelimit-reset").unwrap().parse().unwrap();
        assert!((1..=2).contains(&reset), "{reset}");
        if answer.status != 200 {
            break answer;
        }
    };
    limited.error(429, "rate_limited");
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert_eq!(limited.header("x-ratelimit-remaining"), Some("0"));
    ask(&token("bob")).await.data(200);
    let other_tenant = Token::of("alice").claim("tenant", "other").sign();
    ask(&other_tenant).await.data(200);
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = Config::new().start().await;
    let answer = server.http().ask(Method::HEAD, "/healthz").send().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}
