//! The log protocol on a store with several replicas: DESIGN §3, over a handful of quorum operations.
//!
//! **What it keeps.** In the store, a conversation is a head `{term, owner, end}`, changed only by compare-and-set, and
//! rows, written by quorum; each incarnation of a node is a row, `live` or `fenced`, also changed by compare-and-set.
//! *The log is the rows up to the head's `end`, then the rows that follow without a hole and carry the head's term;
//! once the term has ended (no owner), only the former.* In memory, it keeps the term that this process has of a
//! conversation: how far it is *confirmed* (a quorum has the rows) and how far *durable* (in the log for ever). No
//! other process needs any of that.
//!
//! **A term** (`term.rs`) runs from [`QuorumLog::begin_term`] until it is *over*. It is over when this process ends it
//! (releases it, ends it, or begins another), or finds that it has been fenced. It never continues after that: pending
//! appends are answered with [`Superseded`](crate::Appended::Superseded), and the conversation goes on in another term.
//!
//! **An append** (`append.rs`): rows written → confirmed → a fence read (`life.rs`) that begins only now says `live` →
//! the term is not over → [`Durable`](crate::Appended::Durable). So a fence of this node comes after everything that is
//! durable was confirmed, and the tail read that follows the fence finds it.
//!
//! | what fails in an append | what holds | what happens |
//! |---|---|---|
//! | the write: no answer | any part of the rows may be there, now or later | error; the same append is repeated, with the same timestamps, and no other is accepted until the outcome is known |
//! | the write: refused for good | it stays unconfirmed | the term is over; the next one begins at what is confirmed |
//! | the fence read: no answer | the rows are confirmed | error; the repeat only reads again |
//! | the fence read: `fenced` | the rows may or may not be in the log, which the next owner decides | superseded; this incarnation owns nothing any more, and a begin for it is refused |
//! | the caller drops the call | as with no answer | the same append must be repeated, or another term begun |
//!
//! **A begin** (`begin.rs`) has numbered steps. From the head (t, X, e), read SERIAL (1), it finds the end e′ of X's
//! term, which ends X's term for good, and then compares and sets (t, X, e) to (t+1, me, e′) (5), while the
//! conversation is noted as active. How e′ is found depends on X:
//! - *X is gone*: fence X by our own compare-and-set (2), read what follows e in term t (3), rewrite it (4). The head may
//!   be the one that an earlier begin has read, before it was known that X is gone.
//! - *X has released t*: X has reported e′.
//! - *X is this process*, in this life or an earlier one: the term is stopped here, and e′ is what it has confirmed; if
//!   there was no such term here (a begin that nobody waited for was applied after all), 3 and 4.
//! - *t has been ended*: e′ is e.
//! - X is another process, and none of this is known: nothing is done, and the caller learns X and t.
//!
//! | what fails in a begin | what happens |
//! |---|---|
//! | 1 to 4, or the note | error; no term is handed out. What has been done has no effect, or the next begin finds it |
//! | 5 is refused | another begin was faster, or `end` was raised: again from 1 |
//! | 5: no answer | a SERIAL read; if the new term is `me`'s it holds, with the `end` that is in the head; else again from 1. Also again from 1 if an earlier begin had read the head: the term may be another begin's of this process |
//!
//! **The end** of the head is raised (`raise.rs`) to what is durable, never further: when a term ends, once per bucket,
//! and long before rows behind it expire. Below it, expired rows are not holes; behind it they would be. The end of a
//! released term is raised too until the head names another one, because the node that asked for the release may never
//! begin. A raise that fails is retried in the next round; until then it only makes a takeover slower.
//!
//! **Readers** show nothing beyond an end that they have from the owner ([`QuorumLog::end_here`]) or from any read of
//! the head. Up to there, every row is at a quorum, and no write that is still under way can win against it.
//!
//! A backend adds the operations (`operations.rs`), the projections of entries, and two housekeeping tasks
//! ([`QuorumLog::bucket_filled`] and a timer, each followed by [`QuorumLog::raise_ends`]). What this must not do: look
//! at a clock; write a row without its term's timestamp; decide in two steps that something is durable, or that a term
//! is released.

mod append;
mod begin;
mod conversations;
mod life;
mod once;
mod operations;
mod raise;
mod term;

pub use begin::{Beginning, Previous};
pub use operations::{LogHead, Quorum, Row, Swapped, TERM_ENTRIES_MAX, WriteTimestamp};
pub use raise::Raise;
pub use term::BUCKET_ENTRIES;

use crate::{ConversationKey, Incarnation, StoreError, TermNumber};
use conversations::Conversations;
use life::Life;
use once::Once;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_protocol::Seq;
use tokio::sync::Notify;

/// Fenced incarnations that are remembered, so that each is fenced once for all its conversations.
const FENCES_MAX: usize = 1024;

/// An incarnation's registration; `None`: refused, because it has been fenced.
type Registration = Once<Option<Arc<Life>>>;

/// An owner's statement that it has released a term. It holds for ever, and for this term only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The released term.
    pub term: TermNumber,
    /// Nothing beyond this is or will be durable in it.
    pub end: Seq,
}

/// The logs of all conversations, as one process appends to them.
pub struct QuorumLog<Q> {
    quorum: Q,
    conversations: Conversations,
    /// This process's incarnations: one, and one more for each time that it was fenced.
    lives: Mutex<HashMap<Incarnation, Arc<Registration>>>,
    /// Other processes' incarnations that have been fenced or are being fenced.
    fences: Mutex<HashMap<Incarnation, Arc<Once<()>>>>,
    bucket_filled: Notify,
    /// The last conversation of an interrupted round of raising.
    raised_upto: Mutex<Option<ConversationKey>>,
}

impl<Q: Quorum> QuorumLog<Q> {
    /// The logs in the store behind `quorum`.
    pub fn new(quorum: Q) -> Self {
        Self {
            quorum,
            conversations: Conversations::default(),
            lives: Mutex::default(),
            fences: Mutex::default(),
            bucket_filled: Notify::new(),
            raised_upto: Mutex::default(),
        }
    }

    /// Releases a term to another node: what is not durable yet never will be, and is answered with
    /// [`Superseded`](crate::Appended::Superseded). May be repeated. `None` if the term is not known here (any more);
    /// if the head names this process as its owner, begin a term first, and release that one.
    pub fn release(&self, conversation: &ConversationKey, term: TermNumber) -> Option<Release> {
        let known = self.conversations.term(conversation).filter(|known| known.number == term)?;
        Some(known.release())
    }

    /// The durable end of the log, if its newest term that is known here belongs to this process.
    pub fn end_here(&self, conversation: &ConversationKey) -> Option<(TermNumber, Seq)> {
        self.conversations.term(conversation).filter(|term| !term.is_over()).map(|term| (term.number, term.durable()))
    }

    /// The rows after `after` up to `end`, ascending, at most `limit`, without those that have expired. `end` comes
    /// from the owner or from the head.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store does not answer.
    pub async fn read(
        &self,
        conversation: &ConversationKey,
        after: Seq,
        end: Seq,
        limit: u64,
    ) -> Result<Vec<Row>, StoreError> {
        let upto = Seq::new(after.get().saturating_add(limit)).min(end);
        if upto <= after {
            return Ok(Vec::new());
        }
        self.quorum.read_rows(conversation, after, upto).await
    }

    /// The life of `me`, which is registered before anything else is done in its name.
    async fn life(&self, me: &Incarnation) -> Result<Arc<Life>, StoreError> {
        let registration = lock(&self.lives).entry(me.clone()).or_default().clone();
        let register = async {
            let is_live = self.quorum.register(me).await?;
            Ok(is_live.then(|| Arc::new(Life::new(me.clone()))))
        };
        let life = registration.get(register).await?.filter(|life| !life.is_fenced());
        life.ok_or_else(|| StoreError::Fenced { incarnation: me.clone() })
    }

    fn is_of_this_process(&self, owner: &Incarnation) -> bool {
        lock(&self.lives).get(owner).is_some_and(|registration| registration.known().flatten().is_some())
    }

    /// Fences another process's incarnation. Only our own compare-and-set proves it: a plain read may see `fenced` when
    /// a fence has been decided but has not reached a quorum yet, and then the other process's read may still say
    /// `live`.
    async fn fence(&self, other: &Incarnation) -> Result<(), StoreError> {
        let fence = {
            let mut fences = lock(&self.fences);
            if fences.len() >= FENCES_MAX && !fences.contains_key(other) {
                fences.clear();
            }
            fences.entry(other.clone()).or_default().clone()
        };
        fence.get(self.quorum.fence(other)).await
    }

    /// Removes another incarnation's note from `active`, if it is for a term up to `upto`: that incarnation may be
    /// about to begin a later one, and have noted that.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the note may stay, and the conversation is taken over once more, needlessly.
    pub async fn forget_note(
        &self,
        conversation: &ConversationKey,
        owner: &Incarnation,
        upto: TermNumber,
    ) -> Result<(), StoreError> {
        match self.quorum.read_note(owner, conversation).await? {
            Some((term, noted)) if term <= upto => self.quorum.remove_active(owner, conversation, noted).await,
            _ => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
