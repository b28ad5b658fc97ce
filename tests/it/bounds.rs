//! The bounds of what waits at a conversation and at a home, reached on a real node (docs/configuration.md `limits`):
//! exceeding them has a typed outcome and a metric, and affects nothing else.

use serde_json::{Value, json};

use crate::support::tokens::token;
use crate::support::{Client, Config, Server, soon};

fn send(client_id: &str) -> Value {
    json!({"type": "send", "to": "bob", "client_id": client_id, "content": {"text": "x"}})
}

#[tokio::test]
async fn commands_beyond_a_conversations_queue_are_refused_and_all_others_are_carried_out() {
    const AT_ONCE: usize = 20;
    let config = Config::new().set("limits.conversation_queue_max", 1);
    let server = config.set("limits.frames_per_s", 1_000_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut sent, mut refused) = (0_u32, 0_u32);
    // Normally the first round is enough: its first command begins a term, and the others arrive in one segment.
    let full = async {
        while refused == 0 {
            for n in 0..AT_ONCE {
                alice.feed(&send(&format!("{sent}-{n}"))).await;
            }
            alice.flush().await;
            for _ in 0..AT_ONCE {
                let answer = alice.recv().await;
                if answer["type"] == "sent" {
                    sent += 1;
                    assert_eq!(answer["seq"], sent, "{answer}");
                } else {
                    refused += 1;
                    assert_eq!(answer["code"], "overloaded", "{answer}");
                    assert!(answer["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{answer}");
                }
            }
        }
    };
    soon("a full queue", full).await;
    assert!(server.metric("switchboard_overloaded_total", "conversation").await >= f64::from(refused));
    assert_eq!(alice.ask(send("last")).await["seq"], sent + 1);
}

/// Much longer than a test takes.
fn written_rarely() -> Config {
    Config::new().set("limits.inbox_flush_ms", 60_000).set("limits.home_dirty_max", 1)
}

#[tokio::test]
async fn inbox_changes_of_many_users_are_written_before_their_time() {
    let server = written_rarely().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    // The first write may be the one that comes soon after the start.
    for client_id in ["c1", "c2"] {
        let writes = async || server.metric("switchboard_store_statements_total", "put_inbox").await;
        let before = writes().await;
        alice.ask(send(client_id)).await;
        soon("the inbox changes' write", async { while writes().await <= before {} }).await;
    }
}

#[tokio::test]
async fn times_at_which_users_were_last_seen_are_left_out_when_too_many_wait() {
    let server = written_rarely().set("presence.grace_ms", 1).start().await;
    for user in ["alice", "bob"] {
        Client::sign_in(&server, user).await.close().await;
    }
    let left_out = async { while server.metric("switchboard_last_seen_dropped_total", "").await < 1.0 {} };
    soon("a time that is left out", left_out).await;
    let mut seen = 0;
    for user in ["alice", "bob"] {
        let presence = last_seen(&server, user).await;
        assert_eq!(presence["status"], "offline");
        seen += usize::from(presence["last_seen_at"].is_string());
    }
    assert_eq!(seen, 1, "the one that waits is known");
}

async fn last_seen(server: &Server, user: &str) -> Value {
    let path = format!("/v1/users/{user}/presence");
    server.http().get(&path).token(&token("carol")).send().await.data(200)
}
