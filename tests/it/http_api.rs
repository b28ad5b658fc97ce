//! The HTTP API (PROTOCOL §6): the same commands as over a socket, with the same results.

use hyper::Method;
use serde_json::json;

use crate::support::tokens::token;
use crate::support::{Client, Config, Token};

#[tokio::test]
async fn a_message_has_a_whole_life_over_http() {
    let server = Config::new().start().await;
    let (http, alice, bob) = (server.http(), token("alice"), token("bob"));
    let mut bobs = Client::sign_in(&server, "bob").await;

    let send = json!({"to": "bob", "client_id": "c1", "content": {"text": "Hello"}});
    let sent = http.post("/v1/messages", &send).token(&alice).send().await.data(201);
    assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(false)));
    let message = bobs.expect("message").await;
    assert_eq!(message["message_id"], sent["message_id"]);
    let again = http.post("/v1/messages", &send).token(&alice).send().await.data(200);
    assert_eq!((&again["seq"], &again["duplicate"]), (&json!(1), &json!(true)));

    let id = sent["conversation_id"].as_str().unwrap().to_owned();
    let messages = format!("/v1/conversations/{id}/messages");
    let reply = json!({"client_id": "c1", "content": {"text": "Hi"}});
    assert_eq!(http.post(&messages, &reply).token(&bob).send().await.data(201)["seq"], 2);

    let edit = json!({"content": {"text": "Hello!"}});
    let edited = http.ask(Method::PATCH, &format!("{messages}/1")).json(&edit).token(&alice).send().await;
    assert_eq!(edited.data(200)["seq"], 3);
    let reaction = format!("{messages}/1/reactions/%F0%9F%91%8D");
    assert_eq!(http.ask(Method::PUT, &reaction).token(&bob).send().await.data(200)["seq"], 4);
    assert_eq!(http.ask(Method::PUT, &reaction).token(&bob).send().await.data(200)["seq"], 4, "twice is once");

    let history = http.get(&format!("{messages}?limit=10")).token(&alice).send().await.data(200);
    assert_eq!(history["messages"][0]["content"]["text"], "Hello!");
    assert_eq!(history["messages"][0]["reactions"], json!([{"emoji": "👍", "count": 1, "me": false}]));
    assert_eq!(http.ask(Method::DELETE, &reaction).token(&bob).send().await.data(200)["seq"], 5);
    let deleted = http.ask(Method::DELETE, &format!("{messages}/1")).token(&alice).send().await;
    assert_eq!(deleted.data(200)["seq"], 6);

    let changes = http.get(&format!("/v1/conversations/{id}/changes?after=1")).token(&bob).send().await.data(200);
    let types: Vec<&str> = changes["entries"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["message", "message_updated", "reaction", "reaction", "message_updated"]);

    let read = http.post(&format!("/v1/conversations/{id}/read"), &json!({"seq": 6})).token(&bob).send().await;
    read.data(200);
    let conversation = http.get(&format!("/v1/conversations/{id}")).token(&bob).send().await.data(200);
    assert_eq!((&conversation["read_seq"], &conversation["unread"]), (&json!(6), &json!(0)));
    let sync = http.get("/v1/sync?entries_per_conversation=1").token(&bob).send().await.data(200);
    assert_eq!(sync["conversations"][0]["conversation_id"], id);
    assert_eq!(sync["conversations"][0]["entries"][0]["seq"], 6);
}

#[tokio::test]
async fn groups_are_made_and_run_over_http() {
    let server = Config::new().start().await;
    let (http, alice, bob) = (server.http(), token("alice"), token("bob"));
    let create = json!({"kind": "group", "client_id": "g1", "title": "Team", "members": ["bob"]});
    let made = http.post("/v1/conversations", &create).token(&alice).send().await.data(201);
    assert_eq!((&made["role"], &made["members_count"]), (&json!("owner"), &json!(2)));
    let again = http.post("/v1/conversations", &create).token(&alice).send().await.data(200);
    assert_eq!(again["conversation_id"], made["conversation_id"]);

    let group = format!("/v1/conversations/{}", made["conversation_id"].as_str().unwrap());
    let add = http.post(&format!("{group}/members"), &json!({"user_ids": ["carol"]})).token(&alice).send().await;
    add.data(200);
    let members = http.get(&format!("{group}/members?limit=2")).token(&bob).send().await.data(200);
    assert_eq!((&members["members"][0]["user_id"], &members["more"]), (&json!("alice"), &json!(true)));

    let rename = json!({"title": "The team"});
    let by_bob = http.ask(Method::PATCH, &group).json(&rename).token(&bob).send().await;
    by_bob.error(403, "forbidden");
    http.ask(Method::PATCH, &group).json(&rename).token(&alice).send().await.data(200);
    assert_eq!(http.get(&group).token(&bob).send().await.data(200)["title"], "The team");

    http.ask(Method::DELETE, &format!("{group}/members/carol")).token(&bob).send().await.error(403, "forbidden");
    http.ask(Method::DELETE, &format!("{group}/members/bob")).token(&bob).send().await.data(200);
    http.get(&group).token(&bob).send().await.error(404, "not_found");
    http.get(&group).token(&token("mallory")).send().await.error(404, "not_found");
    http.ask(Method::DELETE, &format!("{group}/members/carol")).token(&alice).send().await.data(200);
}

#[tokio::test]
async fn a_backend_writes_in_the_name_of_others() {
    let server = Config::new().start().await;
    let http = server.http();
    let backend = Token::of("backend").scope("server").sign();
    let send = json!({"as": "alice", "to": "bob", "client_id": "c1", "content": {"text": "x"}});
    http.post("/v1/messages", &send).token(&token("mallory")).send().await.error(403, "forbidden");
    http.post("/v1/messages", &send).token(&Token::of("m").scope("admin").sign()).send().await.error(403, "forbidden");
    let sent = http.post("/v1/messages", &send).token(&backend).send().await.data(201);
    let history = format!("/v1/conversations/{}/messages", sent["conversation_id"].as_str().unwrap());
    assert_eq!(http.get(&history).token(&token("bob")).send().await.data(200)["messages"][0]["from"], "alice");
    let malformed = json!({"as": "not a user", "to": "bob", "client_id": "c2", "content": {"text": "x"}});
    let refused = http.post("/v1/messages", &malformed).token(&backend).send().await;
    assert_eq!(refused.error(400, "bad_request").as_deref(), Some("as"));

    let create = json!({"as": "alice", "kind": "group", "client_id": "g", "members": ["bob"]});
    let made = http.post("/v1/conversations", &create).token(&backend).send().await.data(201);
    let member = format!("/v1/conversations/{}/members/bob", made["conversation_id"].as_str().unwrap());
    let remove = http.ask(Method::DELETE, &member).json(&json!({"as": "alice"})).token(&backend).send().await;
    remove.data(200);
}

#[tokio::test]
async fn where_to_connect_and_who_is_there() {
    let server = Config::new().start().await;
    let (http, alice) = (server.http(), token("alice"));
    let connect = http.get("/v1/connect").token(&alice).send().await.data(200);
    assert_eq!(connect, json!({"url": format!("ws://{}/v1/ws", server.listen), "node_id": "n1", "ttl_s": 60}));

    let presence = |name: &'static str| {
        let ask = http.get(&format!("/v1/users/{name}/presence")).token(&alice);
        async move { ask.send().await.data(200) }
    };
    assert_eq!(presence("bob").await["status"], "offline");
    let mut bob = Client::sign_in(&server, "bob").await;
    assert_eq!(presence("bob").await["status"], "online");
    assert_eq!(bob.ask(json!({"type": "block", "user_id": "alice"})).await["type"], "ok");
    assert_eq!(presence("bob").await["status"], "offline");
    let blocks = http.get("/v1/blocks").token(&token("bob")).send().await.data(200);
    assert_eq!(blocks["user_ids"], json!(["alice"]));
    assert_eq!(http.get("/v1/blocks").token(&alice).send().await.data(200)["user_ids"], json!([]));
}

#[tokio::test]
async fn the_advertised_address_is_the_configured_one() {
    let server = Config::new().set("node.advertise_url", "https://chat.example.com/base/").start().await;
    let connect = server.http().get("/v1/connect").token(&token("alice")).send().await.data(200);
    assert_eq!(connect["url"], "wss://chat.example.com/base/v1/ws");
}

#[tokio::test]
async fn administration_needs_its_scope() {
    let server = Config::new().start().await;
    let http = server.http();
    for (method, path, scope) in [
        (Method::GET, "/v1/admin/users/alice/sessions", "operator"),
        (Method::POST, "/v1/admin/users/alice/disconnect", "server"),
        (Method::POST, "/v1/admin/users/alice/revoke", "operator"),
        (Method::POST, "/v1/admin/drain", "admin"),
    ] {
        let wrong = Token::of("root").scope(scope).sign();
        http.ask(method.clone(), path).token(&token("root")).send().await.error(403, "forbidden");
        http.ask(method.clone(), path).token(&wrong).send().await.error(403, "forbidden");
        http.ask(method, path).send().await.error(401, "unauthorized");
    }
    let other = Token::of("root").scope("admin").claim("tenant", "other").sign();
    let mut alice = Client::sign_in(&server, "alice").await;
    http.post("/v1/admin/users/alice/disconnect", &json!({})).token(&other).send().await.data(200);
    alice.expect_quiet().await;
}
