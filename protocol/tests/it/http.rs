//! HTTP requests are the equivalent client frames, with the same checks.

use switchboard_protocol::client::{HistoryRange, SendTarget};
use switchboard_protocol::http::{data_body, error_body, parse_read, parse_write};
use switchboard_protocol::server::OkFrame;
use switchboard_protocol::{ClientFrame, ErrorCode, ProtocolError, Seq, Window};

use crate::golden::LIMITS;

#[track_caller]
fn refused_field(error: &ProtocolError) -> String {
    assert_eq!(error.code(), ErrorCode::BadRequest);
    error.details()[0].field.to_string()
}

#[test]
fn a_write_takes_its_fields_from_path_and_body() {
    let body = br#"{"client_id":"c","content":{"text":"Hi"},"as":"bob"}"#;
    let write = parse_write("send", &[("conversation_id", "g:1")], body, &LIMITS).unwrap();
    assert_eq!(write.on_behalf_of.unwrap().as_str(), "bob");
    let ClientFrame::Send(send) = write.frame else { panic!("{:?}", write.frame) };
    assert_eq!(send.target, SendTarget::Conversation("g:1".parse().unwrap()));
}

#[test]
fn the_path_comes_before_the_body() {
    let body = br#"{"conversation_id":"g:2","seq":2,"emoji":"x"}"#;
    let path = [("conversation_id", "g:1"), ("seq", "1"), ("emoji", "👍")];
    let ClientFrame::React(react) = parse_write("react", &path, body, &LIMITS).unwrap().frame else { panic!() };
    assert_eq!((react.conversation_id.as_str(), react.seq, react.emoji.as_str()), ("g:1", Seq::new(1), "👍"));
}

#[test]
fn a_write_that_needs_no_body_may_have_none() {
    let path = [("conversation_id", "g:1"), ("seq", "17")];
    let write = parse_write("delete", &path, b"", &LIMITS).unwrap();
    assert!(matches!(write.frame, ClientFrame::Delete(entry) if entry.seq == Seq::new(17)));
    assert_eq!(write.on_behalf_of, None);
}

#[test]
fn a_read_takes_its_fields_from_path_and_query() {
    let path = [("conversation_id", "g:1")];
    let read = |query: &[(&str, &str)]| parse_read("history", &path, query, &LIMITS);
    let ClientFrame::History(history) = read(&[("after", "3"), ("limit", "9"), ("x", "y")]).unwrap() else { panic!() };
    assert_eq!((history.range, history.limit), (HistoryRange::After(Seq::new(3)), 9));
    for (name, value) in
        [("limit", "0"), ("limit", "201"), ("limit", "+5"), ("limit", ""), ("after", "-1"), ("before", "x")]
    {
        assert_eq!(refused_field(&read(&[(name, value)]).unwrap_err()), name);
    }
    let ClientFrame::Sync(sync) = parse_read("sync", &[], &[("cursor", "c1")], &LIMITS).unwrap() else { panic!() };
    assert_eq!(sync.cursor.as_deref(), Some("c1"));
}

#[test]
fn malformed_writes_are_refused_naming_the_field() {
    let path = [("conversation_id", "g:1")];
    let refused = |body: &[u8]| parse_write("member_add", &path, body, &LIMITS).unwrap_err();
    assert_eq!(refused_field(&refused(b"")), "user_ids");
    assert_eq!(refused_field(&refused(br#"{"user_ids":["a",1]}"#)), "user_ids[1]");
    assert_eq!(refused_field(&refused(br#"{"user_ids":["a"],"as":"no spaces"}"#)), "as");
    for body in [b"[]".as_slice(), b"{", b"\xff", b"null"] {
        assert_eq!(refused(body).code(), ErrorCode::BadRequest);
    }
    let bad_path = parse_write("delete", &[("conversation_id", "g 1"), ("seq", "1")], b"", &LIMITS).unwrap_err();
    assert_eq!(refused_field(&bad_path), "conversation_id");
    // A query can't contain a list.
    let watch = parse_read("presence_watch", &[], &[("user_ids", "bob")], &LIMITS).unwrap_err();
    assert_eq!(refused_field(&watch), "user_ids");
}

#[test]
fn answers_have_data_or_error() {
    assert_eq!(data_body(&OkFrame { seq: Some(Seq::new(3)), ..OkFrame::default() }), r#"{"data":{"seq":3}}"#);
    assert_eq!(
        error_body(&ProtocolError::bad_request("limit", "must be less")),
        r#"{"error":{"code":"bad_request","message":"a field is malformed or out of its limits","details":[{"field":"limit","message":"must be less"}]}}"#
    );
    assert!(error_body(&ProtocolError::not_found()).ends_with(r#""details":[]}}"#));
}

#[test]
fn topics_are_written_by_path_and_body_and_read_by_path_and_query() {
    let path = [("topic", "sales")];
    let body = br#"{"events":[{"series":"clicks","value":1}],"topic":"other"}"#;
    let write = parse_write("topic_publish", &path, body, &LIMITS).unwrap();
    assert!(matches!(write.frame, ClientFrame::TopicPublish(publish) if publish.topic.as_str() == "sales"));
    let malformed = parse_write("topic_publish", &path, br#"{"events":[{"series":"clicks"}]}"#, &LIMITS).unwrap_err();
    assert_eq!(refused_field(&malformed), "events[0].value");
    let read = |query: &[(&str, &str)]| parse_read("topic_watch", &path, query, &LIMITS);
    let ClientFrame::TopicWatch(watch) = read(&[("window", "1m"), ("range_s", "60")]).unwrap() else { panic!() };
    assert_eq!((watch.window, watch.range_s), (Window::Minute, 60));
    let ClientFrame::TopicWatch(watch) = read(&[("window", "1s"), ("before_ms", "60")]).unwrap() else { panic!() };
    assert_eq!(watch.before_ms, Some(60));
    for query in [("window", "1h"), ("window", "\"1m\"")] {
        assert_eq!(refused_field(&read(&[query]).unwrap_err()), "window");
    }
    assert_eq!(refused_field(&read(&[("window", "1s"), ("range_s", "3601")]).unwrap_err()), "range_s");
}
