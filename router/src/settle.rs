//! When an inbox is complete: every node has announced what it owes (DESIGN §4, "settled").
//!
//! `sync` must show what was answered with `sent` before it was asked. So a home that is not alone asks, for each round
//! of waiting syncs, every node of the view for a sign that comes behind all it has told before; and it believes no round
//! in which a node has not yet settled for the view, or has something missing on its link.

use crate::envelope::Ask;
use crate::node::{Node, lock};
use futures_util::future::try_join_all;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use switchboard_protocol::ProtocolError;
use switchboard_store::Incarnation;

/// Pause between two looks at a view that has not settled.
const LOOK_AGAIN_MS: u64 = 20;

/// What has settled, and the rounds.
#[derive(Default)]
pub(crate) struct Settling {
    /// The view (by fingerprint) that this node has settled for.
    settled: Mutex<Option<u64>>,
    /// Syncs that have asked for a round.
    asked: AtomicU64,
    /// Those up to this one have had one; held while a round is under way.
    done: tokio::sync::Mutex<u64>,
}

impl Settling {
    /// This node has announced all that it owed when the view came.
    pub(crate) fn settled(&self, view: u64) {
        *lock(&self.settled) = Some(view);
    }

    /// The view changes.
    pub(crate) fn unsettle(&self) {
        *lock(&self.settled) = None;
    }

    pub(crate) fn has_settled(&self, view: u64) -> bool {
        *lock(&self.settled) == Some(view)
    }
}

impl Node {
    /// Returns when every node has announced to this one all that it had answered before the call.
    ///
    /// # Errors
    /// `unavailable` if that does not come to pass in `limits.send_timeout_ms`.
    pub(crate) async fn settle(&self) -> Result<(), ProtocolError> {
        tokio::select! {
            biased;
            () = self.settle_in_rounds() => Ok(()),
            () = self.clock.sleep_ms(self.options().send_timeout_ms) => Err(self.unavailable()),
        }
    }

    async fn settle_in_rounds(&self) {
        let mine = self.settling.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut done = self.settling.done.lock().await;
        // A round that began after this call has ended: it was for this call too.
        while *done < mine {
            let upto = self.settling.asked.load(Ordering::Relaxed);
            if self.round().await.is_ok() {
                *done = upto;
            } else {
                self.clock.sleep_ms(LOOK_AGAIN_MS).await;
            }
        }
    }

    async fn round(&self) -> Result<(), ProtocolError> {
        let view = self.placement().view.clone();
        let fingerprint = view.fingerprint();
        if self.is_fenced() || !self.settling.has_settled(fingerprint) {
            return Err(self.unavailable());
        }
        try_join_all(view.peers(&self.me).map(|peer| self.sign_of(peer, fingerprint))).await?;
        if self.placement().view.number == view.number { Ok(()) } else { Err(self.unavailable()) }
    }

    /// The sign of a node that has settled for the view: it comes behind all that was told before.
    async fn sign_of(&self, peer: &Incarnation, view: u64) -> Result<(), ProtocolError> {
        self.ask(peer, Ask::Barrier { view }).await?;
        if self.links.has_gap(peer) { Err(self.unavailable()) } else { Ok(()) }
    }
}
