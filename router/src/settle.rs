//! When an inbox is complete: every node has announced what it owes (DESIGN §4, "settled").
//!
//! A `sync` must show what was answered with `sent` before the `sync` was requested. So, unless it is alone, a home
//! asks every node of the view for a sign that follows everything it sent before; one round serves all waiting syncs. A
//! round fails if a node has not settled for the view yet, or has a gap on its link. With its sign a node names the few
//! conversations that it can't announce, because the store does not let anyone continue them.

use crate::envelope::{Ask, Reply};
use crate::node::{Node, lock};
use futures_util::future::try_join_all;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use switchboard_protocol::ProtocolError;
use switchboard_store::{ConversationKey, Incarnation};

/// The pause before the next round after a failed one.
const LOOK_AGAIN_MS: u64 = 20;

/// Conversations that a node may name as untold; with more it does not settle.
const UNTOLD_MAX: usize = 256;

/// The state of settling, and its rounds.
#[derive(Default)]
pub(crate) struct Settling {
    /// The view (by fingerprint) that this node has settled for.
    settled: Mutex<Option<u64>>,
    /// Conversations that this node can't announce now, because their part of the store does not answer. They do not
    /// make all inboxes incomplete: only a user who has one of them in the inbox must wait for its owner's answer.
    untold: Mutex<BTreeSet<ConversationKey>>,
    /// The number of syncs that have asked for a round.
    asked: AtomicU64,
    /// The last completed round; locked during the next one.
    done: tokio::sync::Mutex<Round>,
}

#[derive(Default)]
struct Round {
    /// It covers syncs up to this one.
    upto: u64,
    /// The conversations that some node could not announce.
    untold: Untold,
}

/// Conversations whose owners must be asked.
pub(crate) type Untold = Arc<BTreeSet<ConversationKey>>;

impl Settling {
    /// This node has announced all that it owed when the view came, except for the untold conversations.
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

    /// Names a conversation as untold. Returns whether there was room for it.
    pub(crate) fn name(&self, key: &ConversationKey) -> bool {
        let mut untold = lock(&self.untold);
        if untold.len() < UNTOLD_MAX {
            untold.insert(key.clone());
        }
        untold.contains(key)
    }

    /// The conversation's end has been announced, or another node must announce it.
    pub(crate) fn told(&self, key: &ConversationKey) {
        lock(&self.untold).remove(key);
    }

    pub(crate) fn is_named(&self, key: &ConversationKey) -> bool {
        lock(&self.untold).contains(key)
    }

    pub(crate) fn untold(&self) -> Vec<ConversationKey> {
        lock(&self.untold).iter().cloned().collect()
    }
}

impl Node {
    /// Returns when every node has announced to this one everything that it had answered before the call, except for
    /// the returned conversations.
    ///
    /// # Errors
    /// `unavailable` if that does not happen within `limits.send_timeout_ms`.
    pub(crate) async fn settle(&self) -> Result<Untold, ProtocolError> {
        tokio::select! {
            biased;
            untold = self.settle_in_rounds() => Ok(untold),
            () = self.clock.sleep_ms(self.options().send_timeout_ms) => Err(self.unavailable()),
        }
    }

    async fn settle_in_rounds(&self) -> Untold {
        let mine = self.settling.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut done = self.settling.done.lock().await;
        // A round that began after this call covers it, whoever started the round.
        while done.upto < mine {
            let upto = self.settling.asked.load(Ordering::Relaxed);
            match self.round().await {
                Ok(untold) => *done = Round { upto, untold: Arc::new(untold) },
                Err(_) => self.clock.sleep_ms(LOOK_AGAIN_MS).await,
            }
        }
        done.untold.clone()
    }

    async fn round(&self) -> Result<BTreeSet<ConversationKey>, ProtocolError> {
        let view = self.placement().view.clone();
        let fingerprint = view.fingerprint();
        if self.is_fenced() || !self.settling.has_settled(fingerprint) {
            return Err(self.unavailable());
        }
        let signs = try_join_all(view.peers(&self.me).map(|peer| self.sign_of(peer, fingerprint))).await?;
        if self.placement().view.number != view.number {
            return Err(self.unavailable());
        }
        Ok(signs.into_iter().flatten().chain(self.settling.untold()).collect())
    }

    /// Asks a node for its sign for the view, which follows everything that it announced before. Returns the
    /// conversations that it can't announce.
    async fn sign_of(&self, peer: &Incarnation, view: u64) -> Result<Vec<ConversationKey>, ProtocolError> {
        let reply = self.ask(peer, Ask::Barrier { view, names_untold: true }).await?;
        match reply {
            _ if self.links.has_gap(peer) => Err(self.unavailable()),
            Reply::Untold(untold) => Ok(untold),
            _ => Ok(Vec::new()),
        }
    }
}
