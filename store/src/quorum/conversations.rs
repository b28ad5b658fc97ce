//! The conversations that have a term in this process, or for which one is being begun.
//!
//! Owns their map. An entry lives as long as it has a term or somebody holds it, so the map is bounded by the number of
//! conversations that this node owns.

use super::term::Term;
use crate::{ConversationKey, TermNumber};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct Conversations(Mutex<HashMap<ConversationKey, Arc<Conversation>>>);

#[derive(Default)]
pub(super) struct Conversation {
    /// Held while a term is begun: two begins at once in one process would each take the other's term for its own.
    pub(super) beginning: tokio::sync::Mutex<()>,
    /// The newest term that was handed out here. Once it is over, it still says how far it got.
    term: Mutex<Option<Arc<Term>>>,
}

impl Conversation {
    fn slot(&self) -> MutexGuard<'_, Option<Arc<Term>>> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn term(&self) -> Option<Arc<Term>> {
        self.slot().clone()
    }

    pub(super) fn put(&self, term: Term) {
        *self.slot() = Some(Arc::new(term));
    }
}

impl Conversations {
    fn map(&self) -> MutexGuard<'_, HashMap<ConversationKey, Arc<Conversation>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a conversation in the map for the lifetime of the returned guard.
    pub(super) fn hold<'a>(&'a self, key: &'a ConversationKey) -> Held<'a> {
        let conversation = self.map().entry(key.clone()).or_default().clone();
        Held { all: self, key, conversation }
    }

    pub(super) fn term(&self, key: &ConversationKey) -> Option<Arc<Term>> {
        self.map().get(key).and_then(|conversation| conversation.term())
    }

    /// Forgets a term that is over. The next begin here finds out from the store how far it got.
    pub(super) fn forget(&self, key: &ConversationKey, number: TermNumber) {
        let held = self.hold(key);
        held.slot().take_if(|term| term.number == number);
    }

    /// Ordered by key, so that a simulation is deterministic.
    pub(super) fn terms(&self) -> Vec<(ConversationKey, Arc<Term>)> {
        let terms =
            |(key, conversation): (&ConversationKey, &Arc<Conversation>)| Some((key.clone(), conversation.term()?));
        let mut terms: Vec<_> = self.map().iter().filter_map(terms).collect();
        terms.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        terms
    }
}

pub(super) struct Held<'a> {
    all: &'a Conversations,
    key: &'a ConversationKey,
    conversation: Arc<Conversation>,
}

impl Deref for Held<'_> {
    type Target = Conversation;

    fn deref(&self) -> &Conversation {
        &self.conversation
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut map = self.all.map();
        // The map's and this one: while the map is locked, nobody else can acquire it.
        if Arc::strong_count(&self.conversation) == 2 && self.conversation.slot().is_none() {
            map.remove(self.key);
        }
    }
}
