//! Checks that this node receives what is published to it.
//!
//! The subscriber's connection only reads, so if its other end vanishes silently, nothing else would show it: the node
//! would keep sending heartbeats without receiving anything. So it publishes empty packets to itself, and reconnects
//! when they do not arrive.

use super::BEATS_PER_TTL;
use fred::clients::{Client, SubscriberClient};
use fred::interfaces::{ClientLike as _, PubsubInterface as _};
use std::sync::atomic::{AtomicBool, Ordering};
use switchboard_clock::Clock;

/// What a node publishes to itself: an empty packet.
const SIGN: &str = "";

/// See the file's comment.
#[derive(Default)]
pub(super) struct Hearing {
    /// Something has arrived since the last check.
    heard: AtomicBool,
    deaf: AtomicBool,
}

impl Hearing {
    /// Notes that something has arrived on the node's channel.
    pub(super) fn heard(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }

    /// Whether nothing has arrived for a TTL, although it was published.
    pub(super) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// Publishes to the node's channel, and reconnects its subscriber if nothing has arrived for a TTL; never ends.
    pub(super) async fn keep(
        &self,
        channel: &str,
        client: &Client,
        subscriber: &SubscriberClient,
        clock: &Clock,
        ttl_ms: u64,
    ) {
        let mut heard_ms = clock.monotonic_ms();
        loop {
            clock.sleep_ms(ttl_ms / BEATS_PER_TTL).await;
            let published: Result<u64, _> = client.publish(channel.to_owned(), SIGN).await;
            let now_ms = clock.monotonic_ms();
            if self.heard.swap(false, Ordering::Relaxed) {
                self.deaf.store(false, Ordering::Relaxed);
                heard_ms = now_ms;
            } else if published.is_err() {
                // Redis is unreachable, so nothing could arrive.
                heard_ms = now_ms;
            } else if now_ms.saturating_sub(heard_ms) >= ttl_ms {
                tracing::warn!(channel, "published packets do not arrive; subscribing again");
                self.deaf.store(true, Ordering::Relaxed);
                tokio::select! {
                    // It keeps trying by itself.
                    _ = subscriber.force_reconnection() => {}
                    () = clock.sleep_ms(ttl_ms) => {}
                }
                heard_ms = clock.monotonic_ms();
            }
        }
    }
}
