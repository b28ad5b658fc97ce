//! Inbox changes at a home that wait to be written: one per user and conversation; later changes are merged into it.
//!
//! Each shard of `users.rs` has its own set, under the shard's lock. It counts its bytes; the limit is enforced
//! elsewhere.

use crate::envelope::{Deliver, Note, UserNote};
use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};
use switchboard_protocol::{ConversationId, Seq, UserId};
use switchboard_store::{InboxChange, UserKey};

/// The bytes that a change counts for besides its ids: itself, its share of a preview and an outline, its entry in the
/// map.
const CHANGE_BYTES: usize = size_of::<UserKey>() + size_of::<InboxChange>() + 512;

/// One user's changes, in the order in which the conversations last changed. Most have one.
type Changes = SmallVec<[InboxChange; 1]>;

/// See the file's comment.
#[derive(Default)]
pub(crate) struct Dirty(HashMap<UserKey, Changes>);

/// The bytes that a waiting change counts for.
pub(crate) fn weight(user: &UserKey, change: &InboxChange) -> usize {
    CHANGE_BYTES + user.tenant.as_str().len() + user.user.as_str().len() + change.conversation.as_str().len()
}

impl Dirty {
    /// Adds a change as the newest, merged with an earlier one of the same conversation: `sync` returns the newest
    /// first, and the store numbers changes in the order of writing. Returns by how many bytes the total grows.
    pub(crate) fn note(&mut self, user: &UserKey, change: InboxChange) -> usize {
        let weight = weight(user, &change);
        // A look-up first, so that the key is only cloned for a new user.
        let Some(waiting) = self.0.get_mut(user) else {
            self.0.insert(user.clone(), smallvec![change]);
            return weight;
        };
        match waiting.iter().position(|waiting| waiting.conversation == change.conversation) {
            Some(at) => {
                merge(&mut waiting[at], change);
                waiting[at..].rotate_left(1);
                0
            }
            None => {
                waiting.push(change);
                weight
            }
        }
    }

    /// Takes everything, each user's changes in their order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (UserKey, InboxChange)> {
        self.0.drain().flat_map(|(user, changes)| changes.into_iter().map(move |change| (user.clone(), change)))
    }

    /// The waiting changes of one user.
    pub(crate) fn of(&self, user: &UserKey) -> &[InboxChange] {
        self.0.get(user).map_or(&[], |changes| changes)
    }

    /// The number of users with waiting changes.
    pub(crate) fn users(&self) -> usize {
        self.0.len()
    }
}

/// A delivery's change for each of its users.
pub(crate) fn change_for_all(deliver: &Deliver, note: &Note) -> InboxChange {
    InboxChange { last: note.last.clone(), ..empty_change(&deliver.conversation.conversation) }
}

/// A delivery's changes for single users.
pub(crate) fn changes_for_some(deliver: &Deliver, note: &Note) -> impl Iterator<Item = (UserId, InboxChange)> {
    note.users.iter().map(|about| {
        let UserNote { user, mentioned_seq, read, membership, delivered: _ } = about.clone();
        let change = empty_change(&deliver.conversation.conversation);
        (user, InboxChange { mentioned_seq, read, membership, ..change })
    })
}

/// A change that changes nothing.
pub(crate) fn empty_change(conversation: &ConversationId) -> InboxChange {
    InboxChange {
        conversation: conversation.clone(),
        last: None,
        mentioned_seq: Seq::ZERO,
        read: None,
        membership: None,
        settings: None,
    }
}

/// Merges two changes: the newer value of each part, as the store does.
fn merge(into: &mut InboxChange, newer: InboxChange) {
    if newer.last.as_ref().map(|last| last.last_seq) >= into.last.as_ref().map(|last| last.last_seq) {
        into.last = newer.last.or(into.last.take());
    }
    into.mentioned_seq = into.mentioned_seq.max(newer.mentioned_seq);
    into.read = into.read.max(newer.read);
    into.membership = into.membership.max(newer.membership);
    if newer.settings.as_ref().map(|(number, _)| *number) > into.settings.as_ref().map(|(number, _)| *number) {
        into.settings = newer.settings;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_wait_in_the_order_in_which_their_conversations_last_changed() {
        let alice = UserKey { tenant: "t".parse().unwrap(), user: "alice".parse().unwrap() };
        let mut dirty = Dirty::default();
        let mut weighs = 0;
        for id in ["g:c", "g:a", "g:b", "g:a"] {
            weighs += dirty.note(&alice, empty_change(&id.parse().unwrap()));
        }
        let ids = |changes: &[InboxChange]| -> Vec<String> {
            changes.iter().map(|change| change.conversation.to_string()).collect()
        };
        assert_eq!(ids(dirty.of(&alice)), ["g:c", "g:b", "g:a"]);
        let taken: Vec<_> = dirty.take().collect();
        assert_eq!(weighs, taken.iter().map(|(user, change)| weight(user, change)).sum::<usize>());
        let taken: Vec<_> = taken.into_iter().map(|(_, change)| change).collect();
        assert_eq!(ids(&taken), ["g:c", "g:b", "g:a"]);
        assert_eq!(dirty.users(), 0);
    }
}
