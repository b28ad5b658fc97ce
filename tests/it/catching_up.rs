//! Catching up page by page (PROTOCOL §3 `sync`, §8): what was answered is in every member's next `sync`.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Client, Config, Server};

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

/// The conversations in a `sync` with this cursor, and the next cursor.
async fn changed(client: &mut Client, cursor: &mut Value) -> Vec<Value> {
    let sync = client.ask(json!({"type": "sync", "cursor": cursor})).await;
    assert_eq!((&sync["more"], sync.get("reset")), (&json!(false), None), "{sync}");
    *cursor = sync["cursor"].clone();
    sync["conversations"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn what_counts_as_change_is_in_the_next_sync_and_nothing_else() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob"]});
    let group = alice.ask(create).await["conversation_id"].clone();
    let other = json!({"type": "send", "to": "bob", "client_id": "c", "content": {"text": "x"}});
    alice.ask(other).await;
    let (mut hers, mut his) = (json!(null), json!(null));
    assert_eq!(changed(&mut alice, &mut hers).await.len(), 2);
    assert_eq!(changed(&mut bob, &mut his).await.len(), 2);

    // Alice's frame, and whether it changes Bob's `sync`.
    let in_group = |mut frame: Value| {
        frame["conversation_id"] = group.clone();
        frame
    };
    for (frame, is_for_bob) in [
        (json!({"type": "send", "client_id": "c1", "content": {"text": "x"}}), true),
        (json!({"type": "edit", "seq": 2, "content": {"text": "y"}}), true),
        (json!({"type": "react", "seq": 2, "emoji": "e"}), true),
        (json!({"type": "react", "seq": 2, "emoji": "e"}), false),
        (json!({"type": "delete", "seq": 2}), true),
        (json!({"type": "conversation_update", "title": "t"}), true),
        (json!({"type": "member_role", "user_id": "bob", "role": "moderator"}), true),
        (json!({"type": "conversation_settings", "pinned": true}), false),
        (json!({"type": "typing_start"}), false),
        (json!({"type": "conversation_open"}), false),
        (json!({"type": "member_remove", "user_ids": ["bob"]}), true),
        (json!({"type": "member_add", "user_ids": ["bob"]}), true),
    ] {
        let kind = frame["type"].clone();
        let last_seq = alice.ask(in_group(frame.clone())).await["seq"].clone();
        let is_for_alice = is_for_bob || kind == "conversation_settings";
        for (client, cursor, is_for_him) in [(&mut alice, &mut hers, is_for_alice), (&mut bob, &mut his, is_for_bob)] {
            let conversations = changed(client, cursor).await;
            let ids: Vec<&Value> = conversations.iter().map(|changed| &changed["conversation_id"]).collect();
            assert_eq!(ids, if is_for_him { vec![&group] } else { vec![] }, "{kind}");
            if is_for_him && !last_seq.is_null() {
                assert_eq!(conversations[0]["last_seq"], last_seq, "{kind}");
            }
        }
    }
    // One's own cursors appear, others' do not.
    bob.ask(in_group(json!({"type": "send", "client_id": "c2", "content": {"text": "x"}}))).await;
    changed(&mut alice, &mut hers).await;
    changed(&mut bob, &mut his).await;
    alice.ask(in_group(json!({"type": "read", "seq": 99}))).await;
    assert_eq!(changed(&mut alice, &mut hers).await[0]["unread"], 0);
    assert_eq!(changed(&mut bob, &mut his).await, [] as [Value; 0]);
}

#[tokio::test]
async fn who_is_removed_is_told_so_and_nothing_of_what_comes_after() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob"]});
    let group = alice.ask(create).await["conversation_id"].clone();
    let mut cursor = json!(null);
    changed(&mut bob, &mut cursor).await;
    alice.ask(json!({"type": "member_remove", "conversation_id": group, "user_ids": ["bob"]})).await;
    let send = json!({"type": "send", "conversation_id": group, "client_id": "c", "content": {"text": "secret"}});
    alice.ask(send).await;
    alice.ask(json!({"type": "conversation_update", "conversation_id": group, "title": "secret"})).await;
    let gone = changed(&mut bob, &mut cursor).await;
    assert_eq!((&gone[0]["removed"], &gone[0]["last_seq"]), (&json!(true), &json!(2)), "{gone:?}");
    assert!(!gone[0].to_string().contains("secret"), "{gone:?}");
    assert_eq!(changed(&mut bob, &mut cursor).await, [] as [Value; 0]);
}

#[tokio::test]
async fn sync_tells_the_newest_first_with_what_is_asked_for() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let long = "ä".repeat(201);
    for (to, n, text) in [("bob", 1, "one"), ("carol", 2, "two"), ("bob", 3, &long)] {
        let send = json!({"type": "send", "to": to, "client_id": n.to_string(), "content": {"text": text}});
        alice.ask(send).await;
    }
    let sync = alice.ask(json!({"type": "sync", "entries_per_conversation": 1})).await;
    let conversations = sync["conversations"].as_array().unwrap();
    let peers: Vec<&Value> = conversations.iter().map(|conversation| &conversation["peer"]).collect();
    assert_eq!(peers, ["bob", "carol"]);
    assert_eq!(conversations[0]["last_message"]["text"].as_str(), Some("ä".repeat(200).as_str()));
    assert_eq!(
        (&conversations[0]["last_message"]["seq"], &conversations[0]["last_message"]["from"]),
        (&json!(2), &json!("alice"))
    );
    let entries = conversations[0]["entries"].as_array().unwrap();
    assert_eq!((entries.len(), &entries[0]["seq"], &entries[0]["content"]["text"]), (1, &json!(2), &json!(long)));
    bob.expect("message").await;
    assert_eq!(entries[0], bob.expect("message").await, "an entry is the frame that was sent live");
    let without = alice.ask(json!({"type": "sync"})).await;
    assert_eq!(without["conversations"][0].get("entries"), None);
}

#[tokio::test]
async fn sync_has_limits() {
    let server = Config::new().set("limits.frames_per_s", 10_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    for n in 0..=200 {
        let create = json!({"type": "conversation_create", "kind": "group", "client_id": n.to_string(), "members": []});
        alice.feed(&create).await;
    }
    alice.flush().await;
    for _ in 0..=200 {
        alice.expect("conversation").await;
    }
    for send in 0..50 {
        alice.ask(json!({"type": "send", "to": "bob", "client_id": send.to_string(), "content": {}})).await;
    }
    let sync = |fields: Value| {
        let mut frame = json!({"type": "sync"});
        frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        frame
    };
    for (fields, field) in [
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 201}), "limit"),
        (json!({"limit": "10"}), "limit"),
        (json!({"entries_per_conversation": 51}), "entries_per_conversation"),
        (json!({"entries_per_conversation": -1}), "entries_per_conversation"),
        (json!({"cursor": "nonsense"}), "cursor"),
        (json!({"cursor": ""}), "cursor"),
        (json!({"cursor": 7}), "cursor"),
        (json!({"cursor": "s".repeat(1_025)}), "cursor"),
    ] {
        let refused = alice.ask_in_vain(sync(fields)).await;
        assert_eq!(refused, ("bad_request".to_owned(), Some(field.to_owned())));
    }
    for (fields, conversations, more) in
        [(json!({"limit": 1}), 1, true), (json!({"limit": 200}), 200, true), (json!({}), 200, true)]
    {
        let page = alice.ask(sync(fields)).await;
        assert_eq!(
            (page["conversations"].as_array().map(Vec::len), &page["more"]),
            (Some(conversations), &json!(more))
        );
    }
    let newest = alice.ask(sync(json!({"entries_per_conversation": 50, "limit": 1}))).await;
    assert_eq!(newest["conversations"][0]["entries"].as_array().map(Vec::len), Some(50));
}

#[tokio::test]
async fn of_entries_that_are_too_large_together_sync_gives_the_newest() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    for n in 1..=5 {
        let content = json!({"text": "x".repeat(30_000)});
        alice.ask(json!({"type": "send", "to": "bob", "client_id": n.to_string(), "content": content})).await;
    }
    let sync = alice.ask(json!({"type": "sync", "entries_per_conversation": 5})).await;
    let entries = sync["conversations"][0]["entries"].as_array().unwrap();
    assert_eq!(entries.iter().map(|entry| &entry["seq"]).collect::<Vec<_>>(), [4, 5]);
}

#[tokio::test]
async fn a_cursor_of_another_store_gives_everything_anew() {
    let server = Config::new().start().await;
    let (mut alice, ready) = Client::sign_in_as(&server, "alice", "phone").await;
    let send = json!({"type": "send", "to": "bob", "client_id": "c", "content": {"text": "x"}});
    alice.ask(send.clone()).await;
    let mut cursor = json!(null);
    assert_eq!(changed(&mut alice, &mut cursor).await.len(), 1);

    let server = server.kill_and_restart().await;
    let (mut alice, again) = Client::sign_in_as(&server, "alice", "phone").await;
    assert_eq!(again["store_id"], ready["store_id"]);
    assert_eq!(changed(&mut alice, &mut cursor).await, [] as [Value; 0], "it outlives the process");

    server.signal(Signal::KILL);
    let ended = server.ended().await;
    std::fs::remove_dir_all(ended.folder.path().join("store")).unwrap();
    let server = Server::start_in(ended.folder, Config::new()).await;
    let (mut alice, anew) = Client::sign_in_as(&server, "alice", "phone").await;
    assert_ne!(anew["store_id"], ready["store_id"]);
    alice.ask(send).await;
    let reset = alice.ask(json!({"type": "sync", "cursor": cursor})).await;
    assert_eq!((reset["conversations"].as_array().map(Vec::len), &reset["reset"]), (Some(1), &json!(true)));
    let mut cursor = reset["cursor"].clone();
    assert_eq!(changed(&mut alice, &mut cursor).await, [] as [Value; 0]);
}

/// Records each conversation's `last_seq`; returns how many there were.
fn learn(known: &mut BTreeMap<String, u64>, sync: &Value) -> usize {
    let conversations = sync["conversations"].as_array().expect("a list");
    for conversation in conversations {
        let id = conversation["conversation_id"].as_str().expect("an id").to_owned();
        known.insert(id, conversation["last_seq"].as_u64().expect("a number"));
    }
    conversations.len()
}

/// The count of each read operation.
async fn reads(server: &Server) -> BTreeMap<&'static str, u64> {
    const READS: [&str; 8] =
        ["user", "inbox", "head", "member", "members", "read", "begin_term_read", "append_nothing"];
    let mut reads = BTreeMap::new();
    for op in READS {
        let label = format!(r#"op="{op}""#);
        reads.insert(op, server.metric("switchboard_store_statements_total", &label).await as u64);
    }
    reads
}

#[tokio::test]
async fn who_was_away_for_a_moment_costs_a_read_of_his_record_and_one_of_his_inbox() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob"],
        "title": "first", "custom": {"a": [1]}});
    let group = alice.ask(create).await["conversation_id"].clone();
    for mut change in [
        json!({"type": "member_add", "user_ids": ["carol"]}),
        json!({"type": "member_role", "user_id": "bob", "role": "moderator"}),
        json!({"type": "conversation_update", "title": "second"}),
    ] {
        change["conversation_id"] = group.clone();
        assert_eq!(alice.ask(change).await["type"], "ok");
    }
    let to_bob = |name: &str| json!({"type": "send", "to": "bob", "client_id": name, "content": {"text": "x"}});
    alice.ask(to_bob("c1")).await;
    let mut cursor = json!(null);
    let known = changed(&mut bob, &mut cursor).await;
    drop(bob);
    alice.ask(to_bob("c2")).await;
    let to_all = json!({"type": "send", "conversation_id": group, "client_id": "c3", "content": {"text": "x"}});
    alice.ask(to_all).await;

    let before = reads(&server).await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let now = changed(&mut bob, &mut cursor).await;
    assert_eq!((known.len(), now.len()), (2, 2));
    for conversation in &now {
        let id = &conversation["conversation_id"];
        let known = known.iter().find(|known| known["conversation_id"] == *id).expect("it was there before");
        let changes = json!({"type": "changes", "conversation_id": id, "after": known["last_seq"]});
        assert_eq!(bob.ask(changes).await["entries"].as_array().map(Vec::len), Some(1));
    }
    let after = reads(&server).await;
    let done: Vec<_> = after.iter().filter(|(op, count)| before[*op] < **count).map(|(op, _)| *op).collect();
    assert_eq!(done, ["inbox", "user"]);

    for conversation in &now {
        let get = json!({"type": "conversation_get", "conversation_id": conversation["conversation_id"]});
        let got = bob.ask(get).await;
        for (field, value) in
            got.as_object().expect("an object").iter().filter(|(field, _)| *field != "type" && *field != "id")
        {
            assert_eq!(&conversation[field], value, "{field}");
        }
    }
}
