//! Malformed frames: the golden examples cut, spliced and overwritten, for a bounded number of rounds. Parsing never
//! panics; what is accepted keeps its meaning when it is written and read again; what is rejected has an error that a
//! client can read.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use switchboard_protocol::{ClientFrame, ErrorCode, ServerFrame, parse_client_frame};

use crate::golden::{LIMITS, frames};

const ROUNDS: u64 = 100_000;

/// Text that is significant to a JSON reader.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "9007199254740992",
    "\\ud83d",
    "\\u0000",
    "é",
    "\u{0}",
    "{\"type\":",
    "\"id\":",
    "\"content\":{",
    "\"mentions\":[",
    "\"user_ids\":[",
];

fn mutate(random: &mut fastrand::Rng, text: &str, other: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=bytes.len());
        let end = (at + random.usize(..16)).min(bytes.len());
        match random.u8(..5) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes[at..end].fill_with(|| random.u8(..)),
            2 => drop(bytes.splice(at..at, random.choice(TOKENS).unwrap().bytes())),
            3 => {
                let from = random.usize(..other.len());
                drop(bytes.splice(at..end, other.bytes().skip(from).take(random.usize(..64))));
            }
            _ => {
                let repeated = bytes[at..end].repeat(random.usize(1..20));
                drop(bytes.splice(at..at, repeated));
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether the frame was accepted.
fn check_client(text: &str) -> bool {
    match parse_client_frame(text, &LIMITS) {
        Ok(incoming) => {
            let written = incoming.frame.encode(incoming.id.as_ref());
            assert_eq!(parse_client_frame(&written, &LIMITS).as_ref(), Ok(&incoming), "{text}");
            true
        }
        Err(rejection) => {
            if rejection.error.code() == ErrorCode::BadRequest && !rejection.not_an_object {
                assert_eq!(rejection.error.details().len(), 1, "{text}");
            }
            let id = rejection.id.clone();
            let written = rejection.encode();
            assert!(written.len() < 2_048, "an error does not repeat what was sent: {written}");
            let (read_id, frame) = ServerFrame::decode(&written).unwrap();
            assert_eq!(read_id, id);
            assert!(matches!(frame, ServerFrame::Error(_)));
            false
        }
    }
}

fn check_server(text: &str) -> bool {
    let Ok((id, frame)) = ServerFrame::decode(text) else { return false };
    let written = frame.encode(id.as_ref());
    assert_eq!(ServerFrame::decode(&written).unwrap(), (id, frame), "{text}");
    true
}

fn fuzz(seed: u64, frames: &[String], check: fn(&str) -> bool) {
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut accepted = 0u64;
    for _ in 0..ROUNDS {
        let text = random.choice(frames).unwrap();
        let other = random.choice(frames).unwrap();
        accepted += u64::from(check(&mutate(&mut random, text, other)));
    }
    // Both outcomes must be frequent, or the mutations are too wild or too tame.
    assert!((ROUNDS / 50..ROUNDS * 49 / 50).contains(&accepted), "{accepted} of {ROUNDS} accepted");
}

#[test]
fn mutated_client_frames_are_read_or_refused() {
    let frames = frames();
    let texts: Vec<_> = frames.accepted.into_iter().chain(frames.refused.into_iter().map(|(text, _)| text)).collect();
    fuzz(1, &texts, check_client);
}

#[test]
fn mutated_server_frames_are_read_or_refused() {
    fuzz(2, &frames().server, check_server);
}

/// Values that a field may not expect.
fn hostile_values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,200}".prop_map(Value::from),
        "[a-z]{1,8}".prop_map(Value::from),
        prop::collection::vec("[a-z]{0,3}".prop_map(Value::from), 0..4).prop_map(Value::from),
        "[a-z]{0,3}".prop_map(|text| json!({ "text": text })),
        Just(json!({"mentions": ["bob"]})),
        Just(json!([[[]], {}])),
    ]
}

/// An object of the given type with any of the fields that some frame has.
fn hostile_frames() -> impl Strategy<Value = String> {
    let names: Vec<String> = frames()
        .accepted
        .iter()
        .flat_map(|text| serde_json::from_str::<Map<String, Value>>(text).unwrap().into_iter().map(|(name, _)| name))
        .filter(|name| name != "type")
        .collect();
    let fields = prop::collection::btree_map(prop::sample::select(names), hostile_values(), 0..12);
    (prop::sample::select(ClientFrame::TYPES), fields).prop_map(|(type_name, fields)| {
        let mut frame: Map<String, Value> = fields.into_iter().collect();
        frame.insert("type".to_owned(), Value::from(type_name));
        Value::Object(frame).to_string()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        check_client(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text_is_refused_or_read(text in ".{0,256}") {
        check_client(&text);
        check_server(&text);
    }

    #[test]
    fn any_fields_are_refused_or_read(frame in hostile_frames()) {
        check_client(&frame);
    }
}
