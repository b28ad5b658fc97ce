//! The projections of the log: the rows of members, messages and conversations, which could be made again by folding
//! it. They change in the same batch as the log.

use super::keys::{self, Key};
use super::values::{HeadRow, MessageChangeRow};
use super::{Rows, Transaction};
use crate::{ConversationKey, Cursor, Entry, Kind, Member, NewConversation, Preview, StoreError};
use switchboard_protocol::server::{ConversationUpdated, Membership, Message, MessageUpdated, Reaction};
use switchboard_protocol::{EntryFrame, Role, Seq, UserId};

/// A new conversation's head, before its first term. A direct one has its members from the start.
pub(super) fn create<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    new: &NewConversation,
) -> Result<HeadRow, StoreError> {
    let mut head = HeadRow::new(new);
    if let Kind::Direct(one, other) = &new.kind {
        for user in [one, other] {
            let member = Member {
                role: Role::Member,
                joined_at: new.created_at,
                joined_seq: Seq::ZERO,
                cursor: Cursor::default(),
            };
            tx.put(keys::member(conversation, user), &member)?;
            head.meta.members_count += 1;
        }
    }
    Ok(head)
}

/// Updates the rows beside the log to `entry`; `head.end` and `head.messages` are already updated. What `next`, of the
/// same append, also changes may be left to it.
pub(super) fn apply<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    head: &mut HeadRow,
    entry: &Entry,
    next: Option<&Entry>,
) -> Result<(), StoreError> {
    match &entry.frame {
        EntryFrame::Message(message) => {
            let next = next.and_then(|next| match &next.frame {
                EntryFrame::Message(next) => Some(next),
                _ => None,
            });
            on_message(tx, conversation, head, message, next)
        }
        EntryFrame::MessageUpdated(update) => on_message_updated(tx, conversation, head, update),
        EntryFrame::Reaction(reaction) => {
            on_reaction(tx, conversation, reaction);
            Ok(())
        }
        EntryFrame::Membership(membership) => on_membership(tx, conversation, head, membership),
        EntryFrame::ConversationUpdated(update) => {
            on_conversation_updated(head, update);
            Ok(())
        }
    }
}

impl Preview {
    /// The preview of a message as it was sent.
    pub(crate) fn of(message: &Message) -> Self {
        Self {
            seq: message.seq,
            from: message.from.clone(),
            text: message.content.preview().unwrap_or_default(),
            timestamp: message.timestamp,
        }
    }
}

fn on_message<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    head: &mut HeadRow,
    message: &Message,
    next: Option<&Message>,
) -> Result<(), StoreError> {
    if next.is_none() {
        head.last_message = Some(Preview::of(message));
    }
    if next.is_some_and(|next| next.from == message.from) {
        return Ok(());
    }
    // A send moves the sender's own cursor (PROTOCOL §3, "Receipts and unread").
    let sender = keys::member(conversation, &message.from);
    if let Some(mut member) = tx.get::<Member>(&sender)? {
        let (seq, read_messages) = (message.seq, head.messages);
        let own = Cursor { delivered_seq: seq, read_seq: seq, read_messages, ..Cursor::default() };
        if member.cursor.raise(&own) {
            tx.put(sender, &member)?;
        }
    }
    Ok(())
}

fn on_message_updated<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    head: &mut HeadRow,
    update: &MessageUpdated,
) -> Result<(), StoreError> {
    let key = keys::message_change(conversation, update.target_seq);
    let mut change = tx.get::<MessageChangeRow>(&key)?.unwrap_or_default();
    if update.deleted {
        // A deleted message loses its edits too.
        change = MessageChangeRow { edited: None, deleted: true };
    } else if let (Some(content), false) = (&update.content, change.deleted) {
        change.edited = Some((content.clone(), update.timestamp));
    }
    if let Some(preview) = head.last_message.as_mut().filter(|preview| preview.seq == update.target_seq) {
        let content = change.edited.as_ref().map(|(content, _)| content);
        preview.text = content.and_then(switchboard_protocol::Content::preview).unwrap_or_default();
    }
    tx.put(key, &change)
}

fn on_reaction<R: Rows>(tx: &mut Transaction<'_, R>, conversation: &ConversationKey, reaction: &Reaction) {
    let key = keys::reaction(conversation, reaction.target_seq, &reaction.emoji, &reaction.user_id);
    if reaction.added {
        tx.put_bytes(key, reaction.seq.get().to_be_bytes().to_vec());
    } else {
        tx.remove(key);
    }
}

fn on_membership<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    head: &mut HeadRow,
    membership: &Membership,
) -> Result<(), StoreError> {
    for user in &membership.added {
        if tx.get::<Member>(&keys::member(conversation, user))?.is_none() {
            let (seq, read_messages) = (membership.seq, head.messages);
            let at_the_end = Cursor { delivered_seq: seq, read_seq: seq, read_messages, ..Cursor::default() };
            let member = Member {
                role: Role::Member,
                joined_at: membership.timestamp,
                joined_seq: membership.seq,
                cursor: at_the_end,
            };
            tx.put(keys::member(conversation, user), &member)?;
            head.meta.members_count += 1;
        }
    }
    for (user, role) in &membership.roles {
        set_role(tx, keys::member(conversation, user), *role)?;
    }
    for user in &membership.removed {
        remove_member(tx, conversation, head, user)?;
    }
    Ok(())
}

fn set_role<R: Rows>(tx: &mut Transaction<'_, R>, key: Key, role: Role) -> Result<(), StoreError> {
    match tx.get::<Member>(&key)? {
        Some(member) => tx.put(key, &Member { role, ..member }),
        None => Ok(()),
    }
}

fn remove_member<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    head: &mut HeadRow,
    user: &UserId,
) -> Result<(), StoreError> {
    let key = keys::member(conversation, user);
    if tx.get::<Member>(&key)?.is_some() {
        tx.remove(key);
        head.meta.members_count = head.meta.members_count.saturating_sub(1);
    }
    Ok(())
}

fn on_conversation_updated(head: &mut HeadRow, update: &ConversationUpdated) {
    if let Some(title) = &update.title {
        head.meta.title = Some(title.clone());
    }
    if let Some(custom) = &update.custom {
        head.meta.custom = Some(custom.clone());
    }
}
