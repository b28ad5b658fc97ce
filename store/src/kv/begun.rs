//! What the owner of a new term gets: the members, and the recent part of the log.

use super::Rows;
use super::keys::{self, Table};
use super::log::BegunTerm;
use super::log_read;
use super::values;
use crate::{Begun, ConversationKey, RecentSend, RecentWindow, StoreError};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use switchboard_protocol::server::{Frame, Membership, Message};
use switchboard_protocol::{Seq, Timestamp, UserId};

/// What the owner of a new term needs. If the next term has begun meanwhile, members and cursors may be newer than this
/// term's end; the owner finds out that it is superseded with its first append.
pub(super) fn begun(
    rows: &impl Rows,
    conversation: &ConversationKey,
    term: BegunTerm,
    window: RecentWindow,
) -> Result<Begun, StoreError> {
    let BegunTerm { head, untold } = term;
    let (recent, recent_after) = recent(rows, conversation, head.end, window)?;
    let members = log_read::members(rows, conversation, None)?;
    let removed = removed(rows, conversation, recent_after, head.end, window.since)?;
    let is_member = |user: &UserId| members.binary_search_by(|(member, _)| member.cmp(user)).is_ok();
    Ok(Begun {
        term: head.term,
        end: head.end,
        messages: head.messages,
        meta: head.meta,
        removed: removed.into_iter().filter(|(user, _)| !is_member(user)).collect(),
        members,
        recent,
        recent_after,
        last_message: head.last_message,
        untold,
    })
}

/// The sends of the window, ascending, and the seq after which none is missing. The window ends, going backwards, at
/// the first message that is too old.
fn recent(
    rows: &impl Rows,
    conversation: &ConversationKey,
    end: Seq,
    window: RecentWindow,
) -> Result<(Vec<RecentSend>, Seq), StoreError> {
    let mut after = Seq::new(end.get().saturating_sub(window.entries_max));
    let mut sends = Vec::new();
    for row in rows.range(keys::entries(Table::Message, conversation, after.next(), end)).rev() {
        let (key, value) = row?;
        let (_, json) = values::decode_entry(key.as_ref(), value.as_ref())?;
        let message: Message = values::decode_at(key.as_ref(), json)?;
        if message.timestamp < window.since {
            after = message.seq;
            break;
        }
        let mentions = message.content.mentions();
        let Message { from, client_id, seq, timestamp: at, .. } = message;
        sends.push(RecentSend { from, client_id, seq, at, mentions });
    }
    sends.reverse();
    Ok((sends, after))
}

/// The users removed by entries after `after` that are not older than `since`, each with the last such entry.
fn removed(
    rows: &impl Rows,
    conversation: &ConversationKey,
    after: Seq,
    end: Seq,
    since: Timestamp,
) -> Result<BTreeMap<UserId, Seq>, StoreError> {
    let mut removed = BTreeMap::new();
    for row in rows.range(keys::entries(Table::Entry, conversation, after.next(), end)) {
        let (key, value) = row?;
        let (_, json) = values::decode_entry(key.as_ref(), value.as_ref())?;
        let entry: EntryType<'_> = values::decode_at(key.as_ref(), json)?;
        if entry.type_name != Membership::TYPE {
            continue;
        }
        let membership: Membership = values::decode_at(key.as_ref(), json)?;
        if membership.timestamp >= since {
            removed.extend(membership.removed.into_iter().map(|user| (user, membership.seq)));
        }
    }
    Ok(removed)
}

#[derive(Deserialize)]
pub(crate) struct EntryType<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) type_name: Cow<'a, str>,
}
