//! Beginning and ending terms, and appending to logs.

use super::keys::{self, Table};
use super::projections;
use super::values::{self, HeadRow};
use super::{Process, Rows, Transaction};
use crate::{Appended, Claim, ConversationKey, Entry, Incarnation, NewConversation, StoreError, TermNumber};
use switchboard_protocol::{EntryFrame, Seq};

/// A term that has begun.
pub(super) struct BegunTerm {
    pub(super) head: HeadRow,
    /// Whether the previous term was not ended.
    pub(super) untold: bool,
}

/// `None` if there is no such conversation.
pub(super) fn begin_term<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    claim: &Claim,
    process: Option<&Process>,
) -> Result<Option<BegunTerm>, StoreError> {
    let by = &claim.by;
    process.map_or(Ok(()), |process| process.register(by))?;
    let mut head = match (tx.get::<HeadRow>(&keys::head(conversation))?, &claim.create) {
        (Some(head), _) => head,
        (None, Some(new)) => projections::create(tx, conversation, new)?,
        (None, None) => return Ok(None),
    };
    let untold = head.owner.is_some();
    if let (Some(process), Some(owner)) = (process, &head.owner) {
        process.may_take(owner, &head, &claim.previous)?;
    }
    // The note moves with the term: nothing is left to be taken over from the old owner.
    if let Some(old) = head.owner.as_ref().filter(|old| *old != by) {
        tx.remove(keys::active(old, conversation));
    }
    tx.put_bytes(keys::active(by, conversation), Vec::new());
    head.term = TermNumber(head.term.0 + 1);
    head.owner = Some(by.clone());
    tx.put(keys::head(conversation), &head)?;
    if let Some(process) = process {
        process.note_begun(conversation, &head);
    }
    Ok(Some(BegunTerm { head, untold }))
}

pub(super) fn append<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    term: TermNumber,
    entries: &[Entry],
    process: Option<&Process>,
) -> Result<Appended, StoreError> {
    let misplaced = |what: String| StoreError::Misplaced { what: format!("append to {conversation:?}: {what}") };
    let Some(mut head) = tx.get::<HeadRow>(&keys::head(conversation))? else {
        return Err(misplaced("no such conversation".to_owned()));
    };
    if term > head.term {
        return Err(misplaced(format!("term {} has not begun", term.0)));
    }
    if !runs(&head, conversation, term, process) {
        return Ok(Appended::Superseded);
    }
    let new = entries.partition_point(|entry| entry.seq <= head.end);
    let (repeated, new) = entries.split_at(new);
    for entry in repeated {
        if !is_stored(tx, conversation, entry)? {
            return Err(misplaced(format!("seq {} holds another entry", entry.seq)));
        }
    }
    for (at, entry) in new.iter().enumerate() {
        let messages = head.messages + u64::from(matches!(entry.frame, EntryFrame::Message(_)));
        if entry.seq != head.end.next() || entry.frame.seq() != entry.seq || entry.messages != messages {
            let end = head.end;
            return Err(misplaced(format!("seq {} with {} messages after {end}", entry.seq, entry.messages)));
        }
        tx.put_bytes(
            keys::entry(table_of(&entry.frame), conversation, entry.seq),
            values::encode_entry(messages, &entry.json),
        );
        head.end = entry.seq;
        head.messages = messages;
        projections::apply(tx, conversation, &mut head, entry, new.get(at + 1))?;
    }
    if !new.is_empty() {
        tx.put(keys::head(conversation), &head)?;
    }
    Ok(Appended::Durable)
}

/// Whether an append of `term` may become durable.
fn runs(head: &HeadRow, conversation: &ConversationKey, term: TermNumber, process: Option<&Process>) -> bool {
    let Some(owner) = head.owner.as_ref().filter(|_| head.term == term) else { return false };
    process.is_none_or(|process| process.may_append(conversation, owner, term))
}

/// The outcome of an empty append in `term`.
pub(super) fn append_nothing(
    rows: &impl Rows,
    conversation: &ConversationKey,
    term: TermNumber,
    process: Option<&Process>,
) -> Result<Appended, StoreError> {
    let key = keys::head(conversation);
    let head = rows.get(key.as_bytes())?.map(|value| values::decode::<HeadRow>(&key, value.as_ref())).transpose()?;
    let runs = head.is_some_and(|head| runs(&head, conversation, term, process));
    Ok(if runs { Appended::Durable } else { Appended::Superseded })
}

fn is_stored<R: Rows>(
    tx: &Transaction<'_, R>,
    conversation: &ConversationKey,
    entry: &Entry,
) -> Result<bool, StoreError> {
    let stored = tx.get_bytes(&keys::entry(table_of(&entry.frame), conversation, entry.seq))?;
    Ok(stored.is_some_and(|row| row == values::encode_entry(entry.messages, &entry.json)))
}

fn table_of(frame: &EntryFrame) -> Table {
    match frame {
        EntryFrame::Message(_) => Table::Message,
        _ => Table::Entry,
    }
}

pub(super) fn end_term<R: Rows>(
    tx: &mut Transaction<'_, R>,
    conversation: &ConversationKey,
    term: TermNumber,
    process: Option<&Process>,
) -> Result<(), StoreError> {
    let Some(mut head) = tx.get::<HeadRow>(&keys::head(conversation))? else { return Ok(()) };
    if head.term != term || process.is_some_and(|process| !process.may_end(conversation, term)) {
        return Ok(());
    }
    if let Some(owner) = head.owner.take() {
        tx.remove(keys::active(&owner, conversation));
        tx.put(keys::head(conversation), &head)?;
    }
    Ok(())
}

pub(super) fn forget_active<R: Rows>(
    tx: &mut Transaction<'_, R>,
    dead: &Incarnation,
    conversations: &[ConversationKey],
) -> Result<(), StoreError> {
    for conversation in conversations {
        let head = tx.get::<HeadRow>(&keys::head(conversation))?;
        let still_his = head.is_some_and(|head| head.owner.as_ref() == Some(dead));
        let note = keys::active(dead, conversation);
        if !still_his && tx.get_bytes(&note)?.is_some() {
            tx.remove(note);
        }
    }
    Ok(())
}

impl HeadRow {
    pub(super) fn new(new: &NewConversation) -> Self {
        Self {
            term: TermNumber(0),
            owner: None,
            end: Seq::ZERO,
            messages: 0,
            meta: crate::ConversationMeta {
                kind: new.kind.clone(),
                title: new.title.clone(),
                custom: new.custom.clone(),
                created_at: new.created_at,
                members_count: 0,
            },
            last_message: None,
        }
    }
}
