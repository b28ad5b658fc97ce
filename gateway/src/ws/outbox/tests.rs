//! Tests of an outbox: the order, limits and merging of frames, and the orders to its session.

use super::*;
use bytes::Bytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

fn frame(text: impl Into<Bytes>, class: Class) -> Arc<Delivery> {
    Arc::new(Delivery { json: text.into(), kind: "message", class, position: None })
}

pub(in crate::ws) fn undroppable(text: impl Into<Bytes>) -> Arc<Delivery> {
    frame(text, Class::Undroppable)
}

fn ephemeral(text: &'static str, key: u64) -> Arc<Delivery> {
    frame(text, Class::Ephemeral { key })
}

fn taken(outbox: &Outbox) -> Vec<String> {
    let mut taken = Vec::new();
    outbox.take_frames(Mark::ALL, |delivery| {
        taken.push(String::from_utf8_lossy(&delivery.json).into_owned());
        true
    });
    taken
}

fn orders(outbox: &Outbox) -> Orders {
    outbox.begin_turn(Waker::noop()).0
}

#[test]
fn frames_leave_in_the_order_of_the_calls() {
    let outbox = Outbox::new(100);
    for delivery in [undroppable("1"), ephemeral("2", 1), undroppable("3"), ephemeral("4", 2), ephemeral("5", 3)] {
        outbox.deliver(&delivery);
    }
    assert_eq!(taken(&outbox), ["1", "2", "3", "4", "5"]);
    outbox.deliver(&undroppable("6"));
    assert_eq!((taken(&outbox), outbox.bytes()), (vec!["6".to_owned()], 0));
}

#[test]
fn a_newer_ephemeral_frame_takes_the_place_of_the_older_with_its_key() {
    let outbox = Outbox::new(100);
    for delivery in [ephemeral("a1", 1), undroppable("m"), ephemeral("b1", 2), ephemeral("a22", 1)] {
        outbox.deliver(&delivery);
    }
    assert_eq!(outbox.bytes(), 6);
    assert_eq!(taken(&outbox), ["a22", "m", "b1"]);
}

#[test]
fn a_full_queue_drops_ephemeral_frames_first_and_then_closes_the_reader() {
    let outbox = Outbox::new(10);
    outbox.deliver(&undroppable("12345"));
    outbox.deliver(&ephemeral("e1", 1));
    outbox.deliver(&ephemeral("e2", 2));
    outbox.deliver(&ephemeral("e3", 3));
    assert_eq!(outbox.bytes(), 9, "the third ephemeral frame has no room");
    outbox.deliver(&undroppable("123"));
    assert_eq!(outbox.bytes(), 10, "the oldest ephemeral frame was dropped");
    outbox.deliver(&undroppable("12"));
    assert_eq!(outbox.bytes(), 10, "and now the other one");
    assert_eq!(orders(&outbox).close, None, "exactly full is allowed");
    outbox.deliver(&undroppable("1"));
    assert_eq!(orders(&outbox).close, Some(CloseCode::SlowConsumer));
    assert!(taken(&outbox).is_empty());
    outbox.deliver(&undroppable("1"));
    assert_eq!(outbox.bytes(), 0, "no more frames are accepted");
}

#[test]
fn a_newer_ephemeral_frame_that_has_no_room_is_dropped_with_the_older() {
    let outbox = Outbox::new(10);
    outbox.deliver(&undroppable("12345"));
    outbox.deliver(&ephemeral("e1", 1));
    outbox.deliver(&ephemeral("e1 longer", 1));
    assert_eq!(outbox.bytes(), 5);
    assert_eq!(taken(&outbox), ["12345"]);
}

#[test]
fn ephemeral_frames_have_a_bound_in_number() {
    let outbox = Outbox::new(1_000);
    for key in 0..=EPHEMERAL_MAX as u64 {
        outbox.deliver(&ephemeral(if key == 0 { "first" } else { "other" }, key));
    }
    let taken = taken(&outbox);
    assert_eq!(taken.len(), EPHEMERAL_MAX);
    assert!(!taken.contains(&"first".to_owned()));
}

fn update(version: u64, points: &str) -> Arc<Delivery> {
    let json = format!(
        r#"{{"type":"topic_update","topic":"t","window":"1s","version":{version},"series":[{{"series":"s","tags":{{}},"points":[{points}]}}],"closed_until_ms":0}}"#
    );
    let class = Class::Conflated { key: 1 };
    Arc::new(Delivery { json: json.into(), kind: "topic_update", class, position: None })
}

#[test]
fn updates_that_wait_become_one_in_the_place_of_the_first() {
    let outbox = Outbox::new(1_000);
    outbox.deliver(&update(1, "[0,1,1,1,1,1,1,1]"));
    outbox.deliver(&undroppable("m"));
    outbox.deliver(&update(2, "[0,2,2,1,1,1,1,1],[1000,1,1,1,1,1,1,1]"));
    let merged = update(2, "[0,2,2,1,1,1,1,1],[1000,1,1,1,1,1,1,1]");
    assert_eq!(outbox.bytes(), merged.json.len() + 1);
    assert_eq!(taken(&outbox), [String::from_utf8_lossy(&merged.json).into_owned(), "m".to_owned()]);
    outbox.deliver(&update(1, "[0,1,1,1,1,1,1,1]"));
    outbox.deliver(&update(2, "[1000,1,1,1,1,1,1,1]"));
    let merged = update(2, "[0,1,1,1,1,1,1,1],[1000,1,1,1,1,1,1,1]");
    assert_eq!(taken(&outbox), [String::from_utf8_lossy(&merged.json).into_owned()]);
}

#[test]
fn an_update_is_never_silently_dropped() {
    let room = update(1, "").json.len();
    let outbox = Outbox::new(room + 1);
    outbox.deliver(&undroppable("m"));
    outbox.deliver(&ephemeral("e1", 1));
    outbox.deliver(&update(1, ""));
    assert_eq!((outbox.bytes(), orders(&outbox).close), (room + 1, None), "ephemeral frames are dropped first");
    outbox.deliver(&update(2, "[0,1,1,1,1,1,1,1]"));
    assert_eq!(orders(&outbox).close, Some(CloseCode::SlowConsumer));
}

#[test]
fn only_what_waited_at_a_mark_is_taken() {
    let outbox = Outbox::new(100);
    outbox.deliver(&undroppable("1"));
    let mark = outbox.mark();
    outbox.deliver(&undroppable("2"));
    let mut first = Vec::new();
    outbox.take_frames(mark, |delivery| {
        first.push(delivery.json.clone());
        true
    });
    assert_eq!(first, ["1"]);
    assert_eq!(taken(&outbox), ["2"]);
}

#[test]
fn who_has_no_more_room_leaves_the_rest() {
    let outbox = Outbox::new(100);
    for text in ["1", "2", "3"] {
        outbox.deliver(&undroppable(text));
    }
    let mut room = 2;
    outbox.take_frames(Mark::ALL, |_| {
        room -= 1;
        room > 0
    });
    assert_eq!(taken(&outbox), ["3"]);
}

#[test]
fn the_first_reason_to_close_counts_and_orders_come_once() {
    let outbox = Outbox::new(100);
    outbox.close(CloseCode::Replaced);
    outbox.close(CloseCode::Revoked);
    outbox.reconnect(5, Some("ws://n2/v1/ws"));
    outbox.ring();
    let url = Some("ws://n2/v1/ws".to_owned());
    let reconnect = Some(Box::new(Move { after_ms: 5, url }));
    assert_eq!(orders(&outbox), Orders { alarm: true, close: Some(CloseCode::Replaced), reconnect });
    assert_eq!(orders(&outbox), Orders::default());
}

#[derive(Default)]
pub(in crate::ws) struct Wakes(pub(in crate::ws) AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_session_is_woken_once_however_much_comes() {
    let outbox = Outbox::new(100);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    outbox.begin_turn(&waker);
    for _ in 0..3 {
        outbox.deliver(&undroppable("1"));
    }
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    outbox.begin_turn(&waker);
    outbox.shut();
    outbox.ring();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 2, "a closing session has deadlines too");
}
