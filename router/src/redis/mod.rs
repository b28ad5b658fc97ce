//! Redis between nodes: it carries their packets and shows them which nodes are alive (DESIGN §1, §4).
//!
//! Only this module knows Redis and its client library. No guarantee depends on Redis: lost packets are noticed by the
//! numbers on the links (`link.rs`), and which nodes are alive only determines where work is done.
//!
//! | in Redis | type | what |
//! |---|---|---|
//! | `{PREFIX}:nodes` | set | every `node.id` that may be alive |
//! | `{PREFIX}:node:ID` | string with a TTL | a node's heartbeat (`beat.rs`), JSON |
//! | `{PREFIX}:bus:ID~LIFE` | channel | packets to this life of a node |
//!
//! The braces keep the keys in one slot of a Redis Cluster.

mod beat;
mod bus;
mod connection;
mod hearing;
mod heartbeat;
mod membership;

pub use bus::RedisBus;

use crate::view::{NodeEntry, View};
use connection::Connection;
use heartbeat::Heartbeat;
use std::sync::Arc;
use switchboard_clock::Clock;
use switchboard_protocol::NodeId;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Heartbeats per TTL. A dead node is detected at most one interval later than a TTL after its last heartbeat.
const BEATS_PER_TTL: u64 = 20;

/// How to connect to Redis; the keys' meanings are in `docs/configuration.md`.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// `redis.url`
    pub url: String,
    /// `redis.username`
    pub username: Option<String>,
    /// `redis.password`
    pub password: Option<String>,
    /// `redis.prefix`
    pub prefix: String,
    /// `redis.timeout_ms`
    pub timeout_ms: u64,
    /// `redis.queue_bytes`
    pub queue_bytes: usize,
    /// `cluster.heartbeat_ttl_ms`
    pub heartbeat_ttl_ms: u64,
}

/// Why a node can't use Redis. An unreachable Redis is not an error: the node waits for it.
#[derive(Debug, Error)]
pub enum RedisError {
    /// The configuration is invalid.
    #[error("redis.url: {0}")]
    Url(#[from] connection::AddressError),
    /// Redis rejects the credentials.
    #[error("redis.username, redis.password: not let in: {0}")]
    Credentials(#[source] fred::error::Error),
    /// Two processes use the same name.
    #[error(
        "node.id: {node:?} is taken by the node at {url} (its key in Redis is renewed): give each node a name of its own"
    )]
    Namesake {
        /// The name.
        node: NodeId,
        /// The URL of the other one.
        url: Arc<str>,
    },
}

/// How a node's membership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The node was asked to leave, and has left.
    AsAsked,
    /// This process did not run for a TTL or longer, and the other nodes have taken it for dead. What it was sent until
    /// then is outdated. It must go on as another incarnation ([`Router::go_on`](crate::Router::go_on)).
    TakenForDead,
}

/// A node's membership among the others, from [`Redis::join`] until [`Redis::run`] returns.
pub struct Redis {
    bus: RedisBus,
    receiving: bus::Receiving,
    heartbeat: Heartbeat,
    views: watch::Receiver<View>,
    leaving: CancellationToken,
}

impl Redis {
    /// Joins the other nodes: waits for Redis, subscribes to the node's own channel, and only then becomes visible.
    ///
    /// If Redis is unreachable, that is logged, and this waits. If the key of a former life of this node still exists,
    /// this waits for it to expire, for one TTL at most.
    ///
    /// # Errors
    /// [`RedisError::Url`] at once, [`RedisError::Credentials`] once Redis is reachable; [`RedisError::Namesake`] if
    /// the former life turns out to be another process.
    pub async fn join(options: &RedisOptions, me: NodeEntry, clock: Clock) -> Result<Self, RedisError> {
        let connection = Connection::new(options)?;
        let (bus, receiving) = bus::open(options, &connection, &me.incarnation, clock.clone()).await?;
        let mut heartbeat = Heartbeat::new(options, connection, me, clock);
        let views = heartbeat.first().await?;
        let leaving = heartbeat.leaving();
        Ok(Self { bus, receiving, heartbeat, views, leaving })
    }

    /// The transport for packets. It is subscribed as the joined node, once.
    pub fn bus(&self) -> RedisBus {
        self.bus.clone()
    }

    /// The current view.
    pub fn views(&self) -> watch::Receiver<View> {
        self.views.clone()
    }

    /// Cancel it when this node drains: from then on the others do its work.
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// Carries packets and keeps the node's key alive until `stop`, then removes the key; or until this life is over.
    ///
    /// # Errors
    /// [`RedisError::Namesake`] when another process has taken this node's name, which is possible if this one was
    /// suspended for longer than the TTL.
    pub async fn run(self, stop: CancellationToken) -> Result<Ended, RedisError> {
        let Self { receiving, heartbeat, .. } = self;
        let last_beat = CancellationToken::new();
        let beating = async {
            let beaten = heartbeat.run(&stop).await;
            last_beat.cancel();
            beaten
        };
        let (beaten, ()) = tokio::join!(beating, receiving.run(&last_beat));
        beaten
    }
}
