//! Tests of APNs against an HTTP/2 server that checks the provider token.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures_util::future::join_all;
use hyper::Version;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use switchboard_push_providers::{Apns, ApnsOptions, Outcome, Push};
use switchboard_store::Priority;
use switchboard_tests::provider::{Answer, KEY, ProviderServer, Seen, answer, verified};
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::{NOW_S, alert, client, clock, summary, withdrawal};

const DEVICE: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

fn apns(server: &ProviderServer) -> (Apns, Arc<AtomicI64>) {
    let (clock, wall_ms) = clock();
    let options = ApnsOptions {
        url: server.url(""),
        topic: "com.example.chat".to_owned(),
        key_id: "ABC123DEFG".to_owned(),
        team_id: "DEF123GHIJ".to_owned(),
    };
    (Apns::new(client(&clock), KEY, options).unwrap(), wall_ms)
}

async fn ok(_: Seen) -> Answer {
    answer(200, "")
}

/// The header and claims of a request's provider token.
fn token(seen: &Seen) -> (Value, Value) {
    let der = PrivatePkcs8KeyDer::from_pem_slice(KEY).unwrap();
    let der = der.secret_pkcs8_der();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new()).unwrap();
    let token = seen.header("authorization").strip_prefix("bearer ").unwrap();
    verified(token, &ECDSA_P256_SHA256_FIXED, key.public_key().as_ref())
}

#[tokio::test]
async fn an_alert_replaces_the_one_before_and_runs_out() {
    let server = ProviderServer::start(ok).await;
    let (apns, _) = apns(&server);
    assert_eq!(apns.send(DEVICE, &alert()).await, Outcome::Sent);
    let seen = server.last();
    assert_eq!((seen.path.as_str(), seen.version), (format!("/3/device/{DEVICE}").as_str(), Version::HTTP_2));
    let headers = ["apns-topic", "apns-push-type", "apns-priority", "apns-expiration"].map(|name| seen.header(name));
    assert_eq!(headers, ["com.example.chat", "alert", "10", &(NOW_S + 3_600).to_string()]);
    let collapse_id = seen.header("apns-collapse-id");
    assert!((1..=64).contains(&collapse_id.len()), "APNs takes 64 bytes: {collapse_id}");
    let expected = json!({
        "aps": { "alert": { "title": "Bob", "body": "hi" }, "thread-id": "c1", "sound": "default" },
        "type": "notification", "conversation_id": "c1", "up_to_seq": 7, "count": 3,
    });
    assert_eq!(seen.json(), expected);
    let (header, claims) = token(&seen);
    assert_eq!(header, json!({ "alg": "ES256", "typ": "JWT", "kid": "ABC123DEFG" }));
    assert_eq!(claims, json!({ "iss": "DEF123GHIJ", "iat": NOW_S }));

    assert_eq!(apns.send(DEVICE, &withdrawal()).await, Outcome::Sent);
    let withdrawn = server.last();
    assert_eq!((withdrawn.header("apns-push-type"), withdrawn.header("apns-priority")), ("background", "5"));
    assert_eq!(withdrawn.header("apns-collapse-id"), collapse_id);
    assert_eq!(withdrawn.json()["aps"], json!({ "content-available": 1 }));
}

#[tokio::test]
async fn priorities_are_apples() {
    let server = ProviderServer::start(ok).await;
    let (apns, _) = apns(&server);
    for (priority, expected) in [(Priority::High, "10"), (Priority::Normal, "5"), (Priority::Low, "1")] {
        apns.send(DEVICE, &Push { priority, ..alert() }).await;
        assert_eq!(server.last().header("apns-priority"), expected);
    }
}

#[tokio::test]
async fn however_many_at_once_share_one_connection() {
    let server = ProviderServer::start(ok).await;
    let ((apns, _), push) = (apns(&server), alert());
    let outcomes = join_all((0..200).map(|_| apns.send(DEVICE, &push))).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Sent));
    assert_eq!((server.seen().len(), server.connections()), (200, 1));
}

#[tokio::test]
async fn a_token_is_kept_for_forty_minutes() {
    let server = ProviderServer::start(ok).await;
    let (apns, wall_ms) = apns(&server);
    for minutes in [0, 39, 41] {
        wall_ms.store((NOW_S + minutes * 60) * 1_000, Ordering::Relaxed);
        apns.send(DEVICE, &alert()).await;
    }
    let issued: Vec<_> = server.seen().iter().map(|seen| token(seen).1["iat"].as_i64().unwrap() - NOW_S).collect();
    assert_eq!(issued, [0, 0, 41 * 60]);
}

#[tokio::test]
async fn an_expired_token_is_renewed_once() {
    let seen_before = Arc::new(AtomicI64::new(0));
    let server = ProviderServer::start(move |_| {
        let first = seen_before.fetch_add(1, Ordering::Relaxed) == 0;
        async move { if first { answer(403, r#"{"reason":"ExpiredProviderToken"}"#) } else { answer(200, "") } }
    })
    .await;
    assert_eq!(apns(&server).0.send(DEVICE, &alert()).await, Outcome::Sent);
    let [expired, renewed] = &server.seen()[..] else { panic!("{:?}", server.seen()) };
    assert_ne!(expired.header("authorization"), renewed.header("authorization"));
    let always = ProviderServer::start(async |_| answer(403, r#"{"reason":"ExpiredProviderToken"}"#)).await;
    assert_eq!(summary(&apns(&always).0.send(DEVICE, &alert()).await), ("failed", None));
    assert_eq!(always.seen().len(), 2);
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    for (status, reason, expected) in [
        (410, "Unregistered", "gone"),
        (410, "ExpiredToken", "gone"),
        (400, "BadDeviceToken", "gone"),
        (400, "DeviceTokenNotForTopic", "refused"),
        (403, "InvalidProviderToken", "failed"),
        (413, "PayloadTooLarge", "refused"),
        (429, "TooManyRequests", "failed"),
        (500, "InternalServerError", "failed"),
        (503, "ServiceUnavailable", "failed"),
    ] {
        let server =
            ProviderServer::start(move |_| async move { answer(status, &json!({ "reason": reason }).to_string()) })
                .await;
        let outcome = apns(&server).0.send(DEVICE, &alert()).await;
        assert_eq!(summary(&outcome).0, expected, "{reason}");
        if let Outcome::Failed { reason: told, .. } | Outcome::Refused(told) = outcome {
            assert_eq!(told.as_str(), format!("{status} {reason}"));
        }
    }
}

#[tokio::test]
async fn what_is_no_device_token_is_not_put_into_a_path() {
    let server = ProviderServer::start(ok).await;
    for device in ["", "../../x", "00?x", "zz"] {
        assert_eq!(summary(&apns(&server).0.send(device, &alert()).await).0, "refused");
    }
    assert_eq!(server.connections(), 0);
}
