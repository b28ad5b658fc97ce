//! The messages between nodes. A node uses the same values for itself, without encoding them.
//!
//! They are encoded as MessagePack maps, so that a field added by a newer version is ignored by an older one, and
//! defaults when it is missing (DESIGN §5.12). Frames for clients stay JSON inside. This file has packets and one-way
//! envelopes; deliveries are in `deliver.rs`, requests and replies in `ask.rs`.

mod ask;
mod deliver;

use crate::topics::TopicKey;
pub(crate) use ask::{Ask, Encoded, Peek, Refusal, Reply, Roll, RollAsked, SessionRow};
use bytes::Bytes;
pub(crate) use deliver::{Deliver, Note, Outgoing, Skip, UserNote};
use serde::{Deserialize, Serialize};
use switchboard_presence::{SavedPresence, Shown};
use switchboard_protocol::{ConversationId, DeviceId, InstanceId, Seq, SessionId, Timestamp, UserId, Window};
use switchboard_store::{ConversationKey, Incarnation, Receipt, UserKey};
use switchboard_topics::Part;
use thiserror::Error;

/// The version of [`Packet`]. A packet of another one is refused, counted and logged.
pub(crate) const ENVELOPE_VERSION: u8 = 1;

/// Envelopes of one sender for one receiver: what the bus carries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Packet {
    /// [`ENVELOPE_VERSION`].
    pub(crate) version: u8,
    /// The sender.
    pub(crate) from: Incarnation,
    /// The number of the first envelope; of the next one to come when there is none.
    pub(crate) first: u64,
    /// Inbox changes from the receiver's envelopes up to this number are durable.
    pub(crate) confirmed: u64,
    /// The envelopes, numbered on from `first`.
    pub(crate) envelopes: Vec<Envelope>,
}

/// A packet that can't be taken.
#[derive(Debug, Error)]
pub(crate) enum PacketError {
    /// It is no packet.
    #[error("not a packet: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// It is one of another version.
    #[error("a packet of version {0}, this node knows {ENVELOPE_VERSION}")]
    Version(u8),
}

impl Packet {
    /// Whether something in it changes inboxes.
    pub(crate) fn has_notes(&self) -> bool {
        self.envelopes.iter().any(|envelope| matches!(envelope, Envelope::Deliver(Deliver { note: Some(_), .. })))
    }

    pub(crate) fn encode(&self) -> Bytes {
        // Writing into memory fails for no value of this type.
        rmp_serde::to_vec_named(self).map(Bytes::from).unwrap_or_default()
    }

    pub(crate) fn decode(packet: &[u8]) -> Result<Self, PacketError> {
        #[derive(Deserialize)]
        struct Version {
            version: u8,
        }
        let Version { version } = rmp_serde::from_slice(packet)?;
        if version != ENVELOPE_VERSION {
            return Err(PacketError::Version(version));
        }
        Ok(rmp_serde::from_slice(packet)?)
    }
}

/// One thing that one node tells another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Envelope {
    /// Asks for a [`Envelope::Reply`] with the same number.
    Request { request: u64, ask: Ask },
    /// Answers a request.
    Reply { request: u64, reply: Result<Reply, Refusal> },
    /// Owner → home: frames for these users wherever they are, and what changes in their inboxes.
    Deliver(Deliver),
    /// Home → a node that has sessions of these users.
    Relay { conversation: ConversationKey, users: Vec<UserId>, frames: Vec<Outgoing> },
    /// Owner → a node whose sessions have the conversation open.
    ToSessions { conversation: ConversationKey, sessions: Vec<(UserId, SessionId)>, frames: Vec<Outgoing> },
    /// Node → owner: these sessions have the conversation open no more.
    SessionsGone { conversation: ConversationKey, sessions: Vec<(UserId, SessionId)> },
    /// Owner → node: these sessions have the conversation open no more, as their user was removed from it.
    Closed { conversation: ConversationKey, sessions: Vec<(UserId, SessionId)> },
    /// Node → home: how many sessions of each user it has now.
    Register { users: Vec<Registration> },
    /// Home → nodes with sessions of a user: which of a device's instance is the newest, and where.
    Newest { user: UserKey, at: Incarnation, arrival: Arrival },
    /// Home → a node: this session is one more than its user may have.
    NoRoom { user: UserKey, arrival: Arrival },
    /// Node → home: tell me no more about these users' presence.
    Unwatch { users: Vec<UserKey> },
    /// Home → nodes that watch.
    Presence { users: Vec<(UserKey, Look)> },
    /// Home → nodes with sessions of a user: what he set, to bring along when his home changes.
    Saved { user: UserKey, saved: Saved },
    /// Owner → a node whose sessions watch the topic.
    TopicUpdate { topic: TopicKey, window: Window, version: u64, frame: Outgoing },
    /// Owner → a node whose sessions watch the topic: what others have counted of it has come, ask for a new state.
    TopicAnew { topic: TopicKey, window: Window },
    /// Node → owner: no session here watches any more.
    TopicUnwatch { topic: TopicKey, window: Window },
    /// Owner → its heir: what has changed since the last tick. Versions are in the order of [`Window::ALL`].
    TopicChanges { topic: TopicKey, versions: [u64; 2], parts: Vec<Part> },
    /// Heir → owner: of this topic everything has to be told.
    TopicUnknown { topic: TopicKey },
    /// Node → home: a receipt of the user for everything in the conversation up to `upto`.
    Receipt { user: UserKey, conversation: ConversationId, upto: Seq, receipt: Receipt },
    /// Envelopes up to this number did not come, or not all.
    Missed { upto: u64 },
    /// What was owed from envelopes up to this number has been told again.
    Repeated { upto: u64 },
}

/// An id, or a small thing with one, in memory.
const ITEM: usize = 64;

impl Envelope {
    /// About what it takes in memory, and a little more than it does on the bus.
    pub(crate) fn bytes(&self) -> usize {
        /// A window: eight numbers of nine bytes.
        const POINT: usize = 73;
        let frames =
            |frames: &[Outgoing]| frames.iter().map(|frame| frame.delivery.json.len() + 2 * ITEM).sum::<usize>();
        let varies = match self {
            Self::Request { ask: Ask::Conversation { command, .. } | Ask::User { command, .. }, .. } => command.0.len(),
            Self::Request { ask: Ask::TopicPublish { command, .. }, .. } => command.0.len(),
            Self::TopicUpdate { frame, .. } => frames(std::slice::from_ref(frame)),
            Self::TopicChanges { parts, .. } | Self::Request { ask: Ask::TopicCopy { parts, .. }, .. } => {
                let series = parts.iter().flat_map(|part| &part.series);
                series.map(|series| 4 * ITEM + series.tags.bytes() + series.points.len() * POINT).sum()
            }
            Self::Request { ask: Ask::PutPushDevice { registered, .. }, .. } => registered.target.len(),
            Self::Request { ask: Ask::SetNotificationPreferences { preferences, .. }, .. } => preferences.len(),
            Self::Request { ask: Ask::PresenceOf { users, .. }, .. } => users.len() * ITEM,
            Self::Request { ask: Ask::Trace { users, .. }, .. } => users.len() * ITEM,
            Self::Reply { reply: Ok(Reply::Frame { json, .. } | Reply::Trace(json)), .. } => json.0.len(),
            Self::Reply { reply: Ok(Reply::Peek(peek)), .. } => {
                peek.entries.iter().flatten().map(|entry| entry.0.len() + ITEM).sum()
            }
            Self::Reply { reply: Ok(Reply::Roll(roll)), .. } => roll.members.len() * 3 * ITEM,
            Self::Reply { reply: Ok(Reply::Sessions(rows)), .. } => rows.len() * 4 * ITEM,
            Self::Reply { reply: Ok(Reply::Presence(looks)), .. } => looks.len() * ITEM,
            Self::Deliver(Deliver { users, frames: sent, note, .. }) => {
                let noted = note.as_ref().map_or(0, Note::bytes);
                users.len() * ITEM + frames(sent) + noted
            }
            Self::Relay { users, frames: sent, .. } => users.len() * ITEM + frames(sent),
            Self::ToSessions { sessions, frames: sent, .. } => sessions.len() * 2 * ITEM + frames(sent),
            Self::SessionsGone { sessions, .. } | Self::Closed { sessions, .. } => sessions.len() * 2 * ITEM,
            Self::Register { users } => users.iter().map(|of| (2 + 3 * of.arrived.len()) * ITEM).sum(),
            Self::Newest { .. } | Self::NoRoom { .. } | Self::Receipt { .. } => 2 * ITEM,
            Self::Presence { users } => users.len() * 2 * ITEM,
            Self::Unwatch { users } => users.len() * ITEM,
            _ => 0,
        };
        4 * ITEM + varies
    }
}

/// [`Shown`] on the bus.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Look {
    status: switchboard_protocol::server::ShownStatus,
    last_seen_at: Option<Timestamp>,
}

impl From<Shown> for Look {
    fn from(shown: Shown) -> Self {
        Self { status: shown.status, last_seen_at: shown.last_seen_at }
    }
}

impl From<Look> for Shown {
    fn from(look: Look) -> Self {
        Self { status: look.status, last_seen_at: look.last_seen_at }
    }
}

/// [`SavedPresence`] on the bus.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    status: switchboard_protocol::client::PresenceStatus,
    revision: u32,
    last_seen_at: Option<Timestamp>,
}

impl From<SavedPresence> for Saved {
    fn from(saved: SavedPresence) -> Self {
        Self { status: saved.status, revision: saved.revision, last_seen_at: saved.last_seen_at }
    }
}

impl From<Saved> for SavedPresence {
    fn from(saved: Saved) -> Self {
        Self { status: saved.status, revision: saved.revision, last_seen_at: saved.last_seen_at }
    }
}

/// See [`Envelope::Register`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Registration {
    pub(crate) user: UserKey,
    /// 0: none any more.
    pub(crate) sessions: u32,
    /// What a former home left with the node: presence travels with the registration.
    pub(crate) saved: Option<Saved>,
    /// His sessions there of which the home has not told yet.
    #[serde(default)]
    pub(crate) arrived: Vec<Arrival>,
}

/// A session that is new at a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) session: SessionId,
    pub(crate) device: DeviceId,
    pub(crate) instance: InstanceId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Class, Delivery};

    fn packet(version: u8) -> Packet {
        let conversation = ConversationKey { tenant: "t".parse().unwrap(), conversation: "g:1".parse().unwrap() };
        let delivery = Delivery {
            json: Bytes::from_static(b"{\"type\":\"message\"}"),
            kind: "message",
            class: Class::Ephemeral { key: 7 },
        };
        let deliver = Deliver {
            conversation,
            users: vec!["bob".parse().unwrap()].into(),
            frames: vec![Outgoing::new(delivery)],
            note: Some(Note::default()),
        };
        Packet {
            version,
            from: Incarnation { node: "n1".parse().unwrap(), life: 3 },
            first: 5,
            confirmed: 2,
            envelopes: vec![Envelope::Deliver(deliver), Envelope::Missed { upto: 4 }],
        }
    }

    #[test]
    fn a_packet_survives_the_bus() {
        let decoded = Packet::decode(&packet(ENVELOPE_VERSION).encode()).unwrap();
        let Envelope::Deliver(deliver) = &decoded.envelopes[0] else { panic!("{decoded:?}") };
        assert_eq!(deliver.frames[0].delivery.json, "{\"type\":\"message\"}");
        assert_eq!(deliver.frames[0].delivery.class, Class::Ephemeral { key: 7 });
        assert_eq!(deliver.frames[0].delivery.kind, "message");
        assert_eq!((decoded.first, decoded.confirmed), (5, 2));
    }

    #[test]
    fn other_versions_and_foreign_bytes_are_named() {
        assert!(matches!(Packet::decode(&packet(9).encode()), Err(PacketError::Version(9))));
        assert!(matches!(Packet::decode(b"PING"), Err(PacketError::Malformed(_))));
    }
}
