//! The frames that the server sends (PROTOCOL §1 to §5), as types that write exactly the documented JSON, and read it
//! back (for clients, the harness and tests).
//!
//! A payload struct holds a frame's fields without `type` and `id`, so it is also the `data` of HTTP answers. Lists are
//! generic over their items, so that an answer can be assembled from items that are JSON already.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::FrameId;

mod answers;
mod entries;
mod live;
mod session;
mod sync;
mod topic;

pub use answers::{
    Changes, Conversation, ConversationKind, Delivery, ErrorFrame, History, HistoryMessage, Member, Members, OkFrame,
    Opened, PresenceState, ReactionCount, Sent, ShownStatus, UserPresence,
};
pub use entries::{ConversationUpdated, EntryFrame, Membership, Message, MessageUpdated, Reaction};
pub use live::{
    ConversationActivity, Cursor, DeliveryReceipt, Presence, ReadMarker, ReadReceipt, ReceiptCounts, Receipts, Signal,
    TypingStart, TypingStop, UserReceipt,
};
pub use session::{Authenticated, Pong, Ready, Reconnect, ReconnectRange, Resync, SessionLimits};
pub use sync::{ConversationSettings, LastMessage, Settings, Sync, SyncConversation, SyncState};
pub use topic::{TopicState, TopicUpdate};

/// A payload that is sent under one `type`.
pub trait Frame: Serialize {
    const TYPE: &'static str;

    /// The frame's JSON: `type`, the `id` of the frame that it answers, the fields.
    fn encode(&self, id: Option<&FrameId>) -> String
    where
        Self: Sized,
    {
        encode_tagged(Self::TYPE, id, self)
    }
}

/// The envelope of every frame's fields.
#[derive(Serialize)]
struct Tagged<'a, T> {
    #[serde(rename = "type")]
    type_name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a FrameId>,
    #[serde(flatten)]
    fields: &'a T,
}

/// Writes a frame's JSON in one pass.
pub(crate) fn encode_tagged<T: Serialize>(type_name: &'static str, id: Option<&FrameId>, fields: &T) -> String {
    /// Most frames fit, so they are not reallocated while they grow.
    const FRAME_BYTES: usize = 512;
    let mut json = Vec::with_capacity(FRAME_BYTES);
    // Serialization fails only for maps with keys that are not strings, and no frame has one.
    serde_json::to_writer(&mut json, &Tagged { type_name, id, fields }).expect("frames serialise");
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// Text that is not a server frame of this version.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("not a server frame")]
    Malformed(#[from] serde_json::Error),
    /// Clients ignore such frames.
    #[error("no server frame has the type {0:?}")]
    UnknownType(String),
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "type")]
    type_name: String,
    id: Option<FrameId>,
}

/// Gives a payload its `type`.
macro_rules! frame_type {
    ($payload:ty = $type:literal) => {
        impl crate::server::Frame for $payload {
            const TYPE: &'static str = $type;
        }
    };
}
pub(crate) use frame_type;

/// Defines an enum of frames from the list of their payloads.
macro_rules! frames {
    ($(#[$doc:meta])* $name:ident { $($variant:ident($payload:ty),)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($variant($payload),)*
        }

        impl $name {
            /// The types of all of these frames, as in `type`.
            pub const TYPES: &'static [&'static str] = &[$(<$payload as crate::server::Frame>::TYPE,)*];

            /// The frame's `type`.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => <$payload as crate::server::Frame>::TYPE,)*
                }
            }

            /// The frame's JSON: `type`, the `id` of the frame that it answers, the fields.
            pub fn encode(&self, id: Option<&crate::ids::FrameId>) -> String {
                match self {
                    $(Self::$variant(payload) => crate::server::Frame::encode(payload, id),)*
                }
            }

            /// Reads a frame and the `id` that it carries.
            ///
            /// # Errors
            /// If the text is no such frame.
            pub fn decode(text: &str) -> Result<(Option<crate::ids::FrameId>, Self), crate::server::DecodeError> {
                let header: crate::server::Header = serde_json::from_str(text)?;
                let frame = match header.type_name.as_str() {
                    $(<$payload as crate::server::Frame>::TYPE => Self::$variant(serde_json::from_str(text)?),)*
                    _ => return Err(crate::server::DecodeError::UnknownType(header.type_name)),
                };
                Ok((header.id, frame))
            }
        }

        $(impl From<$payload> for $name {
            fn from(payload: $payload) -> Self {
                Self::$variant(payload)
            }
        })*
    };
}
pub(crate) use frames;

frames! {
    /// One frame of the server.
    ServerFrame {
        Ready(Ready),
        Authenticated(Authenticated),
        Pong(Pong),
        Ok(OkFrame),
        Error(ErrorFrame),
        Reconnect(Reconnect),
        Resync(Resync),
        Sent(Sent),
        Message(Message),
        Conversation(Conversation),
        Members(Members),
        MessageUpdated(MessageUpdated),
        Reaction(Reaction),
        Membership(Membership),
        ConversationUpdated(ConversationUpdated),
        History(History),
        Changes(Changes),
        Sync(Sync),
        Cursor(Cursor),
        ConversationSettings(ConversationSettings),
        Opened(Opened),
        ConversationActivity(ConversationActivity),
        DeliveryReceipt(DeliveryReceipt),
        ReadReceipt(ReadReceipt),
        Receipts(Receipts),
        ReceiptCounts(ReceiptCounts),
        ReadMarker(ReadMarker),
        TypingStart(TypingStart),
        TypingStop(TypingStop),
        Signal(Signal),
        PresenceState(PresenceState),
        Presence(Presence),
        TopicState(TopicState),
        TopicUpdate(TopicUpdate),
    }
}

/// The byte budget of a page. The first item is always let through, whatever its size, so that a client can get past
/// it.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    used: Option<usize>,
}

impl Budget {
    /// An unused budget.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, used: None }
    }

    /// Takes `bytes` from the budget if they fit. Returns whether they did.
    pub fn take(&mut self, bytes: usize) -> bool {
        let used = self.used.unwrap_or(0).saturating_add(bytes);
        let fits = self.used.is_none() || used <= self.bytes_max;
        if fits {
            self.used = Some(used);
        }
        fits
    }
}

/// Encodes items for an answer until the next one would exceed `bytes_max`. `true` if some were left out, which the
/// answer reports as `more`.
///
/// The items come in order of importance: for a `history` whose newest messages matter, newest first, to be reversed
/// afterwards.
pub fn fit_items<T: Serialize>(items: impl IntoIterator<Item = T>, bytes_max: usize) -> (Vec<Box<RawValue>>, bool) {
    let mut fitting = Vec::new();
    let mut budget = Budget::new(bytes_max);
    for item in items {
        let item = encode_item(&item);
        // One more for the comma.
        if !budget.take(item.get().len() + 1) {
            return (fitting, true);
        }
        fitting.push(item);
    }
    (fitting, false)
}

/// Encodes one item of an answer's list.
pub fn encode_item<T: Serialize>(item: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(item).expect("frames serialise")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProtocolError;
    use crate::limits;

    #[test]
    fn items_fit_up_to_the_limit_and_not_one_past_it() {
        let items = ["aaaa", "bbbb", "cccc"];
        // Each item has six bytes with its quotes, and a comma.
        let fit = |bytes_max| {
            let (fitting, cut) = fit_items(items, bytes_max);
            (fitting.len(), cut)
        };
        assert_eq!(fit(21), (3, false));
        assert_eq!(fit(20), (2, true));
        assert_eq!(fit(14), (2, true));
        assert_eq!(fit(0), (1, true), "the first is never left out");
        assert_eq!(fit_items::<&str>([], 0).0.len(), 0);
    }

    #[test]
    fn an_answer_can_be_put_together_from_encoded_items() {
        let golden = include_str!("../golden/changes.json");
        let line = golden.lines().find(|line| line.contains("\"entries\":[{")).unwrap();
        let (id, changes) = ServerFrame::decode(line).unwrap();
        let ServerFrame::Changes(changes) = changes else { panic!("{changes:?}") };
        let (entries, cut) = fit_items(&changes.entries, limits::ANSWER_ITEMS_BYTES_MAX);
        assert!(!cut);
        let encoded = Changes {
            conversation_id: changes.conversation_id.clone(),
            entries,
            last_seq: changes.last_seq,
            more: changes.more,
            reset: changes.reset,
        };
        assert_eq!(encoded.encode(id.as_ref()), changes.encode(id.as_ref()));
    }

    #[test]
    fn what_surrounds_the_items_of_an_answer_has_room() {
        let id: FrameId = "\u{1}".repeat(limits::FRAME_ID_BYTES_MAX).parse().unwrap();
        let sync: Sync =
            Sync { cursor: "c".repeat(limits::CURSOR_BYTES_MAX), conversations: Vec::new(), more: true, reset: true };
        assert!(limits::ANSWER_ITEMS_BYTES_MAX + sync.encode(Some(&id)).len() <= limits::ANSWER_BYTES_MAX);
    }

    #[test]
    fn an_error_stays_the_same_on_its_way_over_a_frame() {
        for error in [
            ProtocolError::not_found(),
            ProtocolError::unavailable(250),
            ProtocolError::bad_request("limit", "is required").with_detail("seq", "is required"),
        ] {
            assert_eq!(ProtocolError::from(ErrorFrame::new(None, &error)), error);
        }
    }

    #[test]
    fn unknown_types_are_told_from_malformed_frames() {
        let unknown = ServerFrame::decode(r#"{"type":"hologram"}"#).unwrap_err();
        assert!(matches!(unknown, DecodeError::UnknownType(name) if name == "hologram"));
        for malformed in ["", "[]", "{}", r#"{"type":"pong"}x"#, r#"{"type":"cursor"}"#] {
            assert!(matches!(ServerFrame::decode(malformed), Err(DecodeError::Malformed(_))), "{malformed}");
        }
    }
}
