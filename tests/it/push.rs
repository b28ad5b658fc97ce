//! Push (PROTOCOL §6): who gets a notification, and who does not, at a push service that speaks the real protocol.

use hyper::Method;
use serde_json::{Value, json};
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::{Seq, Timestamp};
use switchboard_store::{
    Channel, EmbeddedOptions, EmbeddedStore, Priority, PushJob, PushKey, PushStore, Store, UserKey,
};

use crate::support::push::{Browser, PushService, put, subscribe, with_web_push};
use crate::support::tokens::token;
use crate::support::{Config, Connect, Server, Token};

/// A device of Bob's.
async fn bob_s_browser(server: &Server, service: &PushService) -> Browser {
    let browser = Browser::new(7);
    subscribe(server, "bob", &browser, &service.url("/phone")).await;
    browser
}

/// Alice's messages to Bob, who is away; gives the conversation's id.
async fn messages(server: &Server, count: u64) -> Value {
    let named = Token::of("alice").claim("name", "Alice Doe").sign();
    let mut alice = Connect::to(server).token(&named).open().await;
    alice.expect("ready").await;
    let mut id = Value::Null;
    for n in 1..=count {
        let text = format!("hi {n}");
        let send = json!({"type": "send", "to": "bob", "client_id": text, "content": {"text": text}});
        id = alice.ask(send).await["conversation_id"].clone();
    }
    id
}

/// Puts a notification of Bob's into the queue of a server that stands still meanwhile.
async fn queue(server: Server, conversation: &Value, up_to: u64) -> Server {
    let (folder, config) = server.stop_for_a_while().await;
    let options = EmbeddedOptions::new(folder.path().join("store"));
    let store = EmbeddedStore::open(&options, Clock::system(), &Generator::from_seed(1)).unwrap();
    let user = UserKey { tenant: "default".parse().unwrap(), user: "bob".parse().unwrap() };
    let conversation = conversation.as_str().unwrap().parse().unwrap();
    let job = PushJob {
        key: PushKey { user, conversation, channel: Channel::WebPush },
        up_to_seq: Seq::new(up_to),
        count: Some(1),
        priority: Priority::High,
        not_before: Timestamp::from_unix_ms(0),
    };
    store.enqueue_pushes(vec![job]).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    Server::start_in(folder, config).await
}

#[tokio::test]
async fn what_is_in_the_queue_is_sent() {
    let (service, server) = (PushService::start().await, with_web_push().start().await);
    let browser = bob_s_browser(&server, &service).await;
    let id = messages(&server, 2).await;
    let server = queue(server, &id, 1).await;
    service.asked(1).await;
    let expected = json!({
        "type": "notification", "conversation_id": id, "up_to_seq": 1, "count": 1, "title": "Alice Doe", "text": "hi 1",
    });
    assert_eq!(service.told("/phone", &browser), [expected]);
    assert_eq!(server.metric("switchboard_push_queue_oldest_seconds", "").await, 0.0);
}

#[tokio::test]
async fn a_subscription_that_is_gone_is_removed() {
    let (service, server) = (PushService::start().await, with_web_push().start().await);
    bob_s_browser(&server, &service).await;
    let id = messages(&server, 2).await;
    service.answers(410);
    let server = queue(server, &id, 1).await;
    service.asked(1).await;
    let server = queue(server, &id, 2).await;
    // The worker has looked at the second one when another user's is sent.
    subscribe(&server, "bob", &Browser::new(8), &service.url("/tablet")).await;
    let _server = queue(server, &id, 2).await;
    service.asked(2).await;
    assert_eq!(service.paths(), ["/phone", "/tablet"]);
}

#[tokio::test]
async fn what_is_refused_is_a_dead_letter_that_can_be_sent_again() {
    let (service, server) = (PushService::start().await, with_web_push().start().await);
    bob_s_browser(&server, &service).await;
    let id = messages(&server, 1).await;
    service.answers(403);
    let server = queue(server, &id, 1).await;
    server.logged("a notification was given up", 1).await;
    let admin = Token::of("root").scope("admin").sign();
    let listed = server.http().get("/v1/admin/push/dead-letters").token(&admin).send().await.data(200);
    let letter = &listed["dead_letters"][0];
    let expected = json!({
        "id": letter["id"], "user_id": "bob", "conversation_id": id, "provider": "web_push", "up_to_seq": 1, "count": 1,
        "attempts": 1, "reason": "403", "died_at": letter["died_at"],
    });
    assert_eq!(listed, json!({ "dead_letters": [expected], "more": false }));
    service.answers(201);
    let path = format!("/v1/admin/push/dead-letters/{}/retry", letter["id"].as_str().unwrap());
    server.http().ask(Method::POST, &path).token(&admin).send().await.data(202);
    service.asked(2).await;
    let listed = server.http().get("/v1/admin/push/dead-letters").token(&admin).send().await.data(200);
    assert_eq!(listed["dead_letters"], json!([]));
}

#[tokio::test]
async fn a_device_is_refused_by_the_field_at_fault() {
    let server = with_web_push().set("push.devices_max", 1).start().await;
    let subscription =
        |url: &str| json!({ "provider": "web_push", "subscription": Browser::new(1).subscription_json(url) });
    for (body, field) in [
        (json!({}), "provider"),
        (json!({ "provider": "pigeon" }), "provider"),
        (json!({ "provider": "fcm", "token": "t" }), "provider"),
        (json!({ "provider": "web_push" }), "subscription"),
        (subscription("http://localhost/x"), "subscription.endpoint"),
        (subscription("https://10.0.0.1/x"), "subscription.endpoint"),
        (subscription("https://169.254.169.254/x"), "subscription.endpoint"),
    ] {
        let refused = put(&server, "bob", "phone", &body).await;
        assert_eq!(refused.error(400, "bad_request").as_deref(), Some(field), "{body}");
    }
    put(&server, "bob", "phone", &subscription("https://a.example/x")).await.data(200);
    put(&server, "bob", "phone", &subscription("https://a.example/y")).await.data(200);
    put(&server, "bob", "tablet", &subscription("https://a.example/z")).await.error(409, "conflict");
    let device = |device: &str| server.http().ask(Method::DELETE, &format!("/v1/devices/{device}/push"));
    for _ in 0..2 {
        device("phone").token(&token("bob")).send().await.data(200);
    }
    put(&server, "bob", "tablet", &subscription("https://a.example/z")).await.data(200);
}

#[tokio::test]
async fn preferences_are_kept_and_what_was_never_set_has_its_default() {
    let server = Config::new().start().await;
    let ask = |method: Method| server.http().ask(method, "/v1/notification-preferences").token(&token("bob"));
    let default = json!({ "enabled": true, "groups": "all", "preview": true, "quiet_hours": null });
    assert_eq!(ask(Method::GET).send().await.data(200), default);
    let hours = json!({ "from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin" });
    let mine = json!({ "enabled": true, "groups": "mentions", "preview": false, "quiet_hours": hours });
    assert_eq!(ask(Method::PUT).json(&mine).send().await.data(200), mine);
    assert_eq!(ask(Method::GET).send().await.data(200), mine);

    let wrong = json!({ "quiet_hours": { "from": "22:00", "to": "25:00", "time_zone": "Europe/Berlin" } });
    let refused = ask(Method::PUT).json(&wrong).send().await;
    assert_eq!(refused.error(400, "bad_request").as_deref(), Some("quiet_hours.to"));
    assert_eq!(ask(Method::GET).send().await.data(200), mine, "nothing is half done");
}

#[tokio::test]
async fn an_application_registers_devices_in_the_name_of_others() {
    let server = with_web_push().start().await;
    let body = json!({
        "provider": "web_push", "subscription": Browser::new(1).subscription_json("https://a.example/x"), "as": "bob",
    });
    put(&server, "app", "phone", &body).await.error(403, "forbidden");
    let app = Token::of("app").scope("server").sign();
    let path = "/v1/devices/phone/push";
    server.http().ask(Method::PUT, path).json(&body).token(&app).send().await.data(200);
}

#[tokio::test]
async fn browsers_are_told_the_key_to_subscribe_with() {
    let server = with_web_push().start().await;
    let key = server.http().get("/v1/push/web-push-key").token(&token("bob")).send().await.data(200);
    let key = key["key"].as_str().unwrap();
    assert_eq!(key.len(), 87, "65 bytes in base64url: {key}");
    let server = Config::new().start().await;
    server.http().get("/v1/push/web-push-key").token(&token("bob")).send().await.error(404, "not_found");
}

#[tokio::test]
async fn dead_letters_are_for_administrators() {
    let server = Config::new().start().await;
    let path = "/v1/admin/push/dead-letters";
    server.http().get(path).token(&token("bob")).send().await.error(403, "forbidden");
    let admin = Token::of("root").scope("admin").sign();
    let none = server.http().get(path).token(&admin).send().await.data(200);
    assert_eq!(none, json!({ "dead_letters": [], "more": false }));
    let retry = |id: &str| server.http().post(&format!("{path}/{id}/retry"), &Value::Null);
    retry("7").body("").token(&admin).send().await.error(404, "not_found");
    let refused = retry("x").body("").token(&admin).send().await;
    assert_eq!(refused.error(400, "bad_request").as_deref(), Some("id"));
}
