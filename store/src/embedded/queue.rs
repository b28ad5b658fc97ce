//! The bounded queue of writes between their callers and the commit thread.

use super::commit::Request;
use crate::StoreError;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The waiting writes, in order of arrival.
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

/// The result of taking from the queue.
pub(super) enum Taken {
    Batch(Vec<Waiting>),
    /// Nothing came in time.
    Nothing,
    /// The queue is empty and closed.
    Closed,
}

/// Maximum size of a batch, except that one write always fits.
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
        // The consumer takes everything, so only the first write has to wake it.
        let is_first = state.waiting.len() == 1;
        drop(state);
        if is_first {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// All waiting writes that fit in one batch; waits for the first for at most `patience`.
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

    /// Refuses further writes; the waiting ones are still carried out.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Refuses further writes and drops the waiting ones, whose callers then see that the store has closed.
    pub(super) fn abandon(&self) {
        let mut state = self.state();
        state.closed = true;
        state.bytes = 0;
        state.waiting.clear();
    }

    /// The queue is consistent whenever the lock is free, also after a panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
