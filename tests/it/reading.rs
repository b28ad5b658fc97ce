//! Reading a conversation by `history` and `changes` (PROTOCOL §3): each limit at it and one past it.

use serde_json::{Value, json};

use crate::support::{Client, Config, bad_request};

fn send(client_id: &str, text: &str) -> Value {
    json!({"type": "send", "to": "bob", "client_id": client_id, "content": {"text": text}})
}

fn with(mut frame: Value, name: &str, value: Value) -> Value {
    frame[name] = value;
    frame
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
    let both = json!({"type": "history", "conversation_id": id, "before": 5, "after": 1});
    assert_eq!(alice.ask_in_vain(both).await, bad_request("after"));
    let without = json!({"type": "changes", "conversation_id": id});
    for (frame, field) in [
        (with(page("history", "", 0, 1), "before", json!(-1)), "before"),
        (with(page("history", "", 0, 1), "after", json!("1")), "after"),
        (with(without.clone(), "after", json!(1.5)), "after"),
        (without, "after"),
    ] {
        assert_eq!(alice.ask_in_vain(frame).await, bad_request(field));
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
async fn an_answer_has_at_most_one_mebibyte() {
    const MESSAGES: u64 = 40;
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let group = alice.make_group(&[]).await;
    for _ in 0..MESSAGES {
        alice.say(&group, json!({"text": "x".repeat(32_000)})).await;
    }
    let seqs = |answer: &Value, list: &str| -> Vec<u64> {
        // As compact as it came.
        assert!(answer.to_string().len() <= 1_048_576);
        answer[list].as_array().unwrap().iter().map(|item| item["seq"].as_u64().unwrap()).collect()
    };
    // What is cut is what is furthest from where was asked; page by page nothing is left out.
    let all: Vec<u64> = (2..=MESSAGES + 1).collect();
    let asked = |kind: &str, from: &str, seq: u64| {
        with(json!({"type": kind, "conversation_id": group, "limit": 200}), from, json!(seq))
    };
    for (kind, list) in [("history", "messages"), ("changes", "entries")] {
        let first = alice.ask(asked(kind, "after", 1)).await;
        let mut upward = seqs(&first, list);
        assert_eq!((upward.len() > 20, &first["more"]), (true, &json!(true)));
        let rest = alice.ask(asked(kind, "after", *upward.last().unwrap())).await;
        upward.extend(seqs(&rest, list));
        assert_eq!((&upward, &rest["more"]), (&all, &json!(false)));
    }
    let newest = alice.ask(asked("history", "before", MESSAGES + 2)).await;
    let newest_seqs = seqs(&newest, "messages");
    assert_eq!((newest_seqs.last(), &newest["more"]), (all.last(), &json!(true)));
    let rest = alice.ask(asked("history", "before", newest_seqs[0])).await;
    assert_eq!([seqs(&rest, "messages"), newest_seqs].concat(), all);

    let sync = alice.ask(json!({"type": "sync", "entries_per_conversation": 50})).await;
    assert!(sync.to_string().len() <= 1_048_576);
    assert_eq!(sync["conversations"][0]["last_message"]["text"], "x".repeat(200));
}
