//! Malformed, oversized and unknown frames (PROTOCOL §1, §7): the socket survives them.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::{Client, Config};

#[tokio::test]
async fn the_third_frame_in_a_minute_that_is_no_object_closes() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    for text in ["", "[1]"] {
        client.send_text(text).await;
        client.expect_error("bad_request").await;
        client.expect_quiet().await;
    }
    client.send_text("{\"type\":\"ping\"} and more").await;
    assert_eq!(client.expect_farewell("bad_request").await, Some(4400));
}

#[tokio::test]
async fn an_unknown_type_is_named_and_the_socket_stays() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    for _ in 0..5 {
        assert_eq!(client.ask_in_vain(json!({"type": "sing"})).await.0, "unknown_type");
    }
    assert_eq!(client.ask_in_vain(json!({"typ": "ping"})).await, ("bad_request".to_owned(), Some("type".to_owned())));
    let answer = client.ask(json!({"type": "ping", "unknown": {"field": 1}})).await;
    assert_eq!(answer["type"], "pong");
}

#[tokio::test]
async fn an_id_has_at_most_64_bytes() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    let id = "i".repeat(64);
    client.send(&json!({"type": "ping", "id": id})).await;
    assert_eq!(client.expect("pong").await["id"], id);
    for id in [json!("i".repeat(65)), json!(7)] {
        client.send(&json!({"type": "ping", "id": id})).await;
        let error = client.recv().await;
        assert_eq!((&error["code"], &error["details"][0]["field"]), (&json!("bad_request"), &json!("id")));
        assert!(error.get("id").is_none());
    }
    client.send(&json!({"type": "ping"})).await;
    assert_eq!(client.recv().await, json!({"type": "pong"}));
}

#[tokio::test]
async fn a_binary_message_is_of_no_use_here() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    client.send_message(Message::binary(b"{\"type\":\"ping\"}".to_vec())).await;
    assert_eq!(client.expect_close().await, Some(1003));
}

#[tokio::test]
async fn a_message_has_at_most_frame_bytes() {
    let server = Config::new().set("limits.frame_bytes", 1_000).set("limits.content_bytes", 500).start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    let ping = |bytes: usize| {
        let empty = json!({"type": "ping", "pad": ""}).to_string();
        json!({"type": "ping", "pad": "x".repeat(bytes - empty.len())}).to_string()
    };
    client.send_text(&ping(1_000)).await;
    client.expect("pong").await;
    // Fragments count as a whole.
    let (head, tail) = (ping(1_000)[..600].to_owned(), ping(1_000)[600..].to_owned());
    client.send_message(fragment(head.clone(), Data::Text, false)).await;
    client.send_message(fragment(tail.clone(), Data::Continue, true)).await;
    client.expect("pong").await;
    client.send_message(fragment(head.clone(), Data::Text, false)).await;
    client.send_message(fragment(tail + " ", Data::Continue, true)).await;
    assert_eq!(client.expect_close().await, Some(1009));

    let mut client = Client::sign_in(&server, "alice").await;
    client.send_text(&ping(1_001)).await;
    assert_eq!(client.expect_close().await, Some(1009));
}

fn fragment(payload: String, data: Data, is_final: bool) -> Message {
    Message::Frame(Frame::message(payload, OpCode::Data(data), is_final))
}

#[tokio::test]
async fn text_must_be_utf_8() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    client.send_message(Message::Frame(Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true))).await;
    assert_eq!(client.expect_close().await, Some(1007));
}

#[tokio::test]
async fn broken_framing_is_a_protocol_error() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    // A text frame without a mask.
    client.stream_mut().write_all(b"\x81\x02{}").await.unwrap();
    assert_eq!(client.expect_close().await, Some(1002));
}

#[tokio::test]
async fn frames_that_name_no_answer_are_answered_only_with_an_id() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    let sent = client.ask(json!({"type": "send", "to": "bob", "client_id": "1", "content": {"text": "x"}})).await;
    let id = &sent["conversation_id"];
    let quiet = [
        json!({"type": "typing_start", "conversation_id": id}),
        json!({"type": "typing_stop", "conversation_id": id}),
        json!({"type": "delivered", "conversation_id": id, "seq": 1}),
        json!({"type": "read", "conversation_id": id, "seq": 1}),
        json!({"type": "signal", "conversation_id": id, "kind": "k", "data": {}}),
        json!({"type": "presence_set", "status": "away"}),
        json!({"type": "presence_unwatch", "user_ids": ["bob"]}),
        json!({"type": "conversation_close", "conversation_id": id}),
    ];
    for frame in quiet {
        client.send(&frame).await;
        client.expect_quiet().await;
        assert_eq!(client.ask(frame.clone()).await["type"], "ok", "{frame}");
    }
}

#[tokio::test]
async fn answers_about_one_conversation_come_in_the_order_of_the_frames() {
    let server = Config::new().start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    for n in 0..40 {
        let frame = match n % 4 {
            0 | 1 => json!({"type": "send", "to": "bob", "client_id": format!("c{n}"), "content": {"text": "x"}}),
            2 => json!({"type": "send", "to": "bob", "client_id": "c0", "content": {"text": "x"}}),
            _ => json!({"type": "send", "to": "alice", "client_id": format!("c{n}"), "content": {"text": "x"}}),
        };
        let mut frame = frame;
        frame["id"] = json!(n.to_string());
        client.feed(&frame).await;
    }
    client.flush().await;
    let mut about_bob = Vec::new();
    for _ in 0..40 {
        let answer = client.recv().await;
        let n: u32 = answer["id"].as_str().unwrap().parse().unwrap();
        if n % 4 == 3 {
            assert_eq!(answer["type"], "error", "one can't write to oneself: {answer}");
        } else {
            about_bob.push(n);
        }
    }
    assert!(about_bob.is_sorted(), "{about_bob:?}");
    assert_eq!(about_bob.len(), 30);
}

#[tokio::test]
async fn what_is_refused_is_answered_in_its_turn() {
    let server = Config::new().set("limits.frames_per_s", 10).start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    // Two of every three are invalid; those after the twentieth exceed the rate, as far as they come at once.
    let count = 60;
    let begun = Instant::now();
    for n in 0..count {
        let mut frame = json!({"type": "send", "to": "bob", "client_id": n.to_string(), "content": {"text": "x"}, "id": n.to_string()});
        match n % 3 {
            0 => {}
            1 => frame["content"] = json!("no object"),
            _ => frame["type"] = json!("sing"),
        }
        client.feed(&frame).await;
    }
    client.flush().await;
    let mut within_rate = 0;
    for n in 0..count {
        let answer = client.recv().await;
        assert_eq!(answer["id"], n.to_string(), "{answer}");
        if n >= 20 && answer["code"] == "rate_limited" {
            continue;
        }
        within_rate += 1;
        let expected = match n % 3 {
            0 => "sent",
            1 => "bad_request",
            _ => "unknown_type",
        };
        let said = if answer["type"] == "error" { &answer["code"] } else { &answer["type"] };
        assert_eq!(said, expected, "{answer}");
    }
    let may_be = 20 + begun.elapsed().as_millis() / 100;
    assert!(within_rate <= may_be, "{within_rate} of {may_be}");
}

#[tokio::test]
async fn requests_beyond_the_nodes_bound_are_refused() {
    let server = Config::new().set("limits.requests_waiting_max", 2).start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    // They arrive in one segment, so none has been answered when the last is read.
    for n in 0..3 {
        client.feed(&json!({"type": "sync", "id": n.to_string()})).await;
    }
    client.flush().await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let answer = client.recv().await;
        answers.push((answer["id"].as_str().unwrap().to_owned(), answer["type"] == "sync"));
        if answer["type"] == "error" {
            assert_eq!(answer["code"], "overloaded");
            assert!(answer["retry_after_ms"].is_u64(), "{answer}");
        }
    }
    answers.sort();
    let expected = [("0", true), ("1", true), ("2", false)].map(|(id, is_answered)| (id.to_owned(), is_answered));
    assert_eq!(answers, expected);
    client.ask(json!({"type": "sync"})).await;
}

#[tokio::test]
async fn conversations_beyond_the_nodes_bound_wait_for_one_that_is_idle() {
    let server = Config::new()
        .set("limits.conversations_active_max", 1)
        .set("limits.conversation_idle_ms", 100)
        .set("limits.frames_per_s", 100_000)
        .start()
        .await;
    let mut client = Client::sign_in(&server, "alice").await;
    let send = |to: &str| json!({"type": "send", "id": to, "to": to, "client_id": "1", "content": {"text": "x"}});
    client.feed(&send("bob")).await;
    client.feed(&send("carol")).await;
    client.flush().await;
    for _ in 0..2 {
        let answer = client.recv().await;
        let expected = if answer["id"] == "bob" { "sent" } else { "error" };
        assert_eq!(answer["type"], expected, "{answer}");
    }
    let carol = async {
        loop {
            let answer = client.ask(send("carol")).await;
            if answer["type"] == "sent" {
                break;
            }
            assert_eq!(answer["code"], "overloaded", "{answer}");
            client.expect_quiet().await;
        }
    };
    crate::support::soon("a conversation that is released", carol).await;
}

#[tokio::test]
async fn requests_beyond_a_sessions_bound_wait() {
    let server = Config::new().set("limits.session_requests_max", 1).start().await;
    let mut client = Client::sign_in(&server, "alice").await;
    for n in 0..50 {
        client.feed(&json!({"type": "sync", "id": n.to_string()})).await;
    }
    client.flush().await;
    for n in 0..50 {
        assert_eq!(client.expect("sync").await["id"], n.to_string());
    }
}
