//! Gives a conversation up: because it is idle, because the ring assigns it to another node, or because that node asks
//! for it (DESIGN §3, "after a release").
//!
//! The term is released in one step, between two inputs, when no append is under way. Telling the store or the next
//! owner happens concurrently, and the conversation's task continues to take inputs.

use super::task::Conversation;
use super::{LocalReply, ReplyTo};
use crate::node::{Node, unavailable};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use switchboard_protocol::ProtocolError;
use switchboard_store::{ConversationKey, Release, TermNumber};

/// A term that this task has stopped using.
#[derive(Default)]
pub(super) struct Parting {
    /// Kept until the store or the next owner knows.
    term: Option<Parted>,
    /// The attempt to tell them; whether it succeeded.
    under_way: Option<BoxFuture<'static, bool>>,
    /// The last attempt failed: no other before this time.
    again_at_ms: u64,
}

#[derive(Clone, Copy)]
struct Parted {
    term: TermNumber,
    release: Option<Release>,
}

impl Parting {
    /// Whether nobody has to be told of a term.
    pub(super) fn is_over(&self) -> bool {
        self.term.is_none()
    }

    /// Whether the attempt has succeeded; pending forever if there is none.
    pub(super) async fn finished(&mut self) -> bool {
        match &mut self.under_way {
            Some(telling) => {
                let told = telling.await;
                self.under_way = None;
                told
            }
            None => std::future::pending().await,
        }
    }

    /// The next term has begun here: the store knows that the last one is over.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Conversation {
    /// Whether the store has answered everything.
    fn is_quiet(&self) -> bool {
        self.pipeline.is_empty()
            && self.cursors.is_empty()
            && self.search.is_empty()
            && self.lookups.is_empty()
            && !self.begin_in_doubt
    }

    pub(super) fn may_leave(&self) -> bool {
        if !self.is_quiet() {
            return false;
        }
        // The view has assigned it to another node, the node drains, a term is being released, or the conversation does
        // not exist.
        if self.leaves || !self.parting.is_over() || (self.log.is_none() && self.sessions.is_empty()) {
            return true;
        }
        let idle_ms = self.node.clock.monotonic_ms().saturating_sub(self.last_used_ms);
        self.sessions.is_empty()
            && idle_ms >= self.node.options().conversation_idle_ms
            && self.announced.owes_nothing(&self.node.links)
    }

    /// Gives the conversation up as far as possible now; whether that is complete.
    pub(super) fn leave(&mut self) -> bool {
        if self.parting.under_way.is_some() || self.node.clock.monotonic_ms() < self.parting.again_at_ms {
            return false;
        }
        // The next owner does not know who is typing.
        self.expire_typing(u64::MAX);
        if self.log.is_some() || !self.parting.is_over() {
            self.part();
            return false;
        }
        if (!self.sessions.is_empty() && !self.leaves) || !self.node.owners.leave(&self.key, &self.inputs, &self.orders)
        {
            return false;
        }
        self.node.settling.told(&self.key);
        true
    }

    /// Ends the term or, if it owes an announcement, has the next owner take it over.
    fn part(&mut self) {
        let (node, key) = (self.node.clone(), self.key.clone());
        if self.announced.owes_nothing(&node.links) {
            if let Some(Parted { term, .. }) = self.stop() {
                self.parting.under_way = Some(Box::pin(end_term(node, key, term)));
            }
        } else if node.owns(&key) {
            // It is handed over if there is another owner. What is owed to this node itself is confirmed by its next
            // flush.
        } else if let Some(Parted { release, .. }) = self.release_term() {
            self.parting.under_way = Some(Box::pin(async move { node.hand_over(&key, release).await }));
        }
    }

    /// Stops using the current term. If it owes announcements, it is handed over, like one that is released.
    pub(super) fn leave_term(&mut self) {
        self.stop();
    }

    /// Stops using the current term, and returns it.
    fn stop(&mut self) -> Option<Parted> {
        if let Some(log) = self.log.take() {
            self.parting.term = Some(Parted { term: log.term, release: None });
        }
        self.parting.term
    }

    /// The same, so that another process may continue from the durable end.
    fn release_term(&mut self) -> Option<Parted> {
        let parted = self.stop()?;
        let release = self.node.store.release(&self.key, parted.term).or(parted.release);
        self.parting.term = Some(Parted { release, ..parted });
        self.parting.term
    }

    /// The attempt has ended.
    pub(super) fn on_parted(&mut self, reached: bool) {
        if reached && self.log.is_none() {
            self.parting.forget();
            self.announced.forget();
        } else {
            self.parting.again_at_ms = self.node.clock.monotonic_ms() + self.node.options().inbox_flush_ms;
            self.name_untold();
        }
    }

    /// The store does not allow announcing for now: only the users with the conversation in their inbox wait for it.
    pub(super) fn name_untold(&mut self) {
        if !self.untold.is_empty() && self.node.settling.name(&self.key) {
            self.untold.clear();
        }
    }

    /// Another node begins a term, and the store names this node as the owner, in `term`.
    pub(super) async fn on_let_go(&mut self, term: TermNumber, reply: ReplyTo) {
        let result = self.let_go(term).await;
        reply.send(&self.node, result.map(|release| release.map_or(LocalReply::Done, LocalReply::LetGo)));
    }

    /// `None` if the term was released before, as the store knows.
    async fn let_go(&mut self, term: TermNumber) -> Result<Option<Release>, ProtocolError> {
        if self.node.owns(&self.key) && !self.node.is_draining() {
            // The two nodes have different views.
            return Err(self.node.unavailable());
        }
        if self.log.is_none() && self.parting.is_over() && !self.find_again(term).await? {
            return Ok(None);
        }
        self.write_cursors(u64::MAX);
        if !self.is_quiet() {
            return Err(self.node.unavailable());
        }
        let release = self.release_term().and_then(|parted| parted.release);
        release.map(Some).ok_or_else(|| self.node.unavailable())
    }

    /// The store names this node as the owner, but no term is known here: the answer to its begin, or to its end, was
    /// lost. Then a new term is begun, so that it can be released. Whether there is a term to release.
    async fn find_again(&mut self, term: TermNumber) -> Result<bool, ProtocolError> {
        let head = self.node.store.head(&self.key).await.map_err(|error| unavailable(&self.node, &error))?;
        if head.is_some_and(|head| head.term == term && !head.ended) { self.begin(None).await } else { Ok(false) }
    }
}

async fn end_term(node: Arc<Node>, key: ConversationKey, term: TermNumber) -> bool {
    let ended = node.store.end_term(&key, term).await;
    ended.map_err(|error| unavailable(&node, &error)).is_ok()
}
