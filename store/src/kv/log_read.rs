//! Reading logs, and the rows beside them.

use super::keys::{self, StateKey, Table};
use super::values::{self, HeadRow, MessageChangeRow};
use super::{Process, Rows};
use crate::{
    ConversationKey, Head, HistoryPage, HistoryRange, Incarnation, Member, MessageState, ReactionState, StoreError,
    StoredEntry, StoredMessage,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::iter::Peekable;
use switchboard_protocol::server::Budget;
use switchboard_protocol::{Seq, UserId};

pub(super) fn head(
    rows: &impl Rows,
    conversation: &ConversationKey,
    process: Option<&Process>,
) -> Result<Option<Head>, StoreError> {
    let key = keys::head(conversation);
    let Some(value) = rows.get(key.as_bytes())? else { return Ok(None) };
    let row: HeadRow = values::decode(&key, value.as_ref())?;
    let row = match process {
        Some(process) => process.seen(conversation, row),
        None => row,
    };
    Ok(Some(Head {
        term: row.term,
        end: row.end,
        messages: row.messages,
        meta: row.meta,
        last_message: row.last_message,
        ended: row.owner.is_none(),
    }))
}

pub(super) fn member(
    rows: &impl Rows,
    conversation: &ConversationKey,
    user: &UserId,
    process: Option<&Process>,
) -> Result<Option<Member>, StoreError> {
    let key = keys::member(conversation, user);
    let member = rows.get(key.as_bytes())?.map(|value| values::decode(&key, value.as_ref())).transpose()?;
    let upto = process.map(|process| process.sees_upto(rows, conversation)).transpose()?;
    Ok(member.filter(|member| is_shown(member, upto)))
}

pub(super) fn members(
    rows: &impl Rows,
    conversation: &ConversationKey,
    process: Option<&Process>,
) -> Result<Vec<(UserId, Member)>, StoreError> {
    let all = rows.range(keys::members(conversation).prefixed());
    let members = all.map(|row| {
        let (key, value) = row?;
        Ok((keys::parse_last_user(key.as_ref())?, values::decode_at(key.as_ref(), value.as_ref())?))
    });
    let members = members.collect::<Result<Vec<(UserId, Member)>, StoreError>>()?;
    let upto = process.map(|process| process.sees_upto(rows, conversation)).transpose()?;
    Ok(members.into_iter().filter(|(_, member)| is_shown(member, upto)).collect())
}

/// While another process has the conversation, users added since its term began are not shown.
fn is_shown(member: &Member, upto: Option<Seq>) -> bool {
    upto.is_none_or(|upto| member.joined_seq <= upto)
}

pub(super) fn read(
    rows: &impl Rows,
    conversation: &ConversationKey,
    after: Seq,
    end: Seq,
    limit: usize,
    bytes_max: usize,
) -> Result<Vec<StoredEntry>, StoreError> {
    let mut budget = Budget::new(bytes_max);
    let mut page: Vec<StoredEntry> = Vec::new();
    for entry in from(rows, conversation, after).take(limit) {
        let StoredIn { entry, .. } = entry?;
        // Only a gap inside the page matters: entries missing before the first one have expired.
        if let Some(expected) = page.last().map(|last| last.seq.next()).filter(|expected| *expected != entry.seq) {
            return Err(StoreError::Unreadable { what: format!("{conversation:?}: no entry {expected} in its log") });
        }
        if entry.seq > end || !budget.take(entry.json.len()) {
            break;
        }
        page.push(entry);
    }
    Ok(page)
}

/// An entry and the table that it is in.
pub(super) struct StoredIn {
    pub(super) table: Table,
    pub(super) entry: StoredEntry,
}

/// The log's entries after `after`, ascending.
pub(super) fn from<R: Rows>(
    rows: &R,
    conversation: &ConversationKey,
    after: Seq,
) -> impl Iterator<Item = Result<StoredIn, StoreError>> {
    let of = |table| {
        let range = keys::entries(table, conversation, after.next(), Seq::new(u64::MAX));
        rows.range(range).map(move |row| Ok(StoredIn { table, entry: stored_entry(row)? })).peekable()
    };
    let (mut messages, mut others) = (of(Table::Message), of(Table::Entry));
    std::iter::from_fn(move || next_of(&mut messages, &mut others))
}

fn stored_entry<B: AsRef<[u8]>>(row: Result<(B, B), StoreError>) -> Result<StoredEntry, StoreError> {
    let (key, value) = row?;
    let (messages, json) = values::decode_entry(key.as_ref(), value.as_ref())?;
    Ok(StoredEntry { seq: keys::parse_seq(key.as_ref())?, messages, json: Bytes::copy_from_slice(json) })
}

/// Merges two ascending lists; errors come first.
fn next_of<I>(one: &mut Peekable<I>, other: &mut Peekable<I>) -> Option<I::Item>
where
    I: Iterator<Item = Result<StoredIn, StoreError>>,
{
    let seq = |head: &Result<StoredIn, StoreError>| head.as_ref().map_or(Seq::ZERO, |head| head.entry.seq);
    match (one.peek().map(seq), other.peek().map(seq)) {
        (Some(a), Some(b)) if b < a => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    }
}

pub(super) fn history(
    rows: &impl Rows,
    conversation: &ConversationKey,
    range: HistoryRange,
    end: Seq,
    limit: usize,
    bytes_max: usize,
) -> Result<HistoryPage, StoreError> {
    let before = |seq: Seq| Seq::new(seq.get().saturating_sub(1));
    // The states are as of this snapshot, so the page is too.
    let end = head(rows, conversation, None)?.map_or(end, |head| head.end.max(end));
    let (first, last) = match range {
        HistoryRange::Before(seq) => (Seq::ZERO, before(seq).min(end)),
        HistoryRange::After(seq) => (seq.next(), end),
        HistoryRange::Newest => (Seq::ZERO, end),
    };
    let found = rows.range(keys::entries(Table::Message, conversation, first, last));
    let (mut messages, more) = if matches!(range, HistoryRange::After(_)) {
        page_of(found, limit, bytes_max)?
    } else {
        let (mut newest_first, more) = page_of(found.rev(), limit, bytes_max)?;
        newest_first.reverse();
        (newest_first, more)
    };
    if let [first, .., last] | [first @ last] = messages.as_slice() {
        let mut states = states(rows, conversation, first.seq, last.seq)?;
        for message in &mut messages {
            message.state = states.remove(&message.seq).map(Box::new);
        }
    }
    Ok(HistoryPage { messages, more, end })
}

/// The first messages of `found`, and whether there are more.
fn page_of<B: AsRef<[u8]>>(
    found: impl Iterator<Item = Result<(B, B), StoreError>>,
    limit: usize,
    bytes_max: usize,
) -> Result<(Vec<StoredMessage>, bool), StoreError> {
    let mut budget = Budget::new(bytes_max);
    let mut page = Vec::new();
    for row in found {
        let entry = stored_entry(row)?;
        if page.len() == limit || !budget.take(entry.json.len()) {
            return Ok((page, true));
        }
        page.push(StoredMessage { seq: entry.seq, json: entry.json, state: None });
    }
    Ok((page, false))
}

pub(super) fn message(
    rows: &impl Rows,
    conversation: &ConversationKey,
    seq: Seq,
) -> Result<Option<StoredMessage>, StoreError> {
    let key = keys::entry(Table::Message, conversation, seq);
    let Some(value) = rows.get(key.as_bytes())? else { return Ok(None) };
    let (_, json) = values::decode_entry(key.as_bytes(), value.as_ref())?;
    let state = states(rows, conversation, seq, seq)?.remove(&seq).map(Box::new);
    Ok(Some(StoredMessage { seq, json: Bytes::copy_from_slice(json), state }))
}

/// The states of the messages from `first` to `last`; unchanged messages are left out.
fn states(
    rows: &impl Rows,
    conversation: &ConversationKey,
    first: Seq,
    last: Seq,
) -> Result<BTreeMap<Seq, MessageState>, StoreError> {
    let mut states: BTreeMap<Seq, MessageState> = BTreeMap::new();
    // The rows of an emoji are adjacent; the seq of its oldest reaction is the sort key.
    let mut oldest: BTreeMap<(Seq, String), u64> = BTreeMap::new();
    for row in rows.range(keys::states(conversation, first, last)) {
        let (key, value) = row?;
        match keys::parse_state(key.as_ref())? {
            StateKey::Change(target) => {
                let change: MessageChangeRow = values::decode_at(key.as_ref(), value.as_ref())?;
                let state = states.entry(target).or_default();
                state.edited = change.edited;
                state.deleted = change.deleted;
            }
            StateKey::Reaction { target, emoji, user } => {
                let at = values::decode_number(key.as_ref(), value.as_ref())?;
                add_reaction(states.entry(target).or_default(), &emoji, user);
                oldest.entry((target, emoji)).and_modify(|oldest| *oldest = at.min(*oldest)).or_insert(at);
            }
        }
    }
    for (target, state) in &mut states {
        state.reactions.sort_by_cached_key(|reaction| oldest.get(&(*target, reaction.emoji.clone())).copied());
    }
    Ok(states)
}

fn add_reaction(state: &mut MessageState, emoji: &str, user: UserId) {
    match state.reactions.last_mut() {
        Some(reaction) if reaction.emoji == emoji => reaction.users.push(user),
        _ => state.reactions.push(ReactionState { emoji: emoji.to_owned(), users: vec![user] }),
    }
}

pub(super) fn active(
    rows: &impl Rows,
    living: &[Incarnation],
) -> Result<Vec<(Incarnation, ConversationKey)>, StoreError> {
    let notes = rows.range(keys::all_active().prefixed()).map(|row| keys::parse_active(row?.0.as_ref()));
    notes.filter(|note| note.as_ref().map_or(true, |(owner, _)| !living.contains(owner))).collect()
}
