//! Converts JSON that clients send to each other into compact form: no whitespace, and text as UTF-8 instead of
//! escapes. Field order, repeated keys and the spelling of numbers are preserved.
//!
//! What a strict JSON reader (or MessagePack) could not represent is rejected here, once, instead of in every reader:
//! an unpaired surrogate, a number beyond the range of a double, unlimited nesting (RFC 7493, I-JSON).

use std::borrow::Cow;

use crate::limits::JSON_DEPTH_MAX;

/// Why JSON is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompactFault {
    TooDeep,
    LoneSurrogate,
    NumberTooLarge,
}

impl CompactFault {
    pub(crate) fn message(self) -> Cow<'static, str> {
        match self {
            Self::TooDeep => format!("must have at most {JSON_DEPTH_MAX} objects and arrays within each other").into(),
            Self::LoneSurrogate => "must not hold half of a surrogate pair".into(),
            Self::NumberTooLarge => "must not hold a number beyond the range of a double".into(),
        }
    }
}

/// The compact form of `json`, which must be valid JSON (a `RawValue`'s text); borrowed if it is compact already. Uses
/// no recursion, and returns no more bytes than it was given.
pub(crate) fn compact(json: &str) -> Result<Cow<'_, str>, CompactFault> {
    let mut writer = Writer { json, position: 0, kept_to: 0, out: String::new() };
    let mut depth = 0usize;
    while let Some(byte) = writer.peek() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => writer.replace(1, ""),
            b'"' => writer.string()?,
            b'-' | b'0'..=b'9' => writer.number()?,
            b'{' | b'[' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(CompactFault::TooDeep);
                }
                writer.position += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                writer.position += 1;
            }
            _ => writer.position += 1,
        }
    }
    Ok(writer.finish())
}

/// Copies runs of unchanged text; nothing is copied before the first change.
struct Writer<'a> {
    json: &'a str,
    position: usize,
    /// Everything before this has been copied to `out`, or was left out.
    kept_to: usize,
    out: String,
}

impl<'a> Writer<'a> {
    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.position).copied()
    }

    /// Replaces the next `len` bytes by `text`.
    fn replace(&mut self, len: usize, text: &str) {
        self.out.push_str(&self.json[self.kept_to..self.position]);
        self.out.push_str(text);
        self.position += len;
        self.kept_to = self.position;
    }

    fn finish(mut self) -> Cow<'a, str> {
        if self.kept_to == 0 {
            return Cow::Borrowed(self.json);
        }
        self.replace(0, "");
        Cow::Owned(self.out)
    }

    fn number(&mut self) -> Result<(), CompactFault> {
        let rest = &self.json[self.position..];
        let len =
            rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
        let finite = rest[..len].parse::<f64>().is_ok_and(f64::is_finite);
        self.position += len;
        if finite { Ok(()) } else { Err(CompactFault::NumberTooLarge) }
    }

    fn string(&mut self) -> Result<(), CompactFault> {
        self.position += 1;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.position += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => self.position += 1,
            }
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), CompactFault> {
        match self.json.as_bytes().get(self.position + 1) {
            Some(b'u') => {
                let (character, len) = self.unicode_escape().ok_or(CompactFault::LoneSurrogate)?;
                self.replace(len, &escaped(character));
            }
            Some(b'/') => self.replace(2, "/"),
            _ => self.position += 2,
        }
        Ok(())
    }

    /// The character that a `\uXXXX` or a pair of them represents, and the escape's length in bytes.
    fn unicode_escape(&self) -> Option<(char, usize)> {
        let first = self.hex_unit(self.position)?;
        if let Some(character) = char::from_u32(u32::from(first)) {
            return Some((character, 6));
        }
        let pair = [first, self.hex_unit(self.position + 6)?];
        let character = char::decode_utf16(pair).next()?.ok()?;
        Some((character, 12))
    }

    fn hex_unit(&self, position: usize) -> Option<u16> {
        let digits = self.json.get(position..position + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    }
}

/// A character as it is written in a compact JSON string: only quotes, backslashes and control characters need an
/// escape (RFC 8259 §7).
fn escaped(character: char) -> Cow<'static, str> {
    match character {
        '"' => "\\\"".into(),
        '\\' => "\\\\".into(),
        '\u{8}' => "\\b".into(),
        '\t' => "\\t".into(),
        '\n' => "\\n".into(),
        '\u{c}' => "\\f".into(),
        '\r' => "\\r".into(),
        '\0'..='\u{1f}' => format!("\\u{:04x}", u32::from(character)).into(),
        _ => character.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_json_is_borrowed() {
        for json in [r#"{"a":[1,-2.5e3,true,null,"\n\"\\ é"]}"#, "0", r#""""#] {
            assert!(matches!(compact(json), Ok(Cow::Borrowed(same)) if same == json), "{json}");
        }
    }

    #[test]
    fn whitespace_goes_and_stays_within_strings() {
        assert_eq!(compact(" {\r\n \"a b\" :\t[ 1 , \" \" ] } ").unwrap(), r#"{"a b":[1," "]}"#);
    }

    #[test]
    fn escapes_become_text_where_json_lets_them() {
        let cases = [
            (r#""\u0041\u00e9\u20AC\/""#, r#""Aé€/""#),
            (r#""\ud83d\uDE00""#, r#""😀""#),
            (r#""\u0022\u005c\u000a\u0008\u0009\u000c\u000d""#, r#""\"\\\n\b\t\f\r""#),
            (r#""\u0000\u001F\u007f""#, "\"\\u0000\\u001f\u{7f}\""),
            (r#""\\u0041""#, r#""\\u0041""#),
        ];
        for (json, expected) in cases {
            assert_eq!(compact(json).unwrap(), expected, "{json}");
        }
    }

    #[test]
    fn what_strict_readers_refuse_is_refused() {
        for json in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83d\ud83d""#, r#""\ud83dx\ude00""#, r#""\ud83d\n""#] {
            assert_eq!(compact(json), Err(CompactFault::LoneSurrogate), "{json}");
        }
        assert_eq!(compact("[1e309]"), Err(CompactFault::NumberTooLarge));
        let nested = |depth: usize| format!("[{}{}]", "[]".repeat(3), "[".repeat(depth - 1) + &"]".repeat(depth - 1));
        assert!(compact(&nested(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(compact(&nested(JSON_DEPTH_MAX + 1)), Err(CompactFault::TooDeep));
    }
}
