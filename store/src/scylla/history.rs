//! Messages with their current states.
//!
//! A page shows the state as of one end of the log. If the states in the table are behind that end, the entries in
//! between are folded over them; if they are ahead of it, the end moves there and the page is read again.

use super::Core;
use super::projections::{Part, Parts};
use super::scan::{Order, PAGE_ENTRIES, Scan};
use crate::kv::EntryType;
use crate::kv::values::decode_at;
use crate::quorum::Quorum as _;
use crate::{
    ConversationKey, HistoryPage, HistoryRange, MessageState, ReactionState, StoreError, StoredEntry, StoredMessage,
};
use std::collections::BTreeMap;
use switchboard_protocol::server::{Budget, Frame as _, Message};
use switchboard_protocol::{Seq, UserId};

/// How often the end may move while a page is read. It moves when projections are written, so hardly ever twice.
const ATTEMPTS_MAX: u32 = 8;

/// Limits of a page.
#[derive(Clone, Copy)]
pub(super) struct PageLimits {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Core {
    pub(super) async fn history(
        &self,
        conversation: &ConversationKey,
        range: HistoryRange,
        end: Seq,
        limits: PageLimits,
    ) -> Result<HistoryPage, StoreError> {
        let mut end = end.max(self.end_here(conversation));
        for _ in 0..ATTEMPTS_MAX {
            let Some(projected) = self.read_state(conversation).await? else {
                return Ok(HistoryPage { messages: Vec::new(), more: false, end });
            };
            end = end.max(projected.applied);
            let (mut messages, more) = self.page(conversation, range, end, limits).await?;
            let parts = match messages.as_slice() {
                [first, .., last] | [first @ last] => self.read_parts(conversation, first.seq, last.seq).await?,
                [] => Parts::new(),
            };
            let newest = parts.values().map(|part| part.entry).max().unwrap_or_default();
            if newest > end {
                end = newest;
                continue;
            }
            let fold = self.fold(conversation, projected, end).await?;
            let states = states(parts, fold.parts)?;
            add_states(&mut messages, states);
            return Ok(HistoryPage { messages, more, end });
        }
        Err(StoreError::unavailable("the conversation changes faster than a page is read"))
    }

    pub(super) async fn message(
        &self,
        conversation: &ConversationKey,
        seq: Seq,
    ) -> Result<Option<StoredMessage>, StoreError> {
        let Some(projected) = self.read_state(conversation).await? else { return Ok(None) };
        let mut end = projected.applied.max(self.end_here(conversation));
        if seq > end {
            end = self.quorum.read_head(conversation).await?.map_or(end, |head| head.end.max(end));
        }
        if seq > end {
            return Ok(None);
        }
        let found = Scan::new(self, conversation, seq, seq, Order::Ascending).next().await?;
        let found = found.unwrap_or_default().into_iter().next();
        let Some(entry) = found.filter(is_message) else { return Ok(None) };
        let parts = self.read_parts(conversation, seq, seq).await?;
        let fold = self.fold(conversation, projected, end).await?;
        let mut messages = [StoredMessage { seq, json: entry.json, state: None }];
        add_states(&mut messages, states(parts, fold.parts)?);
        let [message] = messages;
        Ok(Some(message))
    }

    /// The end of the log, as far as this process decides it.
    pub(super) fn end_here(&self, conversation: &ConversationKey) -> Seq {
        self.log.end_here(conversation).map_or(Seq::ZERO, |(_, end)| end)
    }

    /// Messages in ascending order, and whether there are more in the direction of `range`.
    async fn page(
        &self,
        conversation: &ConversationKey,
        range: HistoryRange,
        end: Seq,
        limits: PageLimits,
    ) -> Result<(Vec<StoredMessage>, bool), StoreError> {
        let before = |seq: Seq| Seq::new(seq.get().saturating_sub(1));
        let (first, last, order) = match range {
            HistoryRange::Before(seq) => (Seq::new(1), before(seq).min(end), Order::Descending),
            HistoryRange::After(seq) => (seq.next(), end, Order::Ascending),
            HistoryRange::Newest => (Seq::new(1), end, Order::Descending),
        };
        let mut scan = Scan::new(self, conversation, first, last, order);
        let mut budget = Budget::new(limits.bytes);
        let mut messages = Vec::new();
        let mut more = false;
        'scan: while let Some(entries) = scan.next().await? {
            if entries.len() == PAGE_ENTRIES && !entries.iter().any(is_message) {
                scan.skip_to_message(&entries[PAGE_ENTRIES - 1]).await?;
            }
            for StoredEntry { seq, json, .. } in entries.into_iter().filter(is_message) {
                if messages.len() == limits.messages || !budget.take(json.len()) {
                    more = true;
                    break 'scan;
                }
                messages.push(StoredMessage { seq, json, state: None });
            }
        }
        if order == Order::Descending {
            messages.reverse();
        }
        Ok((messages, more))
    }
}

pub(super) fn is_message(entry: &StoredEntry) -> bool {
    is_of_type(entry, Message::TYPE)
}

pub(super) fn is_of_type(entry: &StoredEntry, type_name: &str) -> bool {
    serde_json::from_slice(&entry.json).is_ok_and(|entry: EntryType<'_>| entry.type_name == type_name)
}

fn add_states(messages: &mut [StoredMessage], mut states: BTreeMap<Seq, MessageState>) {
    for message in messages {
        message.state = states.remove(&message.seq).map(Box::new);
    }
}

/// The states of messages from their parts; a part in `newer` replaces the one in `parts`. Messages without any part
/// that still stands are left out.
fn states(mut parts: Parts, newer: Parts) -> Result<BTreeMap<Seq, MessageState>, StoreError> {
    parts.extend(newer);
    let mut states: BTreeMap<Seq, MessageState> = BTreeMap::new();
    // For each emoji, the oldest reaction that still stands: emojis are shown in that order.
    let mut reactions: BTreeMap<(Seq, String), (Seq, Vec<UserId>)> = BTreeMap::new();
    for ((target, part), state) in parts {
        match part {
            Part::Deletion => states.entry(target).or_default().deleted = true,
            Part::Edit if state.value.is_empty() => {}
            Part::Edit => {
                let edit = decode_at(b"message_states value", state.value.as_bytes())?;
                states.entry(target).or_default().edited = Some(edit);
            }
            Part::Reaction(..) if state.value.is_empty() => {}
            Part::Reaction(emoji, user) => {
                let (oldest, users) = reactions.entry((target, emoji)).or_insert((state.entry, Vec::new()));
                *oldest = state.entry.min(*oldest);
                users.push(user.parse().map_err(super::client::unreadable)?);
            }
        }
    }
    let mut reactions: Vec<_> = reactions.into_iter().collect();
    reactions.sort_by_key(|(_, (oldest, _))| *oldest);
    for ((target, emoji), (_, users)) in reactions {
        states.entry(target).or_default().reactions.push(ReactionState { emoji, users });
    }
    for state in states.values_mut().filter(|state| state.deleted) {
        state.edited = None;
    }
    Ok(states)
}
