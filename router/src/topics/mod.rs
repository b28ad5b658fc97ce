//! Dashboards (PROTOCOL §5): the topics that this node owns, and those that its sessions watch.
//!
//! The arithmetic is in `switchboard-topics`. The ring assigns a topic to an owner as it does a conversation, but a
//! topic has neither a term nor a task: nothing of it is stored, and nothing here waits while it holds a lock. The
//! owner also sends its counts to another node (`copies.rs`), so if it dies, only what came since its last tick is
//! lost. Watchers learn of a new owner by a `topic_state` without `id`.

mod copies;
mod figures;
mod held;
mod memory;
mod owner;
mod watch;

use crate::api::{Actor, Answer};
use crate::delivery::{Class, Delivery};
use crate::envelope::{Ask, Outgoing};
use crate::node::{Node, lock};
use crate::wire::{answer_of, encoded};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use switchboard_protocol::client::TopicPublish;
use switchboard_protocol::server::{Frame, TopicState, TopicUpdate};
use switchboard_protocol::{ClientFrame, Event, FrameId, ProtocolError, ServerFrame, TenantId, TopicId, Window};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub(crate) use held::Held;
pub(crate) use watch::Watched;

/// Windows of topics that one session may watch at once.
pub const TOPICS_WATCHED_MAX: usize = 32;

/// A topic of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct TopicKey {
    pub(crate) tenant: TenantId,
    pub(crate) topic: TopicId,
}

impl TopicKey {
    /// The gateway's own topics belong to no tenant: they are the same for all (PROTOCOL §5).
    fn of(actor: &Actor, topic: TopicId) -> Self {
        let tenant = if topic.is_own() { TenantId::default() } else { actor.user.tenant.clone() };
        Self { tenant, topic }
    }
}

/// The node's state for dashboards.
#[derive(Default)]
pub(crate) struct Topics {
    held: held::Table,
    watched: Mutex<Watched>,
    figures: figures::TopicFigures,
    next_tick_ms: AtomicU64,
    /// The node leaves: it counts no more.
    is_closed: AtomicBool,
}

impl Topics {
    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Takes over the counts of a former life, and the watches of its sessions.
    pub(crate) fn adopt(&self, former: &Self) {
        self.held.adopt(&former.held);
        std::mem::swap(&mut *lock(&self.watched), &mut *lock(&former.watched));
    }
}

impl Node {
    /// `topic_publish`.
    pub(crate) async fn topic_publish(
        self: &Arc<Self>,
        actor: &Actor,
        publish: TopicPublish,
    ) -> Result<Answer, ProtocolError> {
        if publish.topic.is_own() {
            return Err(ProtocolError::forbidden("the topic is the gateway's own"));
        }
        self.topic_count(TopicKey::of(actor, publish.topic.clone()), publish).await
    }

    /// Publishes to one of the gateway's own topics.
    pub(crate) async fn topic_publish_own(
        self: &Arc<Self>,
        topic: TopicId,
        events: Vec<Event>,
    ) -> Result<(), ProtocolError> {
        let key = TopicKey { tenant: TenantId::default(), topic: topic.clone() };
        self.topic_count(key, TopicPublish { topic, events }).await.map(drop)
    }

    /// Has the topic's owner count a batch.
    async fn topic_count(self: &Arc<Self>, key: TopicKey, publish: TopicPublish) -> Result<Answer, ProtocolError> {
        let owner = self.placement().topic_owner(&key).incarnation.clone();
        if owner == self.me {
            return self.topic_publish_here(&key, publish.events);
        }
        let command = encoded(&ClientFrame::TopicPublish(publish));
        answer_of(self.ask(&owner, Ask::TopicPublish { topic: key, command }).await?)
    }
}

/// A topic's frame for the sessions that watch it. A frame that waits for a slow session is merged with the next one.
fn watched_frame<F: Frame>(key: &TopicKey, window: Window, frame: &F) -> Outgoing {
    let seed = xxh3_64_with_seed(key.topic.as_str().as_bytes(), window.ms().unsigned_abs());
    let class = Class::Conflated { key: xxh3_64_with_seed(b"topic", seed) };
    Outgoing::new(Delivery { json: frame.encode(None).into(), kind: F::TYPE, class, position: None })
}

/// The merger of two frames of the same topic and window: the newest state of each window. `None` if they are no such
/// frames.
pub(crate) fn conflated(older: &Delivery, newer: &Delivery) -> Option<Delivery> {
    let read = |delivery: &Delivery| {
        let text = std::str::from_utf8(&delivery.json).ok()?;
        Some(ServerFrame::decode(text).ok()?.1)
    };
    let frame = match (read(older)?, read(newer)?) {
        (ServerFrame::TopicUpdate(older), ServerFrame::TopicUpdate(newer)) => {
            ServerFrame::TopicUpdate(switchboard_topics::merge(older, &newer))
        }
        (ServerFrame::TopicState(older), ServerFrame::TopicUpdate(newer)) => {
            ServerFrame::TopicState(state_with(older, &newer))
        }
        // A state replaces everything.
        (_, ServerFrame::TopicState(newer)) => ServerFrame::TopicState(newer),
        _ => return None,
    };
    let json = frame.encode(None::<&FrameId>).into();
    Some(Delivery { json, kind: frame.type_name(), class: newer.class, position: None })
}

fn state_with(state: TopicState, newer: &TopicUpdate) -> TopicState {
    let TopicState { topic, window, version, series, more } = state;
    let as_update = TopicUpdate { topic, window, version, series, closed_until_ms: newer.closed_until_ms };
    let TopicUpdate { topic, window, version, series, .. } = switchboard_topics::merge(as_update, newer);
    TopicState { topic, window, version, series, more }
}
