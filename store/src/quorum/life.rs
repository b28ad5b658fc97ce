//! One life (incarnation) of this process: whether it has been fenced.
//!
//! Owns the result of the newest fence read. An append may be called durable only after a fence read that *began* after
//! the append was confirmed. All appends, of any conversation, that are confirmed when a read begins share it.

use super::Quorum;
use crate::{Incarnation, StoreError};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Mutex, watch};

pub(super) struct Life {
    me: Incarnation,
    /// Numbers the requests, so that a round can say which it covers.
    asked: AtomicU64,
    /// Held by the reader.
    reading: Mutex<()>,
    newest: watch::Sender<Round>,
}

/// A completed fence read.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// All requests up to this one came before it began.
    covers: u64,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Live,
    /// Permanent.
    Fenced,
    /// The store did not answer.
    Nothing,
}

impl Life {
    pub(super) fn new(me: Incarnation) -> Self {
        let newest = watch::Sender::new(Round { covers: 0, seen: Seen::Live });
        Self { me, asked: AtomicU64::new(0), reading: Mutex::new(()), newest }
    }

    pub(super) fn me(&self) -> &Incarnation {
        &self.me
    }

    /// What is known without asking the store.
    pub(super) fn is_fenced(&self) -> bool {
        self.newest.borrow().seen == Seen::Fenced
    }

    /// Whether a fence read that begins after this call says `live`.
    ///
    /// If nobody is reading, the caller reads for all that have asked by then; the others wait for the next read. If
    /// the reader is dropped, another one takes over.
    pub(super) async fn is_live(&self, quorum: &impl Quorum) -> Result<bool, StoreError> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut rounds = self.newest.subscribe();
        let covered = async {
            let round = rounds.wait_for(|round| round.covers >= asked || round.seen == Seen::Fenced).await;
            round.map(|round| *round).map_err(|_| StoreError::unavailable("closed"))
        };
        let round = tokio::select! {
            biased;
            round = covered => round?,
            _reading = self.reading.lock() => self.read(quorum).await,
        };
        match round.seen {
            Seen::Live => Ok(true),
            Seen::Fenced => Ok(false),
            Seen::Nothing => Err(StoreError::unavailable("whether this node is fenced can't be read")),
        }
    }

    async fn read(&self, quorum: &impl Quorum) -> Round {
        let covers = self.asked.load(Ordering::SeqCst);
        let seen = match quorum.is_live(&self.me).await {
            Ok(true) => Seen::Live,
            Ok(false) => Seen::Fenced,
            Err(error) => {
                tracing::debug!(%error, "a fence read failed");
                Seen::Nothing
            }
        };
        let round = Round { covers, seen };
        if seen == Seen::Fenced {
            tracing::warn!(incarnation = %self.me, "this node has been fenced: others own its conversations");
        }
        self.newest.send_replace(round);
        round
    }
}
