//! A user's own settings of a conversation (PROTOCOL §3 `conversation_settings`).

use serde_json::{Value, json};

use crate::support::{Client, Config, bad_request};

#[tokio::test]
async fn settings_are_the_users_own() {
    let server = Config::new().start().await;
    let (mut phone, _) = Client::sign_in_as(&server, "alice", "phone").await;
    let (mut laptop, _) = Client::sign_in_as(&server, "alice", "laptop").await;
    let mut bob = Client::sign_in(&server, "bob").await;
    let group = phone.make_group(&["bob"]).await;
    for client in [&mut laptop, &mut bob] {
        client.expect("membership").await;
    }
    let mut cursor = phone.ask(json!({"type": "sync"})).await["cursor"].clone();
    let none = json!({"muted_until": null, "archived": false, "pinned": false});
    let until = "2030-01-01T00:00:00.000Z";
    for (set, settings) in [
        (
            json!({"muted_until": until, "archived": true, "pinned": true}),
            json!({"muted_until": until, "archived": true, "pinned": true}),
        ),
        (json!({}), json!({"muted_until": until, "archived": true, "pinned": true})),
        (json!({"archived": false}), json!({"muted_until": until, "archived": false, "pinned": true})),
        (json!({"pinned": false}), json!({"muted_until": until, "archived": false, "pinned": false})),
        (json!({"muted_until": null}), none.clone()),
        (json!({"archived": true}), json!({"muted_until": null, "archived": true, "pinned": false})),
    ] {
        let mut frame = json!({"type": "conversation_settings", "conversation_id": group});
        frame.as_object_mut().unwrap().extend(set.as_object().unwrap().clone());
        let answer = phone.ask(frame).await;
        assert_eq!(answer, json!({"type": "ok", "id": answer["id"]}), "no entry is made");
        let told = json!({"type": "conversation_settings", "conversation_id": group, "settings": settings});
        assert_eq!(laptop.recv().await, told);
        phone.expect_quiet().await;
        bob.expect_quiet().await;
        let sync = phone.ask(json!({"type": "sync", "cursor": cursor})).await;
        assert_eq!(sync["conversations"][0]["settings"], settings, "{sync}");
        cursor = sync["cursor"].clone();
    }
    let bobs = bob.ask(json!({"type": "sync"})).await;
    assert_eq!((&bobs["conversations"][0]["settings"], &bobs["conversations"][0]["last_seq"]), (&none, &json!(1)));

    let server = server.kill_and_restart().await;
    let mut phone = Client::sign_in(&server, "alice").await;
    let sync = phone.ask(json!({"type": "sync"})).await;
    assert_eq!(sync["conversations"][0]["settings"]["archived"], true);
}

#[tokio::test]
async fn what_is_wrong_with_settings_is_named_and_nothing_is_set() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut other, _) = Client::sign_in_as(&server, "alice", "other").await;
    let group = alice.make_group(&[]).await;
    other.expect("membership").await;
    let malformed: [(&str, Value); 6] = [
        ("muted_until", json!("tomorrow")),
        ("muted_until", json!(5)),
        ("archived", json!("yes")),
        ("archived", json!(1)),
        ("pinned", json!("true")),
        ("pinned", json!([])),
    ];
    for (field, value) in malformed {
        let mut frame = json!({"type": "conversation_settings", "conversation_id": group, "archived": true});
        frame[field] = value;
        assert_eq!(alice.ask_in_vain(frame).await, bad_request(field));
    }
    other.expect_quiet().await;
    let sync = alice.ask(json!({"type": "sync"})).await;
    assert_eq!(sync["conversations"][0]["settings"]["archived"], false);
}
