//! How this node takes a conversation over from another owner (DESIGN §3): an owner that lives, even if it drains, is asked
//! to let go; an owner that is gone is fenced, once for all its conversations.
//!
//! Owns what became of nodes that are out of the view: each is asked once whether it still answers, for all its
//! conversations, and a mistake costs it its incarnation and nothing else. Owns the turns in which the conversations of such
//! nodes are taken over, so that their many statements leave room for live appends.

use crate::envelope::{Ask, Reply};
use crate::node::{Node, lock};
use crate::owner::{Done, Input};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use switchboard_protocol::ProtocolError;
use switchboard_store::{ConversationKey, Incarnation, Release, TermNumber};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc};

/// How long a begin waits for a live node to let go.
pub(crate) const LET_GO_MS: u64 = 1_000;

/// The first pause before a node is asked again, as nodes learn of a view at different times. Each further one is twice as
/// long.
const ASK_AGAIN_MS: u64 = 25;

/// The longest of these pauses.
const ASK_AGAIN_MS_MAX: u64 = 200;

/// How long a node whose heartbeat is gone may take to answer. Every conversation that it owned waits for this.
const LAST_WORD_MS: u64 = 100;

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

/// What has become of an owner that the store names.
pub(crate) enum Fate {
    /// It is out of the view, and does not answer.
    Gone,
    /// It has released its term.
    Released(Release),
    /// It has ended the term since.
    Ended,
}

/// Incarnations whose heartbeat is gone.
#[derive(Default)]
pub(crate) struct Gone {
    /// Those that did not answer.
    silent: Mutex<BTreeSet<Incarnation>>,
    /// Those that are being asked, and whether they have answered. All who need to know wait for the same answer.
    asked: Mutex<BTreeMap<Incarnation, Arc<OnceCell<bool>>>>,
}

impl Gone {
    /// Forgets those that are alive after all, and questions that nobody waits for any more.
    pub(crate) fn forget(&self, lives: impl Fn(&Incarnation) -> bool) {
        lock(&self.silent).retain(|gone| !lives(gone));
        lock(&self.asked).retain(|_, answer| Arc::strong_count(answer) > 1);
    }

    fn has(&self, incarnation: &Incarnation) -> bool {
        lock(&self.silent).contains(incarnation)
    }

    fn note(&self, incarnation: &Incarnation) {
        let mut gone = lock(&self.silent);
        if gone.len() >= GONE_MAX {
            gone.clear();
        }
        if gone.insert(incarnation.clone()) {
            tracing::info!(%incarnation, "a node is gone and does not answer: where it owns a conversation, it is fenced");
        }
    }

    /// Runs `ask` for this incarnation, unless somebody does already, and returns what came of it.
    async fn ask_once(&self, incarnation: &Incarnation, ask: impl Future<Output = bool>) -> bool {
        let answer = lock(&self.asked).entry(incarnation.clone()).or_default().clone();
        let has_answered = *answer.get_or_init(|| ask).await;
        // Who needs to know later asks again.
        let mut asked = lock(&self.asked);
        if asked.get(incarnation).is_some_and(|newest| Arc::ptr_eq(newest, &answer)) {
            asked.remove(incarnation);
        }
        has_answered
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

    /// Whether an incarnation is out of the view, and does not answer. Asks it, if that is not known.
    pub(crate) async fn is_gone(&self, incarnation: &Incarnation) -> bool {
        // A draining node is out of the ring, but its heartbeat stands.
        if self.placement().view.reaches(incarnation) {
            return false;
        }
        if self.gone.has(incarnation) || self.has_another_life(incarnation) {
            return true;
        }
        // Any answer will do.
        let ask = Ask::Barrier { view: self.placement().view.fingerprint(), names_untold: true };
        let ask = async { self.ask_within(incarnation, ask, LAST_WORD_MS).await.is_some() };
        if self.gone.ask_once(incarnation, ask).await || self.placement().view.reaches(incarnation) {
            return false;
        }
        self.gone.note(incarnation);
        true
    }

    /// What has become of the owner that the store names.
    ///
    /// # Errors
    /// `unavailable` if it is alive and has not let go by `deadline_ms` (monotonic).
    pub(crate) async fn fate_of(
        &self,
        key: &ConversationKey,
        owner: &Incarnation,
        term: TermNumber,
        deadline_ms: u64,
    ) -> Result<Fate, ProtocolError> {
        let mut pause_ms = ASK_AGAIN_MS;
        loop {
            if self.is_gone(owner).await {
                return Ok(Fate::Gone);
            }
            let left_ms = deadline_ms.saturating_sub(self.clock.monotonic_ms());
            if left_ms == 0 {
                return Err(self.unavailable());
            }
            let ask = Ask::LetGo { conversation: key.clone(), term };
            let is_alive = self.placement().view.reaches(owner);
            match self.ask_within(owner, ask, if is_alive { left_ms } else { LAST_WORD_MS }).await {
                Some(Ok(Reply::LetGo(release))) => return Ok(Fate::Released(release)),
                Some(Ok(_)) => return Ok(Fate::Ended),
                // The owner is alive, and keeps the conversation or can't let go yet; or it has just stopped to answer.
                Some(_) | None => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_being_asked_is_not_asked_again() {
        let (gone, asked) = (Gone::default(), AtomicUsize::new(0));
        let node = Incarnation { node: "a".parse().unwrap(), life: 1 };
        let ask = async || {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            true
        };
        assert_eq!(tokio::join!(gone.ask_once(&node, ask()), gone.ask_once(&node, ask())), (true, true));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(gone.ask_once(&node, ask()).await);
        assert_eq!(asked.load(Ordering::Relaxed), 2, "what it said before is old");
        assert!(lock(&gone.asked).is_empty());
    }

    #[tokio::test]
    async fn if_who_asks_gives_up_another_one_asks() {
        let gone = Gone::default();
        let node = Incarnation { node: "a".parse().unwrap(), life: 1 };
        let mut gives_up = Box::pin(gone.ask_once(&node, std::future::pending()));
        let mut waits = Box::pin(gone.ask_once(&node, async { false }));
        tokio::select! {
            biased;
            _ = &mut gives_up => unreachable!("nothing is answered"),
            () = async {} => {}
        }
        tokio::select! {
            biased;
            _ = &mut waits => unreachable!("another one asks"),
            () = async {} => {}
        }
        drop(gives_up);
        assert!(!waits.await);
    }
}
