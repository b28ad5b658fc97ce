//! Every limit and rule of PROTOCOL.md that a single frame can violate: at the limit, and one past it.

use serde_json::{Value, json};
use switchboard_protocol::limits::{
    CHANGES_LIMIT_MAX, CURSOR_BYTES_MAX, CUSTOM_BYTES_MAX, EVENTS_MAX, GROUP_MEMBERS_MAX, HISTORY_LIMIT_MAX,
    JSON_DEPTH_MAX, MEMBERS_LIMIT_MAX, MENTIONS_MAX, PRESENCE_WATCH_MAX, SEQ_MAX, SERIES_BYTES_MAX,
    SIGNAL_DATA_BYTES_MAX, SYNC_ENTRIES_MAX, SYNC_LIMIT_MAX, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX,
    TITLE_BYTES_MAX, TOPIC_RANGE_S_MAX,
};
use switchboard_protocol::{ErrorCode, Incoming, Rejection, parse_client_frame};

use crate::golden::LIMITS;

#[track_caller]
fn accepts(frame: &Value) -> Incoming {
    accepts_text(&frame.to_string())
}

#[track_caller]
fn accepts_text(frame: &str) -> Incoming {
    parse_client_frame(frame, &LIMITS).unwrap_or_else(|rejection| panic!("refused: {:?}", rejection.error))
}

#[track_caller]
fn refuses(frame: &Value, field: &str) -> Rejection {
    refuses_with(&frame.to_string(), ErrorCode::BadRequest, field)
}

#[track_caller]
fn refuses_with(frame: &str, code: ErrorCode, field: &str) -> Rejection {
    let rejection = parse_client_frame(frame, &LIMITS).expect_err("must be refused");
    assert_eq!(rejection.error.code(), code);
    let fields: Vec<_> = rejection.error.details().iter().map(|detail| detail.field.as_ref()).collect();
    assert_eq!(fields, [field]);
    rejection
}

/// `frame` with `field` set.
fn with(frame: &Value, field: &str, value: impl Into<Value>) -> Value {
    let mut frame = frame.clone();
    frame[field] = value.into();
    frame
}

fn without(frame: &Value, field: &str) -> Value {
    let mut frame = frame.clone();
    frame.as_object_mut().unwrap().remove(field);
    frame
}

fn send() -> Value {
    json!({"type": "send", "id": "1", "conversation_id": "g:1", "client_id": "c", "content": {}})
}

fn create() -> Value {
    json!({"type": "conversation_create", "kind": "group", "client_id": "c", "members": []})
}

fn user_ids(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("u{n}")).collect()
}

#[test]
fn ids_have_1_to_128_bytes_of_their_alphabet() {
    let cases = [
        ("send", "conversation_id", send()),
        ("auth", "device_id", json!({"token": "t"})),
        ("block", "user_id", json!({})),
    ];
    for (type_name, field, frame) in cases {
        let frame = with(&frame, "type", type_name);
        accepts(&with(&frame, field, "a".repeat(128)));
        accepts(&with(&frame, field, "AZaz09_-.:@"));
        for malformed in
            [json!("a".repeat(129)), json!(""), json!("a b"), json!("ä"), json!("a\n"), json!(7), json!({})]
        {
            refuses(&with(&frame, field, malformed), field);
        }
    }
}

#[test]
fn an_instance_id_may_be_empty() {
    let frame = json!({"type": "auth", "token": "t"});
    accepts(&with(&frame, "instance_id", ""));
    accepts(&with(&frame, "instance_id", "a".repeat(128)));
    refuses(&with(&frame, "instance_id", "a".repeat(129)), "instance_id");
}

#[test]
fn a_frame_id_has_at_most_64_bytes_and_a_malformed_one_is_not_echoed() {
    let at_the_limit = "é".repeat(32);
    assert_eq!(accepts(&json!({"type": "ping", "id": at_the_limit})).id.unwrap().as_str(), at_the_limit);
    accepts(&json!({"type": "ping", "id": ""}));
    for malformed in [json!("x".repeat(65)), json!(1), json!(["x"])] {
        assert_eq!(refuses(&json!({"type": "ping", "id": malformed}), "id").id, None);
    }
    // Other mistakes are not examined.
    let rejection = refuses(&json!({"type": "send", "id": 1, "client_id": "c"}), "id");
    assert_eq!(rejection.client_id.unwrap().as_str(), "c");
}

#[test]
fn a_refused_send_carries_its_id_and_client_id() {
    let rejection = refuses(&with(&send(), "content", 1), "content");
    assert_eq!(rejection.id.unwrap().as_str(), "1");
    assert_eq!(rejection.client_id.unwrap().as_str(), "c");
    assert_eq!(refuses(&with(&create(), "kind", 1), "kind").client_id, None);
    let escaped = r#"{"type":"s\u0065nd","client_id":"c"}"#;
    assert!(refuses_with(escaped, ErrorCode::BadRequest, "conversation_id").client_id.is_some());
}

#[test]
fn a_client_id_has_1_to_128_bytes() {
    for accepted in ["ü".repeat(64), " ".to_owned(), "a\u{7}\u{85}b".to_owned()] {
        accepts(&with(&send(), "client_id", accepted));
    }
    for malformed in ["ü".repeat(64) + "x", String::new()] {
        assert_eq!(refuses(&with(&send(), "client_id", malformed), "client_id").client_id, None);
    }
    refuses(&without(&send(), "client_id"), "client_id");
}

#[test]
fn a_send_has_one_target() {
    accepts(&with(&without(&send(), "conversation_id"), "to", "bob"));
    refuses(&with(&send(), "to", "bob"), "to");
    refuses(&without(&send(), "conversation_id"), "conversation_id");
}

#[test]
fn content_bytes_count_compact_utf8() {
    let content = |fill: usize| format!(r#"{{"text":"{}"}}"#, "x".repeat(fill));
    let frame = |content: &str| format!(r#"{{"type":"send","to":"bob","client_id":"c","content":{content}}}"#);
    let fill = LIMITS.content_bytes - content(0).len();
    accepts_text(&frame(&content(fill)));
    refuses_with(&frame(&content(fill + 1)), ErrorCode::TooLarge, "content");
    // Neither whitespace nor escapes count.
    let spaced = content(fill).replace("\":\"x", "\" : \n\"\\u0078");
    accepts_text(&frame(&spaced));
    let edit = |content: &str| format!(r#"{{"type":"edit","conversation_id":"d:1","seq":1,"content":{content}}}"#);
    accepts_text(&edit(&content(fill)));
    refuses_with(&edit(&content(fill + 1)), ErrorCode::TooLarge, "content");
}

#[test]
fn content_is_an_object_that_others_can_read() {
    for malformed in [json!(null), json!("text"), json!([]), json!(1), json!(true)] {
        refuses(&with(&send(), "content", malformed), "content");
    }
    refuses(&without(&send(), "content"), "content");
    let frame = |json: &str| format!(r#"{{"type":"send","to":"bob","client_id":"c","content":{{"x":{json}}}}}"#);
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    accepts_text(&frame(&nested(JSON_DEPTH_MAX - 1)));
    refuses_with(&frame(&nested(JSON_DEPTH_MAX)), ErrorCode::BadRequest, "content");
    refuses_with(&frame(&nested(10_000)), ErrorCode::BadRequest, "content");
    accepts_text(&frame("1.7976931348623157e308"));
    refuses_with(&frame("1e309"), ErrorCode::BadRequest, "content");
    accepts_text(&frame(r#""\ud83d\ude00""#));
    refuses_with(&frame(r#""\ud83d""#), ErrorCode::BadRequest, "content");
}

#[test]
fn content_mentions_at_most_100_user_ids() {
    let mentions = |mentions: Value| with(&send(), "content", json!({"mentions": mentions}));
    accepts(&mentions(json!(user_ids(MENTIONS_MAX))));
    accepts(&mentions(json!([])));
    accepts(&mentions(json!(null)));
    refuses(&mentions(json!(user_ids(MENTIONS_MAX + 1))), "content.mentions");
    for malformed in [json!("bob"), json!({}), json!([1]), json!(["no spaces"]), json!(["bob", null])] {
        refuses(&mentions(malformed), "content.mentions");
    }
}

#[test]
fn seqs_are_whole_numbers_that_javascript_holds() {
    let cases = [
        ("base_seq", send()),
        ("seq", json!({"type": "read", "conversation_id": "d:1"})),
        ("after", json!({"type": "changes", "conversation_id": "d:1"})),
        ("before", json!({"type": "history", "conversation_id": "d:1"})),
    ];
    for (field, frame) in cases {
        accepts(&with(&frame, field, 0));
        accepts(&with(&frame, field, SEQ_MAX));
        for malformed in [json!(SEQ_MAX + 1), json!(-1), json!(1.5), json!("1"), json!(true), json!([])] {
            refuses(&with(&frame, field, malformed), field);
        }
    }
    refuses(&json!({"type": "read", "conversation_id": "d:1"}), "seq");
    refuses(&json!({"type": "changes", "conversation_id": "d:1"}), "after");
}

#[test]
fn limits_of_lists_are_numbers_within_theirs() {
    let cases = [
        ("history", "limit", 1, HISTORY_LIMIT_MAX),
        ("changes", "limit", 1, CHANGES_LIMIT_MAX),
        ("conversation_members", "limit", 1, MEMBERS_LIMIT_MAX),
        ("sync", "limit", 1, SYNC_LIMIT_MAX),
        ("sync", "entries_per_conversation", 0, SYNC_ENTRIES_MAX),
    ];
    for (type_name, field, min, max) in cases {
        let mut frame = json!({"type": type_name, "conversation_id": "d:1"});
        if type_name == "changes" {
            frame["after"] = json!(0);
        }
        accepts(&frame);
        accepts(&with(&frame, field, min));
        accepts(&with(&frame, field, max));
        for malformed in [json!(max + 1), json!(i64::from(min) - 1), json!(u64::MAX), json!("5"), json!(1.5), json!({})]
        {
            refuses(&with(&frame, field, malformed), field);
        }
    }
}

#[test]
fn history_has_one_direction() {
    let frame = json!({"type": "history", "conversation_id": "d:1", "before": 5});
    accepts(&frame);
    refuses(&with(&frame, "after", 1), "after");
}

#[test]
fn a_cursor_is_a_string_of_bounded_length() {
    let frame = json!({"type": "sync"});
    accepts(&with(&frame, "cursor", "c".repeat(CURSOR_BYTES_MAX)));
    refuses(&with(&frame, "cursor", "c".repeat(CURSOR_BYTES_MAX + 1)), "cursor");
    refuses(&with(&frame, "cursor", 1), "cursor");
}

#[test]
fn a_group_is_created_within_its_limits() {
    accepts(&with(&create(), "title", "ü".repeat(TITLE_BYTES_MAX / 2)));
    accepts(&with(&create(), "title", ""));
    refuses(&with(&create(), "title", "x".repeat(TITLE_BYTES_MAX + 1)), "title");
    refuses(&with(&create(), "title", 1), "title");
    for (kind, accepted) in [("group", true), ("direct", false), ("", false)] {
        assert_eq!(parse_client_frame(&with(&create(), "kind", kind).to_string(), &LIMITS).is_ok(), accepted);
    }
    for field in ["kind", "client_id", "members"] {
        refuses(&without(&create(), field), field);
    }
    accepts(&with(&create(), "members", user_ids(GROUP_MEMBERS_MAX)));
    refuses(&with(&create(), "members", user_ids(GROUP_MEMBERS_MAX + 1)), "members");
    refuses(&with(&create(), "members", json!(["bob", 1])), "members[1]");
}

#[test]
fn custom_is_an_object_of_at_most_8_kib() {
    let custom = |bytes: usize| json!({"x": "y".repeat(bytes - r#"{"x":""}"#.len())});
    for frame in [create(), json!({"type": "conversation_update", "conversation_id": "g:1"})] {
        accepts(&with(&frame, "custom", custom(CUSTOM_BYTES_MAX)));
        refuses(&with(&frame, "custom", custom(CUSTOM_BYTES_MAX + 1)), "custom");
        refuses(&with(&frame, "custom", json!([])), "custom");
    }
}

#[test]
fn members_are_named_in_lists_of_bounded_length() {
    for type_name in ["member_add", "member_remove"] {
        let frame = json!({"type": type_name, "conversation_id": "g:1"});
        accepts(&with(&frame, "user_ids", user_ids(GROUP_MEMBERS_MAX)));
        refuses(&with(&frame, "user_ids", user_ids(GROUP_MEMBERS_MAX + 1)), "user_ids");
        refuses(&with(&frame, "user_ids", json!([])), "user_ids");
        refuses(&with(&frame, "user_ids", json!("bob")), "user_ids");
        refuses(&with(&frame, "user_ids", json!(["a", "b", "", "c"])), "user_ids[2]");
        refuses(&frame, "user_ids");
    }
}

#[test]
fn roles_and_statuses_are_words() {
    let role = json!({"type": "member_role", "conversation_id": "g:1", "user_id": "bob"});
    for word in ["owner", "moderator", "member"] {
        accepts(&with(&role, "role", word));
    }
    refuses(&with(&role, "role", "admin"), "role");
    refuses(&role, "role");
    let status = json!({"type": "presence_set"});
    for word in ["online", "away", "busy", "invisible"] {
        accepts(&with(&status, "status", word));
    }
    refuses(&with(&status, "status", "offline"), "status");
    refuses(&with(&status, "status", json!({"online": 1})), "status");
}

#[test]
fn emojis_and_signal_kinds_have_1_to_64_bytes() {
    let react = json!({"type": "react", "conversation_id": "d:1", "seq": 1});
    let signal = json!({"type": "signal", "conversation_id": "d:1", "data": null});
    for (field, frame) in [("emoji", with(&react, "type", "unreact")), ("emoji", react), ("kind", signal)] {
        accepts(&with(&frame, field, "👍".repeat(16)));
        refuses(&with(&frame, field, "👍".repeat(16) + "!"), field);
        refuses(&with(&frame, field, ""), field);
        refuses(&frame, field);
    }
}

#[test]
fn signal_data_has_at_most_1_kib() {
    let signal = json!({"type": "signal", "conversation_id": "d:1", "kind": "k"});
    accepts(&with(&signal, "data", "x".repeat(SIGNAL_DATA_BYTES_MAX - 2)));
    refuses(&with(&signal, "data", "x".repeat(SIGNAL_DATA_BYTES_MAX - 1)), "data");
    refuses(&signal, "data");
}

#[test]
fn at_most_500_users_are_watched_at_once() {
    for type_name in ["presence_watch", "presence_unwatch"] {
        let frame = json!({"type": type_name});
        accepts(&with(&frame, "user_ids", json!([])));
        accepts(&with(&frame, "user_ids", user_ids(PRESENCE_WATCH_MAX)));
        refuses(&with(&frame, "user_ids", user_ids(PRESENCE_WATCH_MAX + 1)), "user_ids");
    }
}

fn publish(events: impl Into<Value>) -> Value {
    json!({"type": "topic_publish", "topic": "sales", "events": events.into()})
}

#[test]
fn a_batch_has_1_to_1000_events() {
    let event = json!({"series": "clicks", "value": 1});
    accepts(&publish(vec![event.clone()]));
    accepts(&publish(vec![event.clone(); EVENTS_MAX]));
    refuses(&publish(vec![event.clone(); EVENTS_MAX + 1]), "events");
    for malformed in [json!([]), json!(null), json!({}), json!("x"), event] {
        refuses(&publish(malformed), "events");
    }
    refuses(&without(&publish(json!([])), "events"), "events");
    refuses(&without(&publish(json!([])), "topic"), "topic");
}

#[test]
fn a_malformed_event_is_named() {
    let good = json!({"series": "clicks", "value": 1});
    let with_third = |third: Value| publish(vec![good.clone(), good.clone(), good.clone(), third]);
    for malformed in [json!(null), json!([]), json!(["clicks", 1, null, {}]), json!(1), json!("x")] {
        refuses(&with_third(malformed), "events[3]");
    }
    for malformed in [json!(null), json!("1"), json!(true), json!([]), json!({})] {
        refuses(&with_third(with(&good, "value", malformed)), "events[3].value");
    }
    refuses(&with_third(without(&good, "value")), "events[3].value");
    let frame = |value: &str| publish(vec![with(&good, "value", 7)]).to_string().replace('7', value);
    accepts_text(&frame("-1.7976931348623157e308"));
    refuses_with(&frame("1e309"), ErrorCode::BadRequest, "events[0].value");
    for (bytes, fits) in [(0, false), (1, true), (SERIES_BYTES_MAX, true), (SERIES_BYTES_MAX + 1, false)] {
        let frame = with_third(with(&good, "series", "s".repeat(bytes)));
        if fits { drop(accepts(&frame)) } else { drop(refuses(&frame, "events[3].series")) }
    }
    for malformed in [json!("2026-01-02"), json!(1_767_323_045_678_i64), json!({})] {
        refuses(&with_third(with(&good, "timestamp", malformed)), "events[3].timestamp");
    }
    accepts(&with_third(with(&good, "timestamp", json!(null))));
}

#[test]
fn an_event_has_at_most_8_tags_that_are_strings() {
    let tagged = |tags: Value| publish(vec![json!({"series": "clicks", "value": 1, "tags": tags})]);
    let tags = |count: usize| (0..count).map(|n| (format!("t{n}"), Value::from("x"))).collect::<Value>();
    accepts(&tagged(json!(null)));
    accepts(&tagged(tags(TAGS_MAX)));
    refuses(&tagged(tags(TAGS_MAX + 1)), "events[0].tags");
    let (name, value) = ("n".repeat(TAG_NAME_BYTES_MAX), "v".repeat(TAG_VALUE_BYTES_MAX));
    accepts(&tagged(json!({name.clone(): value.clone()})));
    accepts(&tagged(json!({"n": ""})));
    for malformed in [
        json!({name + "n": "v"}),
        json!({"n": value + "v"}),
        json!({"": "v"}),
        json!({"n": 1}),
        json!({"n": null}),
        json!([]),
        json!("n"),
    ] {
        refuses(&tagged(malformed), "events[0].tags");
    }
}

#[test]
fn of_a_repeated_field_of_an_event_the_last_counts() {
    let text = r#"{"type":"topic_publish","topic":"t","events":[{"series":"a","value":1,"value":2,"tags":{"n":"1","n":"2"}}]}"#;
    let written = accepts_text(text).frame.encode(None);
    assert!(written.ends_with(r#"[{"series":"a","value":2,"tags":{"n":"2"}}]}"#), "{written}");
}

#[test]
fn a_topic_is_watched_by_window_and_range() {
    for type_name in ["topic_watch", "topic_unwatch"] {
        let frame = json!({"type": type_name, "topic": "sales", "window": "1s"});
        for window in ["1s", "1m"] {
            accepts(&with(&frame, "window", window));
        }
        for malformed in [json!("1h"), json!("Second"), json!(1), json!("")] {
            refuses(&with(&frame, "window", malformed), "window");
        }
        refuses(&without(&frame, "window"), "window");
        for topic in ["$node".to_owned(), "t".repeat(128), "AZaz09_-.:@".to_owned()] {
            accepts(&with(&frame, "topic", topic));
        }
        for malformed in ["", "$", "a$", "$$a", "a b", &"t".repeat(129), &format!("${}", "t".repeat(128))] {
            refuses(&with(&frame, "topic", malformed), "topic");
        }
    }
    let frame = json!({"type": "topic_watch", "topic": "sales", "window": "1m"});
    accepts(&with(&frame, "range_s", 1));
    accepts(&with(&frame, "range_s", TOPIC_RANGE_S_MAX));
    for malformed in [json!(0), json!(TOPIC_RANGE_S_MAX + 1), json!("60"), json!(1.5)] {
        refuses(&with(&frame, "range_s", malformed), "range_s");
    }
    for accepted in [json!(0), json!(-1), json!(1_767_323_045_000_i64), json!(null)] {
        accepts(&with(&frame, "before_ms", accepted));
    }
    for malformed in [json!("1767323045000"), json!(1.5), json!(1e300), json!("2026-01-02T03:04:05Z")] {
        refuses(&with(&frame, "before_ms", malformed), "before_ms");
    }
}

#[test]
fn settings_are_times_and_flags() {
    let frame = json!({"type": "conversation_settings", "conversation_id": "d:1"});
    accepts(&frame);
    accepts(&with(&frame, "muted_until", json!(null)));
    accepts(&with(&frame, "muted_until", "2026-01-02T03:04:05Z"));
    for malformed in [json!("2026-01-02"), json!("2026-13-02T03:04:05Z"), json!(1), json!("")] {
        refuses(&with(&frame, "muted_until", malformed), "muted_until");
    }
    for field in ["archived", "pinned"] {
        accepts(&with(&frame, field, false));
        refuses(&with(&frame, field, 1), field);
        refuses(&with(&frame, field, "true"), field);
    }
}

#[test]
fn types_that_there_are_not_are_told() {
    for type_name in ["", "Send", "ready", "topic_state", "topic_get"] {
        let rejection = parse_client_frame(&json!({"type": type_name, "id": "7"}).to_string(), &LIMITS).unwrap_err();
        assert_eq!(rejection.error.code(), ErrorCode::UnknownType);
        assert_eq!(rejection.id.unwrap().as_str(), "7");
        assert!(!rejection.not_an_object);
    }
    refuses(&json!({"id": "7"}), "type");
    refuses(&json!({"type": 7}), "type");
    refuses(&json!({"type": null}), "type");
}

#[test]
fn what_is_no_object_is_told() {
    for text in [
        "",
        "null",
        "[]",
        "\"ping\"",
        "1",
        "{",
        r#"{"type":"ping"}x"#,
        r#"{"type":"ping"}{}"#,
        r#"{"type"}"#,
        "{'a':1}",
    ] {
        let rejection = parse_client_frame(text, &LIMITS).unwrap_err();
        assert!(rejection.not_an_object, "{text}");
        assert_eq!((rejection.error.code(), rejection.id), (ErrorCode::BadRequest, None));
    }
}

#[test]
fn unknown_fields_are_ignored_and_of_repeated_ones_the_last_counts() {
    let text = r#"{"type":"pong","nested":{"type":[[[]]]},"type":"ping","id":1,"id":"a","":null}"#;
    let incoming = accepts_text(text);
    assert_eq!((incoming.frame.type_name(), incoming.id.unwrap().as_str()), ("ping", "a"));
}

#[test]
fn null_counts_as_absent() {
    accepts_text(r#"{"type":"sync","id":null,"cursor":null,"limit":null}"#);
    accepts_text(r#"{"type":"send","to":"bob","conversation_id":null,"client_id":"c","content":{},"base_seq":null}"#);
    refuses_with(r#"{"type":"read","conversation_id":"d:1","seq":null}"#, ErrorCode::BadRequest, "seq");
}
