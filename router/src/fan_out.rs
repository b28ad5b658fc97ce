//! Gives a frame to many sockets. Each queues it, and a few tasks then flush the sockets one after the other, so that
//! not every session's task has to be woken for a single write. Frames queued before a socket's turn leave in the same
//! write.

use crate::delivery::{Delivery, Socket};
use crate::envelope::Outgoing;
use crate::node::Node;
use crate::trace::GivenTo;
use std::sync::Arc;
use switchboard_store::ConversationKey;

/// Below this number of sockets, each sends for itself.
const TOGETHER_MIN: usize = 8;
/// Tasks that flush the sockets of one fan-out, at most: for as many cores.
const TASKS_MAX: usize = 4;
/// Sockets that a task flushes before it yields, in about a quarter of a millisecond.
const FLUSHES_PER_TURN: usize = 64;

/// Sockets that get frames one after the other.
pub(crate) struct FanOut {
    are_many: bool,
    /// The sockets that have queued frames and wait for a flush.
    queued: Vec<Arc<dyn Socket>>,
}

impl FanOut {
    /// A fan-out to about so many recipients.
    pub(crate) fn to(recipients: usize) -> Self {
        Self { are_many: recipients >= TOGETHER_MIN, queued: Vec::new() }
    }

    pub(crate) fn give(&mut self, socket: &Arc<dyn Socket>, delivery: &Arc<Delivery>) {
        if !self.are_many {
            socket.deliver(delivery);
        } else if socket.queue(delivery) {
            self.queued.push(socket.clone());
        }
    }
}

/// Sessions that are given entries, and a record of those that got them.
pub(crate) struct Giving {
    pub(crate) given: GivenTo,
    pub(crate) fan_out: FanOut,
}

impl Node {
    /// Begins to give frames to the sessions of about this many users.
    pub(crate) fn begin_giving(&self, recipients: usize) -> Giving {
        Giving { given: GivenTo::nobody(self.trace_bounds()), fan_out: FanOut::to(recipients) }
    }

    /// Ends it: flushes the sockets, and notes the frames in the trace.
    pub(crate) fn end_giving(&self, conversation: &ConversationKey, frames: &[Outgoing], giving: Giving) {
        self.trace_given(conversation, frames, giving.given);
        self.send_queued(giving.fan_out);
    }

    /// Flushes the sockets. A socket waits in at most one of these tasks ([`Socket::queue`]), so together they hold no
    /// more than there are sessions. They do not end with this life of the node, since the sockets may continue in the
    /// next one.
    pub(crate) fn send_queued(&self, fan_out: FanOut) {
        let mut queued = fan_out.queued;
        let share = queued.len().div_ceil(TASKS_MAX).max(FLUSHES_PER_TURN);
        while !queued.is_empty() {
            let mut part = queued.split_off(queued.len().saturating_sub(share)).into_iter();
            self.spawn_to_end(async move {
                while part.len() > 0 {
                    part.by_ref().take(FLUSHES_PER_TURN).for_each(|socket| socket.flush());
                    tokio::task::yield_now().await;
                }
            });
        }
    }
}
