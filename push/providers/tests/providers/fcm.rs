//! Tests of FCM against its message and token endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use ring::rsa::KeyPair;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256};
use serde_json::{Value, json};
use switchboard_push_providers::{Body, Fcm, Outcome, Push};
use switchboard_tests::provider::{Answer, ProviderServer, Seen, answer, verified};

use crate::{NOW_S, alert, client, clock, pem, summary, withdrawal};

const KEY: &[u8] = include_bytes!("../../../../tests/it/keys/rsa.pkcs8.der");

fn fcm(server: &ProviderServer) -> Fcm {
    let account = json!({
        "type": "service_account",
        "project_id": "p1",
        "client_email": "push@p1.iam.example.com",
        "private_key_id": "k1",
        "private_key": pem(KEY),
        "token_uri": server.url("/token"),
    });
    Fcm::new(client(&clock().0), account.to_string().as_bytes(), &server.url("")).unwrap()
}

/// A server whose access tokens are `token-1`, `token-2`, …, each for `expires_in` seconds.
async fn server(expires_in: u64, messages: impl Fn(&Seen) -> Answer + Clone + Send + Sync + 'static) -> ProviderServer {
    let issued = Arc::new(AtomicUsize::new(0));
    ProviderServer::start(move |seen: Seen| {
        let (issued, messages) = (Arc::clone(&issued), messages.clone());
        async move {
            if seen.path != "/token" {
                return messages(&seen);
            }
            let token = format!("token-{}", issued.fetch_add(1, Ordering::Relaxed) + 1);
            answer(200, &json!({ "access_token": token, "expires_in": expires_in, "token_type": "Bearer" }).to_string())
        }
    })
    .await
}

fn ok(_: &Seen) -> Answer {
    answer(200, r#"{"name":"projects/p1/messages/1"}"#)
}

fn paths(server: &ProviderServer) -> Vec<String> {
    server.seen().into_iter().map(|seen| seen.path).collect()
}

#[tokio::test]
async fn a_signed_assertion_is_exchanged_for_the_token_that_messages_carry() {
    let server = server(3_600, ok).await;
    let fcm = fcm(&server);
    assert_eq!(fcm.send("device-1", &alert()).await, Outcome::Sent);
    let [exchange, message] = &server.seen()[..] else { panic!("{:?}", paths(&server)) };

    let form: Vec<(String, String)> = form_urlencoded::parse(&exchange.body).into_owned().collect();
    assert_eq!(form[0], ("grant_type".to_owned(), "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()));
    let key = KeyPair::from_pkcs8(KEY).unwrap();
    let (header, claims) = verified(&form[1].1, &RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    assert_eq!(header, json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
    let expected = json!({
        "iss": "push@p1.iam.example.com",
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "aud": server.url("/token"),
        "iat": NOW_S,
        "exp": NOW_S + 3_600,
    });
    assert_eq!(claims, expected);

    assert_eq!(message.path, "/v1/projects/p1/messages:send");
    assert_eq!(message.header("authorization"), "Bearer token-1");
    let sent = message.json();
    let tag = sent["message"]["android"]["collapse_key"].as_str().unwrap();
    let expected = json!({ "message": {
        "token": "device-1",
        "notification": { "title": "Bob", "body": "hi" },
        "data": { "type": "notification", "conversation_id": "c1", "up_to_seq": "7", "count": "3" },
        "android": {
            "priority": "HIGH", "ttl": "3600s", "collapse_key": tag,
            "notification": { "tag": tag, "notification_count": 3 },
        },
    }});
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_withdrawal_is_data_alone() {
    let server = server(3_600, ok).await;
    assert_eq!(fcm(&server).send("device-1", &withdrawal()).await, Outcome::Sent);
    let sent = server.last().json();
    assert_eq!(
        (sent["message"].get("notification"), &sent["message"]["android"]["priority"]),
        (None, &json!("NORMAL"))
    );
    assert_eq!(sent["message"]["data"]["type"], "withdrawal");
}

#[tokio::test]
async fn all_who_need_a_token_wait_for_the_same_and_it_is_kept() {
    let server = server(3_600, ok).await;
    let (fcm, push) = (fcm(&server), alert());
    let outcomes = join_all((0..50).map(|_| fcm.send("device-1", &push))).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Sent));
    assert_eq!(paths(&server).iter().filter(|path| *path == "/token").count(), 1);
    // One for the token, one for all messages.
    assert!(server.connections() <= 2, "{} connections", server.connections());
}

#[tokio::test]
async fn a_token_in_its_last_minute_is_renewed() {
    let server = server(60, ok).await;
    let fcm = fcm(&server);
    for _ in 0..2 {
        assert_eq!(fcm.send("device-1", &alert()).await, Outcome::Sent);
    }
    assert_eq!(server.last().header("authorization"), "Bearer token-2");
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    let server = server(3_600, |seen| match seen.header("authorization") {
        "Bearer token-1" => answer(401, r#"{"error":{"code":401,"status":"UNAUTHENTICATED"}}"#),
        _ => ok(seen),
    })
    .await;
    assert_eq!(fcm(&server).send("device-1", &alert()).await, Outcome::Sent);
    let never = self::server(3_600, |_| answer(401, "")).await;
    assert_eq!(summary(&fcm(&never).send("device-1", &alert()).await), ("failed", None));
    assert_eq!(never.seen().len(), 4, "two tokens, two messages");
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let error = |code: u16, status: &str, named: Option<&str>| {
        let details: Vec<Value> = named
            .map(|named| json!({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": named }))
            .into_iter()
            .collect();
        (code, json!({ "error": { "code": code, "status": status, "details": details } }).to_string())
    };
    for ((status, body), expected, reason) in [
        (error(404, "NOT_FOUND", Some("UNREGISTERED")), ("gone", None), ""),
        (error(404, "NOT_FOUND", None), ("refused", None), "404 NOT_FOUND"),
        (error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT")), ("refused", None), "400 INVALID_ARGUMENT"),
        (error(403, "PERMISSION_DENIED", Some("SENDER_ID_MISMATCH")), ("refused", None), "403 SENDER_ID_MISMATCH"),
        (error(403, "PERMISSION_DENIED", None), ("failed", Some(7_000)), "403 PERMISSION_DENIED"),
        (error(429, "RESOURCE_EXHAUSTED", Some("QUOTA_EXCEEDED")), ("failed", Some(7_000)), "429 QUOTA_EXCEEDED"),
        (error(503, "UNAVAILABLE", Some("UNAVAILABLE")), ("failed", Some(7_000)), "503 UNAVAILABLE"),
        ((500, "no JSON".to_owned()), ("failed", Some(7_000)), "500"),
    ] {
        let server = server(3_600, move |_| {
            let mut answer = answer(status, &body);
            answer.headers_mut().insert("retry-after", "7".parse().unwrap());
            answer
        })
        .await;
        let outcome = fcm(&server).send("device-1", &alert()).await;
        assert_eq!(summary(&outcome), expected, "{status}");
        if let Outcome::Failed { reason: told, .. } | Outcome::Refused(told) = outcome {
            assert_eq!(told.as_str(), reason);
        }
    }
}

#[tokio::test]
async fn an_account_without_a_token_fails_and_shows_no_secret() {
    let server = ProviderServer::start(async |_| answer(400, r#"{"error":"invalid_grant"}"#)).await;
    let fcm = fcm(&server);
    let outcome = fcm.send("device-1", &alert()).await;
    assert_eq!(summary(&outcome), ("failed", None));
    assert!(!format!("{fcm:?}").contains("PRIVATE") && !format!("{outcome:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn a_long_text_is_cut() {
    let server = server(3_600, ok).await;
    let body = Body::Alert { count: 1, title: "Bob".to_owned(), text: Some("a".repeat(9_000)) };
    assert_eq!(fcm(&server).send("device-1", &Push { body, ..alert() }).await, Outcome::Sent);
    assert_eq!(server.last().body.len(), 4_096);
}
