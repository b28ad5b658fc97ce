//! Catching up page by page (PROTOCOL §3 `sync`, §8): what was answered is in every member's next one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Client, Config};

const CONVERSATIONS: usize = 12;

#[tokio::test]
async fn what_changes_between_two_pages_of_sync_is_on_a_later_one() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    let mut groups = Vec::new();
    for number in 0..CONVERSATIONS {
        let create =
            json!({"type": "conversation_create", "kind": "group", "client_id": format!("g{number}"), "members": []});
        groups.push(client.ask(create).await["conversation_id"].as_str().expect("an id").to_owned());
    }
    let mut known = BTreeMap::new();
    let first = client.ask(json!({"type": "sync", "limit": 5})).await;
    assert_eq!((learn(&mut known, &first), &first["more"]), (5, &json!(true)));

    for group in &groups {
        let send = json!({"type": "send", "conversation_id": group, "client_id": "c1", "content": {"text": "x"}});
        assert_eq!(client.ask(send).await["seq"], 2);
    }
    let mut page = first;
    while page["more"] == true {
        page = client.ask(json!({"type": "sync", "limit": 5, "cursor": page["cursor"]})).await;
        learn(&mut known, &page);
    }
    assert_eq!(known, groups.into_iter().map(|group| (group, 2)).collect());

    let after = client.ask(json!({"type": "sync", "cursor": page["cursor"]})).await;
    assert_eq!((&after["conversations"], &after["more"]), (&json!([]), &json!(false)));
}

/// Notes each conversation's `last_seq`; gives how many there were.
fn learn(known: &mut BTreeMap<String, u64>, sync: &Value) -> usize {
    let conversations = sync["conversations"].as_array().expect("a list");
    for conversation in conversations {
        let id = conversation["conversation_id"].as_str().expect("an id").to_owned();
        known.insert(id, conversation["last_seq"].as_u64().expect("a number"));
    }
    conversations.len()
}
