//! All fixed limits of PROTOCOL.md. Limits that an operator sets (`frame_bytes`, `content_bytes`, `frames_per_s`) are
//! configuration, and are passed in as parameters.

/// Maximum bytes of a user, device, conversation, topic or tenant id (PROTOCOL §1); at least one.
pub const ID_BYTES_MAX: usize = 128;
/// Maximum bytes of a client frame's `id` (PROTOCOL §1).
pub const FRAME_ID_BYTES_MAX: usize = 64;
/// Maximum bytes of a `client_id` (PROTOCOL §3); at least one.
pub const CLIENT_ID_BYTES_MAX: usize = 128;
/// The largest `seq` that a client may send: 2^53 - 1, the largest integer that every JSON reader represents exactly
/// (RFC 8259 §6).
pub const SEQ_MAX: u64 = (1 << 53) - 1;

/// Maximum user ids in `content.mentions` (PROTOCOL §3).
pub const MENTIONS_MAX: usize = 100;
/// Maximum bytes of `custom` as compact JSON (PROTOCOL §3).
pub const CUSTOM_BYTES_MAX: usize = 8 * 1024;
/// Maximum bytes of a conversation's title (PROTOCOL §8).
pub const TITLE_BYTES_MAX: usize = 256;
/// Maximum bytes of a reaction's `emoji` (PROTOCOL §3); at least one.
pub const EMOJI_BYTES_MAX: usize = 64;
/// Maximum nesting of objects and arrays in `content`, `custom` and a signal's `data`. PROTOCOL names no number; this
/// one leaves room for the six levels of a `sync` answer around it under the 128 levels at which common JSON readers
/// give up, so that nobody can send what others can't read.
pub const JSON_DEPTH_MAX: usize = 100;

/// Maximum members of a group, including its creator (PROTOCOL §3); so no list of user ids is longer.
pub const GROUP_MEMBERS_MAX: usize = 10_000;

/// Maximum `limit` of `history` (PROTOCOL §3).
pub const HISTORY_LIMIT_MAX: u32 = 200;
/// Default `limit` of `history` (PROTOCOL §3).
pub const HISTORY_LIMIT_DEFAULT: u32 = 50;
/// Maximum and default `limit` of `changes` (PROTOCOL §3).
pub const CHANGES_LIMIT_MAX: u32 = 500;
/// Maximum and default `limit` of `conversation_members` (PROTOCOL §3).
pub const MEMBERS_LIMIT_MAX: u32 = 1_000;
/// Maximum and default `limit` of `sync` (PROTOCOL §3).
pub const SYNC_LIMIT_MAX: u32 = 200;
/// Maximum `entries_per_conversation` of `sync`; the default is 0 (PROTOCOL §3).
pub const SYNC_ENTRIES_MAX: u32 = 50;
/// Maximum bytes of a `sync` cursor. Cursors are opaque and issued by the server; a longer one can't be valid.
pub const CURSOR_BYTES_MAX: usize = 1_024;
/// Maximum characters of a message's text in `sync`'s `last_message` (PROTOCOL §3).
pub const PREVIEW_CHARS: usize = 200;

/// Maximum bytes of one answer (PROTOCOL §3): if that cuts it short, `more` is true.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Maximum bytes of an answer's items. The rest is reserved for the fields around them: an `id` of 64 bytes escaped
/// sixfold, a cursor, a conversation id.
pub const ANSWER_ITEMS_BYTES_MAX: usize = ANSWER_BYTES_MAX - 4 * 1024;

/// Maximum bytes of a signal's `kind` (PROTOCOL §4); at least one.
pub const SIGNAL_KIND_BYTES_MAX: usize = 64;
/// Maximum bytes of a signal's `data` as compact JSON (PROTOCOL §4).
pub const SIGNAL_DATA_BYTES_MAX: usize = 1_024;
/// Maximum users that one session may watch, and ids in one `presence_watch` (PROTOCOL §4, §8).
pub const PRESENCE_WATCH_MAX: usize = 500;

/// Maximum events in one `topic_publish` (PROTOCOL §5); at least one.
pub const EVENTS_MAX: usize = 1_000;
/// Maximum bytes of a series' name (PROTOCOL §8); at least one.
pub const SERIES_BYTES_MAX: usize = 128;
/// Maximum tags of one event (PROTOCOL §8).
pub const TAGS_MAX: usize = 8;
/// Maximum bytes of a tag's name; at least one. PROTOCOL names no number for it.
pub const TAG_NAME_BYTES_MAX: usize = 64;
/// Maximum bytes of a tag's value. PROTOCOL names no number for it.
pub const TAG_VALUE_BYTES_MAX: usize = 128;
/// Maximum and default `range_s` of `topic_watch`: the hour that is kept (PROTOCOL §5).
pub const TOPIC_RANGE_S_MAX: u32 = 3_600;
/// How far in the future an event's `timestamp` may be (PROTOCOL §8).
pub const EVENT_AHEAD_MS_MAX: i64 = 60_000;

/// Maximum bytes of an HTTP request's body (PROTOCOL §8).
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Frames within a minute that are not JSON objects, after which the socket is closed with 4400 (PROTOCOL §7).
pub const BAD_FRAMES_PER_MINUTE_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// The other tests use the constants; this one checks the constants against the contract.
    #[test]
    fn limits_are_those_of_the_contract() {
        assert_eq!((ID_BYTES_MAX, FRAME_ID_BYTES_MAX, CLIENT_ID_BYTES_MAX), (128, 64, 128));
        assert_eq!(SEQ_MAX, 9_007_199_254_740_991);
        assert_eq!((MENTIONS_MAX, GROUP_MEMBERS_MAX, PRESENCE_WATCH_MAX), (100, 10_000, 500));
        assert_eq!((CUSTOM_BYTES_MAX, TITLE_BYTES_MAX, EMOJI_BYTES_MAX), (8_192, 256, 64));
        assert_eq!((SIGNAL_KIND_BYTES_MAX, SIGNAL_DATA_BYTES_MAX), (64, 1_024));
        assert_eq!((HISTORY_LIMIT_MAX, HISTORY_LIMIT_DEFAULT), (200, 50));
        assert_eq!((CHANGES_LIMIT_MAX, MEMBERS_LIMIT_MAX, SYNC_LIMIT_MAX, SYNC_ENTRIES_MAX), (500, 1_000, 200, 50));
        assert_eq!((PREVIEW_CHARS, ANSWER_BYTES_MAX, BODY_BYTES_MAX), (200, 1_048_576, 1_048_576));
        assert_eq!((EVENTS_MAX, SERIES_BYTES_MAX, TAGS_MAX, TOPIC_RANGE_S_MAX), (1_000, 128, 8, 3_600));
        assert_eq!(EVENT_AHEAD_MS_MAX, 60_000);
        assert_eq!(BAD_FRAMES_PER_MINUTE_MAX, 3);
    }
}
