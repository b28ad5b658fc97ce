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

#[tokio::test]
async fn who_is_added_again_starts_without_mentions() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob"]});
    let group = alice.ask(create).await["conversation_id"].clone();
    let mention = |name: &str| {
        let content = json!({"text": "@bob", "mentions": ["bob"]});
        json!({"type": "send", "conversation_id": group, "client_id": name, "content": content})
    };
    alice.ask(mention("c1")).await;
    let sync = json!({"type": "sync"});
    assert_eq!(bob.ask(sync.clone()).await["conversations"][0]["mentioned_seq"], 2);
    for change in ["member_remove", "member_add"] {
        alice.ask(json!({"type": change, "conversation_id": group, "user_ids": ["bob"]})).await;
    }
    assert_eq!(bob.ask(sync.clone()).await["conversations"][0]["mentioned_seq"], 0);
    alice.ask(mention("c2")).await;
    assert_eq!(bob.ask(sync).await["conversations"][0]["mentioned_seq"], 5);
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
