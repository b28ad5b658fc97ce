//! The members of a conversation, as a projection of the log, and their cursors.
//!
//! Both are in one row, in cells with their own timestamps. Cursors are written without reading the row: those of a
//! user who is not a member, or that date from an earlier membership, are ignored when they are read.

use super::Core;
use super::client::{Statement, unreadable};
use super::quorum::bigint;
use crate::kv::values::decode_at;
use crate::quorum::WriteTimestamp;
use crate::{ConversationKey, Cursor, Member, StoreError};
use scylla::value::CqlValue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use switchboard_protocol::server::Membership;
use switchboard_protocol::{Role, Seq, Timestamp, UserId};

/// The membership of a removed user. Not null: a null leaves a tombstone, which may be purged while a replica that was
/// away for long still has the membership.
const NO_MEMBER: &str = "";

/// Statements in one batch of a conversation's members.
const BATCH_STATEMENTS_MAX: usize = 100;

/// A membership as the log defines it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MembershipRow {
    role: Role,
    joined_at: Timestamp,
    joined_seq: Seq,
    /// The number of messages in the log up to the entry that added the user.
    joined_messages: u64,
    /// The entry that last changed this row.
    changed_seq: Seq,
}

/// A stored member: user, membership, `delivered_seq`, `read_seq`, `read_messages`, `mentioned_seq`.
type MemberRow = (String, Option<String>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

/// The values of a statement in a batch.
pub(super) type Values = Vec<Option<CqlValue>>;

pub(super) fn text(value: impl Into<String>) -> Option<CqlValue> {
    Some(CqlValue::Text(value.into()))
}

pub(super) fn number(value: u64) -> Option<CqlValue> {
    Some(CqlValue::BigInt(bigint(value)))
}

/// Memberships by user, as entries are folded into them.
#[derive(Default)]
pub(super) struct Memberships {
    pub(super) all: BTreeMap<UserId, MembershipRow>,
    /// The users that changed, each with the timestamp of the newest entry about them.
    changed: BTreeMap<UserId, WriteTimestamp>,
}

impl Memberships {
    /// Adds a participant of a direct conversation, who is a member from the start.
    pub(super) fn add_first(&mut self, user: &UserId, joined_at: Timestamp) {
        let (joined_seq, changed_seq) = (Seq::ZERO, Seq::ZERO);
        let row = MembershipRow { role: Role::Member, joined_at, joined_seq, joined_messages: 0, changed_seq };
        self.all.insert(user.clone(), row);
        self.changed.insert(user.clone(), WriteTimestamp::FIRST);
    }

    /// Folds an entry in. The stored rows may be ahead of it, if they were written but the new `applied_seq` was not.
    pub(super) fn apply(&mut self, membership: &Membership, messages: u64, timestamp: WriteTimestamp) {
        let seq = membership.seq;
        for user in &membership.added {
            if !self.all.contains_key(user) {
                let row = MembershipRow {
                    role: Role::Member,
                    joined_at: membership.timestamp,
                    joined_seq: seq,
                    joined_messages: messages,
                    changed_seq: seq,
                };
                self.all.insert(user.clone(), row);
                self.changed.insert(user.clone(), timestamp);
            }
        }
        for (user, role) in &membership.roles {
            // One entry may both add a user and assign a role.
            if let Some(row) = self.all.get_mut(user).filter(|row| row.changed_seq <= seq) {
                (row.role, row.changed_seq) = (*role, seq);
                self.changed.insert(user.clone(), timestamp);
            }
        }
        for user in &membership.removed {
            if self.all.get(user).is_some_and(|row| row.changed_seq <= seq) {
                self.all.remove(user);
                self.changed.insert(user.clone(), timestamp);
            }
        }
    }
}

impl Core {
    pub(super) async fn read_members(
        &self,
        conversation: &ConversationKey,
    ) -> Result<Vec<(UserId, Member)>, StoreError> {
        let values = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let found: Vec<MemberRow> = self.client.rows(&self.statements.members.all, values).await?;
        found.into_iter().filter_map(|row| member(row).transpose()).collect()
    }

    pub(super) async fn read_memberships(&self, conversation: &ConversationKey) -> Result<Memberships, StoreError> {
        let values = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let found: Vec<MemberRow> = self.client.rows(&self.statements.members.all, values).await?;
        let mut all = BTreeMap::new();
        for (user, membership, ..) in found {
            if let Some(membership) = membership.filter(|membership| membership != NO_MEMBER) {
                all.insert(user.parse().map_err(unreadable)?, parse(&membership)?);
            }
        }
        Ok(Memberships { all, changed: BTreeMap::new() })
    }

    pub(super) async fn read_member(
        &self,
        conversation: &ConversationKey,
        user: &UserId,
    ) -> Result<Option<Member>, StoreError> {
        let values = (conversation.tenant.as_str(), conversation.conversation.as_str(), user.as_str());
        let found: Option<MemberRow> = self.client.row(&self.statements.members.one, values).await?;
        Ok(found.map(member).transpose()?.flatten().map(|(_, member)| member))
    }

    /// Writes the memberships that have changed, and cursors. A cursor's value is its own timestamp, so a late, smaller
    /// one changes nothing.
    pub(super) async fn write_members(
        &self,
        conversation: &ConversationKey,
        memberships: Option<&Memberships>,
        cursors: impl IntoIterator<Item = (UserId, Cursor)>,
    ) -> Result<(), StoreError> {
        let statements = &self.statements;
        let mut writes: Vec<(&Statement, Values)> = Vec::new();
        if let Some(memberships) = memberships {
            for (user, timestamp) in &memberships.changed {
                let row = memberships.all.get(user).map(serde_json::to_string).transpose().map_err(unreadable)?;
                let values = [Some(CqlValue::BigInt(timestamp.0)), text(row.unwrap_or_else(|| NO_MEMBER.to_owned()))];
                writes.push((&statements.members.put_membership, with_key(values, conversation, user)));
            }
        }
        for (user, cursor) in cursors {
            let [delivered, read, mentioned] =
                [cursor.delivered_seq, cursor.read_seq, cursor.mentioned_seq].map(|seq| number(seq.get()));
            let key = |values: Values| with_key(values, conversation, &user);
            if cursor.delivered_seq > Seq::ZERO {
                writes.push((&statements.members.put_delivered, key(vec![delivered.clone(), delivered])));
            }
            if cursor.read_seq > Seq::ZERO {
                writes
                    .push((&statements.members.put_read, key(vec![read.clone(), read, number(cursor.read_messages)])));
            }
            if cursor.mentioned_seq > Seq::ZERO {
                writes.push((&statements.members.put_mentioned, key(vec![mentioned.clone(), mentioned])));
            }
        }
        for writes in writes.chunks(BATCH_STATEMENTS_MAX) {
            let statements = writes.iter().map(|(statement, _)| *statement);
            let values: Vec<&Values> = writes.iter().map(|(_, values)| values).collect();
            self.client.batch(&self.statements.members.put_batch, statements, values).await?;
        }
        Ok(())
    }
}

fn with_key(values: impl Into<Values>, conversation: &ConversationKey, user: &UserId) -> Values {
    let mut values = values.into();
    values.extend([text(conversation.tenant.as_str()), text(conversation.conversation.as_str()), text(user.as_str())]);
    values
}

fn parse(membership: &str) -> Result<MembershipRow, StoreError> {
    decode_at(b"members membership", membership.as_bytes())
}

/// Decodes a row; `None` if the user is not a member. Cursors below the entry that added the user belong to an earlier
/// membership.
fn member(row: MemberRow) -> Result<Option<(UserId, Member)>, StoreError> {
    let (user, membership, delivered, read, read_messages, mentioned) = row;
    let Some(membership) = membership.filter(|membership| membership != NO_MEMBER) else { return Ok(None) };
    let MembershipRow { role, joined_at, joined_seq, joined_messages, .. } = parse(&membership)?;
    let seq = |value: Option<i64>| Seq::new(value.unwrap_or_default().cast_unsigned());
    let mut cursor =
        Cursor { delivered_seq: joined_seq, read_seq: joined_seq, read_messages: joined_messages, ..Cursor::default() };
    let mentioned_seq = Some(seq(mentioned)).filter(|mentioned| *mentioned > joined_seq).unwrap_or_default();
    let read_messages = read_messages.unwrap_or_default().cast_unsigned();
    cursor.raise(&Cursor { delivered_seq: seq(delivered), read_seq: seq(read), read_messages, mentioned_seq });
    Ok(Some((user.parse().map_err(unreadable)?, Member { role, joined_at, joined_seq, cursor })))
}
