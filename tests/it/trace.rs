//! "Why did Bob not get it?" (PROTOCOL §6, the trace): the history of a message, per recipient.

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, message, until_sent, until_view};
use crate::support::tokens::Token;
use crate::support::{Client, Config, Server, soon};

fn admin() -> String {
    Token::of("root").scope("admin").sign()
}

fn path(conversation: &Value, seq: u64) -> String {
    format!("/v1/admin/conversations/{}/messages/{seq}/trace", conversation.as_str().unwrap())
}

async fn trace(server: &Server, path: &str) -> Value {
    server.http().get(path).token(&admin()).send().await.data(200)
}

/// `[user_id, outcome, why]` of each recipient.
fn outcomes(trace: &Value) -> Vec<[&str; 3]> {
    let of =
        |recipient: &'_ Value, field: &str| recipient[field].as_str().unwrap_or_default().to_owned().leak() as &str;
    let recipients = trace["recipients"].as_array().unwrap();
    recipients.iter().map(|one| ["user_id", "outcome", "why"].map(|field| of(one, field))).collect()
}

fn steps(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["step"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn each_recipient_has_a_story() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut bob, ready) = Client::sign_in_as(&server, "bob", "phone").await;
    let mut carol = Client::sign_in(&server, "carol").await;
    let group = alice.make_group(&["bob", "carol", "dave"]).await;
    alice.ask(message(&group, "c1")).await;
    for client in [&mut bob, &mut carol] {
        client.until("message").await;
    }
    bob.ask(json!({"type": "delivered", "conversation_id": group, "seq": 2})).await;
    bob.ask(json!({"type": "read", "conversation_id": group, "seq": 2})).await;
    alice.ask(json!({"type": "member_add", "conversation_id": group, "user_ids": ["erin"]})).await;

    let told = trace(&server, &path(&group, 2)).await;
    assert_eq!((&told["conversation_id"], &told["seq"], &told["from"]), (&group, &json!(2), &json!("alice")), "{told}");
    let expected = [
        ["bob", "read", ""],
        ["carol", "given", ""],
        ["dave", "stored", "no_device"],
        ["erin", "not_a_member", "not_a_member_then"],
    ];
    assert_eq!(outcomes(&told), expected, "{told}");
    assert_eq!(steps(&told["recipients"][0]["events"]), ["given", "delivered", "read"]);
    let given = &told["recipients"][0]["events"][0];
    let at = ["session_id", "node_id", "device_id"].map(|field| &given[field]);
    assert_eq!(at, [&ready["session_id"], &json!("n1"), &json!("phone")], "{given}");
    assert_eq!(steps(&told["events"]), ["announced"]);
    assert_eq!((&told["events"][0]["home_id"], &told["events"][0]["users"]), (&json!("n1"), &json!(4)), "{told}");
    assert_eq!(told["more"], false);

    let page = trace(&server, &format!("{}?after=bob&limit=1", path(&group, 2))).await;
    assert_eq!(
        (outcomes(&page).len(), &page["recipients"][0]["user_id"], &page["more"]),
        (1, &json!("carol"), &json!(true))
    );
    let one = trace(&server, &format!("{}?user_id=mallory", path(&group, 2))).await;
    assert_eq!(outcomes(&one), [["mallory", "not_a_member", "not_a_member_then"]]);
}

#[tokio::test]
async fn what_the_store_knows_outlives_the_node() {
    let server = Config::new().start().await;
    let (mut alice, mut bob) = (Client::sign_in(&server, "alice").await, Client::sign_in(&server, "bob").await);
    let send = json!({"type": "send", "to": "bob", "client_id": "c1", "content": {"text": "Hello"}});
    let conversation = alice.ask(send).await["conversation_id"].clone();
    bob.until("message").await;
    bob.ask(json!({"type": "delivered", "conversation_id": conversation, "seq": 1})).await;
    let server = server.kill_and_restart().await;
    let told = trace(&server, &path(&conversation, 1)).await;
    assert_eq!(outcomes(&told), [["bob", "delivered", ""]], "{told}");
    assert_eq!(told["recipients"][0]["events"], json!([]));
}

#[tokio::test]
async fn that_someone_has_no_device_is_told_when_it_is_news_and_later() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    for seq in 1..=2 {
        let send = json!({"type": "send", "to": "bob", "client_id": format!("c{seq}"), "content": {"text": "Hello"}});
        let conversation = alice.ask(send).await["conversation_id"].clone();
        let decided = async { while server.metric("switchboard_push_decisions_total", "no_device").await < 1.0 {} };
        soon("it is known that he has no device", decided).await;
        let told = trace(&server, &path(&conversation, seq)).await;
        assert_eq!(outcomes(&told), [["bob", "stored", "no_device"]], "{told}");
    }
}

#[tokio::test]
async fn nothing_is_kept_where_nothing_may_be() {
    let server = Config::new().set("trace.bytes", 0).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let send = json!({"type": "send", "to": "bob", "client_id": "c1", "content": {"text": "Hello"}});
    let conversation = alice.ask(send).await["conversation_id"].clone();
    let told = trace(&server, &path(&conversation, 1)).await;
    assert_eq!((outcomes(&told), &told["events"]), (vec![["bob", "stored", "no_longer_kept"]], &json!([])));
    assert!(server.metric("switchboard_trace_bytes", "").await < 1.0);
}

#[tokio::test]
async fn of_many_sessions_the_number_is_kept() {
    let server = Config::new().set("trace.sessions_max", 1).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut others = Vec::new();
    for name in ["bob", "carol", "dave"] {
        others.push(Client::sign_in(&server, name).await);
    }
    let group = alice.make_group(&["bob", "carol", "dave"]).await;
    alice.ask(message(&group, "c1")).await;
    let told = trace(&server, &path(&group, 2)).await;
    let more = told["events"].as_array().unwrap().iter().find(|event| event["step"] == "given_to_more");
    assert_eq!(more.unwrap()["sessions"], 2, "{told}");
    let given = outcomes(&told).iter().filter(|[_, outcome, _]| *outcome == "given").count();
    assert_eq!(given, 1, "{told}");
}

#[tokio::test]
async fn only_an_administrator_of_the_tenant_sees_it() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let group = alice.make_group(&["bob"]).await;
    alice.ask(message(&group, "c1")).await;
    let ask = async |path: String, token: String| server.http().get(&path).token(&token).send().await;
    ask(path(&group, 2), Token::of("alice").sign()).await.error(403, "forbidden");
    let other = Token::of("root").scope("admin").claim("tenant", "other").sign();
    ask(path(&group, 2), other).await.error(404, "not_found");
    for (seq, why) in [(0, "before the first"), (1, "no message"), (3, "beyond the end")] {
        let answer = ask(path(&group, seq), admin()).await;
        assert_eq!(answer.status, 404, "{why}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("user_id=a%20b", "user_id"),
        ("after=", "after"),
    ] {
        let error = ask(format!("{}?{query}", path(&group, 2)), admin()).await.error(400, "bad_request");
        assert_eq!(error.as_deref(), Some(field));
    }
    let error = ask("/v1/admin/conversations/g:1/messages/x/trace".to_owned(), admin()).await.error(400, "bad_request");
    assert_eq!(error.as_deref(), Some("seq"));
}

#[tokio::test]
async fn any_node_tells_what_all_have_noted() {
    let cluster = Cluster::new().await;
    let nodes = cluster.start_three().await;
    until_view(&nodes, 3).await;
    let mut alice = Client::sign_in(&nodes[0], "alice").await;
    let mut bobs = Vec::new();
    for (node, device) in nodes.iter().zip(["phone", "laptop", "tablet"]) {
        let (mut bob, _) = Client::sign_in_as(node, "bob", device).await;
        let synced = async { while bob.ask(json!({"type": "sync"})).await["type"] != "sync" {} };
        soon("a sync", synced).await;
        bobs.push(bob);
    }
    let group = alice.make_group(&["bob"]).await;
    let seq = until_sent(&mut alice, &message(&group, "c1")).await;
    for bob in &mut bobs {
        bob.until("message").await;
    }
    bobs[2].ask(json!({"type": "read", "conversation_id": group, "seq": seq})).await;
    for node in &nodes {
        let told = trace(node, &path(&group, seq)).await;
        let events = told["recipients"][0]["events"].as_array().unwrap();
        let mut given: Vec<_> = events.iter().filter(|event| event["step"] == "given").collect();
        given.sort_by_key(|event| event["node_id"].as_str());
        let devices: Vec<_> = given.iter().map(|event| (&event["node_id"], &event["device_id"])).collect();
        let (n1, n2, n3) = (json!("n1"), json!("n2"), json!("n3"));
        let (phone, laptop, tablet) = (json!("phone"), json!("laptop"), json!("tablet"));
        assert_eq!(devices, [(&n1, &phone), (&n2, &laptop), (&n3, &tablet)], "{told}");
        assert_eq!(outcomes(&told), [["bob", "read", ""]]);
    }
}
