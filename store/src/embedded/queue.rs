//! The bounded queue of writes between their callers and the commit thread.

use super::commit::Request;
use crate::StoreError;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Writes that wait, in the order in which they came.
pub(super) struct Queue {
    writes_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    closed: bool,
}

pub(super) struct Waiting {
    pub(super) request: Box<dyn Request>,
    pub(super) synced: bool,
    bytes: usize,
}

/// What the commit thread finds.
pub(super) enum Taken {
    Batch(Vec<Waiting>),
    /// Nothing came in time.
    Nothing,
    /// Nothing waits, and nothing will come.
    Closed,
}

/// What one batch takes at the most; one write always fits.
const BATCH_BYTES_MAX: usize = 8 << 20;

impl Queue {
    pub(super) fn new(writes_max: usize, bytes_max: usize) -> Self {
        Self { writes_max, bytes_max, state: Mutex::default(), changed: Condvar::new() }
    }

    /// # Errors
    /// [`StoreError::Unavailable`] if the queue is full or closed.
    pub(super) fn push(&self, request: Box<dyn Request>, bytes: usize, synced: bool) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.closed {
            return Err(StoreError::unavailable("closed"));
        }
        let is_full = state.waiting.len() >= self.writes_max || state.bytes.saturating_add(bytes) > self.bytes_max;
        if is_full && !state.waiting.is_empty() {
            metrics::counter!("switchboard_store_queue_full_total").increment(1);
            return Err(StoreError::unavailable("too many writes wait"));
        }
        state.bytes = state.bytes.saturating_add(bytes);
        state.waiting.push_back(Waiting { request, synced, bytes });
        // Who takes takes all, so only the first has somebody to wake.
        let is_first = state.waiting.len() == 1;
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// All that waits, as far as it fits one batch; waits for it at most `patience`.
    pub(super) fn take(&self, patience: Option<Duration>) -> Taken {
        let nothing = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let state = self.state();
        let mut state = match patience {
            Some(patience) => {
                let waited = self.changed.wait_timeout_while(state, patience, nothing);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.changed.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner),
        };
        if state.waiting.is_empty() {
            return if state.closed { Taken::Closed } else { Taken::Nothing };
        }
        let mut batch = Vec::new();
        let mut bytes = 0usize;
        while let Some(next) = state.waiting.front() {
            bytes = bytes.saturating_add(next.bytes);
            if bytes > BATCH_BYTES_MAX && !batch.is_empty() {
                break;
            }
            state.bytes = state.bytes.saturating_sub(next.bytes);
            batch.extend(state.waiting.pop_front());
        }
        Taken::Batch(batch)
    }

    /// Takes no more writes; those that wait are still carried out.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Takes no more writes and drops those that wait, whose callers then see that the store has closed.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.closed = true;
        state.bytes = 0;
        state.waiting.clear();
    }

    /// The queue is in order at every moment at which the lock is free, also after a panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
