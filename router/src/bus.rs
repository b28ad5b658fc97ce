//! The transport between nodes. It carries packets of envelopes and may lose them; `envelope.rs` defines their content,
//! and `link.rs` detects the losses.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use switchboard_store::Incarnation;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// The bytes that a waiting packet counts for, at least.
const PACKET_BYTES_MIN: usize = 256;

/// Why a packet did not leave.
#[derive(Debug, Error)]
pub enum BusError {
    /// The bus is unreachable.
    #[error("the bus is unavailable: {0}")]
    Down(String),
    /// The queue is full.
    #[error("the bus is full")]
    Full,
}

/// One channel per node.
///
/// Delivery: normally once, but sometimes several times or never. Order: that of the calls for each pair of nodes, but
/// packets may come late. `link.rs` builds on this what the rest relies on.
pub trait Bus: Send + Sync {
    /// Sends to one node without waiting.
    ///
    /// # Errors
    /// The packet certainly did not leave. Success guarantees nothing.
    fn publish(&self, to: &Incarnation, packet: Bytes) -> Result<(), BusError>;

    /// The packets for `me`, from now on. A second call for the same node ends the first one's receiver.
    fn subscribe(&self, me: &Incarnation) -> Packets;
}

/// The packets that wait for a node to take them, bounded in bytes.
pub struct Packets {
    waiting: mpsc::Receiver<(Bytes, OwnedSemaphorePermit)>,
}

/// The sending end of [`Packets`].
#[derive(Clone, Debug)]
pub(crate) struct PacketSender {
    waiting: mpsc::Sender<(Bytes, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

/// A queue for `queue_bytes` of packets (`bus.queue_bytes` within one process, `redis.queue_bytes` over Redis).
pub(crate) fn packet_queue(queue_bytes: usize) -> (PacketSender, Packets) {
    // The bytes run out first, save for the last packet.
    let (sender, receiver) = mpsc::channel(queue_bytes / PACKET_BYTES_MIN + 1);
    let room = Arc::new(Semaphore::new(queue_bytes));
    (PacketSender { waiting: sender, room }, Packets { waiting: receiver })
}

impl Packets {
    /// The next packet; `None` when no more will come.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.waiting.recv().await.map(|(packet, _)| packet)
    }
}

impl PacketSender {
    /// # Errors
    /// [`BusError::Full`] if it has no room.
    pub(crate) fn send(&self, packet: Bytes) -> Result<(), BusError> {
        let bytes = u32::try_from(packet.len().max(PACKET_BYTES_MIN)).map_err(|_| BusError::Full)?;
        let room = self.room.clone().try_acquire_many_owned(bytes).map_err(|_| BusError::Full)?;
        match self.waiting.try_send((packet, room)) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(BusError::Full),
            // The receiver is gone.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

/// The bus of nodes in one process: a queue for each.
#[derive(Clone, Debug)]
pub struct InProcessBus {
    queue_bytes: usize,
    channels: Arc<Mutex<BTreeMap<Incarnation, PacketSender>>>,
}

impl InProcessBus {
    /// A bus with `queue_bytes` (`bus.queue_bytes`) for each node's waiting packets.
    pub fn new(queue_bytes: usize) -> Self {
        Self { queue_bytes, channels: Arc::default() }
    }
}

impl Default for InProcessBus {
    /// With the configuration's default.
    fn default() -> Self {
        Self::new(crate::Options::default().bus_queue_bytes)
    }
}

impl Bus for InProcessBus {
    fn publish(&self, to: &Incarnation, packet: Bytes) -> Result<(), BusError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.get(to).is_some_and(|channel| channel.waiting.is_closed()) {
            channels.remove(to);
        }
        channels.get(to).map_or(Ok(()), |channel| channel.send(packet))
    }

    fn subscribe(&self, me: &Incarnation) -> Packets {
        let (sender, packets) = packet_queue(self.queue_bytes);
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).insert(me.clone(), sender);
        packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_that_wait_are_bounded_in_bytes() {
        let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
        let bus = InProcessBus::new(1_000);
        let mut packets = bus.subscribe(&me);
        let large = Bytes::from(vec![0; 800]);
        bus.publish(&me, large.clone()).unwrap();
        assert!(matches!(bus.publish(&me, large.clone()), Err(BusError::Full)));
        assert_eq!(packets.recv().await, Some(large.clone()));
        let small = Bytes::from_static(b"small");
        for _ in 0..3 {
            bus.publish(&me, small.clone()).unwrap();
        }
        assert!(matches!(bus.publish(&me, small), Err(BusError::Full)), "small ones count for more than they have");
        drop(packets);
        bus.publish(&me, large).unwrap();
    }
}
