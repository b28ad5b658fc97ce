//! Raising the head's end, during a term and at its end.

use super::term::Term;
use super::{LogHead, Quorum, QuorumLog, Swapped, lock};
use crate::{ConversationKey, StoreError, TermNumber};

/// How often a raise is retried with another `end` than the last known one. One retry is enough: only this term's owner
/// sets it.
const RAISE_ATTEMPTS_MAX: u32 = 4;

/// A round stops after this many conversations have failed: the store is not answering then.
const RAISE_FAILURES_MAX: usize = 8;

/// Which conversations have their end raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raise {
    /// Those with a whole bucket behind it: [`QuorumLog::bucket_filled`] says when.
    FullBuckets,
    /// Those that already had something behind it in the last such round. So an entry is behind the end for no longer
    /// than two rounds, which have to be short against the time after which rows expire.
    Aged,
}

impl<Q: Quorum> QuorumLog<Q> {
    /// Returns when a term has filled a bucket since the last call: then [`Raise::FullBuckets`] is due.
    pub async fn bucket_filled(&self) {
        self.bucket_filled.notified().await;
    }

    /// Raises the ends of all conversations that are due, one after the other. That includes terms that are over, as
    /// long as the head names them: nobody else may look at the conversation before its rows expire. Terms that are
    /// over and have nothing left to raise are forgotten.
    ///
    /// Limitation: if no node runs for as long as rows live, the rows behind the ends expire.
    ///
    /// # Errors
    /// The first one. A conversation that failed is due again in the next round. After several failures the rest is
    /// left to the next round too, which begins with it.
    pub async fn raise_ends(&self, which: Raise) -> Result<(), StoreError> {
        let mut failures = Vec::new();
        let mut terms = self.conversations.terms();
        let begin_after = lock(&self.raised_upto).take();
        let first = terms.partition_point(|(conversation, _)| Some(conversation) <= begin_after.as_ref());
        terms.rotate_left(first);
        for (conversation, term) in terms {
            let due = match which {
                Raise::FullBuckets => term.has_full_bucket(),
                Raise::Aged => term.has_aged(),
            };
            if due && let Err(error) = self.set_end(&conversation, &term, Then::GoesOn).await {
                failures.push(error);
                if failures.len() >= RAISE_FAILURES_MAX {
                    *lock(&self.raised_upto) = Some(conversation);
                    break;
                }
            }
            if term.is_over() && term.is_raised() {
                self.conversations.forget(&conversation, term.number);
            }
        }
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Ends `term` with nothing owed: then the head's end is the log's end, and the next owner has nothing to find out.
    /// Does nothing if the term does not run here.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the term is over, but the head may not say so yet; call it again.
    pub async fn end_term(&self, conversation: &ConversationKey, term: TermNumber) -> Result<(), StoreError> {
        let Some(term) = self.conversations.term(conversation).filter(|running| running.number == term) else {
            return Ok(());
        };
        term.stop();
        self.set_end(conversation, &term, Then::Ends).await?;
        // This note and no later one: this node may have begun another term since.
        self.quorum.remove_active(term.life.me(), conversation, term.noted).await?;
        self.conversations.forget(conversation, term.number);
        Ok(())
    }

    /// Sets the head's end to what is durable.
    async fn set_end(&self, conversation: &ConversationKey, term: &Term, then: Then) -> Result<(), StoreError> {
        let _only = term.raising.lock().await;
        for _ in 0..RAISE_ATTEMPTS_MAX {
            let (old, durable) = term.head();
            let owner = old.owner.clone().filter(|_| then == Then::GoesOn);
            let new = LogHead { term: term.number, owner, end: durable };
            if new == old {
                return Ok(());
            }
            match self.quorum.swap_head(conversation, &old, &new).await? {
                Swapped::Applied => term.heard_of_end(durable),
                // An earlier raise with an unknown outcome was applied after all.
                Swapped::Refused(Some(now)) if now.owner == old.owner && now.term == old.term => {
                    term.heard_of_end(now.end);
                    continue;
                }
                // The next term has begun, or this one has been ended: there is nothing left to raise.
                Swapped::Refused(_) => {
                    term.stop();
                    term.heard_of_end(durable);
                }
            }
            return Ok(());
        }
        Err(StoreError::unavailable("the head's end keeps changing"))
    }
}

/// What happens to the term.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    Ends,
}
