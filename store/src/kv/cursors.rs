//! Receipt cursors: they stand in their member's row and only grow.

use super::{Rows, Transaction, keys};
use crate::{ConversationKey, Cursor, Member, StoreError};
use switchboard_protocol::UserId;

impl Cursor {
    /// Takes over what is larger; says whether anything was.
    pub(super) fn raise(&mut self, other: &Self) -> bool {
        let before = *self;
        self.delivered_seq = self.delivered_seq.max(other.delivered_seq);
        if other.read_seq > self.read_seq {
            self.read_seq = other.read_seq;
            self.read_messages = other.read_messages;
        }
        *self != before
    }
}

pub(super) fn put<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    cursors: &[(UserId, Cursor)],
) -> Result<(), StoreError> {
    for (user, cursor) in cursors {
        let key = keys::member(conversation, user);
        if let Some(mut member) = tx.get::<Member>(&key)?
            && member.cursor.raise(cursor)
        {
            tx.put(key, &member)?;
        }
    }
    Ok(())
}
