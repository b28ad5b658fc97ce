//! How this node takes a conversation over from another owner (DESIGN §3): an owner that lives, even if it drains, is asked
//! to let go; an owner that is gone is fenced, once for all its conversations.
//!
//! Owns the set of nodes found to be gone. A mistake costs that node its incarnation, and nothing else.

use crate::envelope::{Ask, Reply};
use crate::node::{Node, lock};
use std::collections::BTreeSet;
use std::sync::Mutex;
use switchboard_protocol::ProtocolError;
use switchboard_store::{ConversationKey, Incarnation, Previous, TermNumber};

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

/// Incarnations that are out of the view and did not answer.
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
