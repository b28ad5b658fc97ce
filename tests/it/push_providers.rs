//! Each provider through the whole node (PROTOCOL §6): its requests, the effects of its answers, and that an
//! unavailable one does not affect the others. The rest of its protocol is tested in `push/providers`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use switchboard_tests::provider::{self, ProviderServer, Seen, verified, webhook_is_genuine};
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::push::{alice, send, traced};
use crate::support::push::{ACCESS_TOKEN, PushService, key, put, with_apns, with_fcm, with_webhook};
use crate::support::tokens::{now_s, token};
use crate::support::{Client, Config, SECRET, Server, soon};

/// Apple device tokens.
const BOBS_IPHONE: &str = "b0b0";
const CAROLS_IPHONE: &str = "ca401";

async fn register(server: &Server, user: &str, body: Value) {
    put(server, user, "phone", &body).await.data(200);
}

/// Bob has read a message elsewhere.
async fn read_by_bob(server: &Server, sent: &Value) {
    let path = format!("/v1/conversations/{}/read", sent["conversation_id"].as_str().unwrap());
    server.http().post(&path, &json!({ "seq": sent["seq"] })).token(&token("bob")).send().await.data(200);
}

/// The trace of a message whose device was gone: it was removed, so there is none for the next message.
async fn is_gone_for_good(server: &Server, alice: &mut Client, sent: &Value) {
    server.counted(r#"outcome="gone""#).await;
    let story = traced(server, sent).await;
    assert_eq!((&story["outcome"], &story["why"]), (&json!("not_notified"), &json!("the device is gone")), "{story}");
    let next = send(alice, "bob", "nobody is told").await;
    let story = traced(server, &next).await;
    assert_eq!((&story["outcome"], &story["why"]), (&json!("stored"), &json!("no_device")), "{story}");
}

#[tokio::test]
async fn fcm_is_told_and_a_registration_that_it_does_not_know_is_removed() {
    let service = PushService::start().await;
    let server = with_fcm(Config::new(), &service).start().await;
    register(&server, "bob", json!({ "provider": "fcm", "token": "bobs-android" })).await;
    let mut alice = alice(&server).await;
    let sent = send(&mut alice, "bob", "hi").await;
    service.asked(1).await;

    let [exchange] = &service.exchanges()[..] else { panic!("one access token") };
    let form: BTreeMap<_, _> = form_urlencoded::parse(&exchange.body).into_owned().collect();
    let account = rsa::KeyPair::from_pkcs8(include_bytes!("keys/rsa.pkcs8.der")).unwrap();
    let (_, claims) = verified(&form["assertion"], &RSA_PKCS1_2048_8192_SHA256, account.public().as_ref());
    assert_eq!(claims["aud"], service.service_account()["token_uri"]);
    let [push] = &service.pushes()[..] else { panic!("one message: {:?}", service.paths()) };
    assert_eq!(push.path, "/v1/projects/p1/messages:send");
    assert_eq!(push.header("authorization"), format!("Bearer {ACCESS_TOKEN}"));
    let message = &push.json()["message"];
    assert_eq!(message["token"], "bobs-android");
    assert_eq!(message["notification"], json!({ "title": "Alice Doe", "body": "hi" }));
    let expected = json!({
        "type": "notification", "conversation_id": sent["conversation_id"], "up_to_seq": "1", "count": "1",
    });
    assert_eq!(message["data"], expected);

    read_by_bob(&server, &sent).await;
    service.asked(2).await;
    assert_eq!(service.pushes()[1].json()["message"]["data"]["type"], "withdrawal");

    let details = json!([{ "errorCode": "UNREGISTERED" }]);
    service.answers_with(404, &json!({ "error": { "code": 404, "status": "NOT_FOUND", "details": details } }));
    let sent = send(&mut alice, "bob", "gone").await;
    is_gone_for_good(&server, &mut alice, &sent).await;
    assert_eq!(service.paths().len(), 3);
}

/// The claims of a request's provider token, which must be signed with this key.
fn claims_by(file: &str, seen: &Seen) -> Value {
    let der = PrivatePkcs8KeyDer::from_pem_file(key(file)).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &SystemRandom::new());
    let token = seen.header("authorization").strip_prefix("bearer ").unwrap();
    verified(token, &ECDSA_P256_SHA256_FIXED, pair.unwrap().public_key().as_ref()).1
}

#[tokio::test]
async fn apns_is_told_and_a_device_that_it_calls_unregistered_is_removed() {
    let service = PushService::start().await;
    let server = with_apns(Config::new(), &service, &key("tls-b.key.pem")).start().await;
    register(&server, "bob", json!({ "provider": "apns", "token": BOBS_IPHONE })).await;
    let mut alice = alice(&server).await;
    let sent = send(&mut alice, "bob", "hi").await;
    service.asked(1).await;

    let [push] = &service.pushes()[..] else { panic!("one notification: {:?}", service.paths()) };
    assert_eq!(push.path, format!("/3/device/{BOBS_IPHONE}"));
    assert_eq!(claims_by("tls-b.key.pem", push)["iss"], "DEF123GHIJ");
    let headers = ["apns-topic", "apns-push-type", "apns-priority"].map(|name| push.header(name));
    assert_eq!(headers, ["com.example.chat", "alert", "10"]);
    let told = push.json();
    assert_eq!(told["aps"]["alert"], json!({ "title": "Alice Doe", "body": "hi" }));
    assert_eq!((&told["conversation_id"], &told["up_to_seq"]), (&sent["conversation_id"], &json!(1)));

    read_by_bob(&server, &sent).await;
    service.asked(2).await;
    let withdrawal = &service.pushes()[1];
    assert_eq!((withdrawal.header("apns-push-type"), &withdrawal.json()["type"]), ("background", &json!("withdrawal")));
    assert_eq!(withdrawal.header("apns-collapse-id"), push.header("apns-collapse-id"));

    service.answers_with(410, &json!({ "reason": "Unregistered" }));
    let sent = send(&mut alice, "bob", "gone").await;
    is_gone_for_good(&server, &mut alice, &sent).await;
    assert_eq!(service.paths().len(), 3);
}

fn is_ours(seen: &Seen) -> bool {
    #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
    webhook_is_genuine(seen, SECRET.as_bytes(), now_s() as i64)
}

#[tokio::test]
async fn the_applications_server_is_told_signed_and_says_itself_who_has_no_device() {
    let service = PushService::start().await;
    let server = with_webhook(Config::new(), &service).start().await;
    register(&server, "bob", json!({ "provider": "webhook" })).await;
    let mut alice = alice(&server).await;
    let sent = send(&mut alice, "bob", "hi").await;
    service.asked(1).await;
    let [push] = &service.pushes()[..] else { panic!("one request: {:?}", service.paths()) };
    assert!(push.path == "/hook" && is_ours(push));
    let of_bob = json!({ "tenant": "default", "user_id": "bob", "device_id": "phone" });
    let mut expected = json!({
        "type": "notification", "conversation_id": sent["conversation_id"], "up_to_seq": 1, "count": 1,
        "title": "Alice Doe", "text": "hi",
    });
    expected.as_object_mut().unwrap().extend(of_bob.as_object().unwrap().clone());
    assert_eq!(push.json(), expected);

    read_by_bob(&server, &sent).await;
    service.asked(2).await;
    assert!(is_ours(&service.pushes()[1]) && service.pushes()[1].json()["type"] == "withdrawal");

    // None of its answers says that a device is gone.
    service.answers(410);
    let sent = send(&mut alice, "bob", "refused").await;
    server.logged("a notification was given up", 1).await;
    assert_eq!(traced(&server, &sent).await["why"], "410");
    service.answers(200);
    send(&mut alice, "bob", "taken").await;
    service.asked(4).await;
}

/// An application's server that is down: when it is let go, its first answers are failures, and then no more.
struct Failing {
    server: ProviderServer,
    go: watch::Sender<bool>,
    count: watch::Receiver<usize>,
}

impl Failing {
    /// As many as open the breaker.
    const FAILURES: usize = 5;

    async fn start() -> Self {
        let (go, may_go) = watch::channel(false);
        let (counted, count) = watch::channel(0);
        let answers = move |_: Seen| {
            counted.send_modify(|count| *count += 1);
            let status = if *counted.borrow() <= Self::FAILURES { 503 } else { 200 };
            let mut may_go = may_go.clone();
            async move {
                let _ = may_go.wait_for(|may_go| *may_go).await;
                provider::answer(status, "")
            }
        };
        Self { server: ProviderServer::start(answers).await, go, count }
    }

    /// Waits until there have been this many requests in total.
    async fn asked(&self, times: usize) {
        let mut count = self.count.clone();
        let there = count.wait_for(|count| *count >= times);
        soon("the server to be asked", there).await.expect("the server runs");
    }
}

#[tokio::test]
async fn a_provider_that_is_down_delays_no_other_and_what_it_missed_is_told_when_it_is_back() {
    let (hook, apple) = (Failing::start().await, PushService::start().await);
    let config = with_apns(Config::new(), &apple, &key("tls-a.key.pem"));
    let config = config.set("push.webhook.url", hook.server.url("/hook")).set("push.webhook.secret", SECRET);
    // Sequentially: the fifth failure opens the breaker before any notification has failed twice.
    let server = config.set("push.in_flight_max", 1).start().await;
    let users: BTreeSet<String> = (0..8).map(|n| format!("user{n}")).collect();
    for user in &users {
        register(&server, user, json!({ "provider": "webhook" })).await;
    }
    register(&server, "carol", json!({ "provider": "apns", "token": CAROLS_IPHONE })).await;
    let mut alice = alice(&server).await;
    for user in &users {
        send(&mut alice, user, "hi").await;
    }
    let queued = async {
        while server.metric("switchboard_push_decisions_total", "enqueued").await < 8.0
            || server.metric("switchboard_push_writes_waiting", "").await > 0.0
        {}
    };
    soon("all to be in the queue", queued).await;
    hook.go.send_replace(true);
    hook.asked(Failing::FAILURES).await;
    send(&mut alice, "carol", "hi carol").await;
    apple.asked(1).await;

    hook.asked(Failing::FAILURES + users.len()).await;
    let told = hook.server.seen().split_off(Failing::FAILURES);
    let told: Vec<Value> = told.into_iter().map(|push| push.json()["user_id"].clone()).collect();
    let told_users: BTreeSet<String> = told.iter().map(|user| user.as_str().unwrap().to_owned()).collect();
    assert_eq!((told_users, told.len()), (users.clone(), users.len()), "each once");
}

#[tokio::test]
async fn a_key_that_is_replaced_on_disk_is_used_after_a_reload_and_one_that_is_no_key_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.p8");
    fs::copy(key("tls-a.key.pem"), &file).unwrap();
    let (apple, hook) = (PushService::start().await, PushService::start().await);
    let server = with_apns(with_webhook(Config::new(), &hook), &apple, &file).start().await;
    register(&server, "bob", json!({ "provider": "apns", "token": BOBS_IPHONE })).await;
    register(&server, "carol", json!({ "provider": "webhook" })).await;
    let mut alice = alice(&server).await;
    apple.answers(200);
    send(&mut alice, "bob", "one").await;
    apple.asked(1).await;
    claims_by("tls-a.key.pem", &apple.pushes()[0]);

    fs::copy(key("tls-b.key.pem"), &file).unwrap();
    server.signal(Signal::HUP);
    server.logged("\"configuration reloaded", 1).await;
    send(&mut alice, "bob", "two").await;
    apple.asked(2).await;
    claims_by("tls-b.key.pem", &apple.pushes()[1]);

    fs::write(&file, "no key").unwrap();
    server.signal(Signal::HUP);
    server.logged("configuration not reloaded", 1).await;
    send(&mut alice, "bob", "three").await;
    apple.asked(3).await;
    claims_by("tls-b.key.pem", &apple.pushes()[2]);
    // Other users are still reached.
    send(&mut alice, "carol", "hi carol").await;
    hook.asked(1).await;
    assert!(is_ours(&hook.pushes()[0]));
}
