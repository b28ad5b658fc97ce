//! Node-to-node transport. It carries packets of envelopes; what they mean is `envelope.rs`, and that none is missed
//! for good is `link.rs`.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use switchboard_store::Incarnation;
use thiserror::Error;
use tokio::sync::mpsc;

/// Packets that may wait for one node before it takes them; beyond that they are dropped, which the receiver notices.
pub const BUS_PACKETS_MAX: usize = 4_096;

/// A packet that did not leave.
#[derive(Debug, Error)]
pub enum BusError {
    /// The bus is away.
    #[error("the bus is away: {0}")]
    Down(String),
    /// Too much waits already.
    #[error("the bus is full")]
    Full,
}

/// One channel per node.
///
/// Delivery: at most once or, in bad moments, several times or never. Order: that of the calls for each pair of nodes,
/// but packets may come late. `link.rs` makes of this what the rest relies on.
pub trait Bus: Send + Sync {
    /// Sends to one node without waiting.
    ///
    /// # Errors
    /// When the packet surely did not leave. A success promises nothing.
    fn publish(&self, to: &Incarnation, packet: Bytes) -> Result<(), BusError>;

    /// What others send to `me`, from now on. A second call for the same node ends the first one's receiver.
    fn subscribe(&self, me: &Incarnation) -> mpsc::Receiver<Bytes>;
}

/// The bus of nodes in one process: one channel each.
#[derive(Clone, Debug, Default)]
pub struct InProcessBus {
    channels: Arc<Mutex<BTreeMap<Incarnation, mpsc::Sender<Bytes>>>>,
}

impl Bus for InProcessBus {
    fn publish(&self, to: &Incarnation, packet: Bytes) -> Result<(), BusError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(channel) = channels.get(to) else { return Ok(()) };
        match channel.try_send(packet) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(BusError::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                channels.remove(to);
                Ok(())
            }
        }
    }

    fn subscribe(&self, me: &Incarnation) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(BUS_PACKETS_MAX);
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).insert(me.clone(), sender);
        receiver
    }
}
