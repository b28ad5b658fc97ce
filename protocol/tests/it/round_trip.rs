//! Every frame with other values than in its example keeps its meaning when it is read and written again. Equal JSON
//! before and after shows that no field is lost, added or renamed.

use std::collections::BTreeSet;

use serde_json::Value;
use switchboard_protocol::{ClientFrame, ServerFrame, Timestamp, parse_client_frame};

use crate::golden::{LIMITS, frames};

const VARIATIONS: u64 = 300;

/// Replaces the leaves by values of the same kind.
fn vary(value: &mut Value, random: &mut fastrand::Rng) {
    match value {
        Value::Null => {}
        Value::Bool(_) => *value = Value::from(random.bool()),
        Value::Number(_) => *value = Value::from(random.u64(..=200)),
        Value::String(text) => *text = vary_text(text, random),
        Value::Array(items) => items.iter_mut().for_each(|item| vary(item, random)),
        Value::Object(fields) => {
            fields.iter_mut().filter(|(name, _)| *name != "type").for_each(|(_, value)| vary(value, random));
        }
    }
}

fn vary_text(text: &str, random: &mut fastrand::Rng) -> String {
    if text.parse::<Timestamp>().is_ok() {
        return Timestamp::from_unix_ms(random.i64(0..=4_102_444_800_000)).to_string();
    }
    if text.parse::<u64>().is_ok() {
        return random.u64(..).to_string();
    }
    // Words of a fixed set (roles, codes) would be rejected when changed, so some texts stay.
    if random.u8(..4) > 0 {
        return text.to_owned();
    }
    (0..random.usize(1..64)).map(|_| random.alphanumeric()).collect()
}

/// Tries variations of each frame, and returns the types of which some were accepted.
fn round_trips(texts: &[String], written_again: impl Fn(&str) -> Option<String>) -> BTreeSet<String> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut types = BTreeSet::new();
    for text in texts {
        for _ in 0..VARIATIONS {
            let mut frame: Value = serde_json::from_str(text).unwrap();
            vary(&mut frame, &mut random);
            if let Some(written) = written_again(&frame.to_string()) {
                assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), without_false_flags(frame.clone()));
                types.insert(frame["type"].as_str().unwrap().to_owned());
            }
        }
    }
    types
}

/// `deleted`, `removed` and `reset` are written only if they are true, and so is a `topic_state`'s `more`.
fn without_false_flags(mut value: Value) -> Value {
    match &mut value {
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_false_flags(item.take())),
        Value::Object(fields) => {
            let is_state = fields.get("type").is_some_and(|kind| kind == "topic_state");
            let is_flag = |name: &str| matches!(name, "deleted" | "removed" | "reset") || (is_state && name == "more");
            fields.retain(|name, value| !(is_flag(name) && *value == false));
            fields.values_mut().for_each(|value| *value = without_false_flags(value.take()));
        }
        _ => {}
    }
    value
}

#[test]
fn client_frames_of_every_type() {
    let types = round_trips(&frames().accepted, |text| {
        let incoming = parse_client_frame(text, &LIMITS).ok()?;
        let written = incoming.frame.encode(incoming.id.as_ref());
        // Omitted defaults are written; lists of users are sorted.
        let unchanged =
            serde_json::from_str::<Value>(&written).unwrap() == serde_json::from_str::<Value>(text).unwrap();
        let again = parse_client_frame(&written, &LIMITS).unwrap();
        assert_eq!(again, incoming);
        unchanged.then_some(written)
    });
    assert_eq!(types, ClientFrame::TYPES.iter().map(ToString::to_string).collect());
}

#[test]
fn server_frames_of_every_type() {
    let types = round_trips(&frames().server, |text| {
        let (id, frame) = ServerFrame::decode(text).ok()?;
        Some(frame.encode(id.as_ref()))
    });
    assert_eq!(types, ServerFrame::TYPES.iter().map(ToString::to_string).collect());
}
