//! The values of rows. A log entry is the frame's JSON after a small header; everything else is a JSON object, to which
//! later versions may add fields with a default, so that stored data stays readable.

use super::keys::Key;
use crate::{ConversationMeta, Incarnation, Preview, StoreError, TermNumber};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{Content, Seq, Timestamp};

/// A conversation's row in the head table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct HeadRow {
    /// The newest term.
    pub(crate) term: TermNumber,
    /// The owner; `None` once it has ended.
    pub(crate) owner: Option<Incarnation>,
    pub(crate) end: Seq,
    pub(crate) messages: u64,
    pub(crate) meta: ConversationMeta,
    pub(crate) last_message: Option<Preview>,
}

/// A message's edit or deletion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MessageChangeRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) edited: Option<(Content, Timestamp)>,
    #[serde(default)]
    pub(crate) deleted: bool,
}

/// A user's row in the user table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct UserRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_seen_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The number of rows that the two block tables have of the user: most users have none and need no further read.
    #[serde(default)]
    pub(crate) blocks: u32,
    #[serde(default)]
    pub(crate) blocked_by: u32,
}

/// The range of a tenant's dead letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeadLettersRow {
    /// The newest id.
    pub(crate) last: u64,
    /// All up to this id are gone.
    pub(crate) gone: u64,
}

pub(crate) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(row).map_err(|error| StoreError::Unreadable { what: format!("row to be written: {error}") })
}

/// Decodes the row at `key`. The error names the row, but omits its content: users' texts don't belong in a log.
pub(crate) fn decode<T: DeserializeOwned>(key: &Key, value: &[u8]) -> Result<T, StoreError> {
    decode_at(key.as_bytes(), value)
}

pub(crate) fn decode_at<'a, T: Deserialize<'a>>(key: &[u8], value: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Unreadable {
        what: format!("row {}: {:?} error at byte {}", key.escape_ascii(), error.classify(), error.column()),
    })
}

pub(crate) fn decode_number(key: &[u8], value: &[u8]) -> Result<u64, StoreError> {
    let number = value.try_into().map(u64::from_be_bytes);
    number.map_err(|_| StoreError::Unreadable { what: format!("row {}: not a number", key.escape_ascii()) })
}

/// The format of log rows: this byte, the count of messages as 8 big-endian bytes, then the frame's JSON.
const LOG_ROW: u8 = 1;
const LOG_HEAD_BYTES: usize = 9;

pub(crate) fn encode_entry(messages: u64, json: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(LOG_HEAD_BYTES + json.len());
    row.push(LOG_ROW);
    row.extend_from_slice(&messages.to_be_bytes());
    row.extend_from_slice(json);
    row
}

/// The count of messages and the frame's JSON.
pub(crate) fn decode_entry<'a>(key: &[u8], row: &'a [u8]) -> Result<(u64, &'a [u8]), StoreError> {
    match row.split_at_checked(LOG_HEAD_BYTES) {
        Some(([LOG_ROW, messages @ ..], json)) => Ok((decode_number(key, messages)?, json)),
        _ => Err(StoreError::Unreadable { what: format!("log row {}: of no known form", key.escape_ascii()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::push::{DeadLetterRow, JobRow, QueuePlace, ShownRow};
    use crate::{InboxRow, Member, PushDevice};
    use std::fmt::Debug;

    /// Asserts that a row as some version wrote it can still be read, and is (for the newest version) still written
    /// that way.
    fn stays<T: Serialize + DeserializeOwned + PartialEq + Debug>(stored: &str) {
        let row: T = decode_at(b"key", stored.as_bytes()).unwrap();
        let written = encode(&row).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), stored);
    }

    #[test]
    fn what_version_1_stored_stays_readable() {
        stays::<HeadRow>(
            r#"{"term":3,"owner":{"node":"n1","life":7},"end":9,"messages":4,"meta":{"kind":{"Direct":["alice","bob"]},"title":null,"custom":null,"created_at":"2026-01-02T03:04:05.678Z","members_count":2},"last_message":{"seq":8,"from":"bob","text":"hi","timestamp":"2026-01-02T03:04:06.000Z"}}"#,
        );
        stays::<HeadRow>(
            r#"{"term":1,"owner":null,"end":0,"messages":0,"meta":{"kind":"Group","title":"a title","custom":{"a":[1,2.50]},"created_at":"2026-01-02T03:04:05.678Z","members_count":0},"last_message":null}"#,
        );
        stays::<Member>(
            r#"{"role":"moderator","joined_at":"2026-01-02T03:04:05.678Z","joined_seq":1,"cursor":{"delivered_seq":4,"read_seq":3,"read_messages":2}}"#,
        );
        stays::<Member>(
            r#"{"role":"member","joined_at":"2026-01-02T03:04:05.678Z","joined_seq":1,"cursor":{"delivered_seq":4,"read_seq":3,"read_messages":2,"mentioned_seq":4}}"#,
        );
        stays::<InboxRow>(
            r#"{"conversation":"g:1","version":12,"last":{"last_seq":9,"messages":4,"preview":{"seq":8,"from":"bob","text":"hi","timestamp":"2026-01-02T03:04:06.000Z"},"ask_owner":false},"mentioned_seq":2,"read_seq":3,"read_messages":2,"membership_seq":1,"member":true,"settings_number":1,"settings":{"muted_until":"2026-01-02T03:04:06.000Z","archived":false,"pinned":true}}"#,
        );
        stays::<MessageChangeRow>(r#"{"edited":[{"text":"new"},"2026-01-02T03:04:06.000Z"],"deleted":false}"#);
        stays::<MessageChangeRow>(r#"{"deleted":true}"#);
        stays::<UserRow>(r#"{"revoked_at":"2026-01-02T03:04:06.000Z","blocks":2,"blocked_by":0}"#);
        stays::<UserRow>(r#"{"name":"Alice","blocks":0,"blocked_by":0}"#);
        stays::<PushDevice>(r#"{"channel":"web_push","target":"{}","registered_at":"2026-01-02T03:04:06.000Z"}"#);
        stays::<JobRow>(
            r#"{"up_to_seq":9,"count":2,"priority":"high","not_before":"2026-01-02T03:04:06.000Z","due":"2026-01-02T03:05:06.000Z","leased":true,"attempts":1,"number":12}"#,
        );
        stays::<ShownRow>(r#"{"up_to_seq":9,"count":2,"priority":"normal","sent_at":"2026-01-02T03:04:06.000Z"}"#);
        stays::<QueuePlace>(
            r#"{"shown":{"up_to_seq":9,"count":2,"priority":"normal","sent_at":"2026-01-02T03:04:06.000Z"}}"#,
        );
        stays::<DeadLettersRow>(r#"{"last":7,"gone":2}"#);
        stays::<DeadLetterRow>(
            r#"{"user":"bob","conversation":"g:1","channel":"apns","up_to_seq":9,"count":2,"priority":"low","attempts":4,"reason":"503","died_at":"2026-01-02T03:04:06.000Z"}"#,
        );
        stays::<super::super::Meta>(r#"{"commit":5,"inbox_version":12}"#);
        stays::<super::super::Meta>(r#"{"commit":5,"inbox_version":12,"inbox_unsynced":2}"#);
        let entry = b"\x01\0\0\0\0\0\0\x01\x02{\"type\":\"message\"}";
        assert_eq!(encode_entry(258, b"{\"type\":\"message\"}"), entry);
        assert_eq!(decode_entry(b"key", entry).unwrap(), (258, &b"{\"type\":\"message\"}"[..]));
    }

    #[test]
    fn what_cannot_be_read_is_named_without_its_text() {
        let error = decode_at::<MessageChangeRow>(b"key", br#"{"deleted":"secret"}"#).unwrap_err().to_string();
        assert!(error.contains("key") && !error.contains("secret"), "{error}");
        for row in [&b""[..], b"\x02\0\0\0\0\0\0\x01\x02{}", b"\x01\0"] {
            assert!(matches!(decode_entry(b"key", row), Err(StoreError::Unreadable { .. })));
        }
    }
}
