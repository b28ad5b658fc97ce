//! Receipts (PROTOCOL §3) where the owner has to read again what they are about.

use serde_json::{Value, json};

use crate::support::{Client, Config};

#[tokio::test]
async fn who_reads_after_a_restart_is_seen_to_have_read() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let send = |n: u32| json!({"type": "send", "to": "bob", "client_id": format!("c{n}"), "content": {"text": "x"}});
    let first = alice.ask(send(1)).await;
    let second = alice.ask(send(2)).await;
    let edit = json!({"type": "edit", "conversation_id": first["conversation_id"], "seq": 1, "content": {"text": "y"}});
    assert_eq!(alice.ask(edit).await["seq"], 3);

    let server = server.kill_and_restart().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let cursor = |kind: &str, seq: u32| json!({"type": kind, "conversation_id": first["conversation_id"], "seq": seq});
    let about = |receipt: &Value| (receipt["message_id"].clone(), receipt["seq"].clone());
    bob.ask(cursor("delivered", 1)).await;
    assert_eq!(about(&alice.until("delivery_receipt").await), (first["message_id"].clone(), json!(1)));
    // Up to an entry that is no message: the newest one before it is read.
    bob.ask(cursor("read", 3)).await;
    assert_eq!(about(&alice.until("read_receipt").await), (second["message_id"].clone(), json!(3)));
}
