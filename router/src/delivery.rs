//! What a socket is given: one encoded frame, shared by all its recipients, and whether it may be dropped or merged for
//! a slow one.

use bytes::Bytes;
use std::sync::Arc;
use switchboard_protocol::{CloseCode, ConversationId, Seq};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// A server frame, encoded once for all its recipients.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The frame's JSON.
    pub json: Bytes,
    /// Its `type`, for metrics.
    pub kind: &'static str,
    /// What a full queue may do with it.
    pub class: Class,
    /// Where it is in its log, if it is an entry.
    pub position: Option<LogPosition>,
}

/// Where an entry is: in which conversation's log, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// A hash of the conversation's id. Positions only order frames to one session, so a collision does no harm.
    pub(crate) log: u64,
    pub(crate) seq: Seq,
}

impl LogPosition {
    /// The position of entry `seq` of this conversation.
    pub fn new(conversation: &ConversationId, seq: Seq) -> Self {
        Self { log: xxh3_64(conversation.as_str().as_bytes()), seq }
    }

    /// Whether both are in the same log, and this one is earlier.
    pub fn is_before(self, other: Self) -> bool {
        self.log == other.log && self.seq < other.seq
    }
}

/// How a frame may be treated when its reader is slow (DESIGN §5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Never silently dropped: when it has no room the session is closed with 4508, and resumes by `sync`.
    Undroppable,
    /// Ephemeral: a newer one with the same key replaces one that still waits, and it is dropped first.
    Ephemeral {
        /// A hash of its subject (kind of frame, conversation, user).
        key: u64,
    },
    /// Merged into a waiting frame with the same key ([`Delivery::conflated`]), in that one's place. If there is no
    /// room even for that, as for undroppable frames.
    Conflated {
        /// A hash of the topic and its window.
        key: u64,
    },
}

impl Delivery {
    /// The merger of `self`, which still waits, and `newer`: it says what both say.
    pub fn conflated(self: &Arc<Self>, newer: &Arc<Self>) -> Arc<Self> {
        crate::topics::conflated(self, newer).map_or_else(|| newer.clone(), Arc::new)
    }
}

/// Entries that follow each other in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRun {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
}

impl EntryRun {
    pub(crate) fn one(seq: Seq) -> Self {
        Self { first: seq, last: seq }
    }

    pub(crate) fn has(self, seq: Seq) -> bool {
        (self.first..=self.last).contains(&seq)
    }
}

/// A socket as the router sees it, implemented by the gateway. Calls never block and never call back into the router.
pub trait Socket: Send + Sync {
    /// Queues a frame. The socket has its own limit (DESIGN §5.7). Frames leave in the order of the calls.
    fn deliver(&self, delivery: &Arc<Delivery>);

    /// As [`Socket::deliver`], for callers that give frames to many sockets: if it returns true, the frame leaves with
    /// the [`Socket::flush`] that the caller now owes.
    fn queue(&self, delivery: &Arc<Delivery>) -> bool {
        self.deliver(delivery);
        false
    }

    /// Sends what was queued.
    fn flush(&self) {}

    /// Tells the client why, and closes. What was queued before still leaves if there is time.
    fn close(&self, why: CloseCode);

    /// Asks the client to move (PROTOCOL §2 `reconnect`): after `after_ms` and a grace the socket closes with 1001.
    /// `url` is empty when there is no other node.
    fn reconnect(&self, after_ms: u64, url: Option<&str>);
}

/// An ephemeral frame about one user in one conversation.
pub(crate) fn ephemeral(kind: &'static str, json: String, about: &[&str]) -> Delivery {
    let mut key = xxh3_64(kind.as_bytes());
    for part in about {
        key = xxh3_64_with_seed(part.as_bytes(), key);
    }
    Delivery { json: json.into(), kind, class: Class::Ephemeral { key }, position: None }
}

/// A frame that is never silently dropped.
pub(crate) fn undroppable(kind: &'static str, json: impl Into<bytes::Bytes>) -> Delivery {
    Delivery { json: json.into(), kind, class: Class::Undroppable, position: None }
}
