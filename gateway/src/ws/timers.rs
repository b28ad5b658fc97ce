//! The deadlines of all sessions of the node, in one timer wheel. A session has no timer of its own: it inserts its next
//! deadline here, is woken, checks its deadlines, and inserts the next one.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use switchboard_clock::{Clock, Wheel};
use tokio_util::sync::CancellationToken;

use super::outbox::Outbox;

/// How late a wake-up may be. An expired token must take effect within a second (PROTOCOL §2).
const TICK_MS: u64 = 100;
/// Slots of the wheel: one turn takes 51 s, about two heartbeats.
const SLOTS: usize = 512;

/// See the module.
pub(crate) struct Timers {
    clock: Clock,
    wheel: Mutex<Wheel<Weak<Outbox>>>,
}

impl Timers {
    pub(crate) fn new(clock: Clock) -> Self {
        let wheel = Wheel::new(TICK_MS, SLOTS, clock.monotonic_ms());
        Self { clock, wheel: Mutex::new(wheel) }
    }

    /// Schedules a wake-up of this outbox's session at `deadline_ms` (monotonic), at most a tick late. The wheel does
    /// not keep the session alive.
    pub(crate) fn arm(&self, deadline_ms: u64, outbox: &Arc<Outbox>) {
        let mut wheel = self.wheel.lock().unwrap_or_else(PoisonError::into_inner);
        wheel.insert(deadline_ms, Arc::downgrade(outbox));
    }

    /// Turns the wheel until `stop`, then wakes all sessions a last time.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut due = Vec::new();
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.clock.sleep_to_next_ms(TICK_MS) => self.ring_due(&mut due, self.clock.monotonic_ms()),
                () = stop.cancelled() => {}
            }
        }
        self.ring_due(&mut due, u64::MAX);
    }

    /// Wakes sessions without holding the wheel's lock: waking takes other locks, whose holders may wait for this one.
    fn ring_due(&self, due: &mut Vec<Weak<Outbox>>, now_ms: u64) {
        self.wheel.lock().unwrap_or_else(PoisonError::into_inner).turn(now_ms, |outbox| due.push(outbox));
        for outbox in due.drain(..) {
            if let Some(outbox) = outbox.upgrade() {
                outbox.ring();
            }
        }
    }
}
