//! Which terms run, for an engine whose rows no other process changes. So the question whether a term still runs needs
//! no read; it is asked for each question that a client asks about an active conversation.
//!
//! Owns a table of the newest term of each conversation with a running one. It may be ahead of the rows, and say that a
//! term is over whose successor fails to begin; it never says that a term runs which is over.

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

    /// A term is being begun: called before it can be seen in the rows.
    pub(super) fn begin(&self, conversation: &ConversationKey, term: TermNumber) {
        self.terms().insert(conversation.clone(), term);
    }

    /// A term is being ended: the rows tell from now on.
    pub(super) fn end(&self, conversation: &ConversationKey) {
        self.terms().remove(conversation);
    }

    /// Whether this term runs; `None` if the rows have to tell.
    pub(super) fn runs(&self, conversation: &ConversationKey, term: TermNumber) -> Option<bool> {
        self.terms().get(conversation).map(|newest| *newest == term)
    }
}
