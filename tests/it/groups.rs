//! Groups (PROTOCOL §3): creating and describing them, and each limit at it and one past it.

use serde_json::{Value, json};

use crate::support::{Client, Config, bad_request};

/// Bytes of `{"k":""}`.
const CUSTOM_FRAME: usize = 8;

#[tokio::test]
async fn a_group_is_made_once() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut other, _) = Client::sign_in_as(&server, "alice", "other").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "title": "Team",
        "custom": {"a": {"b": 1}}, "members": ["carol", "bob", "alice", "bob"]});
    let made = alice.ask(create).await;
    assert_eq!(
        made,
        json!({"type": "conversation", "id": made["id"], "conversation_id": made["conversation_id"], "kind": "group",
            "title": "Team", "custom": {"a": {"b": 1}}, "members_count": 3, "created_at": made["created_at"],
            "role": "owner", "delivery": "full", "last_seq": 1, "read_seq": 1, "unread": 0})
    );
    alice.expect_quiet().await;
    for client in [&mut other, &mut bob] {
        let entry = client.recv().await;
        assert_eq!(
            entry,
            json!({"type": "membership", "conversation_id": made["conversation_id"], "seq": 1,
                "added": ["alice", "bob", "carol"], "roles": {"alice": "owner"}, "by": "alice",
                "timestamp": entry["timestamp"]})
        );
    }

    let again = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "title": "Other",
        "members": ["dave"]});
    let get = json!({"type": "conversation_get", "conversation_id": made["conversation_id"]});
    for frame in [again.clone(), get.clone()] {
        let mut answer = alice.ask(frame).await;
        answer["id"] = made["id"].clone();
        assert_eq!(answer, made);
    }
    bob.expect_quiet().await;
    assert_eq!(bob.ask(get).await["role"], "member");
    let others = bob.ask(again).await;
    assert_ne!(others["conversation_id"], made["conversation_id"], "another user's `client_id` is another one");
    assert_eq!(others["members_count"], 2);
}

#[tokio::test]
async fn of_many_creations_at_once_one_is_made() {
    let server = Config::new().start().await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let mut clients = Vec::new();
    for n in 0..4 {
        clients.push(Client::sign_in_as(&server, "alice", &format!("d{n}")).await.0);
    }
    let create = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob"]});
    for client in &mut clients {
        client.send(&create).await;
    }
    let group = bob.expect("membership").await["conversation_id"].clone();
    for client in &mut clients {
        assert_eq!(client.until("conversation").await["conversation_id"], group);
    }
    bob.expect_quiet().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_group_is_named_and_nothing_is_made() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let good = json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": ["bob"]});
    for (name, value, field) in [
        ("kind", json!("direct"), "kind"),
        ("kind", Value::Null, "kind"),
        ("client_id", Value::Null, "client_id"),
        ("client_id", json!(""), "client_id"),
        ("client_id", json!("c".repeat(129)), "client_id"),
        ("members", json!("bob"), "members"),
        ("members", Value::Null, "members"),
        ("members", json!(["bob", 7]), "members[1]"),
        ("members", json!(["not a user"]), "members[0]"),
        ("title", json!(7), "title"),
        ("title", json!("t".repeat(257)), "title"),
        ("title", json!("é".repeat(129)), "title"),
        ("custom", json!([]), "custom"),
        ("custom", json!("x"), "custom"),
        ("custom", json!({"k": "x".repeat(8_193 - CUSTOM_FRAME)}), "custom"),
    ] {
        let mut frame = good.clone();
        frame[name] = value;
        assert_eq!(alice.ask_in_vain(frame.clone()).await, bad_request(field), "{frame}");
    }
    bob.expect_quiet().await;
    assert_eq!(alice.ask(json!({"type": "sync"})).await["conversations"], json!([]));

    let mut largest = good;
    largest["client_id"] = json!("c".repeat(128));
    largest["title"] = json!("é".repeat(128));
    largest["custom"] = json!({"k": "x".repeat(8_192 - CUSTOM_FRAME)});
    let made = alice.ask(largest.clone()).await;
    assert_eq!((&made["title"], &made["custom"]), (&largest["title"], &largest["custom"]), "{made}");
    bob.expect("membership").await;
}

#[tokio::test]
async fn a_change_is_told_to_everyone_else() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut other, _) = Client::sign_in_as(&server, "alice", "other").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let group = alice.make_group(&["bob"]).await;
    let update = |name: &str, value: Value| {
        let mut frame = json!({"type": "conversation_update", "conversation_id": group});
        frame[name] = value;
        frame
    };
    for (name, value) in [
        ("title", json!("t".repeat(257))),
        ("title", json!(7)),
        ("custom", json!([])),
        ("custom", json!({"k": "x".repeat(8_193 - CUSTOM_FRAME)})),
    ] {
        assert_eq!(alice.ask_in_vain(update(name, value)).await, bad_request(name));
    }
    let (title, custom) = (json!("t".repeat(256)), json!({"k": "x".repeat(8_192 - CUSTOM_FRAME)}));
    assert_eq!(alice.ask(update("title", title.clone())).await["seq"], 2, "the refused ones made no entry");
    assert_eq!(alice.ask(update("custom", custom.clone())).await["seq"], 3);
    for client in [&mut other, &mut bob] {
        client.expect("membership").await;
        for (seq, name, value) in [(2, "title", &title), (3, "custom", &custom)] {
            let entry = client.recv().await;
            let mut expected = json!({"type": "conversation_updated", "conversation_id": group, "seq": seq,
                "by": "alice", "timestamp": entry["timestamp"]});
            expected[name] = value.clone();
            assert_eq!(entry, expected);
        }
    }
    alice.expect_quiet().await;
    let now = bob.ask(json!({"type": "conversation_get", "conversation_id": group})).await;
    assert_eq!((&now["title"], &now["custom"], &now["last_seq"]), (&title, &custom, &json!(3)));
}

#[tokio::test]
async fn what_changes_nothing_makes_no_entry() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let group = alice.make_group(&["bob"]).await;
    bob.expect("membership").await;
    let update = |title: &str, custom: Value| json!({"type": "conversation_update", "conversation_id": group, "title": title, "custom": custom});
    assert_eq!(alice.ask(update("T", json!({}))).await["seq"], 2);
    bob.expect("conversation_updated").await;
    for frame in [
        update("T", json!({})),
        json!({"type": "conversation_update", "conversation_id": group}),
        json!({"type": "member_add", "conversation_id": group, "user_ids": ["bob", "alice"]}),
        json!({"type": "member_add", "conversation_id": group, "user_ids": ["bob"], "role": "owner"}),
        json!({"type": "member_remove", "conversation_id": group, "user_ids": ["nobody"]}),
        json!({"type": "member_role", "conversation_id": group, "user_id": "bob", "role": "member"}),
    ] {
        let answer = alice.ask(frame.clone()).await;
        assert_eq!((&answer["type"], &answer["seq"]), (&json!("ok"), &json!(2)), "{frame}");
    }
    bob.expect_quiet().await;
    assert_eq!(alice.ask(update("T", json!({"a": 1}))).await["seq"], 3);
}

#[tokio::test]
async fn members_come_in_pages_in_the_order_of_their_ids() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let group = alice.make_group(&["zed", "Bob", "bob", "a-1", "a.1", "a:1", "0"]).await;
    let page = |rest: Value| {
        let mut frame = json!({"type": "conversation_members", "conversation_id": group});
        frame.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        frame
    };
    let ids = |members: &Value| -> Vec<String> {
        let members = members["members"].as_array().unwrap();
        members.iter().map(|member| member["user_id"].as_str().unwrap().to_owned()).collect()
    };
    let all = ["0", "Bob", "a-1", "a.1", "a:1", "alice", "bob", "zed"];
    let members = alice.ask(page(json!({}))).await;
    assert_eq!((ids(&members), &members["more"]), (all.map(str::to_owned).to_vec(), &json!(false)));
    let owner = &members["members"][5];
    assert_eq!(
        *owner,
        json!({"user_id": "alice", "role": "owner", "joined_at": owner["joined_at"], "delivered_seq": 1, "read_seq": 1})
    );
    for (asked, expected, more) in [
        (json!({"limit": 3}), &all[..3], true),
        (json!({"limit": 5, "after": "a-1"}), &all[3..], false),
        (json!({"limit": 4, "after": "a-1"}), &all[3..7], true),
        (json!({"limit": 1_000, "after": "b"}), &all[6..], false),
        (json!({"after": "zed"}), &[], false),
    ] {
        let members = alice.ask(page(asked.clone())).await;
        assert_eq!(
            (ids(&members), &members["more"]),
            (expected.iter().map(|&id| id.to_owned()).collect(), &json!(more))
        );
    }
    for (asked, field) in [
        (json!({"limit": 0}), "limit"),
        (json!({"limit": 1_001}), "limit"),
        (json!({"limit": "5"}), "limit"),
        (json!({"after": "not a user"}), "after"),
    ] {
        assert_eq!(alice.ask_in_vain(page(asked)).await, bad_request(field));
    }
}

#[tokio::test]
async fn a_group_has_at_most_ten_thousand_members() {
    let server = Config::new().set("limits.frame_bytes", 1_048_576).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut last = Client::sign_in(&server, "u9999").await;
    let create = |members: usize| {
        let members: Vec<String> = (1..=members).map(|n| format!("u{n:04}")).collect();
        json!({"type": "conversation_create", "kind": "group", "client_id": "g", "members": members})
    };
    // With the creator it is one too many; then the list alone is too long.
    for members in [10_000, 10_001] {
        assert_eq!(alice.ask_in_vain(create(members)).await, bad_request("members"));
    }
    last.expect_quiet().await;
    let made = alice.ask(create(9_999)).await;
    assert_eq!((&made["members_count"], &made["delivery"]), (&json!(10_000), &json!("activity")), "{made}");
    last.expect("membership").await;

    let group = &made["conversation_id"];
    let change = |kind: &str, user: &str| json!({"type": kind, "conversation_id": group, "user_ids": [user]});
    assert_eq!(alice.ask_in_vain(change("member_add", "more")).await, bad_request("user_ids"));
    assert_eq!(alice.ask(change("member_add", "u9999")).await["seq"], 1, "he is one already");
    assert_eq!(alice.ask(change("member_remove", "u0001")).await["seq"], 2);
    assert_eq!(alice.ask(change("member_add", "more")).await["seq"], 3);
    let members = alice.ask(json!({"type": "conversation_members", "conversation_id": group})).await;
    assert_eq!((members["members"].as_array().map(Vec::len), &members["more"]), (Some(1_000), &json!(true)));
}

#[tokio::test]
async fn a_direct_conversation_has_its_two_members() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let send = json!({"type": "send", "to": "bob", "client_id": "c", "content": {"text": "x"}});
    let id = alice.ask(send).await["conversation_id"].clone();
    bob.expect("message").await;
    for frame in [
        json!({"type": "member_add", "conversation_id": id, "user_ids": ["carol"]}),
        json!({"type": "member_remove", "conversation_id": id, "user_ids": ["bob"]}),
        json!({"type": "member_remove", "conversation_id": id, "user_ids": ["alice"]}),
        json!({"type": "member_role", "conversation_id": id, "user_id": "bob", "role": "owner"}),
        json!({"type": "conversation_update", "conversation_id": id, "title": "T"}),
    ] {
        assert_eq!(alice.ask_in_vain(frame.clone()).await.0, "forbidden", "{frame}");
    }
    bob.expect_quiet().await;
    for (client, peer) in [(&mut alice, "bob"), (&mut bob, "alice")] {
        let got = client.ask(json!({"type": "conversation_get", "conversation_id": id})).await;
        assert_eq!((&got["kind"], &got["peer"]), (&json!("direct"), &json!(peer)));
        assert_eq!((&got["members_count"], &got["last_seq"]), (&json!(2), &json!(1)));
    }
}
