//! Tests with a receiver of webhooks that does the documented checks.

use std::sync::atomic::Ordering;

use serde_json::json;
use switchboard_push_providers::{Outcome, REPLAY_WINDOW_S, SetupError, Webhook};
use switchboard_tests::provider::{Answer, ProviderServer, Seen, answer, webhook_is_genuine};

use crate::{NOW_S, alert, client, clock, summary, withdrawal};

const SECRET: &[u8] = b"a secret of more than thirty-two bytes";

async fn ok(_: Seen) -> Answer {
    answer(204, "")
}

#[tokio::test]
async fn a_receiver_can_tell_who_sent_it_and_when() {
    let server = ProviderServer::start(ok).await;
    let (clock, wall_ms) = clock();
    let webhook = Webhook::new(client(&clock), &server.url("/hook"), SECRET).unwrap();
    assert_eq!(webhook.send(&alert()).await, Outcome::Sent);
    let seen = server.last();
    let expected = json!({
        "tenant": "t", "user_id": "alice", "device_id": "phone",
        "type": "notification", "conversation_id": "c1", "up_to_seq": 7, "count": 3, "title": "Bob", "text": "hi",
    });
    assert_eq!((seen.path.as_str(), seen.json()), ("/hook", expected));
    let last_s = NOW_S.saturating_add_unsigned(REPLAY_WINDOW_S);
    assert!(webhook_is_genuine(&seen, SECRET, NOW_S) && webhook_is_genuine(&seen, SECRET, last_s));
    assert!(!webhook_is_genuine(&seen, SECRET, last_s + 1), "a replay");
    assert!(!webhook_is_genuine(&seen, b"another secret of more than thirty-two", NOW_S));
    let mut changed = seen.clone();
    changed.body = [&seen.body[..], b" "].concat().into();
    assert!(!webhook_is_genuine(&changed, SECRET, NOW_S));
    let mut moved = seen.clone();
    moved.headers.insert("switchboard-timestamp", (NOW_S + 400).into());
    assert!(!webhook_is_genuine(&moved, SECRET, NOW_S + 400), "the time is signed too");

    // A retry has the same id and a new signature.
    wall_ms.store((NOW_S + 600) * 1_000, Ordering::Relaxed);
    assert_eq!(webhook.send(&alert()).await, Outcome::Sent);
    let retry = server.last();
    assert_eq!(retry.header("switchboard-id"), seen.header("switchboard-id"));
    assert!(webhook_is_genuine(&retry, SECRET, NOW_S + 600));
    assert_eq!(webhook.send(&withdrawal()).await, Outcome::Sent);
    assert_ne!(server.last().header("switchboard-id"), seen.header("switchboard-id"));
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let (clock, _) = clock();
    let answers = [200, 400, 401, 403, 410, 413, 429, 500];
    let meanings = ["sent", "refused", "failed", "failed", "refused", "refused", "failed", "failed"];
    for (status, expected) in answers.into_iter().zip(meanings) {
        let server = ProviderServer::start(move |_| async move { answer(status, "") }).await;
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
