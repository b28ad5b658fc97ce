//! Server faults are found: each test plants one fault between the harness and a real node.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::proxy::{Fault, Passed, Passing, Proxy};
use crate::support::{Harness, Node, Ran};

/// Entries of a conversation that are left alone, before the fault.
const RIGHT: u64 = 3;

/// Runs three pairs of writers against a node with this fault.
async fn ran(fault: Fault) -> Ran {
    let node = Node::with_secret().await;
    let proxy = Proxy::start(&node.listen, fault).await;
    let line = format!(
        "direct --url ws://{} --connections 6 --rate 120 --warm-up 0 --duration 0.5 --verify --no-baseline",
        proxy.listen
    );
    Harness::new(&line).signing().run().await
}

/// The fault is found by this rule, with its place; and the run fails accordingly.
#[track_caller]
fn assert_found(ran: &Ran, rule: &str) {
    let verdict = ran.verdict();
    assert_eq!(ran.code, Some(1), "{}\n{verdict}", ran.stderr);
    let listed = verdict["listed"].as_array().unwrap();
    let found = listed.iter().find(|violation| violation["rule"] == rule);
    let found = found.unwrap_or_else(|| panic!("no {rule}: {verdict:#}"));
    let id = found["conversation_id"].as_str().unwrap();
    assert!(id.starts_with("d:") && found["seq"].as_u64() > Some(0), "{found}");
    assert!(ran.stdout.contains(rule) && ran.stdout.contains(id), "{}", ran.stdout);
}

/// The first unsolicited message with this `seq` or a later one; `None` once there was one.
fn first_live(passing: &Passing<'_>, is_done: &mut bool) -> bool {
    let is_it = !*is_done && passing.is("message") && passing.frame["seq"].as_u64() > Some(RIGHT);
    *is_done |= is_it;
    is_it
}

fn each_in<'a>(frame: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    frame[list].as_array_mut().into_iter().flatten()
}

#[tokio::test]
async fn nothing_is_found_where_nothing_is_wrong() {
    let ran = ran(Box::new(|passing| passing.on())).await.expect_right();
    assert_eq!((ran.counted("sends"), ran.counted("deliveries")), (60, 60));
    assert_eq!(ran.verdict()["read_back"], 3);
}

#[tokio::test]
async fn a_message_that_is_not_delivered() {
    let mut is_done = false;
    let lose: Fault =
        Box::new(move |passing| if first_live(&passing, &mut is_done) { Passed::default() } else { passing.on() });
    assert_found(&ran(lose).await, "lost");
}

#[tokio::test]
async fn a_message_that_is_gone_from_the_log() {
    let lose: Fault = Box::new(|passing| {
        let mut frame = passing.frame.clone();
        if let Some(messages) = frame["messages"].as_array_mut() {
            messages.retain(|message| message["seq"] != RIGHT);
        }
        passing.as_these(vec![frame])
    });
    assert_found(&ran(lose).await, "lost");
}

/// In the place after the sender's first message. A sender's further ones are held back until that one is acknowledged.
#[tokio::test]
async fn a_message_that_is_acknowledged_and_never_stored() {
    let (mut held, mut last, mut is_done) = (HashMap::<_, Vec<Value>>::new(), HashMap::new(), false);
    let lie: Fault = Box::new(move |passing| {
        let (frame, connection) = (passing.frame, passing.connection);
        let mut passed = Passed::default();
        if passing.is("sent") {
            last.insert(connection, (frame["conversation_id"].clone(), frame["seq"].as_u64().unwrap()));
            passed.to_client.push(frame.clone());
        } else if !passing.is_from_node && frame["type"] == "send" {
            let Some(held) = held.get_mut(&connection) else {
                held.insert(connection, Vec::new());
                return passing.on();
            };
            held.push(frame.clone());
        } else {
            return passing.on();
        }
        let Some((conversation_id, seq)) = last.get(&connection) else { return passed };
        for send in held.get_mut(&connection).into_iter().flat_map(|held| held.drain(..)) {
            if is_done {
                passed.to_node.push(send);
                continue;
            }
            is_done = true;
            passed.to_client.push(json!({"type": "sent", "client_id": send["client_id"],
                "conversation_id": conversation_id, "seq": seq + 1, "message_id": "1",
                "timestamp": "2026-01-01T00:00:00.000Z", "duplicate": false}));
        }
        passed
    });
    assert_found(&ran(lie).await, "lost");
}

#[tokio::test]
async fn a_message_that_is_delivered_twice() {
    let mut is_done = false;
    let double: Fault = Box::new(move |passing| {
        let times = if first_live(&passing, &mut is_done) { 2 } else { 1 };
        passing.as_these(vec![passing.frame.clone(); times])
    });
    assert_found(&ran(double).await, "duplicate");
}

/// One `client_id` in two places, in every view.
#[tokio::test]
async fn a_message_that_is_stored_twice() {
    let mut first = None;
    let double: Fault = Box::new(move |passing| {
        let mut frame = passing.frame.clone();
        if !passing.is_from_node {
            return passing.on();
        }
        let mut forge = |message: &mut Value| {
            // One of the pair writes roughly the odd ones, the other the even ones; what matters is the sender.
            let key = (message["conversation_id"].clone(), message["from"].clone());
            match &first {
                None if message["seq"] == 1 => first = Some((key, message["client_id"].clone())),
                Some((known, client_id)) if *known == key && message["seq"] != 1 => {
                    message["client_id"] = client_id.clone();
                }
                _ => {}
            }
        };
        if frame["type"] == "message" {
            forge(&mut frame);
        }
        each_in(&mut frame, "entries").for_each(&mut forge);
        each_in(&mut frame, "messages").for_each(&mut forge);
        passing.as_these(vec![frame])
    });
    assert_found(&ran(double).await, "duplicate");
}

#[tokio::test]
async fn two_messages_that_are_delivered_in_the_wrong_order() {
    let (mut is_done, mut held) = (false, None);
    let swap: Fault = Box::new(move |passing| {
        if first_live(&passing, &mut is_done) {
            held = Some((passing.connection, passing.frame.clone()));
            return Passed::default();
        }
        let is_next = passing.is("message") && held.as_ref().is_some_and(|(on, _)| *on == passing.connection);
        let before = if is_next { held.take() } else { None };
        passing.as_these(std::iter::once(passing.frame.clone()).chain(before.map(|(_, frame)| frame)).collect())
    });
    assert_found(&ran(swap).await, "reordered");
}

#[tokio::test]
async fn a_log_that_is_in_the_wrong_order() {
    let swap: Fault = Box::new(|passing| {
        let mut frame = passing.frame.clone();
        if let Some(messages) = frame["messages"].as_array_mut().filter(|messages| messages.len() > 2) {
            messages.swap(1, 2);
        }
        passing.as_these(vec![frame])
    });
    assert_found(&ran(swap).await, "reordered");
}

#[tokio::test]
async fn a_message_that_is_another_for_somebody() {
    let mut is_done = false;
    let forge: Fault = Box::new(move |passing| {
        let mut frame = passing.frame.clone();
        if first_live(&passing, &mut is_done) {
            frame["content"]["text"] = "forged".into();
        }
        passing.as_these(vec![frame])
    });
    assert_found(&ran(forge).await, "differing");
}

#[tokio::test]
async fn an_unread_count_that_is_wrong() {
    let miscount: Fault = Box::new(|passing| {
        let mut frame = passing.frame.clone();
        for conversation in each_in(&mut frame, "conversations") {
            conversation["unread"] = (conversation["unread"].as_u64().unwrap() + 1).into();
        }
        passing.as_these(vec![frame])
    });
    assert_found(&ran(miscount).await, "wrong unread");
}

#[tokio::test]
async fn an_answer_from_before() {
    let delay: Fault = Box::new(|passing| {
        let mut frame = passing.frame.clone();
        for conversation in each_in(&mut frame, "conversations") {
            conversation["last_seq"] = 1.into();
        }
        passing.as_these(vec![frame])
    });
    assert_found(&ran(delay).await, "stale");
}
