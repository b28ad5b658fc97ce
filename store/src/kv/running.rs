//! The running terms, for an engine whose rows no other process changes. It answers whether a term still runs without a
//! read, which is needed for every query of a client about an active conversation.
//!
//! Owns the newest running term of each conversation. It may be ahead of the rows, and report a term as over whose
//! successor then fails to begin; it never reports a term as running that is over.

use crate::{ConversationKey, TermNumber};
use hashbrown::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the file's comment.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<HashMap<ConversationKey, TermNumber>>);

impl Running {
    fn terms(&self) -> MutexGuard<'_, HashMap<ConversationKey, TermNumber>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called when a term begins, before the rows show it.
    pub(super) fn begin(&self, conversation: &ConversationKey, term: TermNumber) {
        self.terms().insert(conversation.clone(), term);
    }

    /// Called when a term ends: the rows tell from now on.
    pub(super) fn end(&self, conversation: &ConversationKey) {
        self.terms().remove(conversation);
    }

    /// Whether this term runs; `None` if the rows have to tell.
    pub(super) fn runs(&self, conversation: &ConversationKey, term: TermNumber) -> Option<bool> {
        self.terms().get(conversation).map(|newest| *newest == term)
    }
}
