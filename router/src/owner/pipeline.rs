//! Entries between decision and durability, in the order of `seq`, with the answers that must wait for them.
//!
//! Answers to questions wait here too: an owner may only answer from its log after the store has confirmed, later than
//! the question was asked, that the term still runs. Otherwise an owner that was paused for a long time would answer
//! with outdated state.
//!
//! One append per conversation is under way at a time, and entries decided meanwhile leave together in the next one.
//! The store commits the appends of all conversations together, so this costs no throughput and keeps the order
//! obvious.

use super::decide::Draft;
use super::{CommandInput, ReplyResult, ReplyTo};
use crate::node::Node;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;
use std::sync::Arc;
use switchboard_protocol::{Seq, SessionId, UserId};
use switchboard_store::{Appended, ConversationKey, Entry, StoreError, TermNumber};
use tokio::sync::OwnedSemaphorePermit;

/// Entries in one append at most.
const APPEND_ENTRIES_MAX: usize = 512;

/// Bytes of entries in one append at most (one entry may be larger).
const APPEND_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The first pause before an append whose outcome is unknown is repeated. Each further one is twice as long.
const RETRY_MS: u64 = 50;

/// The longest of these pauses.
const RETRY_MS_MAX: u64 = 2_000;

/// A step in the pipeline.
pub(super) enum Step {
    /// An entry.
    Entry(Box<Pending>),
    /// An answer decided after entries, and given after them.
    Answer { reply: ReplyTo, result: Box<ReplyResult>, _room: Option<OwnedSemaphorePermit> },
    /// A question about the durable state, asked after entries.
    Peek { user: UserId, after: Option<Seq>, reply: ReplyTo },
}

/// An entry that is not durable yet.
pub(super) struct Pending {
    pub(super) draft: Draft,
    /// The members at the time of the decision.
    pub(super) users: Arc<[UserId]>,
    pub(super) actor: UserId,
    pub(super) session: Option<SessionId>,
    /// When it was decided.
    pub(super) decided_us: u64,
    /// The first waits for the original, the others for repeats of it.
    pub(super) replies: Vec<ReplyTo>,
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

impl Pending {
    pub(super) fn new(draft: Draft, users: Arc<[UserId]>, input: CommandInput, decided_us: u64) -> Self {
        let CommandInput { actor, reply, _room, .. } = input;
        Self { draft, users, actor: actor.user.user, session: actor.session, decided_us, replies: vec![reply], _room }
    }
}

/// See the file's comment.
#[derive(Default)]
pub(super) struct Pipeline {
    waiting: VecDeque<Step>,
    under_way: VecDeque<Step>,
    append: Option<BoxFuture<'static, Result<Appended, StoreError>>>,
}

impl Pipeline {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }

    /// How many steps wait for an append.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, step: Step) {
        self.waiting.push_back(step);
    }

    /// Adds a waiter for the entry at `seq`. Returns it if the entry is not here, or if `most` wait for it.
    pub(super) fn wait_for(&mut self, seq: Seq, reply: ReplyTo, most: usize) -> Result<(), ReplyTo> {
        let at = |step: &Step| matches!(step, Step::Entry(pending) if pending.draft.entry.seq == seq);
        match self.under_way.iter_mut().chain(&mut self.waiting).find(|step| at(step)) {
            Some(Step::Entry(pending)) => {
                pending.replies.retain(|reply| !reply.is_given_up());
                if pending.replies.len() >= most {
                    return Err(reply);
                }
                pending.replies.push(reply);
                Ok(())
            }
            _ => Err(reply),
        }
    }

    /// Begins the next append if none is under way and something waits for one.
    pub(super) fn begin_append(&mut self, node: &Arc<Node>, key: &ConversationKey, term: TermNumber) {
        if self.append.is_some() || self.waiting.is_empty() {
            return;
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        while let Some(step) = self.waiting.pop_front() {
            if let Step::Entry(pending) = &step {
                bytes += pending.draft.entry.json.len();
                entries.push(pending.draft.entry.clone());
            }
            self.under_way.push_back(step);
            if entries.len() >= APPEND_ENTRIES_MAX || bytes >= APPEND_BYTES_MAX {
                break;
            }
        }
        self.append = Some(Box::pin(append(node.clone(), key.clone(), term, entries.into())));
    }

    /// The outcome of the append under way; pending forever if there is none. Only an append without entries can fail.
    pub(super) async fn appended(&mut self) -> Result<Appended, StoreError> {
        match &mut self.append {
            Some(append) => {
                let appended = append.await;
                self.append = None;
                appended
            }
            None => std::future::pending().await,
        }
    }

    /// The steps of the append that has ended.
    pub(super) fn take_under_way(&mut self) -> VecDeque<Step> {
        std::mem::take(&mut self.under_way)
    }

    /// Takes all steps, when the term is over.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Step> + use<> {
        self.append = None;
        std::mem::take(&mut self.under_way).into_iter().chain(std::mem::take(&mut self.waiting))
    }
}

impl Step {
    /// Answers those who wait for this step with an error.
    pub(super) fn refuse(self, node: &Node) {
        let error = || node.unavailable();
        match self {
            Self::Entry(pending) => pending.replies.into_iter().for_each(|reply| reply.send(node, Err(error()))),
            Self::Answer { reply, .. } | Self::Peek { reply, .. } => reply.send(node, Err(error())),
        }
    }
}

/// Appends entries. While the outcome is unknown, the same append is repeated (DESIGN §3).
async fn append(
    node: Arc<Node>,
    key: ConversationKey,
    term: TermNumber,
    entries: Arc<[Entry]>,
) -> Result<Appended, StoreError> {
    if entries.is_empty() {
        return node.store.append(&key, term, entries).await;
    }
    let mut wait_ms = RETRY_MS;
    loop {
        match node.store.append(&key, term, entries.clone()).await {
            Ok(appended) => return Ok(appended),
            Err(error @ StoreError::Unavailable { .. }) => {
                if wait_ms == RETRY_MS {
                    tracing::warn!(%error, "the outcome of an append is unknown; repeating it");
                }
            }
            Err(error) => {
                // It will never succeed: this term disagrees with the store. The next term begins with the store's
                // state.
                tracing::error!(%error, "the store refused an append");
                return Ok(Appended::Superseded);
            }
        }
        node.clock.sleep_ms(wait_ms + node.generator.below(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(RETRY_MS_MAX);
    }
}
