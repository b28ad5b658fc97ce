//! The settings of the Redis client: time limits on everything, no retries of its own, and reconnecting forever, with
//! backoff and jitter.

use super::RedisOptions;
use fred::clients::{Client, SubscriberClient};
use fred::error::{Error as RedisClientError, ErrorKind};
use fred::interfaces::{ClientLike as _, EventInterface as _};
use fred::types::Builder;
use fred::types::config::{Config, ReconnectPolicy};
use std::collections::BTreeSet;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;

/// The longest wait between two reconnect attempts; the shortest is a fiftieth of it.
const RECONNECT_MAX_MS: u32 = 2_000;

/// Random addition to a shorter one.
const RECONNECT_JITTER_MS: u32 = 100;

/// Such waits per TTL of a heartbeat, at least: when Redis comes back, the nodes that reconnect last must not be missing for a
/// whole TTL.
const RECONNECTS_PER_TTL: u32 = 3;

/// Different errors that are logged while Redis is away.
const LOGGED_MAX: usize = 8;

/// Packets that the library keeps between its socket and the bus.
const RECEIVED_MAX: usize = 4_096;

/// The accepted schemes of an address.
const SCHEMES: [&str; 6] = ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];

/// An invalid address.
#[derive(Debug, Error)]
pub enum AddressError {
    /// An unknown scheme.
    #[error("it must begin with one of {}", SCHEMES.map(|scheme| format!("{scheme}://")).join(", "))]
    Scheme,
    /// Any other error in it.
    #[error(transparent)]
    Other(#[from] RedisClientError),
}

/// One connection for commands, one for the node's channel.
pub(super) struct Connection {
    pub(super) commands: Client,
    pub(super) subscriber: SubscriberClient,
}

impl Connection {
    /// Configures the clients; nothing is connected yet.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, AddressError> {
        if !options.url.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme)) {
            return Err(AddressError::Scheme);
        }
        let mut config = Config::from_url(&options.url)?;
        config.fail_fast = false;
        if options.username.is_some() {
            config.username.clone_from(&options.username);
        }
        if options.password.is_some() {
            config.password.clone_from(&options.password);
        }
        let limit = Duration::from_millis(options.timeout_ms);
        let mut builder = Builder::from_config(config);
        builder
            .with_connection_config(|connection| {
                connection.connection_timeout = limit;
                connection.internal_command_timeout = limit;
                // A packet is sent once: the sender repeats what is lost.
                connection.max_command_attempts = 1;
                connection.reconnect_on_auth_error = true;
                connection.tcp.nodelay = Some(true);
                connection.unresponsive.max_timeout = Some(limit * 2);
                connection.unresponsive.interval = limit / 2;
            })
            .with_performance_config(|performance| {
                performance.default_command_timeout = limit;
                performance.broadcast_channel_capacity = RECEIVED_MAX;
            });
        builder.set_policy(reconnecting(options.heartbeat_ttl_ms));
        Ok(Self { commands: builder.build()?, subscriber: builder.build_subscriber_client()? })
    }

    /// Connects both, however long it takes.
    pub(super) async fn open(&self) {
        // Both run by themselves and reconnect on their own; `quit` ends them.
        drop((self.commands.connect(), self.subscriber.connect(), self.subscriber.manage_subscriptions()));
        while self.commands.wait_for_connect().await.is_err() || self.subscriber.wait_for_connect().await.is_err() {
            // The library retries; this only keeps waiting.
        }
    }

    /// Logs connection errors, each once until both are connected again, and returns when Redis rejects the credentials.
    pub(super) async fn refusal(client: &Client, subscriber: &SubscriberClient) -> RedisClientError {
        let (mut commands, mut subscriptions) = (client.error_rx(), subscriber.error_rx());
        let (mut commands_back, mut subscriptions_back) = (client.reconnect_rx(), subscriber.reconnect_rx());
        let mut logged = BTreeSet::new();
        loop {
            let failed = tokio::select! {
                failed = commands.recv() => Some(failed),
                failed = subscriptions.recv() => Some(failed),
                Ok(_) = commands_back.recv() => None,
                Ok(_) = subscriptions_back.recv() => None,
            };
            match failed {
                None if !logged.is_empty() && client.is_connected() && subscriber.is_connected() => {
                    logged.clear();
                    tracing::info!("Redis is back");
                }
                Some(Ok((error, _))) if *error.kind() == ErrorKind::Auth => return error,
                Some(Ok((error, server))) => {
                    if logged.len() < LOGGED_MAX && logged.insert(error.to_string()) {
                        let server = server.map(|server| server.to_string());
                        tracing::warn!(%error, server, "Redis is away; trying again");
                    }
                }
                None | Some(Err(RecvError::Lagged(_))) => {}
                Some(Err(RecvError::Closed)) => std::future::pending().await,
            }
        }
    }
}

/// Reconnects forever.
fn reconnecting(heartbeat_ttl_ms: u64) -> ReconnectPolicy {
    let ttl_ms = u32::try_from(heartbeat_ttl_ms).unwrap_or(u32::MAX);
    let max_ms = RECONNECT_MAX_MS.min(ttl_ms / RECONNECTS_PER_TTL);
    let mut policy = ReconnectPolicy::new_exponential(0, (max_ms / 50).max(1), max_ms, 2);
    policy.set_jitter(RECONNECT_JITTER_MS.min(max_ms / 10));
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_for_a_reconnect_is_longer_than_a_third_of_the_ttl() {
        // The lowest `cluster.heartbeat_ttl_ms`, the default, and one that is longer than any wait.
        for (ttl_ms, longest_ms) in [(100, 33), (3_000, 1_000), (600_000, 2_000)] {
            let mut policy = reconnecting(ttl_ms);
            let waits: Vec<u64> = (0..100).map(|_| policy.next_delay().expect("it never gives up")).collect();
            assert!((1..longest_ms / 4).contains(&waits[0]), "{ttl_ms}: {waits:?}");
            assert_eq!(waits.iter().max(), Some(&longest_ms), "{ttl_ms}: {waits:?}");
        }
    }
}
