//! `sync`: what changed for a user since a cursor (PROTOCOL §3). Runs at the user's home.

use crate::api::{Actor, Answer};
use crate::dirty::empty_change;
use crate::home::shown_settings;
use crate::node::{Node, unavailable};
use crate::settle::Untold;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::VecDeque;
use std::sync::Arc;
use switchboard_protocol::client::{ConversationRef, SyncGet};
use switchboard_protocol::limits::ANSWER_ITEMS_BYTES_MAX;
use switchboard_protocol::server::{
    Budget, Conversation, ConversationKind, Delivery, LastMessage, Sync, SyncConversation, SyncState,
};
use switchboard_protocol::{ClientFrame, ConversationId, ErrorCode, ProtocolError, Role, Seq, ServerFrame};
use switchboard_store::{
    ConversationKey, ConversationMeta, InboxChange, InboxRange, InboxRow, Kind, Preview, StoreError, StoredEntry,
    UserKey,
};

/// Conversations of one `sync` that are read, or asked for, at the same time.
const READS_AT_ONCE: usize = 16;

/// Where a client is: it has seen every change up to `after`, and on this page those down to `below`.
///
/// Encoded as `s1.<store>.<after>[.<below>.<top>]`: opaque to clients, and not a stable format.
#[derive(Debug, Default, PartialEq, Eq)]
struct Position {
    after: u64,
    /// While pages follow: those above `below` and up to `top` have been given already.
    page: Option<(u64, u64)>,
}

impl Position {
    /// The position that a cursor stands for; `None` if it belongs to another store.
    fn parse(cursor: &str, store_id: &str) -> Result<Option<Self>, ProtocolError> {
        let malformed = || ProtocolError::bad_request("cursor", "must be a cursor that the server gave");
        let mut parts = cursor.split('.');
        if parts.next() != Some("s1") {
            return Err(malformed());
        }
        let store = parts.next().ok_or_else(malformed)?;
        let numbers: Vec<u64> = parts.map(str::parse).collect::<Result<_, _>>().map_err(|_| malformed())?;
        let position = match numbers[..] {
            [after] => Self { after, page: None },
            [after, below, top] => Self { after, page: Some((below, top)) },
            _ => return Err(malformed()),
        };
        Ok((store == store_id).then_some(position))
    }

    fn encode(&self, store_id: &str) -> String {
        let after = self.after;
        match self.page {
            None => format!("s1.{store_id}.{after}"),
            Some((below, top)) => format!("s1.{store_id}.{after}.{below}.{top}"),
        }
    }
}

/// The cursor of a client that has seen every change up to `after`.
pub(crate) fn cursor_after(after: u64, store_id: &str) -> String {
    Position { after, page: None }.encode(store_id)
}

impl Node {
    pub(crate) async fn sync(self: &Arc<Self>, user: &UserKey, asked: &SyncGet) -> Result<Answer, ProtocolError> {
        let position = match &asked.cursor {
            Some(cursor) => Position::parse(cursor, self.store.store_id())?,
            None => Some(Position::default()),
        };
        let reset = position.is_none();
        let position = position.unwrap_or_default();
        let untold = self.settle().await?;
        if self.placement().home(user).incarnation != self.me {
            // Asked by a node with an older view. The new home gets the announcements now, and will write them.
            return Err(self.unavailable());
        }
        let failed = |error: StoreError| unavailable(self, &error);
        self.flush_inbox_of(user).await.map_err(failed)?;
        let range = InboxRange { after: position.after, below: position.page.map(|(below, _)| below) };
        let mut page = self.store.inbox(user, range, asked.limit as usize).await.map_err(failed)?;
        if position.page.is_none() {
            let mut behind = std::mem::take(&mut page.asked);
            behind.extend(self.untold_to(user, &untold).await.map_err(failed)?);
            if self.ask_owners(user, behind).await? {
                page = self.store.inbox(user, range, asked.limit as usize).await.map_err(failed)?;
            }
        }
        let top = position.page.map_or(page.top, |(_, top)| top);

        let entries = asked.entries_per_conversation as usize;
        let described: Vec<_> = page.rows.iter().map(|row| self.describe(user, row, entries)).collect();
        let mut described = stream::iter(described).buffered(READS_AT_ONCE);

        let mut conversations = Vec::with_capacity(page.rows.len());
        let (mut budget, mut below, mut cut) = (Budget::new(ANSWER_ITEMS_BYTES_MAX), None, false);
        for row in &page.rows {
            let Some(described) = described.try_next().await? else { break };
            // One more for the comma.
            cut = !budget.take(described.as_ref().map_or(0, |json| json.get().len() + 1));
            if cut {
                break;
            }
            below = Some(row.version);
            conversations.extend(described);
        }
        let next = match below {
            Some(below) if page.more || cut => Position { after: position.after, page: Some((below, top)) },
            _ => Position { after: top, page: None },
        };
        let more = next.page.is_some() || position.page.is_some() && self.has_changed(user, top).await?;
        let cursor = next.encode(self.store.store_id());
        Ok(Answer::Sync(Sync { cursor, conversations, more, reset }))
    }

    /// Whether anything has changed for a user after this version. Changes made while the client reads the pages have
    /// higher versions than all of them.
    async fn has_changed(&self, user: &UserKey, after: u64) -> Result<bool, ProtocolError> {
        let page = self.store.inbox(user, InboxRange { after, below: None }, 1).await;
        Ok(!page.map_err(|error| unavailable(self, &error))?.rows.is_empty())
    }

    /// Which of these conversations are in the user's inbox.
    async fn untold_to(&self, user: &UserKey, untold: &Untold) -> Result<Vec<ConversationId>, StoreError> {
        let of_tenant = untold.iter().filter(|key| key.tenant == user.tenant).map(|key| key.conversation.clone());
        let rows = of_tenant.map(async |conversation| {
            let row = self.store.inbox_row(user, &conversation).await?;
            Ok::<_, StoreError>(row.filter(|row| row.member).map(|row| row.conversation))
        });
        let rows: Vec<_> = rows.collect();
        stream::iter(rows).buffered(READS_AT_ONCE).try_filter_map(async |found| Ok(found)).try_collect().await
    }

    /// Updates the rows of large groups, and of conversations with unannounced entries, from their owners, since these
    /// inbox rows are not updated with each message. Returns whether any was behind.
    async fn ask_owners(self: &Arc<Self>, user: &UserKey, asked: Vec<ConversationId>) -> Result<bool, ProtocolError> {
        let asked = asked.into_iter().map(|conversation| self.ask_owner(user, conversation));
        let changes: Vec<_> =
            stream::iter(asked).buffered(READS_AT_ONCE).try_filter_map(async |change| Ok(change)).try_collect().await?;
        if changes.is_empty() {
            return Ok(false);
        }
        self.store.put_inbox(changes).await.map_err(|error| unavailable(self, &error))?;
        Ok(true)
    }

    async fn ask_owner(
        self: &Arc<Self>,
        user: &UserKey,
        conversation: ConversationId,
    ) -> Result<Option<(UserKey, InboxChange)>, ProtocolError> {
        let key = ConversationKey { tenant: user.tenant.clone(), conversation };
        let peek = match self.peek(user, &key).await {
            Ok(peek) => peek,
            // The user was just removed: the row will say so.
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let change = InboxChange {
            last: Some(Arc::new(peek.last)),
            mentioned_seq: peek.mentioned_seq,
            read: Some(peek.read),
            ..empty_change(&key.conversation)
        };
        Ok(Some((user.clone(), change)))
    }

    /// An inbox row in the form of `sync`; `None` for a conversation that was never created.
    async fn describe(
        self: &Arc<Self>,
        user: &UserKey,
        row: &InboxRow,
        entries: usize,
    ) -> Result<Option<Box<RawValue>>, ProtocolError> {
        let key = ConversationKey { tenant: user.tenant.clone(), conversation: row.conversation.clone() };
        let Some((meta, role)) = self.outline(user, &key, row).await? else { return Ok(None) };
        let (kind, peer) = match meta.kind {
            Kind::Direct(a, b) => (ConversationKind::Direct, Some(if a == user.user { b } else { a })),
            Kind::Group => (ConversationKind::Group, None),
        };
        // Removed members learn nothing of what came after their removal.
        let removed = !row.member;
        let large = row.last.ask_owner;
        let conversation = Conversation {
            conversation_id: row.conversation.clone(),
            kind,
            title: meta.title.filter(|_| !removed),
            custom: meta.custom.filter(|_| !removed).unwrap_or_default(),
            peer,
            members_count: if removed { 0 } else { meta.members_count },
            created_at: meta.created_at,
            role,
            delivery: if large { Delivery::Activity } else { Delivery::Full },
            last_seq: row.last.last_seq,
            read_seq: row.read_seq,
            unread: row.last.messages.saturating_sub(row.read_messages),
        };
        let entries =
            if entries == 0 || removed { None } else { Some(self.newest(&key, row.last.last_seq, entries).await?) };
        let state = SyncState {
            // Counted from the join, as the owner does.
            mentioned_seq: Some(row.mentioned_seq).filter(|seq| *seq > row.membership_seq).unwrap_or(Seq::ZERO),
            last_message: row.last.preview.clone().map(last_message),
            settings: shown_settings(&row.settings),
            removed,
            entries,
        };
        to_raw_value(&SyncConversation { conversation, state }).map(Some).map_err(|_| ProtocolError::internal())
    }

    /// The conversation's fields and the user's role: from the row, or from the head and the member if they are too
    /// long for it.
    async fn outline(
        self: &Arc<Self>,
        user: &UserKey,
        key: &ConversationKey,
        row: &InboxRow,
    ) -> Result<Option<(ConversationMeta, Role)>, ProtocolError> {
        if let Some(outline) = &row.last.outline {
            let role = outline.roles.get(&user.user).filter(|_| row.member);
            return Ok(Some((outline.meta.clone(), role.copied().unwrap_or(Role::Member))));
        }
        let failed = |error: StoreError| unavailable(self, &error);
        let Some(head) = self.store.head(key).await.map_err(failed)? else { return Ok(None) };
        let member = self.store.member(key, &user.user).await.map_err(failed)?.filter(|_| row.member);
        // An owner on another node is ahead of what the store shows here.
        let is_behind = row.member && row.last.last_seq > head.end;
        let told = if is_behind { self.told_by_owner(user, key).await? } else { None };
        Ok(Some(match told {
            Some(Conversation { title, custom, members_count, role, .. }) => {
                (ConversationMeta { title, custom: Some(custom), members_count, ..head.meta }, role)
            }
            None => (head.meta, member.map_or(Role::Member, |member| member.role)),
        }))
    }

    /// A conversation as its owner knows it; `None` for a user who was just removed.
    async fn told_by_owner(
        self: &Arc<Self>,
        user: &UserKey,
        key: &ConversationKey,
    ) -> Result<Option<Conversation>, ProtocolError> {
        let actor = Actor { user: user.clone(), session: None, awaited: true };
        let get = ClientFrame::ConversationGet(ConversationRef { conversation_id: key.conversation.clone() });
        match self.at_owner(&actor, key, get).await {
            Ok(Answer::Frame(ServerFrame::Conversation(conversation))) => Ok(Some(conversation)),
            Ok(_) => Err(ProtocolError::internal()),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn newest(
        &self,
        key: &ConversationKey,
        end: Seq,
        entries: usize,
    ) -> Result<Vec<Box<RawValue>>, ProtocolError> {
        /// The bytes of one conversation's newest entries in a `sync`; clients get more with `changes`.
        const ENTRIES_BYTES_MAX: usize = 64 * 1024;
        let mut after = Seq::new(end.get().saturating_sub(entries as u64));
        let mut newest: VecDeque<StoredEntry> = VecDeque::new();
        while after < end {
            let page = self.store.read(key, after, end, entries, ENTRIES_BYTES_MAX).await;
            let page = page.map_err(|error| unavailable(self, &error))?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            newest.extend(page);
            // Too many bytes: the older ones are left out.
            while newest.len() > 1 && newest.iter().map(|entry| entry.json.len()).sum::<usize>() > ENTRIES_BYTES_MAX {
                newest.pop_front();
            }
        }
        crate::read::raw_entries(newest.make_contiguous())
    }
}

fn last_message(preview: Preview) -> LastMessage {
    LastMessage { seq: preview.seq, from: preview.from, text: preview.text, timestamp: preview.timestamp }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_what_the_server_gave_or_is_refused() {
        let position = Position { after: 7, page: Some((5, 9)) };
        assert_eq!(Position::parse(&position.encode("abc"), "abc").unwrap(), Some(position));
        assert_eq!(Position::parse("s1.abc.7", "other").unwrap(), None, "another store's");
        for malformed in ["", "s1", "s1.abc", "s1.abc.x", "s1.abc.1.2", "s2.abc.1", "s1.abc.-1"] {
            let error = Position::parse(malformed, "abc").unwrap_err();
            assert_eq!(error.details()[0].field, "cursor", "{malformed}");
        }
    }
}
