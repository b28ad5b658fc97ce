//! A non-member can't tell a conversation from one that does not exist (PROTOCOL §3, §7 `not_found`).

use hyper::Method;
use serde_json::{Value, json};

use crate::support::tokens::token;
use crate::support::{Client, Config, Connect, Server, Token, bad_request};

/// Every frame about a conversation.
fn frames_about(conversation: &Value) -> Vec<Value> {
    let frame = |kind: &str, rest: Value| {
        let mut frame = json!({"type": kind, "conversation_id": conversation});
        frame.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        frame
    };
    vec![
        frame("send", json!({"client_id": "c1", "content": {"text": "x"}})),
        frame("send", json!({"client_id": "c2", "content": {"text": "x"}, "base_seq": 0})),
        frame("conversation_get", json!({})),
        frame("conversation_update", json!({"title": "x"})),
        frame("conversation_members", json!({})),
        frame("conversation_members", json!({"after": "a", "limit": 1})),
        frame("member_add", json!({"user_ids": ["mallory"]})),
        frame("member_remove", json!({"user_ids": ["alice"]})),
        frame("member_remove", json!({"user_ids": ["mallory"]})),
        frame("member_role", json!({"user_id": "mallory", "role": "owner"})),
        frame("edit", json!({"seq": 2, "content": {"text": "x"}})),
        frame("delete", json!({"seq": 2})),
        frame("react", json!({"seq": 2, "emoji": "e"})),
        frame("unreact", json!({"seq": 2, "emoji": "e"})),
        frame("history", json!({})),
        frame("history", json!({"before": 2})),
        frame("changes", json!({"after": 0})),
        frame("changes", json!({"after": 1_000_000})),
        frame("conversation_settings", json!({"pinned": true})),
        frame("conversation_open", json!({})),
        frame("conversation_close", json!({})),
        frame("delivered", json!({"seq": 2})),
        frame("read", json!({"seq": 2})),
        frame("typing_start", json!({})),
        frame("typing_stop", json!({})),
        frame("signal", json!({"kind": "k", "data": {}})),
    ]
}

/// Alice, in a group with one message, from which Bob has been removed.
async fn group_of_alice(server: &Server) -> (Client, Value) {
    let mut alice = Client::sign_in(server, "alice").await;
    let group = alice.make_group(&["bob"]).await;
    alice.say(&group, json!({"text": "x"})).await;
    let remove = json!({"type": "member_remove", "conversation_id": group, "user_ids": ["bob"]});
    assert_eq!(alice.ask(remove).await["seq"], 3);
    (alice, group)
}

async fn expect_untouched(alice: &mut Client, group: &Value) {
    alice.expect_quiet().await;
    let got = alice.ask(json!({"type": "conversation_get", "conversation_id": group})).await;
    assert_eq!((&got["last_seq"], &got["members_count"]), (&json!(3), &json!(1)));
}

#[tokio::test]
async fn no_frame_tells_a_stranger_that_a_conversation_exists() {
    let server = Config::new().set("limits.frames_per_s", 1_000).start().await;
    let (mut alice, group) = group_of_alice(&server).await;
    let other_tenant = Token::of("alice").claim("tenant", "other").sign();
    for (who, token) in [("never one", token("mallory")), ("one before", token("bob")), ("namesake", other_tenant)] {
        let mut stranger = Connect::to(&server).token(&token).open().await;
        stranger.expect("ready").await;
        for (foreign, missing) in frames_about(&group).into_iter().zip(frames_about(&json!("g:none"))) {
            let mut answers = Vec::new();
            for frame in [&foreign, &missing] {
                let mut answer = stranger.ask(frame.clone()).await;
                answer["id"].take();
                answers.push(answer);
            }
            assert_eq!(answers[0], answers[1], "{who}: {foreign}");
            assert_eq!(answers[0]["code"], "not_found", "{who}: {foreign}");
        }
        // Nor does a frame without an `id`, which is answered only if it is rejected.
        for conversation in [&group, &json!("g:none")] {
            stranger.send(&json!({"type": "read", "conversation_id": conversation, "seq": 2})).await;
            assert_eq!(stranger.expect_error("not_found").await, None);
        }
    }
    expect_untouched(&mut alice, &group).await;
}

#[tokio::test]
async fn no_request_tells_a_stranger_that_a_conversation_exists() {
    let server = Config::new().set("limits.http_requests_per_s", 1_000).start().await;
    let (_, group) = group_of_alice(&server).await;
    // Now the conversation is in no node's memory.
    let server = server.kill_and_restart().await;
    let http = server.http();
    let other_tenant = Token::of("alice").claim("tenant", "other").sign();
    for token in [token("mallory"), token("bob"), other_tenant] {
        for (method, path, body) in [
            (Method::GET, "", Value::Null),
            (Method::PATCH, "", json!({"title": "x"})),
            (Method::GET, "/members", Value::Null),
            (Method::POST, "/members", json!({"user_ids": ["mallory"]})),
            (Method::DELETE, "/members/alice", Value::Null),
            (Method::GET, "/messages", Value::Null),
            (Method::POST, "/messages", json!({"client_id": "c", "content": {}})),
            (Method::PATCH, "/messages/2", json!({"content": {}})),
            (Method::DELETE, "/messages/2", Value::Null),
            (Method::PUT, "/messages/2/reactions/e", Value::Null),
            (Method::DELETE, "/messages/2/reactions/e", Value::Null),
            (Method::GET, "/changes?after=0", Value::Null),
            (Method::POST, "/read", json!({"seq": 2})),
        ] {
            let mut answers = Vec::new();
            for id in [group.as_str().unwrap(), "g:none"] {
                let ask = http.ask(method.clone(), &format!("/v1/conversations/{id}{path}")).token(&token);
                let ask = if body.is_null() { ask } else { ask.json(&body) };
                let answer = ask.send().await;
                answer.error(404, "not_found");
                answers.push(answer.json());
            }
            assert_eq!(answers[0], answers[1], "{method} {path}");
        }
    }
    expect_untouched(&mut Client::sign_in(&server, "alice").await, &group).await;
}

#[tokio::test]
async fn each_frame_names_a_malformed_conversation() {
    let server = Config::new().set("limits.frames_per_s", 1_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    for malformed in [json!(null), json!(7), json!(""), json!("not an id"), json!("g".repeat(129))] {
        for frame in frames_about(&malformed) {
            assert_eq!(alice.ask_in_vain(frame.clone()).await, bad_request("conversation_id"), "{frame}");
        }
    }
    for frame in frames_about(&json!("g".repeat(128))) {
        assert_eq!(alice.ask_in_vain(frame.clone()).await.0, "not_found", "{frame}");
    }
}
