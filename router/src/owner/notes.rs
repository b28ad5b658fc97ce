//! The notes that go with an announcement: what it changes in the inboxes of its users, and the messages that push has to decide
//! about. Pure functions of the log and the announced entries.

use super::log::Log;
use super::pipeline::Pending;
use crate::envelope::{Note, UserNote};
use crate::push::{Again, News};
use std::collections::BTreeSet;
use std::sync::Arc;
use switchboard_protocol::{EntryFrame, Seq, UserId};
use switchboard_store::Cursor;

/// An entry's changes to the inboxes of single users.
pub(super) fn user_notes(pending: &Pending) -> Vec<UserNote> {
    let entry = &pending.draft.entry;
    let note = empty_note;
    match &entry.frame {
        EntryFrame::Message(message) => {
            let sender = UserNote { read: Some((entry.seq, entry.messages)), ..note(&message.from) };
            let mentioned =
                pending.draft.mentioned.iter().map(|user| UserNote { mentioned_seq: entry.seq, ..note(user) });
            std::iter::once(sender).chain(mentioned).collect()
        }
        EntryFrame::Membership(membership) => {
            let added = membership.added.iter().map(|user| UserNote {
                read: Some((entry.seq, entry.messages)),
                membership: Some((entry.seq, true)),
                ..note(user)
            });
            let removed =
                membership.removed.iter().map(|user| UserNote { membership: Some((entry.seq, false)), ..note(user) });
            added.chain(removed).collect()
        }
        _ => Vec::new(),
    }
}

/// A note that changes nothing.
pub(super) fn empty_note(user: &UserId) -> UserNote {
    UserNote { user: user.clone(), mentioned_seq: Seq::ZERO, read: None, membership: None, delivered: Seq::ZERO }
}

/// The messages among these entries.
pub(super) fn news(log: &Log, pending: &[Pending]) -> Option<Arc<News>> {
    let message = |pending: &Pending| match &pending.draft.entry.frame {
        EntryFrame::Message(message) => Some((message.seq, message.from.clone())),
        _ => None,
    };
    let messages: Vec<_> = pending.iter().filter_map(message).collect();
    (!messages.is_empty()).then(|| Arc::new(News { is_direct: log.is_direct(), messages, again: None }))
}

/// The newest message, for users whom it has not reached.
pub(super) fn newest(log: &Log, only_mentioned: bool) -> Option<Arc<News>> {
    let newest = log.preview.as_ref()?;
    let again = Some(Again { messages: log.durable_messages, at: newest.timestamp, only_mentioned });
    Some(Arc::new(News { is_direct: log.is_direct(), messages: vec![(newest.seq, newest.from.clone())], again }))
}

/// Everything that a member's inbox row keeps.
pub(super) fn member_note(log: &Log, user: &UserId) -> Option<UserNote> {
    let member = log.members.get(user)?;
    let Cursor { read_seq, read_messages, .. } = member.cursor;
    Some(UserNote {
        user: user.clone(),
        mentioned_seq: member.cursor.mentioned_seq,
        read: Some((read_seq, read_messages)),
        membership: (member.joined_seq > Seq::ZERO).then_some((member.joined_seq, true)),
        delivered: member.cursor.delivered_seq,
    })
}

pub(super) fn removed_note(log: &Log, user: &UserId) -> Option<UserNote> {
    let membership = Some((*log.removed.get(user)?, false));
    Some(UserNote { membership, ..empty_note(user) })
}

/// The part of a note that is about these users.
pub(super) fn part_of(note: &Note, users: &[UserId]) -> Note {
    // A note is about few users, and there may be very many.
    let noted: BTreeSet<&UserId> = note.users.iter().map(|about| &about.user).collect();
    let here: BTreeSet<&UserId> = users.iter().filter(|user| noted.contains(user)).collect();
    let concerns = |about: &&UserNote| here.contains(&about.user);
    let users = note.users.iter().filter(concerns).cloned().collect();
    Note { last: note.last.clone(), users, news: note.news.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_note_is_all_that_is_noted_of_its_users() {
        let user = |name: &str| -> UserId { name.parse().unwrap() };
        let about = |name, seq| UserNote { mentioned_seq: Seq::new(seq), ..empty_note(&user(name)) };
        let users = vec![about("b", 1), about("x", 2), about("a", 3), about("b", 4)];
        let part = part_of(&Note { last: None, users, news: None }, &["a", "b", "c"].map(user));
        let noted = part.users.iter().map(|about| (about.user.as_str(), about.mentioned_seq.get()));
        assert_eq!(noted.collect::<Vec<_>>(), [("b", 1), ("a", 3), ("b", 4)]);
    }
}
