//! Push (PROTOCOL §6): who gets a notification and who does not, with a push service that speaks the real protocol.

use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::cluster::{message, until_sent};
use crate::support::push::{Browser, PushService, SILENT, cluster_with_web_push, put, subscribe, with_web_push};
use crate::support::tokens::token;
use crate::support::{Client, Config, Connect, SECRET, Server, Token, soon};

/// Registers a user's device, named after the user.
async fn browser_of(user: &str, server: &Server, service: &PushService) -> Browser {
    let browser = Browser::new(7);
    subscribe(server, user, &browser, &service.url(&format!("/{user}"))).await;
    browser
}

/// Alice, with a display name.
pub(crate) async fn alice(server: &Server) -> Client {
    let named = Token::of("alice").claim("name", "Alice Doe").sign();
    let mut alice = Connect::to(server).token(&named).open().await;
    alice.expect("ready").await;
    alice
}

pub(crate) async fn send(from: &mut Client, to: &str, text: &str) -> Value {
    from.ask(json!({"type": "send", "to": to, "client_id": text, "content": {"text": text}})).await
}

/// The expected notification of one message from Alice.
fn told_of(sent: &Value, text: &str) -> Value {
    json!({
        "type": "notification", "conversation_id": sent["conversation_id"], "up_to_seq": sent["seq"], "count": 1,
        "title": "Alice Doe", "text": text,
    })
}

/// Waits for the notification of a message to Carol, who is away: anything due before it has been sent, too.
async fn after_carol(server: &Server, service: &PushService, from: &mut Client) {
    browser_of("carol", server, service).await;
    send(from, "carol", "to carol").await;
    while !service.paths().contains(&"/carol".to_owned()) {
        service.asked(service.paths().len() + 1).await;
    }
}

#[tokio::test]
async fn who_is_away_gets_one_notification() {
    let (service, server) = (PushService::start().await, with_web_push().set("push.hold_ms", 200).start().await);
    let browser = browser_of("bob", &server, &service).await;
    let mut alice = alice(&server).await;
    let sent = send(&mut alice, "bob", "hi").await;
    service.asked(1).await;
    assert_eq!(service.told("/bob", &browser), [told_of(&sent, "hi")]);
    after_carol(&server, &service, &mut alice).await;
    assert_eq!(service.paths(), ["/bob", "/carol"]);
}

#[tokio::test]
async fn what_arrived_is_notified_to_no_device() {
    // The hold outlasts the test, so only the receipt can decide.
    let (service, server) = (PushService::start().await, with_web_push().set("push.hold_ms", 600_000).start().await);
    // Dave has a device that is notified, and another one that confirms the message.
    browser_of("dave", &server, &service).await;
    let mut dave = Client::sign_in(&server, "dave").await;
    let mut alice = alice(&server).await;
    send(&mut alice, "dave", "hi dave").await;
    let message = dave.expect("message").await;
    dave.ask(json!({"type": "delivered", "conversation_id": message["conversation_id"], "seq": message["seq"]})).await;
    let decisions = async |decision: &str| server.metric("switchboard_push_decisions_total", decision).await;
    soon("the decision", async { while decisions("arrived").await < 1.0 {} }).await;
    // Nothing is held any more.
    let none_held = async { while server.metric("switchboard_push_undecided", "").await > 0.0 {} };
    soon("all to be decided", none_held).await;
    assert_eq!(decisions("enqueued").await, 0.0);
    assert!(service.paths().is_empty(), "{:?}", service.paths());
}

#[tokio::test]
async fn several_nodes_make_one_notification() {
    let service = PushService::start().await;
    let cluster = cluster_with_web_push().await.set("push.hold_ms", 200).set("push.collapse_ms", 100);
    let nodes = cluster.start_three().await;
    // Registration, sending, and the user's home each on another node.
    let users = ["bob", "carol", "dave", "erin"];
    let mut browsers = Vec::new();
    for (user, node) in users.iter().zip(nodes.iter().cycle()) {
        browsers.push(browser_of(user, node, &service).await);
    }
    let mut alice = alice(&nodes[0]).await;
    // The group's first message: nothing about it has been written yet.
    let group = alice.make_group(&users).await;
    let seq = until_sent(&mut alice, &message(&group, "hi")).await;
    service.asked(users.len()).await;
    for (user, browser) in users.iter().zip(&browsers) {
        let told = service.told(&format!("/{user}"), browser);
        let told: Vec<_> = told.iter().map(|told| (&told["up_to_seq"], &told["count"], &told["text"])).collect();
        assert_eq!(told, [(&json!(seq), &json!(1), &json!("hi"))], "{user}");
    }
    let trace = format!("/v1/admin/conversations/{}/messages/{seq}/trace", group.as_str().unwrap());
    let admin = Token::of("root").scope("admin").sign();
    let all_notified = async {
        loop {
            let told = nodes[1].http().get(&trace).token(&admin).send().await.data(200);
            let mut recipients = told["recipients"].as_array().unwrap().iter();
            if recipients.all(|one| one["outcome"] == "notified") {
                return;
            }
        }
    };
    soon("what all nodes have noted", all_notified).await;

    // Reading it at any node withdraws the notification.
    let mut bob = Client::sign_in(&nodes[2], "bob").await;
    let read = json!({"type": "read", "conversation_id": group, "seq": seq});
    let said = async { while bob.ask(read.clone()).await["type"] != "ok" {} };
    soon("the read", said).await;
    service.asked(users.len() + 1).await;
    assert_eq!(service.told("/bob", &browsers[0]).last().unwrap()["type"], "withdrawal");
}

#[tokio::test]
async fn what_comes_together_is_told_together() {
    let config = with_web_push().set("push.hold_ms", 200).set("push.collapse_ms", 100);
    let (service, server) = (PushService::start().await, config.start().await);
    let browser = browser_of("bob", &server, &service).await;
    let mut alice = alice(&server).await;
    for text in ["one", "two", "three"] {
        send(&mut alice, "bob", text).await;
    }
    let last = |told: &[Value]| told.last().map(|told| (told["up_to_seq"].clone(), told["count"].clone()));
    while last(&service.told("/bob", &browser)) != Some((json!(3), json!(3))) {
        service.asked(service.paths().len() + 1).await;
    }
}

#[tokio::test]
async fn what_is_read_elsewhere_is_taken_back() {
    let (service, server) = (PushService::start().await, with_web_push().set("push.hold_ms", 100).start().await);
    let browser = browser_of("bob", &server, &service).await;
    let sent = send(&mut alice(&server).await, "bob", "hi").await;
    service.asked(1).await;
    let mut bob = Client::sign_in(&server, "bob").await;
    bob.ask(json!({"type": "read", "conversation_id": sent["conversation_id"], "seq": 1})).await;
    service.asked(2).await;
    let withdrawal = json!({ "type": "withdrawal", "conversation_id": sent["conversation_id"], "up_to_seq": 1 });
    assert_eq!(service.told("/bob", &browser), [told_of(&sent, "hi"), withdrawal]);
}

#[tokio::test]
async fn who_wants_no_preview_is_told_no_text() {
    let (service, server) = (PushService::start().await, with_web_push().set("push.hold_ms", 100).start().await);
    let browser = browser_of("bob", &server, &service).await;
    let path = "/v1/notification-preferences";
    let preferences = server.http().ask(Method::PUT, path).json(&json!({ "preview": false }));
    preferences.token(&token("bob")).send().await.data(200);
    send(&mut alice(&server).await, "bob", "secret").await;
    service.asked(1).await;
    let told = &service.told("/bob", &browser)[0];
    assert_eq!((&told["title"], told.get("text")), (&json!("Alice Doe"), None));
}

#[tokio::test]
async fn a_subscription_that_is_gone_is_removed() {
    let config = with_web_push().set("push.hold_ms", 100).set("push.collapse_ms", 0);
    let (service, server) = (PushService::start().await, config.start().await);
    browser_of("bob", &server, &service).await;
    let mut alice = alice(&server).await;
    service.answers(410);
    let sent = send(&mut alice, "bob", "one").await;
    service.asked(1).await;
    server.counted(r#"outcome="gone""#).await;
    assert_eq!(traced(&server, &sent).await["outcome"], "not_notified");
    service.answers(201);
    send(&mut alice, "bob", "two").await;
    after_carol(&server, &service, &mut alice).await;
    assert_eq!(service.paths(), ["/bob", "/carol"]);
}

impl Server {
    /// Waits until an answer of a provider has been processed.
    pub(crate) async fn counted(&self, outcome: &str) {
        soon(outcome, async { while self.metric("switchboard_pushes_total", outcome).await < 1.0 {} }).await;
    }
}

/// The trace of a message to Bob.
pub(crate) async fn traced(server: &Server, sent: &Value) -> Value {
    let (id, admin) = (sent["conversation_id"].as_str().unwrap(), Token::of("root").scope("admin").sign());
    let path = format!("/v1/admin/conversations/{id}/messages/{}/trace", sent["seq"]);
    let trace = server.http().get(&path).token(&admin).send().await.data(200);
    trace["recipients"][0].clone()
}

#[tokio::test]
async fn what_is_refused_is_a_dead_letter_that_can_be_sent_again() {
    let (service, server) = (PushService::start().await, with_web_push().set("push.hold_ms", 100).start().await);
    let browser = browser_of("bob", &server, &service).await;
    service.answers(403);
    let sent = send(&mut alice(&server).await, "bob", "hi").await;
    server.logged("a notification was given up", 1).await;
    let steps = |traced: &Value| -> Vec<String> {
        let steps = traced["events"].as_array().unwrap().iter();
        steps.map(|event| event["step"].as_str().unwrap().to_owned()).collect()
    };
    let of_bob = traced(&server, &sent).await;
    assert_eq!((&of_bob["outcome"], &of_bob["why"]), (&json!("not_notified"), &json!("403")), "{of_bob}");
    assert_eq!(steps(&of_bob).last().map(String::as_str), Some("failed"));
    let failed = of_bob["events"].as_array().unwrap().last().unwrap();
    assert!(failed["device_id"].is_string() && failed["again_at"].is_null(), "{failed}");

    let admin = Token::of("root").scope("admin").sign();
    let list = async || server.http().get("/v1/admin/push/dead-letters").token(&admin).send().await.data(200);
    let listed = list().await;
    let letter = &listed["dead_letters"][0];
    let expected = json!({
        "id": letter["id"], "user_id": "bob", "conversation_id": sent["conversation_id"], "provider": "web_push",
        "up_to_seq": 1, "count": 1, "attempts": 1, "reason": "403", "died_at": letter["died_at"],
    });
    assert_eq!(listed, json!({ "dead_letters": [expected], "more": false }));
    service.answers(201);
    let path = format!("/v1/admin/push/dead-letters/{}/retry", letter["id"].as_str().unwrap());
    server.http().ask(Method::POST, &path).token(&admin).send().await.data(202);
    service.asked(2).await;
    assert_eq!(service.told("/bob", &browser)[1], told_of(&sent, "hi"));
    assert_eq!(list().await["dead_letters"], json!([]));
    server.counted(r#"outcome="sent""#).await;
    assert_eq!(traced(&server, &sent).await["outcome"], "notified");
}

#[tokio::test]
async fn who_dies_with_a_message_in_hold_tells_of_it_afterwards_once() {
    let (service, server) = (PushService::start().await, with_web_push().set("push.hold_ms", 1_000).start().await);
    let browser = browser_of("bob", &server, &service).await;
    let sent = send(&mut alice(&server).await, "bob", "hi").await;
    let server = server.kill_and_restart().await;
    service.asked(1).await;
    assert_eq!(service.told("/bob", &browser), [told_of(&sent, "hi")]);
    after_carol(&server, &service, &mut alice(&server).await).await;
    assert_eq!(service.paths(), ["/bob", "/carol"]);
}

#[tokio::test]
async fn a_provider_that_does_not_answer_delays_no_other() {
    let (silent, service) = (PushService::start().await, PushService::start().await);
    silent.answers(SILENT);
    let config = with_web_push().set("push.hold_ms", 100).set("push.in_flight_max", 1);
    let config = config.set("push.webhook.url", silent.url("/hook")).set("push.webhook.secret", SECRET);
    // The silent one's only slot stays taken.
    let server = config.set("push.timeout_ms", 60_000).set("push.lease_ms", 120_000).start().await;
    put(&server, "bob", "phone", &json!({ "provider": "webhook" })).await.data(200);
    let mut alice = alice(&server).await;
    send(&mut alice, "bob", "hi").await;
    silent.asked(1).await;
    after_carol(&server, &service, &mut alice).await;
    assert_eq!((silent.paths().len(), service.paths().len()), (1, 1));
}

#[tokio::test]
async fn a_provider_is_switched_on_by_a_reload() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("switchboard.toml");
    std::fs::write(&file, "").unwrap();
    let server = Config::new().file(&file).start().await;
    let hook = json!({ "provider": "webhook" });
    assert_eq!(put(&server, "bob", "phone", &hook).await.error(400, "bad_request").as_deref(), Some("provider"));
    let text = format!("push.webhook = {{ url = 'https://hook.example', secret = '{SECRET}' }}");
    std::fs::write(&file, text).unwrap();
    server.signal(Signal::HUP);
    server.logged("configuration reloaded", 1).await;
    put(&server, "bob", "phone", &hook).await.data(200);
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
    let off = server.http().get("/v1/push/web-push-key").token(&token("bob")).send().await.data(200);
    assert_eq!(off, json!({ "key": null }));
}

#[tokio::test]
async fn in_development_mode_there_is_a_key_which_stays() {
    let server = Config::development().start().await;
    let ask = async |server: &Server| {
        let token = server.http().post("/v1/dev/token", &json!({ "name": "bob" })).send().await.data(200);
        let answer = server.http().get("/v1/push/web-push-key").token(token["token"].as_str().unwrap()).send().await;
        answer.data(200)["key"].clone()
    };
    let key = ask(&server).await;
    assert_eq!(key.as_str().map(str::len), Some(87), "65 bytes in base64url: {key}");
    server.signal(Signal::HUP);
    server.logged("\"configuration reloaded", 1).await;
    assert_eq!(ask(&server).await, key);
    let server = server.kill_and_restart().await;
    assert_eq!(ask(&server).await, key);
    // Without notifications, an invalid key file does not matter.
    std::fs::write(server.folder.path().join("store.dev-vapid-key.pem"), "no key").unwrap();
    let server = server.kill_and_restart().await;
    assert_eq!(ask(&server).await, Value::Null);
}

#[tokio::test]
async fn who_only_ever_sends_by_http_is_told_by_his_name_too() {
    let (service, server) = (PushService::start().await, with_web_push().set("push.hold_ms", 100).start().await);
    let browser = browser_of("bob", &server, &service).await;
    let named = Token::of("alice").claim("name", "Alice Doe").sign();
    let send = json!({ "to": "bob", "client_id": "c1", "content": { "text": "hi" } });
    let sent = server.http().post("/v1/messages", &send).token(&named).send().await.data(201);
    service.asked(1).await;
    assert_eq!(service.told("/bob", &browser), [told_of(&sent, "hi")]);
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
