//! A receiver of webhooks that does what the documentation asks of it.

use std::sync::atomic::Ordering;

use ring::hmac;
use serde_json::json;
use switchboard_push::{Outcome, REPLAY_WINDOW_S, SetupError, Webhook};

use crate::server::{Answer, Seen, Server, answer};
use crate::{NOW_S, alert, client, clock, summary, withdrawal};

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

/// Whether a receiver whose clock shows `now_s` takes a request.
fn takes(seen: &Seen, secret: &[u8], now_s: i64) -> bool {
    let timestamp = seen.header("switchboard-timestamp");
    let hex = seen.header("switchboard-signature").strip_prefix("v1=").unwrap();
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let signature: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let signed = [timestamp.as_bytes(), b".", &seen.body].concat();
    let is_fresh = now_s.abs_diff(timestamp.parse().unwrap()) <= REPLAY_WINDOW_S;
    is_fresh && hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), &signed, &signature).is_ok()
}

async fn ok(_: Seen) -> Answer {
    answer(204, "")
}

#[tokio::test]
async fn a_receiver_can_tell_who_sent_it_and_when() {
    let server = Server::start(ok).await;
    let (clock, skew_ms) = clock();
    let webhook = Webhook::new(client(&clock), &server.url("/hook"), SECRET).unwrap();
    assert_eq!(webhook.send(&alert()).await, Outcome::Sent);
    let seen = server.last();
    let expected = json!({
        "tenant": "t", "user_id": "alice", "device_id": "phone",
        "type": "notification", "conversation_id": "c1", "up_to_seq": 7, "count": 3, "title": "Bob", "text": "hi",
    });
    assert_eq!((seen.path.as_str(), seen.json()), ("/hook", expected));
    assert!(takes(&seen, SECRET, NOW_S) && takes(&seen, SECRET, NOW_S + 300));
    assert!(!takes(&seen, SECRET, NOW_S + 301), "a replay");
    assert!(!takes(&seen, b"another secret of more than thirty-two", NOW_S));
    let mut changed = seen.clone();
    changed.body = [&seen.body[..], b" "].concat().into();
    assert!(!takes(&changed, SECRET, NOW_S));
    let mut moved = seen.clone();
    moved.headers.insert("switchboard-timestamp", (NOW_S + 400).into());
    assert!(!takes(&moved, SECRET, NOW_S + 400), "the time is signed too");

    // A retry is known by its id, and signed anew.
    skew_ms.store(600_000, Ordering::Relaxed);
    assert_eq!(webhook.send(&alert()).await, Outcome::Sent);
    let retry = server.last();
    assert_eq!(retry.header("switchboard-id"), seen.header("switchboard-id"));
    assert!(takes(&retry, SECRET, NOW_S + 600));
    assert_eq!(webhook.send(&withdrawal()).await, Outcome::Sent);
    assert_ne!(server.last().header("switchboard-id"), seen.header("switchboard-id"));
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let (clock, _) = clock();
    for (status, expected) in [(200, "sent"), (400, "refused"), (410, "refused"), (429, "failed"), (500, "failed")] {
        let server = Server::start(move |_| async move { answer(status, "") }).await;
        let webhook = Webhook::new(client(&clock), &server.url("/hook"), SECRET).unwrap();
        assert_eq!(summary(&webhook.send(&alert()).await).0, expected, "{status}");
    }
}

#[test]
fn only_an_https_url_will_do_and_the_secret_is_not_shown() {
    let (clock, _) = clock();
    let error = Webhook::new(client(&clock), "http://example.com/hook", SECRET).unwrap_err();
    assert!(matches!(error, SetupError::Url(_)));
    let webhook = Webhook::new(client(&clock), "https://example.com/hook", SECRET).unwrap();
    assert!(!format!("{webhook:?}").contains("thirty"));
}
