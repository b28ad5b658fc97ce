//! Every fixed limit of PROTOCOL.md, each once. Limits that an operator sets (`frame_bytes`, `content_bytes`,
//! `frames_per_s`) are configuration and come in as parameters instead.

/// Bytes of a user, device, conversation, topic or tenant id, at most (PROTOCOL §1); at least one.
pub const ID_BYTES_MAX: usize = 128;
/// Bytes of a client frame's `id`, at most (PROTOCOL §1).
pub const FRAME_ID_BYTES_MAX: usize = 64;
/// Bytes of a `client_id`, at most (PROTOCOL §3); at least one.
pub const CLIENT_ID_BYTES_MAX: usize = 128;
/// The largest `seq` that a client may name: 2^53 - 1, the largest whole number that every JSON reader holds exactly
/// (RFC 8259 §6).
pub const SEQ_MAX: u64 = (1 << 53) - 1;

/// User ids in `content.mentions`, at most (PROTOCOL §3).
pub const MENTIONS_MAX: usize = 100;
/// Bytes of `custom` as compact JSON, at most (PROTOCOL §3).
pub const CUSTOM_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a conversation's title, at most (PROTOCOL §8).
pub const TITLE_BYTES_MAX: usize = 256;
/// Bytes of a reaction's `emoji`, at most (PROTOCOL §3); at least one.
pub const EMOJI_BYTES_MAX: usize = 64;
/// Objects and arrays within each other in `content`, `custom` and a signal's `data`, at most. PROTOCOL names no
/// number; this one leaves room for the six levels of a `sync` answer around it under the 128 levels at which common
/// JSON readers give up, so that nobody can send what the others cannot read.
pub const JSON_DEPTH_MAX: usize = 100;

/// Members of a group, its creator included, at most (PROTOCOL §3); so no list of user ids is longer.
pub const GROUP_MEMBERS_MAX: usize = 10_000;

/// `limit` of `history`, at most (PROTOCOL §3).
pub const HISTORY_LIMIT_MAX: u32 = 200;
/// `limit` of `history` when none is given (PROTOCOL §3).
pub const HISTORY_LIMIT_DEFAULT: u32 = 50;
/// `limit` of `changes`, at most and when none is given (PROTOCOL §3).
pub const CHANGES_LIMIT_MAX: u32 = 500;
/// `limit` of `conversation_members`, at most and when none is given (PROTOCOL §3).
pub const MEMBERS_LIMIT_MAX: u32 = 1_000;
/// `limit` of `sync`, at most and when none is given (PROTOCOL §3).
pub const SYNC_LIMIT_MAX: u32 = 200;
/// `entries_per_conversation` of `sync`, at most; 0 when none is given (PROTOCOL §3).
pub const SYNC_ENTRIES_MAX: u32 = 50;
/// Bytes of a `sync` cursor, at most. Cursors are the server's own and opaque; a longer one is none of them.
pub const CURSOR_BYTES_MAX: usize = 1_024;
/// Characters of a message's text in `sync`'s `last_message`, at most (PROTOCOL §3).
pub const PREVIEW_CHARS: usize = 200;

/// Bytes of one answer, at most (PROTOCOL §3): where that cuts it short, `more` is true.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of an answer that its items may take. The rest is kept for the fields around them: an `id` of 64 bytes
/// escaped sixfold, a cursor, a conversation id.
pub const ANSWER_ITEMS_BYTES_MAX: usize = ANSWER_BYTES_MAX - 4 * 1024;

/// Bytes of a signal's `kind`, at most (PROTOCOL §4); at least one.
pub const SIGNAL_KIND_BYTES_MAX: usize = 64;
/// Bytes of a signal's `data` as compact JSON, at most (PROTOCOL §4).
pub const SIGNAL_DATA_BYTES_MAX: usize = 1_024;
/// Users that one session may watch, and ids in one `presence_watch`, at most (PROTOCOL §4, §8).
pub const PRESENCE_WATCH_MAX: usize = 500;

/// Events in one `topic_publish`, at most (PROTOCOL §5); at least one.
pub const EVENTS_MAX: usize = 1_000;
/// Bytes of a series' name, at most (PROTOCOL §8); at least one.
pub const SERIES_BYTES_MAX: usize = 128;
/// Tags of one event, at most (PROTOCOL §8).
pub const TAGS_MAX: usize = 8;
/// Bytes of a tag's name, at most; at least one. PROTOCOL names no number for it.
pub const TAG_NAME_BYTES_MAX: usize = 64;
/// Bytes of a tag's value, at most. PROTOCOL names no number for it.
pub const TAG_VALUE_BYTES_MAX: usize = 128;
/// `range_s` of `topic_watch`, at most and when none is given: the hour that is kept (PROTOCOL §5).
pub const TOPIC_RANGE_S_MAX: u32 = 3_600;
/// How far in the future an event's `timestamp` may be (PROTOCOL §8).
pub const EVENT_AHEAD_MS_MAX: i64 = 60_000;

/// Bytes of an HTTP request's body, at most (PROTOCOL §8).
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Frames that are no JSON object and come within a minute before the socket is closed with 4400 (PROTOCOL §7).
pub const BAD_FRAMES_PER_MINUTE_MAX: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// The other tests are written with the constants; this holds the constants to the contract.
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
