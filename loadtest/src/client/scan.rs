//! Finds single fields of a frame without decoding it.
//!
//! Trusts that the frame is a JSON object, as the server promises: in anything else it finds nothing, or something
//! wrong, but it always terminates.

use memchr::memchr2;

/// The raw text of a top-level string field, without its quotes and with its escapes.
pub(crate) fn text<'a>(json: &'a [u8], name: &str) -> Option<&'a str> {
    let value = field(json, name)?;
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    std::str::from_utf8(inner).ok()
}

/// Whether a top-level field is `true`.
pub(crate) fn is(json: &[u8], name: &str) -> bool {
    field(json, name) == Some(b"true")
}

/// A top-level integer.
pub(crate) fn number(json: &[u8], name: &str) -> Option<u64> {
    std::str::from_utf8(field(json, name)?).ok()?.parse().ok()
}

/// The raw value of a top-level field.
fn field<'a>(json: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = after_space(json, 0);
    if json.get(at) != Some(&b'{') {
        return None;
    }
    loop {
        // `at` is the brace or the comma before the next key.
        let key_start = after_space(json, at + 1);
        let key_end = value_end(json, key_start)?;
        let colon = after_space(json, key_end);
        if json.get(colon) != Some(&b':') {
            return None;
        }
        let value_start = after_space(json, colon + 1);
        let value_end = value_end(json, value_start)?;
        let key = json.get(key_start + 1..key_end - 1)?;
        if key == name.as_bytes() {
            return json.get(value_start..value_end);
        }
        at = after_space(json, value_end);
        if json.get(at) != Some(&b',') {
            return None;
        }
    }
}

fn after_space(json: &[u8], mut at: usize) -> usize {
    while json.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The position after the value that begins at `start`.
fn value_end(json: &[u8], start: usize) -> Option<usize> {
    match json.get(start)? {
        b'"' => string_end(json, start),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0usize, start);
            loop {
                match json.get(at)? {
                    b'"' => {
                        at = string_end(json, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return Some(at);
                }
            }
        }
        _ => {
            let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
            let length = json[start..].iter().position(is_end)?;
            (length > 0).then_some(start + length)
        }
    }
}

fn string_end(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: &[u8] =
        br#"{"type":"message","conversation_id":"d:9f","content":{"text":"a \"seq\":1, }\\","x":[{"seq":2}]},
        "seq" : 17 ,"deleted":true,"client_id":"c-1","timestamp":"2026"}"#;

    #[test]
    fn fields_are_found_at_the_top_level_only() {
        assert_eq!(text(FRAME, "type"), Some("message"));
        assert_eq!(number(FRAME, "seq"), Some(17));
        assert_eq!(text(FRAME, "client_id"), Some("c-1"));
        assert_eq!(text(FRAME, "timestamp"), Some("2026"));
        assert!(is(FRAME, "deleted") && !is(FRAME, "seq") && !is(FRAME, "x"));
        assert_eq!(text(FRAME, "text"), None);
    }

    #[test]
    fn another_kind_of_value_is_none() {
        assert_eq!(text(FRAME, "seq"), None);
        assert_eq!(number(FRAME, "type"), None);
        assert_eq!(number(FRAME, "content"), None);
    }

    #[test]
    fn it_ends_on_whatever_comes() {
        for end in 0..FRAME.len() {
            let _ = text(&FRAME[..end], "nothing");
            let _ = text(&FRAME[end..], "nothing");
        }
        for json in
            ["", "{", "{}", "[1]", "null", r#"{"a""#, r#"{"a":}"#, r#"{"a":]}"#, r#"{"a":"\"#, r#"{"a":[}}}"#, "{,"]
        {
            assert_eq!(text(json.as_bytes(), "b"), None, "{json}");
        }
    }
}
