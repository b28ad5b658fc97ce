//! How this node takes a conversation over from another owner (DESIGN §3): an owner that lives, even if it drains, is asked
//! to let go; an owner that is gone is fenced, once for all its conversations.
//!
//! Owns the set of nodes found to be gone, where a mistake costs that node its incarnation and nothing else; and the turns
//! in which the conversations of such nodes are taken over, so that their many statements leave room for live appends.

use crate::envelope::{Ask, Reply};
use crate::node::{Node, lock};
use crate::owner::{Done, Input};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use switchboard_protocol::ProtocolError;
use switchboard_store::{ConversationKey, Incarnation, Previous, TermNumber};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// How long a begin waits for a live node to let go.
pub(crate) const LET_GO_MS: u64 = 1_000;

/// The first pause before a node is asked again, as nodes learn of a view at different times. Each further one is twice as
/// long.
const ASK_AGAIN_MS: u64 = 25;

/// The longest of these pauses.
const ASK_AGAIN_MS_MAX: u64 = 200;

/// How long a node whose heartbeat is gone may take to answer.
const LAST_WORD_MS: u64 = 250;

/// Incarnations that are remembered as gone, at most.
const GONE_MAX: usize = 1_024;

/// Conversations of dead or draining nodes that are taken over at the same time. Each takes about 15 statements of the
/// store, one after the other: together far fewer than `store.scylla.statements_max`.
const TAKE_OVERS_MAX: usize = 64;

/// The longest turn: one that takes longer waits for a part of the store, or for a node, that does not answer, and must not
/// delay the others.
const TURN_MS: u64 = 500;

/// The turns in which conversations are taken over. Only take-overs wait for one: a command begins the term by itself.
pub(crate) struct TakeOvers {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for TakeOvers {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(TAKE_OVERS_MAX)), waiting: AtomicUsize::new(0) }
    }
}

impl TakeOvers {
    /// How many wait for their turn, or for room in their queue.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts one as waiting until this is dropped.
    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Incarnations whose heartbeat is gone and that did not answer.
#[derive(Default)]
pub(crate) struct Gone(Mutex<BTreeSet<Incarnation>>);

impl Gone {
    /// Forgets those that are alive after all.
    pub(crate) fn forget(&self, lives: impl Fn(&Incarnation) -> bool) {
        lock(&self.0).retain(|gone| !lives(gone));
    }

    fn has(&self, incarnation: &Incarnation) -> bool {
        lock(&self.0).contains(incarnation)
    }

    fn note(&self, incarnation: &Incarnation) {
        let mut gone = lock(&self.0);
        if gone.len() >= GONE_MAX {
            gone.clear();
        }
        gone.insert(incarnation.clone());
    }
}

impl Node {
    /// Has a conversation of a dead or draining node taken over when it is its turn. Returns when that is in the
    /// conversation's queue, or when the node owns nothing any more.
    pub(crate) async fn begin_take_over(self: &Arc<Self>, key: &ConversationKey, mut done: Option<Done>) {
        let _waiting = self.take_overs.wait();
        while self.may_own() {
            let Ok(turn) = self.take_overs.turns.clone().acquire_owned().await else { return };
            let (over, is_over) = mpsc::channel(1);
            let input = Input::TakeOver { released: None, reply: None, done: done.clone(), turn: Some(over) };
            if self.owners.say(self, key, input).is_ok() {
                self.end_turn(turn, is_over);
                return;
            }
            // One whose queue is full delays no other.
            drop(turn);
            done = done.filter(|_| !self.settling.name(key));
            self.clock.sleep_ms(crate::node::TICK_MS).await;
        }
    }

    /// Ends a turn when the conversation has been taken over or could not be, and at the latest after [`TURN_MS`].
    fn end_turn(self: &Arc<Self>, turn: OwnedSemaphorePermit, mut is_over: mpsc::Receiver<()>) {
        let node = self.clone();
        self.spawn(async move {
            tokio::select! {
                biased;
                _ = is_over.recv() => {}
                () = node.clock.sleep_ms(TURN_MS) => {}
            }
            drop(turn);
        });
    }

    /// What has become of the owner that the store names, for the next begin.
    ///
    /// # Errors
    /// `unavailable` if it is alive and has not let go by `deadline_ms` (monotonic).
    pub(crate) async fn previous(
        &self,
        key: &ConversationKey,
        owner: &Incarnation,
        term: TermNumber,
        deadline_ms: u64,
    ) -> Result<Previous, ProtocolError> {
        let mut pause_ms = ASK_AGAIN_MS;
        loop {
            let gone = || Previous::Gone(owner.clone());
            // A draining node is out of the ring, but its heartbeat stands.
            let is_alive = self.placement().view.reaches(owner);
            if !is_alive && (self.gone.has(owner) || self.has_another_life(owner)) {
                return Ok(gone());
            }
            let left_ms = deadline_ms.saturating_sub(self.clock.monotonic_ms());
            if left_ms == 0 {
                return Err(self.unavailable());
            }
            let ask = Ask::LetGo { conversation: key.clone(), term };
            let answer = self.ask_within(owner, ask, if is_alive { left_ms } else { LAST_WORD_MS }).await;
            match answer {
                Some(Ok(Reply::LetGo(release))) => return Ok(Previous::Released(release)),
                // The owner has ended the term since.
                Some(Ok(_)) => return Ok(Previous::Unknown),
                // The owner is alive, and keeps the conversation or can't let go yet.
                Some(_) => {}
                // Out of this node's view it may still be alive, and would have answered.
                None if !is_alive && !self.placement().view.reaches(owner) => {
                    tracing::info!(%owner, "an owner is gone without having released; fencing it");
                    self.gone.note(owner);
                    return Ok(gone());
                }
                None => {}
            }
            self.clock.sleep_ms(pause_ms + self.generator.below(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(ASK_AGAIN_MS_MAX);
        }
    }

    /// Whether the node is in the view as another incarnation, so that this one is over.
    fn has_another_life(&self, incarnation: &Incarnation) -> bool {
        self.placement().view.nodes.iter().any(|node| node.incarnation.node == incarnation.node)
    }
}
