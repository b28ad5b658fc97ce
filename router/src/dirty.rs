//! Inbox changes at a home that wait to be written: one per user and conversation; later changes are merged into it.
//!
//! Each shard of `users.rs` has its own set, under the shard's lock, and a user's entry there says which place in it is
//! theirs. It counts its bytes; the limit is enforced elsewhere.

use crate::envelope::{Deliver, Note, UserNote};
use smallvec::SmallVec;
use switchboard_protocol::{ConversationId, Seq, TenantId, UserId};
use switchboard_store::{InboxChange, UserKey};

/// The bytes that a change counts for besides its ids: itself, its share of a preview and an outline, its user's place.
const CHANGE_BYTES: usize = size_of::<UserKey>() + size_of::<InboxChange>() + 512;

/// One user's changes, in the order in which the conversations last changed. Most have one.
pub(crate) type Changes = SmallVec<[InboxChange; 1]>;

/// In the order of the users' first changes: so the next message to the same users finds them one after the other.
#[derive(Default)]
pub(crate) struct Dirty(Vec<(UserKey, Changes)>);

/// Where a user's changes are, until they are taken.
#[derive(Clone, Copy)]
pub(crate) struct Place(u32);

/// The bytes that a waiting change counts for.
pub(crate) fn weight(tenant: &TenantId, user: &UserId, change: &InboxChange) -> usize {
    CHANGE_BYTES + tenant.as_str().len() + user.as_str().len() + change.conversation.as_str().len()
}

impl Dirty {
    /// Adds a change as the newest, merged with an earlier one of the same conversation: `sync` returns the newest
    /// first, and the store numbers changes in the order of writing. `place` is made for the first one of `user`. Returns
    /// whether it is one more.
    pub(crate) fn note(
        &mut self,
        place: &mut Option<Place>,
        user: impl FnOnce() -> UserKey,
        change: &InboxChange,
    ) -> bool {
        let at = place.get_or_insert_with(|| {
            self.0.push((user(), Changes::new()));
            Place(self.0.len() as u32 - 1)
        });
        let waiting = &mut self.0[at.0 as usize].1;
        let earlier = waiting.iter().position(|waiting| waiting.conversation == change.conversation);
        match earlier {
            Some(at) => {
                merge(&mut waiting[at], change);
                waiting[at..].rotate_left(1);
            }
            None => waiting.push(change.clone()),
        }
        earlier.is_none()
    }

    /// Takes everything. No place is valid any more.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = (UserKey, Changes)> {
        self.0.drain(..)
    }

    /// The waiting changes of one user.
    pub(crate) fn at(&self, place: Place) -> &[InboxChange] {
        &self.0[place.0 as usize].1
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
fn merge(into: &mut InboxChange, newer: &InboxChange) {
    let last_seq = |change: &InboxChange| change.last.as_ref().map(|last| last.last_seq);
    if newer.last.is_some() && last_seq(newer) >= last_seq(into) {
        into.last.clone_from(&newer.last);
    }
    into.mentioned_seq = into.mentioned_seq.max(newer.mentioned_seq);
    into.read = into.read.max(newer.read);
    into.membership = into.membership.max(newer.membership);
    let number = |change: &InboxChange| change.settings.as_ref().map(|(number, _)| *number);
    if number(newer) > number(into) {
        into.settings.clone_from(&newer.settings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_wait_in_the_order_in_which_their_conversations_last_changed() {
        let alice = || UserKey { tenant: "t".parse().unwrap(), user: "alice".parse().unwrap() };
        let (mut dirty, mut place) = (Dirty::default(), None);
        let ids = ["g:c", "g:a", "g:b", "g:a"];
        let are_more = ids.map(|id| dirty.note(&mut place, alice, &empty_change(&id.parse().unwrap())));
        assert_eq!(are_more, [true, true, true, false]);
        let ids = |changes: &[InboxChange]| -> Vec<String> {
            changes.iter().map(|change| change.conversation.to_string()).collect()
        };
        assert_eq!(ids(dirty.at(place.unwrap())), ["g:c", "g:b", "g:a"]);
        let taken: Vec<_> = dirty.take().map(|(user, changes)| (user, ids(&changes))).collect();
        assert_eq!(taken, [(alice(), ["g:c", "g:b", "g:a"].map(str::to_owned).to_vec())]);
        assert_eq!(dirty.users(), 0);
    }
}
