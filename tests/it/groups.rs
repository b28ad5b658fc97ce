//! Groups and their settings (PROTOCOL §3).

use serde_json::{Value, json};

use crate::support::{Client, Config};

#[tokio::test]
async fn settings_that_are_the_same_make_no_entry() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": []});
    let group = alice.ask(create).await["conversation_id"].clone();
    let update = |custom: Value| json!({"type": "conversation_update", "conversation_id": group, "custom": custom});
    assert_eq!(alice.ask(update(json!({}))).await["seq"], 1, "there was none, which is an empty one");
    assert_eq!(alice.ask(update(json!({"a": 1}))).await["seq"], 2);
    assert_eq!(alice.ask(update(json!({"a": 1}))).await["seq"], 2);
}
