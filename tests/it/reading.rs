//! Reading a conversation by `history` and `changes` (PROTOCOL §3): each limit at it and one past it.

use serde_json::{Value, json};

use crate::support::{Client, Config, bad_request};

fn send(client_id: &str, text: &str) -> Value {
    json!({"type": "send", "to": "bob", "client_id": client_id, "content": {"text": text}})
}

#[tokio::test]
async fn history_and_changes_come_in_pages() {
    let server = Config::new().set("limits.frames_per_s", 10_000).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut id = json!(null);
    for n in 1..=250 {
        id = alice.ask(send(&n.to_string(), "x")).await["conversation_id"].clone();
    }
    let page = |kind: &str, name: &str, seq: u64, limit: u64| {
        let mut frame = json!({"type": kind, "conversation_id": id, "limit": limit});
        if !name.is_empty() {
            frame[name] = json!(seq);
        }
        frame
    };
    let seqs = |answer: &Value, list: &str| -> (u64, u64, usize, bool) {
        let items = answer[list].as_array().unwrap();
        let seq = |item: Option<&Value>| item.and_then(|item| item["seq"].as_u64()).unwrap_or(0);
        assert!(items.windows(2).all(|pair| pair[0]["seq"].as_u64() < pair[1]["seq"].as_u64()));
        (seq(items.first()), seq(items.last()), items.len(), answer["more"] == true)
    };
    let history = alice.ask(json!({"type": "history", "conversation_id": id})).await;
    assert_eq!(seqs(&history, "messages"), (201, 250, 50, true));
    assert_eq!(history["last_seq"], 250);
    for (name, seq, limit, expected) in [
        ("", 0, 200, (51, 250, 200, true)),
        ("before", 51, 200, (1, 50, 50, false)),
        ("before", 1, 10, (0, 0, 0, false)),
        ("after", 0, 10, (1, 10, 10, true)),
        ("after", 240, 10, (241, 250, 10, false)),
        ("after", 250, 10, (0, 0, 0, false)),
    ] {
        let history = alice.ask(page("history", name, seq, limit)).await;
        assert_eq!(seqs(&history, "messages"), expected, "{name} {seq}");
    }
    for (after, limit, expected) in
        [(0, 100, (1, 100, 100, true)), (150, 500, (151, 250, 100, false)), (250, 500, (0, 0, 0, false))]
    {
        let changes = alice.ask(page("changes", "after", after, limit)).await;
        assert_eq!(seqs(&changes, "entries"), expected, "after {after}");
    }
    for (kind, limit) in [("history", 201), ("history", 0), ("changes", 501), ("changes", 0)] {
        assert_eq!(alice.ask_in_vain(page(kind, "after", 0, limit)).await, bad_request("limit"));
    }
    let mut mallory = Client::sign_in(&server, "mallory").await;
    for kind in ["history", "changes"] {
        assert_eq!(mallory.ask_in_vain(page(kind, "after", 0, 10)).await.0, "not_found");
    }
}

#[tokio::test]
async fn who_is_too_far_behind_begins_anew() {
    let server = Config::new().set("changes.max", 5).start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let mut id = json!(null);
    for n in 1..=8 {
        id = alice.ask(send(&n.to_string(), "x")).await["conversation_id"].clone();
    }
    let changes = |after: u64| json!({"type": "changes", "conversation_id": id, "after": after});
    let at_the_limit = alice.ask(changes(3)).await;
    assert_eq!((at_the_limit["entries"].as_array().map(Vec::len), at_the_limit.get("reset")), (Some(5), None));
    let past_it = alice.ask(changes(2)).await;
    assert_eq!((&past_it["entries"], &past_it["reset"], &past_it["last_seq"]), (&json!([]), &json!(true), &json!(8)));
}

#[tokio::test]
async fn what_does_not_fit_in_an_answer_is_what_is_oldest() {
    const MESSAGES: u64 = 40;
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let group = alice.make_group(&[]).await;
    for _ in 0..MESSAGES {
        alice.say(&group, json!({"text": "x".repeat(32_000)})).await;
    }
    // The answers are as compact as they arrived.
    let fits = |answer: &Value| answer.to_string().len() <= 1_048_576;
    let mut before = MESSAGES + 2;
    while before > 2 {
        let ask = json!({"type": "history", "conversation_id": group, "limit": 200, "before": before});
        let page = alice.ask(ask).await;
        assert!(fits(&page));
        for message in page["messages"].as_array().unwrap().iter().rev() {
            before -= 1;
            assert_eq!(message["seq"], before);
        }
        assert_eq!(page["more"], before > 2);
    }
    let sync = alice.ask(json!({"type": "sync", "entries_per_conversation": 50})).await;
    assert!(fits(&sync));
    assert_eq!(sync["conversations"][0]["last_message"]["text"], "x".repeat(200));
}
