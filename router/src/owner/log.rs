//! The state of a conversation during a term: commands are decided against it.
//!
//! It is ahead of the store by the entries that are not durable yet. If one of them fails, the whole state is discarded
//! and read again with the next term; it is never repaired.

use super::newest::Newest;
use super::outline::Outlined;
use super::recent::Recent;
use super::states::States;
use crate::users::shard_of;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use switchboard_protocol::server::{Conversation, ConversationKind, Delivery};
use switchboard_protocol::{MessageId, ProtocolError, Role, Seq, TenantId, Timestamp, UserId};
use switchboard_store::{Begun, ConversationKey, ConversationMeta, InboxLast, Kind, Member, Preview, TermNumber};

/// Entries at the end of the log whose message counts are kept for receipts. Older ones are read from the log.
const MARKS_MAX: usize = 1_024;

/// See the file's comment.
pub(super) struct Log {
    pub(super) term: TermNumber,
    /// The last `seq` assigned.
    pub(super) end: Seq,
    /// The number of messages up to `end`.
    pub(super) messages: u64,
    /// The last durable `seq`: nobody may learn of anything after it.
    pub(super) durable: Seq,
    /// The number of messages up to `durable`.
    pub(super) durable_messages: u64,
    /// The time of the last entry decided in this term.
    pub(super) last_at: Option<Timestamp>,
    /// The part that inbox rows carry.
    pub(super) outline: Outlined,
    /// The last entries up to `durable`.
    pub(super) newest: Newest,
    /// The newest durable message.
    pub(super) preview: Option<Preview>,
    pub(super) meta: ConversationMeta,
    pub(super) members: BTreeMap<UserId, Member>,
    /// Recently removed users, with the entry that removed them: announced until they have confirmed it.
    pub(super) removed: BTreeMap<UserId, Seq>,
    /// The members in the order of the fan-out; replaced when they change.
    pub(super) everyone: Arc<[UserId]>,
    pub(super) recent: Recent,
    /// States of messages that recent commands were about.
    pub(super) states: States,
    marks: VecDeque<Mark>,
    /// Direct conversation: whether one user blocks the other; read when first needed.
    pub(super) blocked: Option<bool>,
}

/// The count of messages at an entry, and the newest message up to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) seq: Seq,
    pub(super) messages: u64,
    pub(super) message_id: Option<MessageId>,
}

impl Log {
    pub(super) fn new(key: &ConversationKey, begun: Begun, newest: Newest) -> Self {
        let mut recent = Recent::new(begun.recent_after);
        let mut members: BTreeMap<UserId, Member> = begun.members.into_iter().collect();
        for send in begun.recent {
            recent.note(&send.from, &send.client_id, send.seq, send.at.unix_ms());
            for user in send.mentions.iter().filter(|user| **user != send.from) {
                // Mentioned users who are not members are ignored (PROTOCOL §3).
                if let Some(member) = members.get_mut(user).filter(|member| member.joined_seq < send.seq) {
                    member.cursor.mentioned_seq = member.cursor.mentioned_seq.max(send.seq);
                }
            }
        }
        let everyone = fan_out_order(&key.tenant, members.keys());
        Self {
            outline: Outlined::new(&begun.meta, &members),
            newest,
            term: begun.term,
            end: begun.end,
            messages: begun.messages,
            durable: begun.end,
            durable_messages: begun.messages,
            last_at: None,
            preview: begun.last_message,
            meta: begun.meta,
            members,
            removed: begun.removed.into_iter().collect(),
            everyone,
            recent,
            states: States::default(),
            marks: VecDeque::new(),
            blocked: None,
        }
    }

    /// The member, or the same error as for a conversation that does not exist.
    pub(super) fn member(&self, user: &UserId) -> Result<&Member, ProtocolError> {
        self.members.get(user).ok_or_else(ProtocolError::not_found)
    }

    /// The members whose joining is durable.
    pub(super) fn durable_members(&self) -> impl Iterator<Item = &UserId> {
        self.members.iter().filter(|(_, member)| member.joined_seq <= self.durable).map(|(user, _)| user)
    }

    /// Forgets the durable removals, which all homes have confirmed.
    pub(super) fn forget_removed(&mut self) {
        let durable = self.durable;
        self.removed.retain(|_, seq| *seq > durable);
    }

    /// Recently removed users whose removal is durable.
    pub(super) fn durably_removed(&self) -> impl Iterator<Item = &UserId> {
        self.removed.iter().filter(|(_, seq)| **seq <= self.durable).map(|(user, _)| user)
    }

    /// Recomputes what depends on the members.
    pub(super) fn members_changed(&mut self, tenant: &TenantId) {
        self.everyone = fan_out_order(tenant, self.members.keys());
        self.meta.members_count = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
    }

    /// How entries that become durable now are delivered.
    pub(super) fn delivery(&self, push_members_max: usize) -> Delivery {
        delivery_to(self.outline.members(), push_members_max)
    }

    pub(super) fn is_direct(&self) -> bool {
        matches!(self.meta.kind, Kind::Direct(..))
    }

    /// The other user of a direct conversation.
    pub(super) fn peer(&self, user: &UserId) -> Option<&UserId> {
        peer_of(&self.meta.kind, user)
    }

    /// The durable state for inbox rows.
    pub(super) fn last(&self, push_members_max: usize) -> InboxLast {
        InboxLast {
            last_seq: self.durable,
            messages: self.durable_messages,
            preview: self.preview.clone(),
            ask_owner: self.delivery(push_members_max) == Delivery::Activity,
            outline: self.outline.short(),
        }
    }

    /// The conversation as `user` sees it after everything decided so far; to be sent once that is durable.
    pub(super) fn conversation(
        &self,
        key: &ConversationKey,
        user: &UserId,
        push_members_max: usize,
    ) -> Result<Conversation, ProtocolError> {
        let member = self.member(user)?;
        let end = LogEnd { seq: self.end, messages: self.messages };
        Ok(shown(key, &self.meta, user, member, end, push_members_max))
    }

    /// Notes the number of messages at an entry that has become durable.
    pub(super) fn mark(&mut self, seq: Seq, messages: u64, message_id: Option<MessageId>) {
        let message_id = message_id.or_else(|| self.marks.back().and_then(|mark| mark.message_id));
        self.marks.push_back(Mark { seq, messages, message_id });
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// The mark of an entry, if it is among the last ones.
    pub(super) fn marked(&self, seq: Seq) -> Option<Mark> {
        let first = self.marks.front()?.seq;
        let index = usize::try_from(seq.get().checked_sub(first.get())?).ok()?;
        self.marks.get(index).copied()
    }

    /// The number of members with the role `owner`.
    pub(super) fn owners(&self) -> usize {
        self.members.values().filter(|member| member.role == Role::Owner).count()
    }
}

/// The end of a log, and how many of its entries are messages.
#[derive(Clone, Copy)]
pub(super) struct LogEnd {
    pub(super) seq: Seq,
    pub(super) messages: u64,
}

/// A conversation as a member sees it when its log ends at `end`.
pub(super) fn shown(
    key: &ConversationKey,
    meta: &ConversationMeta,
    user: &UserId,
    member: &Member,
    end: LogEnd,
    push_members_max: usize,
) -> Conversation {
    let is_direct = matches!(meta.kind, Kind::Direct(..));
    let members = usize::try_from(meta.members_count).unwrap_or(usize::MAX);
    Conversation {
        conversation_id: key.conversation.clone(),
        kind: if is_direct { ConversationKind::Direct } else { ConversationKind::Group },
        title: meta.title.clone(),
        custom: meta.custom.clone().unwrap_or_default(),
        peer: peer_of(&meta.kind, user).cloned(),
        members_count: meta.members_count,
        created_at: meta.created_at,
        role: member.role,
        delivery: delivery_to(members, push_members_max),
        last_seq: end.seq,
        read_seq: member.cursor.read_seq,
        unread: end.messages.saturating_sub(member.cursor.read_messages),
    }
}

fn peer_of<'a>(kind: &'a Kind, user: &UserId) -> Option<&'a UserId> {
    match kind {
        Kind::Direct(a, b) => Some(if user == a { b } else { a }),
        Kind::Group => None,
    }
}

/// How a conversation of this size delivers entries (PROTOCOL §3, "Large groups").
pub(super) fn delivery_to(members: usize, push_members_max: usize) -> Delivery {
    if members > push_members_max { Delivery::Activity } else { Delivery::Full }
}

/// Orders users so that a home locks each of its shards once (see `users.rs`).
pub(super) fn fan_out_order<'a>(tenant: &TenantId, users: impl Iterator<Item = &'a UserId>) -> Arc<[UserId]> {
    let mut ordered: Vec<(usize, UserId)> = users.map(|user| (shard_of(tenant, user), user.clone())).collect();
    ordered.sort_by_key(|(shard, _)| *shard);
    ordered.into_iter().map(|(_, user)| user).collect()
}
