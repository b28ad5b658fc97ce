//! Which process may append when several share the rows: the guarantees of `crate::quorum` about fences and releases,
//! on rows that change atomically. Used only by the in-memory store, to simulate several nodes.
//!
//! Owns which incarnations live, and which terms this process was given. All of it is read and changed while the rows
//! are locked, in the transaction that it belongs to.

use super::Rows;
use super::keys;
use super::values::{self, HeadRow};
use crate::{ConversationKey, Incarnation, Previous, Release, StoreError, TermNumber};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_protocol::Seq;

/// What the processes share besides the rows.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    /// Every incarnation that was ever registered, and whether it is live. A missing one counts as fenced.
    lives: Mutex<BTreeMap<Incarnation, bool>>,
    /// Each conversation's head when its newest term began: what processes without that term are sure to know.
    begun: Mutex<HashMap<ConversationKey, HeadRow>>,
}

impl Lives {
    /// Forgets an incarnation, as if its row had been lost.
    pub(crate) fn lose(&self, incarnation: &Incarnation) {
        lock(&self.lives).remove(incarnation);
    }

    /// The fenced incarnations.
    pub(crate) fn fenced(&self) -> Vec<Incarnation> {
        lock(&self.lives).iter().filter(|(_, lives)| !**lives).map(|(incarnation, _)| incarnation.clone()).collect()
    }

    fn is_live(&self, incarnation: &Incarnation) -> bool {
        lock(&self.lives).get(incarnation).copied().unwrap_or(false)
    }

    fn fence(&self, incarnation: &Incarnation) {
        lock(&self.lives).insert(incarnation.clone(), false);
    }
}

/// One of the processes that share the rows.
#[derive(Debug)]
pub(crate) struct Process {
    lives: Arc<Lives>,
    /// Its own incarnations.
    own: Mutex<BTreeSet<Incarnation>>,
    terms: Mutex<HashMap<ConversationKey, HandedOut>>,
}

#[derive(Clone, Copy, Debug)]
struct HandedOut {
    term: TermNumber,
    released: bool,
}

impl Process {
    pub(crate) fn new(lives: Arc<Lives>) -> Self {
        Self { lives, own: Mutex::default(), terms: Mutex::default() }
    }

    fn owns(&self, incarnation: &Incarnation) -> bool {
        lock(&self.own).contains(incarnation)
    }

    /// Makes sure that `me` is live and recorded as this process's before it owns anything.
    pub(super) fn register(&self, me: &Incarnation) -> Result<(), StoreError> {
        if lock(&self.own).insert(me.clone()) {
            lock(&self.lives.lives).entry(me.clone()).or_insert(true);
        }
        if self.lives.is_live(me) { Ok(()) } else { Err(StoreError::Fenced { incarnation: me.clone() }) }
    }

    /// Whether the next term of this process may end a term of `owner`, given `previous`.
    pub(super) fn may_take(&self, owner: &Incarnation, head: &HeadRow, previous: &Previous) -> Result<(), StoreError> {
        let term = head.term;
        match previous {
            _ if self.owns(owner) => Ok(()),
            Previous::Released(release) if release.term == term => Ok(()),
            previous if previous.gone() == Some(owner) => {
                self.lives.fence(owner);
                Ok(())
            }
            _ => Err(StoreError::Owned { by: owner.clone(), term, end: head.end }),
        }
    }

    /// Records that a begin was answered.
    pub(super) fn hand_out(&self, conversation: &ConversationKey, term: TermNumber) {
        lock(&self.terms).insert(conversation.clone(), HandedOut { term, released: false });
    }

    fn has(&self, conversation: &ConversationKey, term: TermNumber) -> Option<HandedOut> {
        lock(&self.terms).get(conversation).copied().filter(|handed| handed.term == term)
    }

    /// Whether an append of `owner` in `term` may become durable.
    pub(super) fn may_append(&self, conversation: &ConversationKey, owner: &Incarnation, term: TermNumber) -> bool {
        self.lives.is_live(owner) && self.has(conversation, term).is_some_and(|handed| !handed.released)
    }

    /// Whether this process has the term, released or not.
    pub(super) fn may_end(&self, conversation: &ConversationKey, term: TermNumber) -> bool {
        self.has(conversation, term).is_some()
    }

    /// Releases a term, which `rows` say is the newest.
    pub(crate) fn release(
        &self,
        rows: &impl Rows,
        conversation: &ConversationKey,
        term: TermNumber,
    ) -> Result<Option<Release>, StoreError> {
        let head = head(rows, conversation)?.filter(|head| head.term == term && head.owner.is_some());
        let (Some(head), Some(_)) = (head, self.has(conversation, term)) else { return Ok(None) };
        lock(&self.terms).insert(conversation.clone(), HandedOut { term, released: true });
        Ok(Some(Release { term, end: head.end }))
    }

    /// Records the head with which the next term begins.
    pub(super) fn note_begun(&self, conversation: &ConversationKey, head: &HeadRow) {
        lock(&self.lives.begun).insert(conversation.clone(), head.clone());
    }

    /// The head as this process is sure to see it: while another process has the term, progress in it may be invisible.
    pub(super) fn seen(&self, conversation: &ConversationKey, head: HeadRow) -> HeadRow {
        let is_elsewhere = head.owner.as_ref().is_some_and(|owner| !self.owns(owner));
        let begun =
            lock(&self.lives.begun).get(conversation).filter(|begun| is_elsewhere && begun.term == head.term).cloned();
        begun.unwrap_or(head)
    }

    /// The last entry whose effects this process is sure to see.
    pub(super) fn sees_upto(&self, rows: &impl Rows, conversation: &ConversationKey) -> Result<Seq, StoreError> {
        let head = head(rows, conversation)?;
        Ok(head.map_or(Seq::ZERO, |head| self.seen(conversation, head).end))
    }
}

fn head(rows: &impl Rows, conversation: &ConversationKey) -> Result<Option<HeadRow>, StoreError> {
    let key = keys::head(conversation);
    rows.get(key.as_bytes())?.map(|value| values::decode(&key, value.as_ref())).transpose()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
