//! Permissions in groups, and joining and leaving (PROTOCOL §3, §8 "Sends").

use serde_json::{Value, json};

use crate::support::{Client, Config, bad_request};

fn change(kind: &str, group: &Value, users: &[&str]) -> Value {
    json!({"type": kind, "conversation_id": group, "user_ids": users})
}

fn add_as(group: &Value, user: &str, role: &str) -> Value {
    json!({"type": "member_add", "conversation_id": group, "user_ids": [user], "role": role})
}

fn role(group: &Value, user: &str, role: &str) -> Value {
    json!({"type": "member_role", "conversation_id": group, "user_id": user, "role": role})
}

fn title(group: &Value, title: &str) -> Value {
    json!({"type": "conversation_update", "conversation_id": group, "title": title})
}

fn delete(group: &Value, seq: u64) -> Value {
    json!({"type": "delete", "conversation_id": group, "seq": seq})
}

fn get(group: &Value) -> Value {
    json!({"type": "conversation_get", "conversation_id": group})
}

#[tokio::test]
async fn what_a_role_does_not_allow_is_forbidden_and_changes_nothing() {
    let server = Config::new().start().await;
    let mut owner = Client::sign_in(&server, "owner").await;
    let mut moderator = Client::sign_in(&server, "moderator").await;
    let mut member = Client::sign_in(&server, "member").await;
    let mut watching = Client::sign_in(&server, "watching").await;
    let group = owner.make_group(&["member", "watching"]).await;
    for name in ["moderator", "moderator2"] {
        owner.ask(add_as(&group, name, "moderator")).await;
    }
    owner.say(&group, json!({"text": "by the owner"})).await;
    member.say(&group, json!({"text": "by the member"})).await;
    for kind in ["membership", "membership", "membership", "message", "message"] {
        watching.expect(kind).await;
    }
    let edit = |seq: u64| json!({"type": "edit", "conversation_id": group, "seq": seq, "content": {"text": "x"}});
    let (by_owner, by_member) = (4, 5);

    let refused = [
        (&mut owner, vec![edit(by_member)]),
        (
            &mut moderator,
            vec![
                edit(by_member),
                add_as(&group, "new", "moderator"),
                add_as(&group, "new", "owner"),
                change("member_remove", &group, &["owner"]),
                change("member_remove", &group, &["moderator2"]),
                // If it is refused for one user, it is refused for all.
                change("member_remove", &group, &["member", "owner"]),
                role(&group, "member", "moderator"),
                role(&group, "moderator", "owner"),
                role(&group, "moderator2", "member"),
            ],
        ),
        (
            &mut member,
            vec![
                edit(by_owner),
                delete(&group, by_owner),
                title(&group, "T"),
                change("member_add", &group, &["new"]),
                change("member_remove", &group, &["watching"]),
                change("member_remove", &group, &["member", "watching"]),
                role(&group, "member", "owner"),
            ],
        ),
    ];
    for (client, frames) in refused {
        for frame in frames {
            assert_eq!(client.ask_in_vain(frame.clone()).await, ("forbidden".to_owned(), None), "{frame}");
        }
    }
    for (frame, expected) in [
        (role(&group, "member", "king"), bad_request("role")),
        (role(&group, "not a user", "owner"), bad_request("user_id")),
        (role(&group, "stranger", "owner"), ("not_found".to_owned(), None)),
        (add_as(&group, "new", "king"), bad_request("role")),
        (change("member_add", &group, &[]), bad_request("user_ids")),
        (change("member_remove", &group, &[]), bad_request("user_ids")),
        (change("member_add", &group, &["new", "not a user"]), bad_request("user_ids[1]")),
        (change("member_remove", &group, &["not a user"]), bad_request("user_ids[0]")),
    ] {
        assert_eq!(owner.ask_in_vain(frame.clone()).await, expected, "{frame}");
    }
    watching.expect_quiet().await;
    assert_eq!(owner.ask(get(&group)).await["last_seq"], by_member);
}

#[tokio::test]
async fn what_a_role_allows_is_an_entry() {
    let server = Config::new().start().await;
    let mut owner = Client::sign_in(&server, "owner").await;
    let mut moderator = Client::sign_in(&server, "moderator").await;
    let mut member = Client::sign_in(&server, "member").await;
    let mut watching = Client::sign_in(&server, "watching").await;
    let group = owner.make_group(&["moderator", "member", "watching"]).await;
    assert_eq!(watching.expect("membership").await["seq"], 1);
    let mut last_seq = 1;
    let mut expect_entry = async |client: &mut Client, by: &str, frame: Value, says: Value| {
        last_seq += 1;
        assert_eq!(client.ask(frame.clone()).await["seq"], last_seq, "{frame}");
        let mut entry = watching.recv().await;
        let fields = entry.as_object_mut().unwrap();
        assert!(fields.remove("timestamp").is_some() && fields.remove("type").is_some());
        let mut expected = json!({"conversation_id": group, "seq": last_seq, "by": by});
        expected.as_object_mut().unwrap().extend(says.as_object().unwrap().clone());
        assert_eq!(entry, expected, "{frame}");
    };

    let promote = role(&group, "moderator", "moderator");
    expect_entry(&mut owner, "owner", promote, json!({"roles": {"moderator": "moderator"}})).await;
    let add = change("member_add", &group, &["b", "a", "member"]);
    expect_entry(&mut moderator, "moderator", add, json!({"added": ["a", "b"]})).await;
    let remove = change("member_remove", &group, &["a", "stranger", "b"]);
    expect_entry(&mut moderator, "moderator", remove, json!({"removed": ["a", "b"]})).await;
    expect_entry(&mut moderator, "moderator", title(&group, "T"), json!({"title": "T"})).await;
    let made = add_as(&group, "second", "owner");
    expect_entry(&mut owner, "owner", made, json!({"added": ["second"], "roles": {"second": "owner"}})).await;
    let demote = role(&group, "second", "member");
    expect_entry(&mut owner, "owner", demote, json!({"roles": {"second": "member"}})).await;
    let leave = change("member_remove", &group, &["member"]);
    expect_entry(&mut member, "member", leave, json!({"removed": ["member"]})).await;
    let remove = change("member_remove", &group, &["moderator"]);
    expect_entry(&mut owner, "owner", remove, json!({"removed": ["moderator"]})).await;
}

#[tokio::test]
async fn the_last_owner_is_followed_by_the_longest_standing_member() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut zoe = Client::sign_in(&server, "zoe").await;
    let group = alice.make_group(&["zoe"]).await;
    // The first of several entries for a name, or a role, does not matter.
    alice.ask(add_as(&group, "bob", "moderator")).await;
    alice.ask(add_as(&group, "carol", "owner")).await;
    for _ in 1..=3 {
        zoe.expect("membership").await;
    }
    let mut carol = Client::sign_in(&server, "carol").await;
    carol.ask(change("member_remove", &group, &["carol"])).await;
    let left = zoe.expect("membership").await;
    assert_eq!((&left["removed"], left.get("roles")), (&json!(["carol"]), None), "an owner is left");

    let demote = role(&group, "alice", "member");
    assert_eq!(alice.ask_in_vain(demote).await.0, "conflict", "a group is never without an owner");
    assert_eq!(alice.ask(change("member_remove", &group, &["alice"])).await["seq"], 5);
    let left = zoe.expect("membership").await;
    assert_eq!((&left["removed"], &left["roles"]), (&json!(["alice"]), &json!({"zoe": "owner"})));
    assert_eq!(zoe.ask(get(&group)).await["role"], "owner");
}

#[tokio::test]
async fn who_is_removed_is_told_and_nothing_more() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut open, _) = Client::sign_in_as(&server, "bob", "open").await;
    let (mut other, _) = Client::sign_in_as(&server, "bob", "other").await;
    let group = alice.make_group(&["bob"]).await;
    alice.say(&group, json!({"text": "before"})).await;
    for client in [&mut open, &mut other] {
        client.expect("membership").await;
        client.expect("message").await;
    }
    open.ask(json!({"type": "conversation_open", "conversation_id": group})).await;
    let cursor = open.ask(json!({"type": "sync"})).await["cursor"].clone();

    assert_eq!(alice.ask(change("member_remove", &group, &["bob"])).await["seq"], 3);
    for client in [&mut open, &mut other] {
        assert_eq!(client.expect("membership").await["removed"], json!(["bob"]));
    }
    alice.say(&group, json!({"text": "between", "mentions": ["bob"]})).await;
    for kind in ["typing_start", "typing_stop"] {
        alice.ask(json!({"type": kind, "conversation_id": group})).await;
    }
    alice.ask(json!({"type": "signal", "conversation_id": group, "kind": "k", "data": {}})).await;
    for client in [&mut open, &mut other] {
        client.expect_quiet().await;
    }
    assert_eq!(open.ask_in_vain(get(&group)).await.0, "not_found");
    let sync = open.ask(json!({"type": "sync", "cursor": cursor})).await;
    let [removed] = &sync["conversations"].as_array().unwrap()[..] else { panic!("{sync}") };
    assert_eq!((&removed["conversation_id"], &removed["removed"]), (&group, &json!(true)));
    assert!(!sync.to_string().contains("between"), "{sync}");

    // After being added again, Bob sees the whole history and starts with nothing unread.
    assert_eq!(alice.ask(change("member_add", &group, &["bob"])).await["seq"], 5);
    for client in [&mut open, &mut other] {
        assert_eq!(client.expect("membership").await["added"], json!(["bob"]));
    }
    let again = open.ask(get(&group)).await;
    assert_eq!((&again["read_seq"], &again["unread"], &again["role"]), (&json!(5), &json!(0), &json!("member")));
    let history = open.ask(json!({"type": "history", "conversation_id": group})).await;
    let texts: Vec<&Value> =
        history["messages"].as_array().unwrap().iter().map(|message| &message["content"]["text"]).collect();
    assert_eq!(texts, ["before", "between"]);
    let changes = open.ask(json!({"type": "changes", "conversation_id": group, "after": 0})).await;
    assert_eq!(changes["entries"].as_array().map(Vec::len), Some(5));
    let sync = open.ask(json!({"type": "sync", "cursor": sync["cursor"]})).await;
    assert_eq!((&sync["conversations"][0]["unread"], sync["conversations"][0].get("removed")), (&json!(0), None));
    alice.say(&group, json!({"text": "after"})).await;
    for client in [&mut open, &mut other] {
        assert_eq!(client.expect("message").await["seq"], 6);
    }
    assert_eq!(open.ask(get(&group)).await["unread"], 1);
}

#[tokio::test]
async fn a_group_ends_with_its_last_member() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": []});
    let group = alice.ask(create.clone()).await["conversation_id"].clone();
    alice.say(&group, json!({"text": "x"})).await;
    assert_eq!(alice.ask(change("member_remove", &group, &["alice"])).await["seq"], 3);
    for frame in [
        get(&group),
        json!({"type": "history", "conversation_id": group}),
        json!({"type": "send", "conversation_id": group, "client_id": "c", "content": {}}),
        change("member_add", &group, &["alice"]),
        create,
    ] {
        assert_eq!(alice.ask_in_vain(frame.clone()).await.0, "not_found", "{frame}");
    }
    let sync = alice.ask(json!({"type": "sync"})).await;
    let left: Vec<&Value> = sync["conversations"].as_array().unwrap().iter().map(|row| &row["removed"]).collect();
    assert!(left.iter().all(|removed| **removed == true), "{sync}");
}
