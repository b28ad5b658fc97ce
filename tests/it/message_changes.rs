//! Edits, deletions and reactions (PROTOCOL §3, §8 "Entries", "Changes").

use serde_json::{Value, json};

use crate::support::{Client, Config, bad_request};

fn send(client_id: &str, text: &str) -> Value {
    json!({"type": "send", "to": "bob", "client_id": client_id, "content": {"text": text}})
}

fn with(mut frame: Value, name: &str, value: Value) -> Value {
    frame[name] = value;
    frame
}

fn about(kind: &str, conversation: &Value, seq: u64) -> Value {
    json!({"type": kind, "conversation_id": conversation, "seq": seq})
}

fn edit(conversation: &Value, seq: u64, text: &str) -> Value {
    with(about("edit", conversation, seq), "content", json!({"text": text}))
}

fn react(kind: &str, conversation: &Value, seq: u64, emoji: &str) -> Value {
    with(about(kind, conversation, seq), "emoji", json!(emoji))
}

#[tokio::test]
async fn messages_are_edited_deleted_and_reacted_to() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let sent = alice.ask(send("c1", "Hello")).await;
    bob.expect("message").await;
    let id = &sent["conversation_id"];
    let edit = |seq: u64| edit(id, seq, "Hello!");
    let react = |kind: &str, emoji: &str| react(kind, id, 1, emoji);

    assert_eq!(bob.ask_in_vain(edit(1)).await.0, "forbidden");
    assert_eq!(bob.ask_in_vain(about("delete", id, 1)).await.0, "forbidden");
    assert_eq!(alice.ask(edit(1)).await["seq"], 2);
    let updated = bob.expect("message_updated").await;
    assert_eq!((&updated["seq"], &updated["target_seq"], &updated["by"]), (&json!(2), &json!(1), &json!("alice")));
    assert_eq!(updated["content"], json!({"text": "Hello!"}));

    assert_eq!(bob.ask(react("react", "👍")).await["seq"], 3);
    let reaction = alice.expect("reaction").await;
    assert_eq!(
        (&reaction["emoji"], &reaction["added"], &reaction["user_id"]),
        (&json!("👍"), &json!(true), &json!("bob"))
    );
    assert_eq!(bob.ask(react("react", "👍")).await["seq"], 3, "twice is once");
    assert_eq!(bob.ask(react("unreact", "❤")).await["seq"], 3, "what was not there can't go");
    assert_eq!(bob.ask(react("unreact", "👍")).await["seq"], 4);
    assert_eq!(alice.expect("reaction").await["added"], false);
    assert_eq!(bob.ask(react("react", &"e".repeat(64))).await["seq"], 5);
    alice.expect("reaction").await;

    assert_eq!(alice.ask_in_vain(edit(2)).await.0, "not_found", "an edit is no message");
    assert_eq!(alice.ask_in_vain(edit(99)).await.0, "not_found");
    assert_eq!(alice.ask(about("delete", id, 1)).await["seq"], 6);
    let deleted = bob.expect("message_updated").await;
    assert_eq!((&deleted["deleted"], deleted.get("content")), (&json!(true), None));
    for frame in [edit(1), about("delete", id, 1), react("react", "👍"), react("unreact", "👍")] {
        assert_eq!(alice.ask_in_vain(frame).await.0, "conflict");
    }
    let history = alice.ask(json!({"type": "history", "conversation_id": sent["conversation_id"]})).await;
    let message = &history["messages"][0];
    assert_eq!((&message["deleted"], message.get("content")), (&json!(true), None), "{message}");
}

#[tokio::test]
async fn what_is_wrong_with_a_change_is_named_and_nothing_is_stored() {
    let server = Config::new().set("limits.content_bytes", 100).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let group = alice.make_group(&["bob"]).await;
    alice.say(&group, json!({"text": "x"})).await;
    for kind in ["membership", "message"] {
        bob.expect(kind).await;
    }
    let (edit, delete) = (edit(&group, 2, "y"), about("delete", &group, 2));
    let (react, unreact) = (react("react", &group, 2, "e"), react("unreact", &group, 2, "e"));
    for frame in [&edit, &delete, &react, &unreact] {
        for seq in [json!(null), json!(-1), json!("2"), json!(1.5), json!(9_007_199_254_740_992_u64)] {
            assert_eq!(alice.ask_in_vain(with(frame.clone(), "seq", seq)).await, bad_request("seq"), "{frame}");
        }
        // The first entry adds the members: it is not a message.
        for seq in [0, 1, 3, 9_007_199_254_740_991_u64] {
            let refused = alice.ask_in_vain(with(frame.clone(), "seq", json!(seq))).await;
            assert_eq!(refused, ("not_found".to_owned(), None), "{frame} {seq}");
        }
    }
    let content = |bytes: usize| json!({"text": "x".repeat(bytes - json!({"text": ""}).to_string().len())});
    for (value, code, field) in [
        (json!(null), "bad_request", "content"),
        (json!("text"), "bad_request", "content"),
        (json!({"mentions": "bob"}), "bad_request", "content.mentions"),
        (json!({"mentions": ["not a user"]}), "bad_request", "content.mentions"),
        (content(101), "too_large", "content"),
    ] {
        let refused = alice.ask_in_vain(with(edit.clone(), "content", value)).await;
        assert_eq!(refused, (code.to_owned(), Some(field.to_owned())));
    }
    for frame in [&react, &unreact] {
        for emoji in [json!(null), json!(7), json!(""), json!("e".repeat(65)), json!("é".repeat(33))] {
            assert_eq!(alice.ask_in_vain(with(frame.clone(), "emoji", emoji)).await, bad_request("emoji"));
        }
    }
    bob.expect_quiet().await;
    assert_eq!(alice.ask(with(edit, "content", content(100))).await["seq"], 3);
    assert_eq!(alice.ask(with(react, "emoji", json!("é".repeat(32)))).await["seq"], 4);
}

#[tokio::test]
async fn a_message_has_as_many_different_reactions_as_is_configured() {
    let server = Config::new().set("limits.reactions_per_message_max", 2).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let group = alice.make_group(&["bob"]).await;
    alice.say(&group, json!({"text": "x"})).await;
    let react = |kind: &str, emoji: &str| react(kind, &group, 2, emoji);
    for (emoji, seq) in [("a", 3), ("b", 4)] {
        assert_eq!(alice.ask(react("react", emoji)).await["seq"], seq);
    }
    assert_eq!(alice.ask_in_vain(react("react", "c")).await.0, "conflict");
    assert_eq!(bob.ask_in_vain(react("react", "c")).await.0, "conflict");
    assert_eq!(bob.ask(react("react", "a")).await["seq"], 5, "it is there already");
    assert_eq!(alice.ask(react("unreact", "a")).await["seq"], 6);
    assert_eq!(alice.ask_in_vain(react("react", "c")).await.0, "conflict", "it is there still");
    assert_eq!(bob.ask(react("unreact", "a")).await["seq"], 7);
    assert_eq!(bob.ask(react("react", "c")).await["seq"], 8);
}

#[tokio::test]
async fn history_has_messages_as_they_are_and_changes_what_was_sent_live() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut carol = Client::sign_in(&server, "carol").await;
    let group = alice.make_group(&["bob", "carol"]).await;
    let one = alice.say(&group, json!({"text": "one"})).await;
    let two = bob.say(&group, json!({"text": "two"})).await;
    let three = bob.say(&group, json!({"text": "three"})).await;
    for (by, frame) in [
        ("alice", edit(&group, 2, "uno")),
        ("bob", react("react", &group, 2, "👍")),
        ("alice", react("react", &group, 2, "👍")),
        ("alice", react("react", &group, 2, "x")),
        ("bob", react("react", &group, 2, "y")),
        ("bob", react("unreact", &group, 2, "y")),
        ("bob", edit(&group, 4, "tres")),
        ("bob", react("react", &group, 4, "x")),
        ("alice", about("delete", &group, 4)),
        ("alice", json!({"type": "conversation_update", "conversation_id": group, "title": "T"})),
        ("alice", json!({"type": "member_add", "conversation_id": group, "user_ids": ["dave"]})),
    ] {
        let client = if by == "alice" { &mut alice } else { &mut bob };
        assert_eq!(client.ask(frame.clone()).await["type"], "ok", "{frame}");
    }
    let mut live = Vec::new();
    for _ in 1..=15 {
        live.push(carol.recv().await);
    }
    carol.expect_quiet().await;
    let seqs: Vec<_> = live.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=15).collect::<Vec<_>>());
    let kinds: Vec<_> = live.iter().map(|entry| entry["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[4..7], ["message_updated", "reaction", "reaction"]);
    assert_eq!(kinds[12..], ["message_updated", "conversation_updated", "membership"]);
    let mut changes = carol.ask(json!({"type": "changes", "conversation_id": group, "after": 0})).await;
    assert_eq!((&changes["last_seq"], &changes["more"]), (&json!(15), &json!(false)));
    assert_eq!(changes["entries"].take(), json!(live));

    let message = |sent: &Value, from: &str, rest: Value| {
        let mut message = json!({"type": "message", "conversation_id": group, "message_id": sent["message_id"],
            "seq": sent["seq"], "from": from, "client_id": sent["client_id"], "timestamp": sent["timestamp"]});
        message.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        message
    };
    let expected = |alice_is_asking: bool| {
        json!([
            message(
                &one,
                "alice",
                json!({"content": {"text": "uno"}, "edited_at": live[4]["timestamp"], "reactions": [
                {"emoji": "👍", "count": 2, "me": true}, {"emoji": "x", "count": 1, "me": alice_is_asking}]})
            ),
            message(&two, "bob", json!({"content": {"text": "two"}})),
            message(
                &three,
                "bob",
                json!({"deleted": true, "reactions": [{"emoji": "x", "count": 1, "me": !alice_is_asking}]})
            ),
        ])
    };
    let history = json!({"type": "history", "conversation_id": group});
    assert_eq!(alice.ask(history.clone()).await["messages"], expected(true));
    assert_eq!(bob.ask(history.clone()).await["messages"], expected(false));

    let server = server.kill_and_restart().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    assert_eq!(alice.ask(history).await["messages"], expected(true));
}

#[tokio::test]
async fn the_last_message_is_shown_as_it_is() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let group = alice.make_group(&[]).await;
    let sync = json!({"type": "sync"});
    assert_eq!(alice.ask(sync.clone()).await["conversations"][0]["last_message"], json!(null));
    let sent = alice.say(&group, json!({"text": "é".repeat(201)})).await;
    let shown = |text: &str| json!({"seq": 2, "from": "alice", "text": text, "timestamp": sent["timestamp"]});
    assert_eq!(alice.ask(sync.clone()).await["conversations"][0]["last_message"], shown(&"é".repeat(200)));
    alice.ask(edit(&group, 2, "after")).await;
    assert_eq!(alice.ask(sync.clone()).await["conversations"][0]["last_message"], shown("after"));
    alice.ask(about("delete", &group, 2)).await;
    assert_eq!(alice.ask(sync).await["conversations"][0]["last_message"], shown(""));
}
