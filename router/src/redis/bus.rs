//! The bus over Redis pub/sub: one channel per node.
//!
//! Owns the packets that wait for Redis, bounded in bytes, and the node's own subscription. Dropped packets are
//! counted; the receiver notices them by the numbers in the packets.

use super::connection::Connection;
use super::hearing::Hearing;
use super::{RedisError, RedisOptions};
use crate::bus::{Bus, BusError, PacketSender, Packets, packet_queue};
use bytes::Bytes;
use fred::clients::{Client, SubscriberClient};
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::{Message, Value};
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use switchboard_clock::Clock;
use switchboard_store::Incarnation;
use tokio::sync::Notify;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

/// Packets that are sent to Redis together, at most.
const PIPELINE_PACKETS_MAX: usize = 256;

/// The bus of nodes that share a Redis.
#[derive(Clone)]
pub struct RedisBus {
    shared: Arc<Shared>,
}

struct Shared {
    prefix: String,
    client: Client,
    queue_bytes: usize,
    queue: Mutex<Queue>,
    waiting: Notify,
    hearing: Hearing,
    /// The packets for this node, until it subscribes to them.
    packets: Mutex<Option<Packets>>,
}

/// Packets for Redis, in the order in which they were published.
#[derive(Default)]
struct Queue {
    packets: VecDeque<(String, Bytes)>,
    bytes: usize,
}

impl Queue {
    /// The next packets to be sent together.
    fn take(&mut self) -> Vec<(String, Bytes)> {
        let count = self.packets.len().min(PIPELINE_PACKETS_MAX);
        let taken: Vec<_> = self.packets.drain(..count).collect();
        self.bytes -= taken.iter().map(|(_, packet)| packet.len()).sum::<usize>();
        taken
    }
}

impl RedisBus {
    /// Whether Redis is reachable and this node receives what is published to it, as far as known.
    pub fn is_connected(&self) -> bool {
        self.shared.client.is_connected() && !self.shared.hearing.is_deaf()
    }
}

impl Bus for RedisBus {
    fn publish(&self, to: &Incarnation, packet: Bytes) -> Result<(), BusError> {
        let shared = &*self.shared;
        if !shared.client.is_connected() {
            return Err(BusError::Down("Redis is not connected".into()));
        }
        {
            let mut queue = shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.bytes + packet.len() > shared.queue_bytes {
                return Err(BusError::Full);
            }
            queue.bytes += packet.len();
            queue.packets.push_back((channel(&shared.prefix, to), packet));
        }
        shared.waiting.notify_one();
        Ok(())
    }

    fn subscribe(&self, _me: &Incarnation) -> Packets {
        let packets = self.shared.packets.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A second subscriber gets a channel that has ended, as the `Bus` trait says of a node's first receiver.
        packets.unwrap_or_else(|| packet_queue(0).1)
    }
}

/// Moves packets between the queue, Redis and the node.
pub(super) struct Receiving {
    bus: RedisBus,
    own_channel: String,
    subscriber: SubscriberClient,
    messages: Receiver<Message>,
    packets: PacketSender,
    clock: Clock,
    ttl_ms: u64,
    figures: Figures,
}

struct Figures {
    connected: Gauge,
    publish_failures: Counter,
    received_dropped: Counter,
}

impl Figures {
    fn new() -> Self {
        describe_gauge!("switchboard_redis_connected", "1 while Redis is reachable and this node's subscription works");
        describe_counter!("switchboard_redis_publish_failures_total", "Packets that Redis did not accept in time");
        describe_counter!(
            "switchboard_redis_received_dropped_total",
            "Packets from Redis dropped because the receive queue was full"
        );
        Self {
            connected: gauge!("switchboard_redis_connected"),
            publish_failures: counter!("switchboard_redis_publish_failures_total"),
            received_dropped: counter!("switchboard_redis_received_dropped_total"),
        }
    }
}

/// Connects, and listens on this node's channel before it returns.
///
/// # Errors
/// [`RedisError::Credentials`]
pub(super) async fn open(
    options: &RedisOptions,
    connection: &Connection,
    me: &Incarnation,
    clock: Clock,
) -> Result<(RedisBus, Receiving), RedisError> {
    let subscriber = connection.subscriber.clone();
    let messages = subscriber.message_rx();
    let own_channel = channel(&options.prefix, me);
    tokio::select! {
        () = listen(connection, &own_channel, &clock, options.timeout_ms) => {}
        refused = Connection::refusal(&connection.commands, &connection.subscriber) => {
            return Err(RedisError::Credentials(refused));
        }
    }
    let (sender, receiver) = packet_queue(options.queue_bytes);
    let shared = Shared {
        prefix: options.prefix.clone(),
        client: connection.commands.clone(),
        queue_bytes: options.queue_bytes,
        queue: Mutex::default(),
        waiting: Notify::new(),
        hearing: Hearing::default(),
        packets: Mutex::new(Some(receiver)),
    };
    let bus = RedisBus { shared: Arc::new(shared) };
    let receiving = Receiving {
        bus: bus.clone(),
        own_channel,
        subscriber,
        messages,
        packets: sender,
        clock,
        ttl_ms: options.heartbeat_ttl_ms,
        figures: Figures::new(),
    };
    Ok((bus, receiving))
}

async fn listen(connection: &Connection, channel: &str, clock: &Clock, timeout_ms: u64) {
    connection.open().await;
    while let Err(error) = connection.subscriber.subscribe(channel).await {
        tracing::warn!(%error, channel, "can't subscribe; retrying");
        clock.sleep_ms(timeout_ms).await;
    }
}

fn channel(prefix: &str, node: &Incarnation) -> String {
    format!("{{{prefix}}}:bus:{node}")
}

impl Receiving {
    /// Carries packets until `stop`.
    pub(super) async fn run(mut self, stop: &CancellationToken) {
        let Self { bus, own_channel, subscriber, messages, packets, clock, ttl_ms, figures } = &mut self;
        let (client, hearing) = (&bus.shared.client, &bus.shared.hearing);
        tokio::select! {
            () = stop.cancelled() => {}
            () = publish_all(&bus.shared, figures) => {}
            () = receive_all(messages, packets, hearing, figures) => {}
            () = hearing.keep(own_channel, client, subscriber, clock, *ttl_ms) => {}
            () = watch_connection(bus, clock, figures) => {}
            () = log_refusals(client, subscriber) => {}
        }
        // Both are gone with this node; what fails here is closed by the process's end.
        drop((client.quit().await, subscriber.quit().await));
    }
}

/// Sends waiting packets. One pipeline at a time: what comes meanwhile leaves with the next one.
async fn publish_all(shared: &Shared, figures: &Figures) {
    loop {
        let packets = shared.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if packets.is_empty() {
            shared.waiting.notified().await;
            continue;
        }
        let count = packets.len() as u64;
        if let Err(error) = publish(&shared.client, packets).await {
            tracing::debug!(%error, count, "packets were not published");
            figures.publish_failures.increment(count);
        }
    }
}

async fn publish(client: &Client, packets: Vec<(String, Bytes)>) -> Result<(), fred::error::Error> {
    let pipeline = client.pipeline();
    for (channel, packet) in packets {
        let () = pipeline.publish(channel, packet).await?;
    }
    let _receivers: Vec<u64> = pipeline.all().await?;
    Ok(())
}

async fn receive_all(messages: &mut Receiver<Message>, packets: &PacketSender, hearing: &Hearing, figures: &Figures) {
    loop {
        match messages.recv().await {
            Ok(message) => {
                hearing.heard();
                let packet = payload(message.value);
                // An empty packet was only sent to check the connection.
                if !packet.is_empty() && packets.send(packet).is_err() {
                    figures.received_dropped.increment(1);
                }
            }
            Err(RecvError::Lagged(missed)) => figures.received_dropped.increment(missed),
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Passes on what was published by anybody; the receiver checks that it is a packet.
fn payload(value: Value) -> Bytes {
    match value {
        Value::Bytes(bytes) => bytes,
        Value::String(text) => text.into_inner(),
        _ => Bytes::new(),
    }
}

/// The password may have been changed in Redis first: try again.
async fn log_refusals(client: &Client, subscriber: &SubscriberClient) {
    loop {
        let error = Connection::refusal(client, subscriber).await;
        tracing::error!(%error, "Redis rejects the credentials; retrying");
    }
}

async fn watch_connection(bus: &RedisBus, clock: &Clock, figures: &Figures) {
    loop {
        figures.connected.set(if bus.is_connected() { 1.0 } else { 0.0 });
        clock.sleep_ms(1_000).await;
    }
}
