//! Unsolicited frames that are not entries: receipts, activity, typing, signals, presence (PROTOCOL §3, §4).

use serde::{Deserialize, Serialize};

use crate::content::SignalData;
use crate::ids::{ConversationId, MessageId, Seq, UserId};
use crate::server::{UserPresence, frame_type};
use crate::text::SignalKind;
use crate::timestamp::Timestamp;

/// A newer cursor for the next `sync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub cursor: String,
}
frame_type!(Cursor = "cursor");

/// There are entries up to `last_seq` to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationActivity {
    pub conversation_id: ConversationId,
    pub last_seq: Seq,
    /// The newest message that mentions the user; 0: none.
    pub mentioned_seq: Seq,
}
frame_type!(ConversationActivity = "conversation_activity");

/// Direct: the other user's device has received everything up to `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryReceipt {
    pub conversation_id: ConversationId,
    pub message_id: MessageId,
    pub seq: Seq,
    pub delivered_to: UserId,
    pub delivered_at: Timestamp,
}
frame_type!(DeliveryReceipt = "delivery_receipt");

/// Direct: the other user has read everything up to `seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReceipt {
    pub conversation_id: ConversationId,
    pub message_id: MessageId,
    pub seq: Seq,
    pub read_by: UserId,
    pub read_at: Timestamp,
}
frame_type!(ReadReceipt = "read_receipt");

/// Group with `delivery` `full`: cursors that moved, without the reader's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipts {
    pub conversation_id: ConversationId,
    pub users: Vec<UserReceipt>,
}
frame_type!(Receipts = "receipts");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserReceipt {
    pub user_id: UserId,
    pub delivered_seq: Seq,
    pub read_seq: Seq,
    pub at: Timestamp,
}

/// Larger group: sent to the sender; how many of the others have the sender's newest message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptCounts {
    pub conversation_id: ConversationId,
    pub seq: Seq,
    pub delivered: u32,
    pub read: u32,
}
frame_type!(ReceiptCounts = "receipt_counts");

/// Another session of the same user has read up to `read_seq`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadMarker {
    pub conversation_id: ConversationId,
    pub read_seq: Seq,
    pub unread: u64,
}
frame_type!(ReadMarker = "read_marker");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingStart {
    pub conversation_id: ConversationId,
    pub user_id: UserId,
}
frame_type!(TypingStart = "typing_start");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypingStop {
    pub conversation_id: ConversationId,
    pub user_id: UserId,
}
frame_type!(TypingStop = "typing_stop");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    pub conversation_id: ConversationId,
    pub user_id: UserId,
    pub kind: SignalKind,
    pub data: SignalData,
}
frame_type!(Signal = "signal");

/// Watched users whose presence changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    pub users: Vec<UserPresence>,
}
frame_type!(Presence = "presence");
