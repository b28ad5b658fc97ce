//! The heartbeat: refreshes this node's key, reads the keys of the others, and publishes the resulting view.
//!
//! Owns the node's key. Reading and refreshing are two round trips, `BEATS_PER_TTL` times per TTL.

use super::beat::Beat;
use super::connection::Connection;
use super::membership::{Membership, Seen};
use super::{BEATS_PER_TTL, Ended, RedisError, RedisOptions};
use crate::view::{NodeEntry, View};
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{KeysInterface as _, SetsInterface as _};
use fred::types::Expiration;
use metrics::{counter, describe_counter};
use std::collections::BTreeMap;
use switchboard_clock::Clock;
use switchboard_protocol::NodeId;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// See the file's comment.
pub(super) struct Heartbeat {
    client: Client,
    keys: Keys,
    me: NodeEntry,
    ttl_ms: u64,
    beat: Beat,
    /// The content of this node's key when it was written last.
    written: Option<String>,
    /// When this node's key was renewed last: when Redis was asked to, which it did.
    renewed_ms: Option<u64>,
    stalls: Stalls,
    membership: Membership,
    views: watch::Sender<View>,
    leaving: CancellationToken,
}

/// A clock that notices when this process did not run for a while: it has to be read before and after each wait.
struct Stalls {
    clock: Clock,
    /// Longer than any wait: the time between two readings that only a process that did not run needs.
    min_ms: u64,
    /// The last reading.
    read_ms: Option<u64>,
    /// The reading that ended the last such time.
    ended_ms: Option<u64>,
}

impl Stalls {
    /// Reads the monotonic clock.
    fn now_ms(&mut self) -> u64 {
        let now_ms = self.clock.monotonic_ms();
        if self.read_ms.replace(now_ms).is_some_and(|read_ms| now_ms - read_ms >= self.min_ms) {
            self.ended_ms = Some(now_ms);
        }
        now_ms
    }
}

/// Why a beat failed.
#[derive(Debug, Error)]
enum BeatError {
    #[error(transparent)]
    Redis(#[from] Error),
    #[error("another life has this node's key")]
    Taken(Box<Beat>),
    #[error("this process did not run, and the other nodes have taken it for dead")]
    TakenForDead,
}

/// The names of the Redis keys.
struct Keys {
    prefix: String,
}

impl Keys {
    fn nodes(&self) -> String {
        format!("{{{}}}:nodes", self.prefix)
    }

    fn node(&self, node: &str) -> String {
        format!("{{{}}}:node:{node}", self.prefix)
    }
}

impl Heartbeat {
    pub(super) fn new(options: &RedisOptions, connection: Connection, me: NodeEntry, clock: Clock) -> Self {
        describe_counter!(
            "switchboard_taken_for_dead_total",
            "Times this process was stopped for so long that the other nodes took it for dead"
        );
        counter!("switchboard_taken_for_dead_total").increment(0);
        let alone = View::alone(me.incarnation.clone(), me.url.clone());
        Self {
            client: connection.commands,
            keys: Keys { prefix: options.prefix.clone() },
            ttl_ms: options.heartbeat_ttl_ms,
            beat: Beat::first(&me),
            written: None,
            renewed_ms: None,
            stalls: Stalls {
                clock,
                // A beat waits for an interval, or for an answer, which has a time limit. What Redis missed before and after a
                // stall counts too when a node is taken for dead, so a stall need not last for a whole TTL.
                min_ms: (options.heartbeat_ttl_ms / 2).max(2 * options.timeout_ms),
                read_ms: None,
                ended_ms: None,
            },
            membership: Membership::new(me.clone(), options.heartbeat_ttl_ms),
            views: watch::Sender::new(alone),
            leaving: CancellationToken::new(),
            me,
        }
    }

    pub(super) fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// Beats for the first time; then the view has every node that is there.
    ///
    /// If the key of a former life exists, waits until it expires, unless somebody renews it.
    pub(super) async fn first(&mut self) -> Result<watch::Receiver<View>, RedisError> {
        let mut former: Option<Beat> = None;
        loop {
            match self.beat().await {
                Ok(()) => return Ok(self.views.subscribe()),
                Err(BeatError::Taken(other)) => {
                    if other.leaving {
                        tracing::debug!("a former life of this node is about to be gone");
                    } else if former.as_ref().is_some_and(|former| *former != *other) {
                        return Err(self.namesake(*other));
                    } else if former.is_none() {
                        tracing::info!(life = other.life, "waiting for the key of this node's former life to expire");
                    }
                    former = Some(*other);
                }
                Err(BeatError::Redis(error)) => tracing::warn!(%error, "Redis does not answer; retrying"),
                // Nothing depends on this life yet.
                Err(BeatError::TakenForDead) => self.renewed_ms = None,
            }
            self.stalls.clock.sleep_ms(self.interval_ms()).await;
        }
    }

    /// Beats until `stop`, or until this life is over.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<Ended, RedisError> {
        let mut next_ms = self.stalls.now_ms();
        while !stop.is_cancelled() {
            match self.beat().await {
                Ok(()) => {}
                Err(BeatError::Taken(other)) => return Err(self.namesake(*other)),
                Err(BeatError::TakenForDead) => {
                    counter!("switchboard_taken_for_dead_total").increment(1);
                    return Ok(Ended::TakenForDead);
                }
                Err(BeatError::Redis(error)) => {
                    tracing::debug!(%error, "a heartbeat failed");
                    self.membership.spare(self.stalls.now_ms());
                }
            }
            let now_ms = self.stalls.now_ms();
            next_ms = (next_ms + self.interval_ms()).max(now_ms);
            // A node is taken out when its time is over, and not up to an interval later.
            next_ms = next_ms.min(self.membership.next_end_ms().unwrap_or(next_ms)).max(now_ms);
            tokio::select! {
                () = self.stalls.clock.sleep_until_ms(next_ms) => {}
                () = self.leaving.cancelled(), if !self.beat.leaving => {}
                () = stop.cancelled() => {}
            }
        }
        if let Err(error) = self.remove().await {
            tracing::debug!(%error, "this node's key stays until it expires");
        }
        Ok(Ended::AsAsked)
    }

    fn interval_ms(&self) -> u64 {
        self.ttl_ms / BEATS_PER_TTL
    }

    fn namesake(&self, other: Beat) -> RedisError {
        RedisError::Namesake { node: self.me.incarnation.node.clone(), url: other.url }
    }

    /// One look and one beat.
    async fn beat(&mut self) -> Result<(), BeatError> {
        let asked_ms = self.stalls.now_ms();
        let (own, names) = self.look_in_time().await?;
        // Who takes a node out removes its name (`forget`). Without a stall, Redis has forgotten both.
        let is_named = names.iter().any(|name| name == self.me.incarnation.node.as_str());
        if self.has_stalled() && own.is_none() && !is_named {
            return Err(BeatError::TakenForDead);
        }
        if let Some(other) = own.as_deref().and_then(parse).filter(|beat| beat.life != self.beat.life) {
            return Err(BeatError::Taken(Box::new(other)));
        }
        let own_stood = own.is_some() && own == self.written;
        let others = self.write(&names).await?;
        let seen = Seen { asked_ms, answered_ms: self.stalls.now_ms(), own_stood, others };
        let before: Vec<NodeId> = self.membership.others().cloned().collect();
        self.membership.look(seen);
        self.tell_view();
        self.forget(before).await
    }

    /// A look that tells whether this node's key has expired: an answer that was not read before it may have expired
    /// tells nothing.
    async fn look_in_time(&mut self) -> Result<(Option<String>, Vec<String>), Error> {
        loop {
            let asked_ms = self.stalls.now_ms();
            let looked = self.look().await?;
            let expires_ms = self.renewed_ms.map_or(u64::MAX, |renewed_ms| renewed_ms + self.ttl_ms);
            if self.stalls.now_ms() < expires_ms || asked_ms >= expires_ms {
                return Ok(looked);
            }
        }
    }

    /// Whether this process did not run for a while since it renewed its key.
    fn has_stalled(&self) -> bool {
        self.renewed_ms.is_some() && self.stalls.ended_ms > self.renewed_ms
    }

    /// This node's key, and the nodes that may be alive.
    async fn look(&self) -> Result<(Option<String>, Vec<String>), Error> {
        let pipeline = self.client.pipeline();
        let () = pipeline.get(self.keys.node(self.me.incarnation.node.as_str())).await?;
        let () = pipeline.smembers(self.keys.nodes()).await?;
        pipeline.all().await
    }

    /// Renews this node's key, and reads the keys of the others.
    async fn write(&mut self, names: &[String]) -> Result<BTreeMap<NodeId, Beat>, Error> {
        self.beat.number += 1;
        self.beat.leaving = self.leaving.is_cancelled();
        let value = serde_json::to_string(&self.beat).unwrap_or_default();
        let me = self.me.incarnation.node.as_str();
        let others: Vec<NodeId> =
            names.iter().filter(|name| *name != me).filter_map(|name| name.parse().ok()).collect();
        let own_key = self.keys.node(me);
        let keys: Vec<String> =
            std::iter::once(own_key.clone()).chain(others.iter().map(|node| self.keys.node(node.as_str()))).collect();
        let ttl = Expiration::PX(i64::try_from(self.ttl_ms).unwrap_or(i64::MAX));
        let asked_ms = self.stalls.now_ms();
        let pipeline = self.client.pipeline();
        let () = pipeline.set(own_key, value.clone(), Some(ttl), None, false).await?;
        let () = pipeline.sadd(self.keys.nodes(), me).await?;
        let () = pipeline.mget(keys).await?;
        self.written = Some(value);
        let ((), (), values): ((), (), Vec<Option<String>>) = pipeline.all().await?;
        self.renewed_ms = Some(asked_ms);
        let beats = values.into_iter().skip(1).map(|value| value.as_deref().and_then(parse));
        Ok(others.into_iter().zip(beats).filter_map(|(node, beat)| Some((node, beat?))).collect())
    }

    fn tell_view(&self) {
        let leaving = self.membership.leaving(self.beat.leaving);
        let view = View::new(self.views.borrow().number + 1, self.membership.nodes(self.beat.leaving));
        let view = view.with_leaving(leaving);
        self.views.send_if_modified(|old| {
            let changed = (&old.nodes, &old.leaving) != (&view.nodes, &view.leaving);
            if changed {
                let nodes: Vec<String> = view.nodes.iter().map(|node| node.incarnation.to_string()).collect();
                let leaving: Vec<String> = view.leaving.iter().map(ToString::to_string).collect();
                tracing::info!(number = view.number, ?nodes, ?leaving, "the view has changed");
                *old = view;
            }
            changed
        });
    }

    /// Removes the names of dead nodes from the set. A node that comes back adds its name again.
    async fn forget(&self, before: Vec<NodeId>) -> Result<(), BeatError> {
        let still: Vec<&NodeId> = self.membership.others().collect();
        let gone: Vec<&str> = before.iter().filter(|node| !still.contains(node)).map(|node| node.as_str()).collect();
        if !gone.is_empty() {
            let () = self.client.srem(self.keys.nodes(), gone).await?;
        }
        Ok(())
    }

    async fn remove(&self) -> Result<(), Error> {
        let me = self.me.incarnation.node.as_str();
        let pipeline = self.client.pipeline();
        let () = pipeline.del(self.keys.node(me)).await?;
        let () = pipeline.srem(self.keys.nodes(), me).await?;
        let ((), ()): ((), ()) = pipeline.all().await?;
        Ok(())
    }
}

/// An invalid beat is no sign of life.
fn parse(value: &str) -> Option<Beat> {
    serde_json::from_str(value).ok()
}
