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

/// How many of the last entries' message counts are kept for receipts; older ones are read from the log.
const MARKS_MAX: usize = 1_024;

/// See the file's comment.
pub(super) struct Log {
    pub(super) term: TermNumber,
    /// The last `seq` given out.
    pub(super) end: Seq,
    /// Messages up to `end`.
    pub(super) messages: u64,
    /// The last `seq` that is durable: what anyone may know of.
    pub(super) durable: Seq,
    /// Messages up to `durable`.
    pub(super) durable_messages: u64,
    /// The time of the last entry decided in this term.
    pub(super) last_at: Option<Timestamp>,
    /// What inbox rows carry of it.
    pub(super) outline: Outlined,
    /// The last entries up to `durable`.
    pub(super) newest: Newest,
    /// The newest durable message.
    pub(super) preview: Option<Preview>,
    pub(super) meta: ConversationMeta,
    pub(super) members: BTreeMap<UserId, Member>,
    /// Removed lately, with the entry that did it: still to be told until they have confirmed.
    pub(super) removed: BTreeMap<UserId, Seq>,
    /// The members in the order of the fan-out; replaced when they change.
    pub(super) everyone: Arc<[UserId]>,
    pub(super) recent: Recent,
    /// States of messages that commands were about.
    pub(super) states: States,
    marks: VecDeque<Mark>,
    /// Direct: whether one blocks the other; read when first needed.
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
                // Those that are no members when they are mentioned are ignored (PROTOCOL §3).
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

    /// The member, or the error that does not tell whether the conversation exists.
    pub(super) fn member(&self, user: &UserId) -> Result<&Member, ProtocolError> {
        self.members.get(user).ok_or_else(ProtocolError::not_found)
    }

    /// The members, without those whose adding is not durable yet.
    pub(super) fn durable_members(&self) -> impl Iterator<Item = &UserId> {
        self.members.iter().filter(|(_, member)| member.joined_seq <= self.durable).map(|(user, _)| user)
    }

    /// Everyone has confirmed what there is to tell of those who were removed.
    pub(super) fn forget_removed(&mut self) {
        let durable = self.durable;
        self.removed.retain(|_, seq| *seq > durable);
    }

    /// Who was removed lately and, as far as is durable, for good.
    pub(super) fn durably_removed(&self) -> impl Iterator<Item = &UserId> {
        self.removed.iter().filter(|(_, seq)| **seq <= self.durable).map(|(user, _)| user)
    }

    /// The members have changed.
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

    /// What is durable, for inboxes.
    pub(super) fn last(&self, push_members_max: usize) -> InboxLast {
        InboxLast {
            last_seq: self.durable,
            messages: self.durable_messages,
            preview: self.preview.clone(),
            ask_owner: self.delivery(push_members_max) == Delivery::Activity,
            outline: self.outline.short(),
        }
    }

    /// The conversation as `user` sees it after everything decided so far: to be told when that is durable.
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

    /// Notes how many messages there are at an entry that has become durable.
    pub(super) fn mark(&mut self, seq: Seq, messages: u64, message_id: Option<MessageId>) {
        let message_id = message_id.or_else(|| self.marks.back().and_then(|mark| mark.message_id));
        self.marks.push_back(Mark { seq, messages, message_id });
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// The mark of an entry, if it is one of the last.
    pub(super) fn marked(&self, seq: Seq) -> Option<Mark> {
        let first = self.marks.front()?.seq;
        let index = usize::try_from(seq.get().checked_sub(first.get())?).ok()?;
        self.marks.get(index).copied()
    }

    /// Who is left with the role `owner`.
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

/// What a conversation of so many members delivers (PROTOCOL §3, "Large groups").
pub(super) fn delivery_to(members: usize, push_members_max: usize) -> Delivery {
    if members > push_members_max { Delivery::Activity } else { Delivery::Full }
}

/// Ordered so that a home's shards are each locked once (see `users.rs`).
pub(super) fn fan_out_order<'a>(tenant: &TenantId, users: impl Iterator<Item = &'a UserId>) -> Arc<[UserId]> {
    let mut ordered: Vec<(usize, UserId)> = users.map(|user| (shard_of(tenant, user), user.clone())).collect();
    ordered.sort_by_key(|(shard, _)| *shard);
    ordered.into_iter().map(|(_, user)| user).collect()
}
