//! Tests of Web Push against a push service and a browser.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Version;
use ring::signature::ECDSA_P256_SHA256_FIXED;
use serde_json::{Value, json};
use switchboard_push_providers::{Body, Client, Guard, Outcome, Push, Subscription, WebPush};
use switchboard_store::Priority;
use switchboard_tests::provider::{Answer, Browser, KEY, ProviderServer, Seen, answer, verified};

use crate::{NOW_S, alert, client, client_within, clock, guarded_client, summary, withdrawal};

fn web_push(client: Client) -> WebPush {
    WebPush::new(client, KEY, "mailto:ops@example.com".to_owned()).unwrap()
}

fn subscribed(browser: &Browser, endpoint: &str) -> Subscription {
    serde_json::from_value(browser.subscription_json(endpoint)).unwrap()
}

async fn created(_: Seen) -> Answer {
    answer(201, "")
}

/// The claims of a request's VAPID token (RFC 8292).
fn vapid(seen: &Seen, key: &str) -> Value {
    let parameters = seen.header("authorization").strip_prefix("vapid ").unwrap();
    let (token, given) = parameters.split_once(", ").unwrap();
    assert_eq!(given.strip_prefix("k="), Some(key));
    let public = URL_SAFE_NO_PAD.decode(key).unwrap();
    let (header, claims) = verified(token.strip_prefix("t=").unwrap(), &ECDSA_P256_SHA256_FIXED, &public);
    assert_eq!(header, json!({ "typ": "JWT", "alg": "ES256" }));
    claims
}

#[tokio::test]
async fn only_the_browser_can_read_what_the_push_service_gets() {
    let server = ProviderServer::start(created).await;
    let (clock, _) = clock();
    let (push, browser) = (web_push(client(&clock)), Browser::new(7));
    let subscription = subscribed(&browser, &server.url("/send/abc"));
    assert_eq!(push.send(&subscription, &alert()).await, Outcome::Sent);

    let seen = server.last();
    assert_eq!(seen.path, "/send/abc");
    let headers = ["ttl", "urgency", "content-encoding", "content-type"].map(|name| seen.header(name));
    assert_eq!(headers, ["3600", "high", "aes128gcm", "application/octet-stream"]);
    let topic = seen.header("topic");
    assert!(topic.len() == 32 && URL_SAFE_NO_PAD.decode(topic).is_ok(), "RFC 8030 §5.4: {topic}");
    let told: Value = serde_json::from_slice(&browser.decrypt(&seen.body)).unwrap();
    let expected = json!({
        "type": "notification", "conversation_id": "c1", "up_to_seq": 7, "count": 3, "title": "Bob", "text": "hi",
    });
    assert_eq!(told, expected);
    let claims = vapid(&seen, &push.application_server_key());
    assert_eq!(
        claims,
        json!({
            "aud": server.url(""), "exp": NOW_S + 12 * 3_600, "sub": "mailto:ops@example.com",
        })
    );

    // The withdrawal replaces it, and need not wake anything.
    assert_eq!(push.send(&subscription, &withdrawal()).await, Outcome::Sent);
    let withdrawn = server.last();
    assert_eq!((withdrawn.header("topic"), withdrawn.header("urgency")), (topic, "low"));
    let told: Value = serde_json::from_slice(&browser.decrypt(&withdrawn.body)).unwrap();
    assert_eq!(told, json!({ "type": "withdrawal", "conversation_id": "c1", "up_to_seq": 7 }));
}

#[tokio::test]
async fn a_text_that_is_too_long_is_cut_to_what_a_push_service_takes() {
    let server = ProviderServer::start(created).await;
    let (clock, _) = clock();
    let browser = Browser::new(7);
    let body = Body::Alert { count: 1, title: "Bob".to_owned(), text: Some("\u{1F600}\"".repeat(4_000)) };
    let long = Push { body, priority: Priority::Normal, ..alert() };
    assert_eq!(web_push(client(&clock)).send(&subscribed(&browser, &server.url("/x")), &long).await, Outcome::Sent);
    let seen = server.last();
    assert_eq!(seen.header("urgency"), "normal");
    let told: Value = serde_json::from_slice(&browser.decrypt(&seen.body)).unwrap();
    assert!((3_900..=4_096).contains(&seen.body.len()) && told["text"].as_str().unwrap().len() > 3_000);
}

#[tokio::test]
async fn a_token_is_kept_until_its_last_hour() {
    let server = ProviderServer::start(created).await;
    let (clock, wall_ms) = clock();
    let push = web_push(client(&clock));
    let subscription = subscribed(&Browser::new(7), &server.url("/x"));
    for hours in [0, 10, 12] {
        wall_ms.store((NOW_S + hours * 3_600) * 1_000, Ordering::Relaxed);
        assert_eq!(push.send(&subscription, &alert()).await, Outcome::Sent);
    }
    let key = push.application_server_key();
    let expires: Vec<_> = server.seen().iter().map(|seen| vapid(seen, &key)["exp"].as_i64().unwrap()).collect();
    assert_eq!(expires, [NOW_S + 12 * 3_600, NOW_S + 12 * 3_600, NOW_S + 24 * 3_600]);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let server = ProviderServer::start(async |seen: Seen| {
        let status = seen.path.trim_start_matches('/').parse().unwrap();
        let mut answer = answer(status, "");
        if matches!(status, 429 | 503) {
            answer.headers_mut().insert("retry-after", "120".parse().unwrap());
        }
        answer
    })
    .await;
    let (clock, _) = clock();
    let push = web_push(client(&clock));
    for (status, expected) in [
        (200, ("sent", None)),
        (201, ("sent", None)),
        (202, ("sent", None)),
        (302, ("refused", None)),
        (400, ("refused", None)),
        (401, ("failed", None)),
        (403, ("refused", None)),
        (404, ("gone", None)),
        (410, ("gone", None)),
        (413, ("refused", None)),
        (429, ("failed", Some(120_000))),
        (500, ("failed", None)),
        (503, ("failed", Some(120_000))),
    ] {
        let subscription = subscribed(&Browser::new(7), &server.url(&format!("/{status}")));
        assert_eq!(summary(&push.send(&subscription, &alert()).await), expected, "{status}");
    }
}

#[tokio::test]
async fn requests_share_a_connection() {
    let server = ProviderServer::start(created).await;
    let (clock, _) = clock();
    let push = web_push(client(&clock));
    let subscription = subscribed(&Browser::new(7), &server.url("/x"));
    for _ in 0..20 {
        assert_eq!(push.send(&subscription, &alert()).await, Outcome::Sent);
    }
    assert!(server.seen().iter().all(|seen| seen.version == Version::HTTP_2));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_subscription_of_a_private_address_is_not_asked() {
    let server = ProviderServer::start(created).await;
    let (clock, _) = clock();
    let push = web_push(guarded_client(&clock, Guard::default(), Duration::from_secs(30)));
    for url in [server.url("/x"), server.url("/x").replace("localhost", "127.0.0.1")] {
        assert_eq!(
            summary(&push.send(&subscribed(&Browser::new(7), &url), &alert()).await),
            ("refused", None),
            "{url}"
        );
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_push_service_that_does_not_answer_or_is_not_there_is_asked_again() {
    let silent = ProviderServer::start(async |_| std::future::pending().await).await;
    let (clock, _) = clock();
    let push = web_push(client_within(&clock, Duration::from_millis(300)));
    let away = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("https://127.0.0.1:{}/x", listener.local_addr().unwrap().port())
    };
    for url in [silent.url("/x"), away] {
        let outcome = push.send(&subscribed(&Browser::new(7), &url), &alert()).await;
        assert_eq!(summary(&outcome), ("failed", None), "{outcome:?}");
    }
}

#[test]
fn a_subscription_is_refused_by_the_name_of_its_field_and_does_not_show_itself() {
    let good = Browser::new(7).subscription_json("https://push.example.com/secret");
    let subscription = |json: &Value| serde_json::from_value::<Subscription>(json.clone()).unwrap();
    assert_eq!(subscription(&good).check(&Guard::default()), Ok(()));
    assert_eq!(format!("{:?}", subscription(&good)), "Subscription(push.example.com)");
    for (field, value) in [
        ("endpoint", "http://push.example.com/x"),
        ("endpoint", "https://10.0.0.1/x"),
        ("endpoint", "nothing"),
        ("keys.p256dh", "AAAA"),
        ("keys.p256dh", "+/+/"),
        ("keys.auth", "AAAA"),
    ] {
        let mut json = good.clone();
        *json.pointer_mut(&format!("/{}", field.replace('.', "/"))).unwrap() = value.into();
        let error = subscription(&json).check(&Guard::default()).unwrap_err();
        assert_eq!(error.field, format!("subscription.{field}"));
    }
}
