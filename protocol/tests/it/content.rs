//! What clients send each other arrives with the meaning with which it was sent.

use proptest::prelude::*;
use serde_json::Value;
use switchboard_protocol::{Content, ErrorCode};

/// Any JSON, with text of all kinds in it.
fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![".{0,8}", Just("\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}\u{2028}😀".to_owned())];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"\\\\é]{0,4}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An object without the fields that the server reads.
fn any_object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[A-Z]{1,4}", any_json(), 0..6).prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// The same JSON with whitespace between the tokens, and characters as escapes.
fn loosely(compact: &str, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut loose = String::new();
    let mut in_string = false;
    let mut characters = compact.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                in_string = !in_string;
                loose.push('"');
            }
            '\\' => {
                let kind = characters.next().unwrap();
                let digits = if kind == 'u' { 4 } else { 0 };
                loose.extend(['\\', kind]);
                loose.extend(characters.by_ref().take(digits));
            }
            _ if in_string && random.bool() => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    let digits = format!("{unit:04x}");
                    loose += "\\u";
                    loose += &if random.bool() { digits.to_uppercase() } else { digits };
                }
            }
            '/' if in_string => loose.push_str("\\/"),
            _ if in_string => loose.push(character),
            '{' | '}' | '[' | ']' | ',' | ':' => {
                loose.extend(std::iter::repeat_n(random.choice([' ', '\n', '\t', '\r']).unwrap(), random.usize(..3)));
                loose.push(character);
                loose.push(' ');
            }
            _ => loose.push(character),
        }
    }
    loose
}

proptest! {
    #[test]
    fn content_means_what_was_sent_and_is_compact(object in any_object(), seed: u64) {
        let compact = object.to_string();
        let loose = loosely(&compact, seed);
        // Compared after parsing: this reader does not parse floats exactly.
        let read = |json: &str| serde_json::from_str::<Value>(json).unwrap();
        prop_assert_eq!(read(&loose), read(&compact), "the test's own writer");

        for json in [&compact, &loose] {
            let content = Content::parse(json, compact.len()).unwrap();
            prop_assert_eq!(content.as_str(), &compact);
            prop_assert_eq!(serde_json::from_str::<Content>(&serde_json::to_string(&content).unwrap()).unwrap(), content);
        }
        let too_large = Content::parse(&loose, compact.len() - 1).unwrap_err();
        prop_assert_eq!(too_large.code(), ErrorCode::TooLarge);
    }

    #[test]
    fn any_text_is_taken_as_what_it_is_or_refused(text in ".{0,64}") {
        let is_object = serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object());
        prop_assert_eq!(Content::parse(&text, 1024).is_ok(), is_object);
    }
}

fn content(json: &str) -> Content {
    Content::parse(json, 1 << 20).unwrap()
}

#[test]
fn numbers_order_and_repeated_keys_stay_as_they_are_written() {
    let json = r#"{"z":1.50,"a":-0,"e":1E+2,"n":12345678901234567890123,"a":[0.1e-7]}"#;
    assert_eq!(content(json).as_str(), json);
}

#[test]
fn the_text_is_read() {
    assert_eq!(content(r#"{"text":"a\u00e9\n"}"#).text().as_deref(), Some("aé\n"));
    assert_eq!(content(r#"{"te\u0078t":"escaped key"}"#).text().as_deref(), Some("escaped key"));
    assert_eq!(content(r#"{"text":"first","text":"last"}"#).text().as_deref(), Some("last"));
    for without in [r"{}", r#"{"text":1}"#, r#"{"text":null}"#, r#"{"x":{"text":"deeper"}}"#] {
        assert_eq!(content(without).text(), None, "{without}");
    }
}

#[test]
fn the_preview_has_200_characters() {
    let preview = |count: usize| content(&format!(r#"{{"text":"{}"}}"#, "é".repeat(count))).preview().unwrap();
    assert_eq!(preview(200).chars().count(), 200);
    assert_eq!(preview(201), "é".repeat(200));
    assert_eq!(preview(0), "");
}

#[test]
fn mentions_are_each_user_once() {
    let ids = |json| content(json).mentions().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(ids(r#"{"mentions":["bob","alice","bob"]}"#), ["alice", "bob"]);
    assert_eq!(ids(r"{}"), Vec::<String>::new());
}

#[test]
fn ciphertext_is_told_apart() {
    assert!(content(r#"{"ciphertext":"q83v"}"#).is_encrypted());
    assert!(!content(r#"{"text":"ciphertext"}"#).is_encrypted());
}

#[test]
fn stored_text_is_taken_back() {
    let json = r#"{"text":"a"}"#;
    assert_eq!(Content::from_stored(json.to_owned()).unwrap(), content(json));
    for corrupt in ["", "[]", "{", r#"{"text":"a"}}"#, "null"] {
        assert!(Content::from_stored(corrupt.to_owned()).is_err(), "{corrupt}");
    }
}

#[test]
fn what_users_wrote_is_not_in_debug_output() {
    assert_eq!(format!("{:?}", content(r#"{"text":"secret"}"#)), "Content(17 bytes)");
}

#[test]
fn formats_other_than_json_carry_it_as_text() {
    let content = content(r#"{"text":"a","n":1.50}"#);
    let packed = rmp_serde::to_vec_named(&content).unwrap();
    assert_eq!(rmp_serde::from_slice::<Content>(&packed).unwrap(), content);
    let broken = rmp_serde::to_vec_named("{no json").unwrap();
    assert!(rmp_serde::from_slice::<Content>(&broken).is_err());
}
