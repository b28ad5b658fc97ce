//! A delivery from an owner to a home: frames for some of its users, which sessions to skip, and the changes to the
//! users' inboxes.

use super::ITEM;
use crate::delivery::{Class, Delivery, LogPosition};
use crate::push::News;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use switchboard_protocol::{ConversationId, Seq, SessionId, UserId};
use switchboard_store::{ConversationKey, InboxLast};

/// See [`super::Envelope::Deliver`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Deliver {
    pub(crate) conversation: ConversationKey,
    pub(crate) users: Arc<[UserId]>,
    pub(crate) frames: Vec<Outgoing>,
    pub(crate) note: Option<Note>,
}

/// Changes to inboxes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Note {
    /// For every user of the delivery.
    pub(crate) last: Option<Arc<InboxLast>>,
    /// For single users.
    pub(crate) users: Vec<UserNote>,
    /// New messages, for every user but their senders.
    #[serde(default)]
    pub(crate) news: Option<Arc<News>>,
}

impl Note {
    pub(super) fn bytes(&self) -> usize {
        let messages = self.news.as_ref().map_or(0, |news| news.messages.len());
        (self.users.len() + 16) * 2 * ITEM + messages * ITEM
    }

    /// Whether it has messages, receipts or departures, which push must know.
    pub(crate) fn concerns_push(&self) -> bool {
        let concerns = |about: &UserNote| about.read.is_some() || about.membership.is_some_and(|(_, member)| !member);
        self.news.is_some() || self.users.iter().any(concerns)
    }
}

/// Changes to one user's inbox row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UserNote {
    pub(crate) user: UserId,
    pub(crate) mentioned_seq: Seq,
    pub(crate) read: Option<(Seq, u64)>,
    pub(crate) membership: Option<(Seq, bool)>,
    /// The user's `delivered` cursor, when the log's end is announced.
    #[serde(default)]
    pub(crate) delivered: Seq,
}

/// A frame, and who does not get it.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) skip: Skip,
}

/// The sessions of a delivery that do not get a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skip {
    /// The acting session.
    pub(crate) session: Option<SessionId>,
    /// Sessions that have this conversation open: they get the entries themselves.
    pub(crate) open: Option<ConversationId>,
    /// Users who have a block with this user.
    pub(crate) hidden_from: Option<UserId>,
}

impl Outgoing {
    pub(crate) fn new(delivery: Delivery) -> Self {
        Self { delivery: Arc::new(delivery), skip: Skip::default() }
    }

    /// Its `seq`, if it is an entry.
    pub(crate) fn seq(&self) -> Option<Seq> {
        self.delivery.position.map(|position| position.seq)
    }
}

#[derive(Serialize, Deserialize)]
struct OutgoingWire {
    #[serde(with = "serde_bytes_as_text")]
    json: Bytes,
    kind: String,
    ephemeral: Option<u64>,
    #[serde(default)]
    conflated: Option<u64>,
    #[serde(default)]
    seq: Option<Seq>,
    /// The log that `seq` is in. Nodes of an earlier version leave it out.
    #[serde(default)]
    log: u64,
    skip: Skip,
}

/// JSON is text, so it is sent as MessagePack text.
mod serde_bytes_as_text {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(json: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(json).map_err(serde::ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        String::deserialize(deserializer).map(Bytes::from)
    }
}

impl Serialize for Outgoing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (ephemeral, conflated) = match self.delivery.class {
            Class::Undroppable => (None, None),
            Class::Ephemeral { key } => (Some(key), None),
            Class::Conflated { key } => (None, Some(key)),
        };
        OutgoingWire {
            json: self.delivery.json.clone(),
            kind: self.delivery.kind.to_owned(),
            ephemeral,
            conflated,
            seq: self.seq(),
            log: self.delivery.position.map_or(0, |position| position.log),
            skip: self.skip.clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Outgoing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = OutgoingWire::deserialize(deserializer)?;
        let known = switchboard_protocol::ServerFrame::TYPES.iter().chain(switchboard_protocol::EntryFrame::TYPES);
        let kind = known.copied().find(|known| *known == wire.kind).unwrap_or("unknown");
        let class = match (wire.ephemeral, wire.conflated) {
            (Some(key), _) => Class::Ephemeral { key },
            (None, Some(key)) => Class::Conflated { key },
            (None, None) => Class::Undroppable,
        };
        let position = wire.seq.map(|seq| LogPosition { log: wire.log, seq });
        Ok(Self { delivery: Arc::new(Delivery { json: wire.json, kind, class, position }), skip: wire.skip })
    }
}
