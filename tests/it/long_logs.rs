//! Conversations with a long history (PROTOCOL §3): pages of `history` and `changes`, the size limit of an answer, and
//! how far back a repeat is recognised.

use serde_json::{Value, json};

use crate::support::{Client, Config, Server};

/// How far back a repeat is recognised without `base_seq` (PROTOCOL §3).
const RECENT_ENTRIES: u64 = 10_000;

/// How much further back it is searched for with `base_seq`.
const SEARCHED_ENTRIES: u64 = 4;

fn send(name: u64, text: &str) -> Value {
    json!({"type": "send", "to": "bob", "client_id": format!("c{name}"), "content": {"text": text}})
}

/// Sends a number of messages as Alice; returns their conversation.
async fn write(alice: &mut Client, names: std::ops::RangeInclusive<u64>, text: &str) -> Value {
    const AT_ONCE: usize = 500;
    let mut conversation = json!(null);
    let names: Vec<u64> = names.collect();
    for names in names.chunks(AT_ONCE) {
        for name in names {
            alice.feed(&send(*name, text)).await;
        }
        alice.flush().await;
        for name in names {
            let sent = alice.expect("sent").await;
            assert_eq!(sent["seq"], *name, "{sent}");
            conversation = sent["conversation_id"].clone();
        }
    }
    conversation
}

async fn start() -> (Server, Client) {
    let server = Config::new()
        .set("limits.frames_per_s", 1_000_000)
        .set("limits.resend_search_max", SEARCHED_ENTRIES)
        .start()
        .await;
    let alice = Client::sign_in(&server, "alice").await;
    (server, alice)
}

#[tokio::test]
async fn a_page_is_asked_for_within_its_bounds() {
    let (_server, mut alice) = start().await;
    let id = write(&mut alice, 1..=2, "x").await;
    const SEQ_MAX: u64 = 9_007_199_254_740_991;
    let page = |kind: &str, fields: &Value| {
        let mut frame = json!({"type": kind, "conversation_id": id});
        frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        frame
    };
    for (kind, fields, field) in [
        ("history", json!({"before": 2, "after": 1}), "after"),
        ("history", json!({"before": -1}), "before"),
        ("history", json!({"before": SEQ_MAX + 1}), "before"),
        ("history", json!({"after": "1"}), "after"),
        ("history", json!({"after": SEQ_MAX + 1}), "after"),
        ("history", json!({"limit": 1.5}), "limit"),
        ("changes", json!({}), "after"),
        ("changes", json!({"after": -1}), "after"),
        ("changes", json!({"after": SEQ_MAX + 1}), "after"),
        ("changes", json!({"after": 0, "limit": "all"}), "limit"),
    ] {
        let refused = alice.ask_in_vain(page(kind, &fields)).await;
        assert_eq!(refused, ("bad_request".to_owned(), Some(field.to_owned())), "{kind} {fields}");
    }
    for (kind, list, fields, length) in [
        ("history", "messages", json!({"before": SEQ_MAX}), 2),
        ("history", "messages", json!({"before": 0}), 0),
        ("history", "messages", json!({"after": SEQ_MAX}), 0),
        ("history", "messages", json!({"limit": 200}), 2),
        ("changes", "entries", json!({"after": SEQ_MAX}), 0),
        ("changes", "entries", json!({"after": 0, "limit": 500}), 2),
    ] {
        let answer = alice.ask(page(kind, &fields)).await;
        assert_eq!(answer[list].as_array().map(Vec::len), Some(length), "{kind} {fields}: {answer}");
        assert_eq!((&answer["last_seq"], &answer["more"], answer.get("reset")), (&json!(2), &json!(false), None));
    }
}

#[tokio::test]
async fn an_answer_has_at_most_one_mebibyte_and_says_that_there_is_more() {
    const MESSAGES: u64 = 40;
    let (_server, mut alice) = start().await;
    let text = "x".repeat(32_000);
    let id = write(&mut alice, 1..=MESSAGES, &text).await;
    for (kind, list) in [("history", "messages"), ("changes", "entries")] {
        let mut seen = 0;
        loop {
            let ask = json!({"type": kind, "conversation_id": id, "after": seen, "limit": 200});
            let answer = alice.ask(ask).await;
            let bytes = answer.to_string().len();
            assert!(bytes <= 1_048_576, "{kind}: {bytes}");
            for item in answer[list].as_array().unwrap() {
                seen += 1;
                assert_eq!(item["seq"], seen);
            }
            assert_eq!(answer["more"], seen < MESSAGES, "{kind} at {seen}");
            if seen == MESSAGES {
                break;
            }
            assert!(bytes > 900_000, "{kind} stops long before the bound: {bytes}");
        }
    }
}

#[tokio::test]
async fn a_repeat_is_known_for_so_many_entries_and_with_base_seq_for_longer() {
    let (server, mut alice) = start().await;
    let id = write(&mut alice, 1..=RECENT_ENTRIES, "x").await;
    let with_base = |name: u64, base: u64| {
        let mut frame = send(name, "again");
        frame["base_seq"] = json!(base);
        frame
    };
    let is_repeat_of = |sent: &Value, seq: u64| {
        assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(seq), &json!(true)), "{sent}");
    };
    is_repeat_of(&alice.ask(send(1, "again")).await, 1);
    write(&mut alice, RECENT_ENTRIES + 1..=RECENT_ENTRIES + 2, "x").await;
    // The oldest one that is remembered, right before it is forgotten.
    is_repeat_of(&alice.ask(with_base(2, 0)).await, 2);
    let server = server.kill_and_restart().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    is_repeat_of(&alice.ask(with_base(1, 0)).await, 1);
    is_repeat_of(&alice.ask(with_base(2, 1)).await, 2);
    is_repeat_of(&alice.ask(send(3, "again")).await, 3);
    // Too old to be recognised without `base_seq`, and before the base.
    let last = RECENT_ENTRIES + 2;
    for (frame, seq) in [(send(1, "anew"), last + 1), (with_base(2, 2), last + 2), (with_base(0, 0), last + 3)] {
        let sent = alice.ask(frame).await;
        assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(seq), &json!(false)), "{sent}");
    }

    // The search is limited: one entry further back is not found.
    let last = last + 7;
    write(&mut alice, last - 3..=last, "x").await;
    let server = server.kill_and_restart().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let oldest_recent = last - RECENT_ENTRIES + 1;
    let base = oldest_recent - 1 - SEARCHED_ENTRIES;
    is_repeat_of(&alice.ask(with_base(base + 1, base)).await, base + 1);
    assert_eq!(alice.ask_in_vain(with_base(base, base - 1)).await, ("outcome_unknown".to_owned(), None));
    let history = alice.ask(json!({"type": "history", "conversation_id": id})).await;
    assert_eq!(history["last_seq"], last, "nothing is stored");
}
