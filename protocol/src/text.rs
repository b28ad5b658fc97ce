//! Short validated texts as newtypes: the macro that defines them (also used for ids), and those that are not ids.

use crate::limits::{EMOJI_BYTES_MAX, SIGNAL_KIND_BYTES_MAX, TITLE_BYTES_MAX};

/// A text that its newtype rejects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be {expected}")]
pub struct InvalidText {
    /// What would be accepted, as the end of a sentence that begins with "must be".
    pub expected: &'static str,
}

/// A newtype over a cheaply cloned string (24 bytes; up to 23 bytes of text without an allocation) that holds only what
/// `$accepts` accepts.
macro_rules! checked_text {
    ($(#[$meta:meta])* $name:ident, $accepts:expr, $expected:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(smol_str::SmolStr);

        impl $name {
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl crate::fields::FieldValue for $name {
            const EXPECTED: &'static str = $expected;

            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::text::InvalidText;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let accepts: fn(&str) -> bool = $accepts;
                if accepts(text) {
                    Ok(Self(smol_str::SmolStr::new(text)))
                } else {
                    Err(crate::text::InvalidText { expected: $expected })
                }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = crate::text::InvalidText;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl TryFrom<String> for $name {
            type Error = crate::text::InvalidText;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(crate::text::ParsedVisitor::<Self>::new($expected))
            }
        }
    };
}
pub(crate) use checked_text;

checked_text! {
    /// A conversation's title; may be empty.
    Title, |text| text.len() <= TITLE_BYTES_MAX, "a string of at most 256 bytes"
}

checked_text! {
    /// The content of a reaction, as the client names it.
    Emoji, |text| (1..=EMOJI_BYTES_MAX).contains(&text.len()), "a string of 1 to 64 bytes"
}

checked_text! {
    /// The topic of a signal; a newer signal of a sender replaces older ones of the same kind.
    SignalKind, |text| (1..=SIGNAL_KIND_BYTES_MAX).contains(&text.len()), "a string of 1 to 64 bytes"
}

/// Reads a string through `FromStr`, without an intermediate copy.
pub(crate) struct ParsedVisitor<T> {
    expected: &'static str,
    parsed: std::marker::PhantomData<T>,
}

impl<T> ParsedVisitor<T> {
    pub(crate) fn new(expected: &'static str) -> Self {
        Self { expected, parsed: std::marker::PhantomData }
    }
}

impl<T: std::str::FromStr> serde::de::Visitor<'_> for ParsedVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        // The text itself is left out of the error: it may be as long as the frame.
        text.parse().map_err(|_| E::custom(format_args!("must be {}", self.expected)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::FieldValue;
    use crate::ids::{ClientId, FrameId, InstanceId, Seq, UserId};
    use crate::limits::{CLIENT_ID_BYTES_MAX, FRAME_ID_BYTES_MAX, ID_BYTES_MAX, SEQ_MAX};

    /// The messages are constants, to cost nothing; this test checks them against the limits.
    #[test]
    fn messages_name_the_limits() {
        let messages = [
            (Title::EXPECTED, TITLE_BYTES_MAX as u64),
            (Emoji::EXPECTED, EMOJI_BYTES_MAX as u64),
            (SignalKind::EXPECTED, SIGNAL_KIND_BYTES_MAX as u64),
            (UserId::EXPECTED, ID_BYTES_MAX as u64),
            (InstanceId::EXPECTED, ID_BYTES_MAX as u64),
            (ClientId::EXPECTED, CLIENT_ID_BYTES_MAX as u64),
            (FrameId::EXPECTED, FRAME_ID_BYTES_MAX as u64),
            (Seq::EXPECTED, SEQ_MAX),
        ];
        for (message, limit) in messages {
            assert!(message.contains(&format!(" {limit}")), "{message}: {limit}");
        }
    }
}
