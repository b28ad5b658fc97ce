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
use switchboard_store::{ConversationKey, Incarnation, UserKey};
use switchboard_topics::Part;
use thiserror::Error;

/// The version of [`Packet`]. A packet of another version is refused, counted and logged.
pub(crate) const ENVELOPE_VERSION: u8 = 1;

/// Envelopes of one sender for one receiver: what the bus carries.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Packet {
    /// [`ENVELOPE_VERSION`].
    pub(crate) version: u8,
    /// The sender.
    pub(crate) from: Incarnation,
    /// The number of the first envelope, or of the next one if there is none.
    pub(crate) first: u64,
    /// Inbox changes from the receiver's envelopes up to this number are durable.
    pub(crate) confirmed: u64,
    /// The envelopes, numbered from `first`.
    pub(crate) envelopes: Vec<Envelope>,
}

/// A packet that can't be decoded.
#[derive(Debug, Error)]
pub(crate) enum PacketError {
    /// The bytes are no packet.
    #[error("not a packet: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// The packet has another version.
    #[error("a packet of version {0}, this node knows {ENVELOPE_VERSION}")]
    Version(u8),
}

impl Packet {
    /// Whether it changes inboxes.
    pub(crate) fn has_notes(&self) -> bool {
        self.envelopes.iter().any(|envelope| matches!(envelope, Envelope::Deliver(Deliver { note: Some(_), .. })))
    }

    pub(crate) fn encode(&self) -> Bytes {
        // Encoding any value of this type into memory succeeds.
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

/// A message from one node to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Envelope {
    /// Asks for a [`Envelope::Reply`] with the same number.
    Request { request: u64, ask: Ask },
    /// Answers a request.
    Reply { request: u64, reply: Result<Reply, Refusal> },
    /// Owner → home: frames for these users wherever they are, and the changes to their inboxes.
    Deliver(Deliver),
    /// Home → a node that has sessions of these users.
    Relay { conversation: ConversationKey, users: Vec<UserId>, frames: Vec<Outgoing> },
    /// Owner → a node whose sessions have the conversation open.
    ToSessions { conversation: ConversationKey, sessions: Vec<(UserId, SessionId)>, frames: Vec<Outgoing> },
    /// Node → owner: these sessions no longer have the conversation open.
    SessionsGone { conversation: ConversationKey, sessions: Vec<(UserId, SessionId)> },
    /// Owner → node: these sessions no longer have the conversation open, as their user was removed from it.
    Closed { conversation: ConversationKey, sessions: Vec<(UserId, SessionId)> },
    /// Node → home: how many sessions each user has on the node.
    // On the bus it has its first name: nodes of the version before are in the same cluster (DESIGN §5.12).
    #[serde(rename = "Here")]
    Register { users: Vec<Registration> },
    /// Home → nodes with sessions of a user: the newest session of a device's instance, and its node.
    Newest { user: UserKey, at: Incarnation, arrival: Arrival },
    /// Home → node: this session exceeds the limit of its user.
    NoRoom { user: UserKey, arrival: Arrival },
    /// Node → home: send no more changes of these users' presence.
    Unwatch { users: Vec<UserKey> },
    /// Home → watching nodes.
    Presence { users: Vec<(UserKey, Look)> },
    /// Home → nodes with sessions of a user: the presence that the user set, to be sent to a new home.
    Saved { user: UserKey, saved: Saved },
    /// Owner → a node whose sessions watch the topic.
    TopicUpdate { topic: TopicKey, window: Window, version: u64, frame: Outgoing },
    /// Owner → a node whose sessions watch the topic: counts of other nodes have arrived, so ask for a new state.
    TopicAnew { topic: TopicKey, window: Window },
    /// Node → owner: no session on the node watches any more.
    TopicUnwatch { topic: TopicKey, window: Window },
    /// Owner → its heir: the changes since the last tick. The versions are in the order of [`Window::ALL`].
    TopicChanges { topic: TopicKey, versions: [u64; 2], parts: Vec<Part> },
    /// Heir → owner: send everything of this topic.
    TopicUnknown { topic: TopicKey },
    /// Node → home: a device of the user has everything in the conversation up to `upto` or, with `read`, the user has read it.
    Receipt { user: UserKey, conversation: ConversationId, upto: Seq, read: bool },
    /// Envelopes up to this number were lost, or some of them; 0: the receiver was out of the view.
    Missed { upto: u64 },
    /// Everything owed from envelopes up to this number has been announced again; 0: all that a node owes that was out.
    Repeated { upto: u64 },
}

/// The size of an id, or of a small value with one, in memory.
const ITEM: usize = 64;

impl Envelope {
    /// About its size in memory, which is a little more than on the bus.
    pub(crate) fn bytes(&self) -> usize {
        /// The size of a window: eight numbers of nine bytes.
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
    /// 0 if there is none any more.
    pub(crate) sessions: u32,
    /// The presence that a former home left with the node.
    pub(crate) saved: Option<Saved>,
    /// The user's sessions on the node that the home has not announced yet.
    #[serde(default)]
    pub(crate) arrived: Vec<Arrival>,
}

/// A new session on a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) session: SessionId,
    pub(crate) device: DeviceId,
    pub(crate) instance: InstanceId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Class, Delivery, LogPosition};
    use switchboard_protocol::client::PresenceStatus;
    use switchboard_protocol::server::ShownStatus;
    use switchboard_store::TermNumber;

    fn packet(version: u8) -> Packet {
        let conversation = ConversationKey { tenant: "t".parse().unwrap(), conversation: "g:1".parse().unwrap() };
        let delivery = Delivery {
            json: Bytes::from_static(b"{\"type\":\"message\"}"),
            kind: "message",
            class: Class::Ephemeral { key: 7 },
            position: Some(LogPosition { log: 9, seq: Seq::new(4) }),
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
        assert_eq!(deliver.frames[0].delivery.position, Some(LogPosition { log: 9, seq: Seq::new(4) }));
        assert_eq!((decoded.first, decoded.confirmed), (5, 2));
    }

    /// Nodes of this version and of the one before work in one cluster (DESIGN §5.12): whatever is renamed in the code, its
    /// name on the bus stays.
    #[test]
    fn names_on_the_bus_stay() {
        let user = UserKey { tenant: "t".parse().unwrap(), user: "bob".parse().unwrap() };
        let at = Incarnation { node: "n1".parse().unwrap(), life: 3 };
        let arrival = || Arrival {
            session: "s1".parse().unwrap(),
            device: "d1".parse().unwrap(),
            instance: "i1".parse().unwrap(),
        };
        let saved = Saved { status: PresenceStatus::Away, revision: 2, last_seen_at: None };
        let registration =
            Registration { user: user.clone(), sessions: 1, saved: Some(saved), arrived: vec![arrival()] };
        let conversation: ConversationId = "g:1".parse().unwrap();
        let key = ConversationKey { tenant: user.tenant.clone(), conversation: conversation.clone() };
        let ask = Ask::LetGo { conversation: key.clone(), term: TermNumber(4) };
        let sessions = vec![(user.user.clone(), "s1".parse().unwrap())];
        let look = Look { status: ShownStatus::Online, last_seen_at: Some(Timestamp::from_unix_ms(0)) };
        let envelopes = [
            Envelope::Request { request: 1, ask },
            Envelope::Reply { request: 1, reply: Ok(Reply::Done) },
            Envelope::SessionsGone { conversation: key.clone(), sessions: sessions.clone() },
            Envelope::Closed { conversation: key, sessions },
            Envelope::Register { users: vec![registration] },
            Envelope::Newest { user: user.clone(), at, arrival: arrival() },
            Envelope::NoRoom { user: user.clone(), arrival: arrival() },
            Envelope::Unwatch { users: vec![user.clone()] },
            Envelope::Presence { users: vec![(user.clone(), look)] },
            Envelope::Saved { user: user.clone(), saved },
            Envelope::Receipt { user, conversation, upto: Seq::new(5), read: true },
            Envelope::Missed { upto: 6 },
            Envelope::Repeated { upto: 7 },
        ];
        let named: Vec<serde_json::Value> = envelopes
            .iter()
            .map(|envelope| rmp_serde::from_slice(&rmp_serde::to_vec_named(envelope).unwrap()).unwrap())
            .collect();
        let known = include_str!("envelope/names.jsonl").lines().map(|line| serde_json::from_str(line).unwrap());
        assert_eq!(named, known.collect::<Vec<serde_json::Value>>());
    }

    #[test]
    fn other_versions_and_foreign_bytes_are_named() {
        assert!(matches!(Packet::decode(&packet(9).encode()), Err(PacketError::Version(9))));
        assert!(matches!(Packet::decode(b"PING"), Err(PacketError::Malformed(_))));
    }
}
