//! Clients that don't read (DESIGN §5.7): they cost a bounded queue, and affect nobody else.

use serde_json::json;

use crate::support::{Client, Config, Server, soon};

#[tokio::test]
async fn a_reader_who_does_not_read_is_closed_and_nobody_waits_for_him() {
    let server =
        Config::new().set("limits.session_queue_bytes", 65_536).set("limits.frames_per_s", 100_000).start().await;
    let mut slow = Client::sign_in(&server, "bob").await;
    let (mut quick, _) = Client::sign_in_as(&server, "bob", "quick").await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut sent = 0;
    // After each message: the server waits only a few seconds for the last frames to be read.
    while server.metric("switchboard_disconnects_total", "4508").await < 1.0 {
        sent += 1;
        let content = json!({"text": "x".repeat(30_000)});
        let frame = json!({"type": "send", "to": "bob", "client_id": sent.to_string(), "content": content});
        assert_eq!(alice.ask(frame).await["type"], "sent");
        assert_eq!(quick.expect("message").await["seq"], sent, "a quick reader is not held up");
        assert!(sent < 2_000, "the slow reader is still open");
    }
    let (frames, code) = slow.drain().await;
    assert_eq!(code, Some(4508));
    let (last, messages) = frames.split_last().unwrap();
    assert_eq!(last["code"], "slow_consumer");
    assert!(last["retry_after_ms"].is_u64());
    let seqs: Vec<u64> = messages.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "what came was in order and without holes");
    quick.expect_quiet().await;
    // Nothing waits for those who have gone.
    quick.close().await;
    alice.close().await;
    drop(slow);
    let empty = async { while server.metric("switchboard_session_queue_bytes", "").await != 0.0 {} };
    soon("an empty queue", empty).await;
}

#[tokio::test]
async fn nothing_waits_for_a_reader_who_is_gone() {
    let server = Config::new().set("limits.frames_per_s", 100_000).start().await;
    let slow = Client::sign_in(&server, "bob").await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let waiting = async || server.metric("switchboard_session_queue_bytes", "").await;
    let mut sent = 0;
    while waiting().await == 0.0 {
        for _ in 0..20 {
            sent += 1;
            let content = json!({"text": "x".repeat(30_000)});
            let frame = json!({"type": "send", "to": "bob", "client_id": sent.to_string(), "content": content});
            assert_eq!(alice.ask(frame).await["type"], "sent");
        }
        assert!(sent < 2_000, "nothing waits");
    }
    drop(slow);
    soon("an empty queue", async { while waiting().await != 0.0 {} }).await;
}

#[tokio::test]
async fn a_client_that_asks_and_does_not_read_costs_a_bounded_queue() {
    let server = Config::new().set("limits.frames_per_s", 100_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut conversation_id = json!(null);
    for n in 0..40 {
        let content = json!({"text": "x".repeat(30_000)});
        let frame = json!({"type": "send", "to": "bob", "client_id": n.to_string(), "content": content});
        conversation_id = alice.ask(frame).await["conversation_id"].clone();
    }
    let before_kib = resident_kib(&server);
    let mut greedy = Client::sign_in(&server, "bob").await;
    let history = json!({"type": "history", "conversation_id": conversation_id, "limit": 200});
    for n in 0..500 {
        let mut history = history.clone();
        history["id"] = json!(n.to_string());
        greedy.feed(&history).await;
    }
    greedy.flush().await;
    // Others are served meanwhile. When the server has read all that it will from the store, its memory does not hold
    // more than 500 MiB.
    let mut asked = (0.0, 0);
    while asked.1 < 50 {
        alice.expect_quiet().await;
        let now = server.metric("switchboard_store_operation_duration_seconds_count", "history").await;
        asked = if now == asked.0 { (now, asked.1 + 1) } else { (now, 0) };
    }
    let grown_kib = resident_kib(&server).saturating_sub(before_kib);
    assert!(grown_kib < 16 * 1_024, "grown by {grown_kib} KiB");
    for n in 0..500 {
        assert_eq!(greedy.expect("history").await["id"], n.to_string());
    }
}

fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test]
async fn ephemeral_frames_are_conflated_and_dropped_before_the_reader_is_closed() {
    let server =
        Config::new().set("limits.session_queue_bytes", 65_536).set("limits.frames_per_s", 100_000).start().await;
    let mut slow = Client::sign_in(&server, "bob").await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let sent = alice.ask(json!({"type": "send", "to": "bob", "client_id": "1", "content": {"text": "x"}})).await;
    let id = sent["conversation_id"].clone();
    slow.expect("message").await;
    slow.ask(json!({"type": "conversation_open", "conversation_id": id})).await;
    let dropped = async {
        let mut n = 0;
        while server.metric("switchboard_frames_dropped_total", "").await < 100.0 {
            for _ in 0..1_000 {
                n += 1;
                let data = json!({"n": n, "pad": "x".repeat(900)});
                alice.feed(&json!({"type": "signal", "conversation_id": id, "kind": "cursor", "data": data})).await;
            }
            alice.flush().await;
        }
        alice.expect_quiet().await;
        n
    };
    let last = soon("dropped frames", dropped).await;
    // The newest one is never among those that were left out.
    loop {
        let signal = slow.expect("signal").await;
        if signal["data"]["n"] == last {
            break;
        }
    }
    slow.expect_quiet().await;
}
