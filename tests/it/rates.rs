//! Rate limits of clients (PROTOCOL §7, §8).

use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Config, PATIENCE};

#[tokio::test]
async fn a_session_has_two_seconds_worth_and_each_frame_over_it_is_refused() {
    let server = Config::new().set("limits.frames_per_s", 2).start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    for n in 0..4 {
        client.feed(&json!({"type": "ping", "id": n.to_string()})).await;
    }
    client.feed(&json!({"type": "send", "id": "over", "to": "bob", "client_id": "c", "content": {"text": "x"}})).await;
    client.flush().await;
    for _ in 0..4 {
        client.expect("pong").await;
    }
    let error = client.expect("error").await;
    assert_eq!(
        (&error["code"], &error["id"], &error["client_id"]),
        (&json!("rate_limited"), &json!("over"), &json!("c"))
    );
    let wait_ms = error["retry_after_ms"].as_u64().unwrap();
    assert!((1..=500).contains(&wait_ms), "{wait_ms}");
    // The limit applies to each session.
    let (mut other, _) = Client::sign_in_as(&server, "alice", "other").await;
    other.expect_quiet().await;

    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    let synced = client.ask(json!({"type": "sync"})).await;
    assert_eq!(synced["conversations"], json!([]), "the frame over the rate was not carried out");
}

#[tokio::test]
async fn who_is_over_his_rate_for_ten_seconds_is_closed() {
    let server = Config::new().set("limits.frames_per_s", 5).start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    let begun = tokio::time::Instant::now();
    let mut last_error = json!(null);
    // A burst each second: above the rate in total, although a second's worth is available again before each. Where a
    // burst comes so late that the bucket is full, the ten seconds begin again.
    let longest = Duration::from_mins(2);
    let mut bursts = tokio::time::interval(Duration::from_secs(1));
    let code = loop {
        assert!(begun.elapsed() < longest, "still open");
        tokio::select! {
            // What has come is read first: nothing is sent to a socket that is closed.
            biased;
            frame = client.try_recv(PATIENCE) => match frame {
                Ok(Some(frame)) if frame["type"] == "error" => last_error = frame,
                Ok(_) => {}
                Err(code) => break code,
            },
            _ = bursts.tick() => {
                for _ in 0..15 {
                    client.feed(&json!({"type": "ping"})).await;
                }
                client.flush().await;
            }
        }
    };
    assert_eq!(code, Some(4429));
    assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(last_error["code"], "rate_limited");
    assert!(last_error["retry_after_ms"].as_u64().is_some_and(|ms| ms >= 1_000), "{last_error}");
}
