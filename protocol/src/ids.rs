//! Ids and numbers as newtypes that can't hold what PROTOCOL §1 and §3 forbid. They are held per session and per
//! member, so they are small: 24 bytes, without an allocation up to 23 bytes of text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fields::FieldValue;
use crate::limits::{CLIENT_ID_BYTES_MAX, FRAME_ID_BYTES_MAX, ID_BYTES_MAX, SEQ_MAX};
use crate::text::{InvalidText, ParsedVisitor, checked_text};

const ID_EXPECTED: &str = "a string of 1 to 128 bytes of A-Z a-z 0-9 _ - . : @";

fn is_id(text: &str) -> bool {
    !text.is_empty() && is_id_or_empty(text)
}

fn is_id_or_empty(text: &str) -> bool {
    text.len() <= ID_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'@'))
}

checked_text! {
    /// A user within a tenant: the token's `sub`.
    UserId, is_id, ID_EXPECTED
}
checked_text! {
    /// A user's device.
    DeviceId, is_id, ID_EXPECTED
}
checked_text! {
    /// A conversation; the id is assigned by the server and opaque to clients.
    ConversationId, is_id, ID_EXPECTED
}
checked_text! {
    /// A dashboard topic. One that begins with `$` is the gateway's own (PROTOCOL §5).
    TopicId,
    |text| text.len() <= ID_BYTES_MAX && is_id(text.strip_prefix('$').unwrap_or(text)),
    "a string of 1 to 128 bytes of A-Z a-z 0-9 _ - . : @, the gateway's own behind a $"
}

impl TopicId {
    /// Whether the topic is the gateway's own: nobody publishes to it.
    pub fn is_own(&self) -> bool {
        self.as_str().starts_with('$')
    }
}
checked_text! {
    /// A tenant; tenants are isolated from each other.
    TenantId, is_id, ID_EXPECTED
}

impl Default for TenantId {
    /// The tenant of a token without one (PROTOCOL §1).
    fn default() -> Self {
        Self(smol_str::SmolStr::new_static("default"))
    }
}

checked_text! {
    /// A node as clients and operators name it (`node.id`).
    NodeId, is_id, ID_EXPECTED
}
checked_text! {
    /// One authenticated connection; opaque.
    SessionId, is_id, ID_EXPECTED
}
checked_text! {
    /// The store's life: if it changes, clients must discard what they cached (PROTOCOL §2). Without dots, which separate
    /// the parts of a `sync` cursor.
    StoreId,
    |text| is_id(text) && !text.contains('.'),
    "a string of 1 to 128 bytes of A-Z a-z 0-9 _ - : @"
}
checked_text! {
    /// An instance of a device, such as a browser tab; empty if it is missing (PROTOCOL §1, "Frames").
    #[derive(Default)]
    InstanceId, is_id_or_empty, "a string of at most 128 bytes of A-Z a-z 0-9 _ - . : @"
}
checked_text! {
    /// The idempotency key of a send. Any text.
    ClientId, |text| (1..=CLIENT_ID_BYTES_MAX).contains(&text.len()), "a string of 1 to 128 bytes"
}
checked_text! {
    /// A client frame's `id`, echoed in the answer.
    FrameId, |text| text.len() <= FRAME_ID_BYTES_MAX, "a string of at most 64 bytes"
}

/// An entry's place in its conversation's log: 1, 2, 3, …; 0 is "before the first".
///
/// [`Seq::new`] takes any number, because the server counts; what is parsed from a client is at most
/// [`SEQ_MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// Before the first entry.
    pub const ZERO: Seq = Seq(0);

    pub const fn new(seq: u64) -> Self {
        Self(seq)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// The seq of the entry that follows.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const SEQ_EXPECTED: &str = "a whole number from 0 to 9007199254740991";

impl TryFrom<u64> for Seq {
    type Error = InvalidText;

    fn try_from(seq: u64) -> Result<Self, InvalidText> {
        if seq <= SEQ_MAX { Ok(Self(seq)) } else { Err(InvalidText { expected: SEQ_EXPECTED }) }
    }
}

impl FromStr for Seq {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let seq = parse_decimal(text).ok_or(InvalidText { expected: SEQ_EXPECTED })?;
        Self::try_from(seq)
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(u64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl FieldValue for Seq {
    const EXPECTED: &'static str = SEQ_EXPECTED;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A message's Snowflake id, for logs and people (clients address messages by [`Seq`]). A decimal string in JSON,
/// because JavaScript's numbers can't hold 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

impl MessageId {
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const MESSAGE_ID_EXPECTED: &str = "a string holding a whole number of 64 bits";

impl FromStr for MessageId {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        parse_decimal(text).map(Self).ok_or(InvalidText { expected: MESSAGE_ID_EXPECTED })
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(ParsedVisitor::<Self>::new(MESSAGE_ID_EXPECTED))
    }
}

/// Digits only: Rust's own parser also accepts a leading `+`.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn an_id_is_any_text_of_its_alphabet_and_nothing_else(text in "[A-Za-z0-9_.:@ é-]{0,130}") {
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.:@";
            let expected = (1..=128).contains(&text.len()) && text.chars().all(|c| alphabet.contains(c));
            proptest::prop_assert_eq!(text.parse::<UserId>().is_ok(), expected);
            let json = serde_json::to_string(&text).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<UserId>(&json).is_ok(), expected);
        }
    }

    #[test]
    fn an_instance_id_may_be_empty() {
        assert_eq!("".parse(), Ok(InstanceId::default()));
        assert!("".parse::<DeviceId>().is_err());
    }

    #[test]
    fn a_message_id_is_a_decimal_string() {
        let id = MessageId::new(u64::MAX);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<MessageId>("\"18446744073709551615\"").unwrap(), id);
        for malformed in ["1", "\"18446744073709551616\"", "\"\"", "\"+1\"", "\"-1\"", "\"1.0\""] {
            assert!(serde_json::from_str::<MessageId>(malformed).is_err(), "{malformed}");
        }
    }

    #[test]
    fn a_seq_is_a_number_that_javascript_holds() {
        assert_eq!(Seq::ZERO.next(), Seq::new(1));
        assert_eq!("9007199254740991".parse(), Ok(Seq::new(SEQ_MAX)));
        for malformed in ["", "+1", "-1", "1.0", "9007199254740992", "99999999999999999999"] {
            assert!(malformed.parse::<Seq>().is_err(), "{malformed}");
        }
        assert!(serde_json::from_str::<Seq>("9007199254740992").is_err());
    }

    /// Held per session and per member.
    #[test]
    fn ids_are_small() {
        assert_eq!(size_of::<UserId>(), 24);
        assert_eq!(size_of::<Option<UserId>>(), 24);
    }
}
