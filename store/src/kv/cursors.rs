//! Receipt cursors: they are part of the member's row and only grow.

use super::{Rows, Transaction, keys};
use crate::{ConversationKey, Cursor, Member, StoreError};
use switchboard_protocol::{Seq, UserId};

impl Cursor {
    /// Takes over the larger values. Returns whether any was larger.
    pub(crate) fn raise(&mut self, other: &Self) -> bool {
        let before = *self;
        self.delivered_seq = self.delivered_seq.max(other.delivered_seq);
        if other.read_seq > self.read_seq {
            self.read_seq = other.read_seq;
            self.read_messages = other.read_messages;
        }
        self.mentioned_seq = self.mentioned_seq.max(other.mentioned_seq);
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
        let Some(mut member) = tx.get::<Member>(&key)? else { continue };
        // The user may have been removed and added again since: only mentions after that count.
        let counts = cursor.mentioned_seq > member.joined_seq;
        let mentioned_seq = if counts { cursor.mentioned_seq } else { Seq::ZERO };
        if member.cursor.raise(&Cursor { mentioned_seq, ..*cursor }) {
            tx.put(key, &member)?;
        }
    }
    Ok(())
}
