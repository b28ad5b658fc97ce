//! The `Log` trait, on top of the log protocol.

use super::history::{PageLimits, is_of_type};
use super::housekeeping::all_of;
use super::projections::{Projected, State};
use super::scan::{Order, Scan};
use super::terms::LocalTerm;
use super::{Core, ScyllaStore};
use crate::kv::values::{decode_at, encode_entry};
use crate::quorum::{Beginning, Quorum as _};
use crate::{
    Appended, Begun, Claim, ConversationKey, Cursor, Cursors, Entry, Head, HistoryPage, HistoryRange, Incarnation, Log,
    Member, RecentSend, RecentWindow, Release, StoreError, StoredEntry, StoredMessage, TermNumber,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_protocol::server::{Budget, Frame as _, Membership, Message};
use switchboard_protocol::{Seq, UserId};

/// Notes of a dead node that are removed concurrently.
const NOTES_AT_ONCE: usize = 64;

/// What a new term starts with.
struct TermStart {
    term: TermNumber,
    /// The durable end of the log.
    end: Seq,
    /// The previous term was not ended cleanly: its last entries may be unannounced.
    untold: bool,
}

#[async_trait]
impl Log for ScyllaStore {
    async fn begin_term(&self, conversation: &ConversationKey, claim: Claim) -> Result<Option<Begun>, StoreError> {
        let Claim { by, create, recent, previous } = claim;
        let core = &self.core;
        match core.log.begin_term(conversation, &by, &previous, create.as_ref()).await? {
            Beginning::Missing => Ok(None),
            Beginning::Owned { by, term, end } => Err(StoreError::Owned { by, term, end }),
            Beginning::Begun { term, end, former } => {
                let forgotten = core.forget_former(conversation, former.as_ref().filter(|former| **former != by), term);
                let begun = core.begun(conversation, TermStart { term, end, untold: former.is_some() }, recent);
                tokio::join!(begun, forgotten).0
            }
        }
    }

    async fn append(
        &self,
        conversation: &ConversationKey,
        term: TermNumber,
        entries: Arc<[Entry]>,
    ) -> Result<Appended, StoreError> {
        let core = &self.core;
        let here = core.terms.get(conversation).filter(|here| here.number == term);
        let runs = core.log.end_here(conversation).is_some_and(|(running, _)| running == term);
        if let Some(here) = here.as_ref().filter(|_| runs) {
            here.check(&entries)?;
        }
        let payloads: Vec<Bytes> =
            entries.iter().map(|entry| Bytes::from(encode_entry(entry.messages, &entry.json))).collect();
        let first = entries.first().map_or(Seq::ZERO, |entry| entry.seq);
        let appended = core.log.append(conversation, term, first, &payloads).await?;
        if let (Appended::Durable, Some(here)) = (appended, here) {
            core.terms.note_durable(&here, &entries);
        }
        Ok(appended)
    }

    async fn end_term(&self, conversation: &ConversationKey, term: TermNumber) -> Result<(), StoreError> {
        // Nothing more may become durable from here on: once the head says that the term has ended, readers assume that
        // the projections are complete.
        if let Some(release) = self.core.log.release(conversation, term) {
            self.core.bring_up(conversation, release.end).await?;
        }
        self.core.log.end_term(conversation, term).await?;
        self.core.terms.forget(conversation, term);
        Ok(())
    }

    fn release(&self, conversation: &ConversationKey, term: TermNumber) -> Option<Release> {
        let released = self.core.log.release(conversation, term);
        if released.is_some() {
            self.core.terms.forget(conversation, term);
        }
        released
    }

    async fn head(&self, conversation: &ConversationKey) -> Result<Option<Head>, StoreError> {
        let core = &self.core;
        let Some(head) = core.quorum.head_shown(conversation).await? else { return Ok(None) };
        let Some(projected) = core.read_state(conversation).await? else { return Ok(None) };
        let here = core.log.end_here(conversation).filter(|(term, _)| *term == head.term);
        let end = here.map_or(head.end, |(_, end)| end).max(projected.applied);
        let State { messages, meta, last_message, .. } = core.fold(conversation, projected, end).await?.state;
        Ok(Some(Head { term: head.term, end, messages, meta, last_message, ended: head.owner.is_none() }))
    }

    async fn read(
        &self,
        conversation: &ConversationKey,
        after: Seq,
        end: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        let mut scan = Scan::new(&self.core, conversation, after.next(), end, Order::Ascending);
        let mut budget = Budget::new(bytes_max);
        let mut page: Vec<StoredEntry> = Vec::new();
        while page.len() < limit {
            let Some(entries) = scan.next().await? else { break };
            for entry in entries {
                // Only a gap inside the page matters: entries missing before the first one have expired.
                let expected = page.last().map(|last| last.seq.next()).filter(|expected| *expected != entry.seq);
                if let Some(expected) = expected {
                    if self.core.quorum.retention.seconds_of(&conversation.tenant).is_none() {
                        let what = format!("{conversation:?}: no entry {expected} in its log");
                        return Err(StoreError::Unreadable { what });
                    }
                    // Entries expire roughly in the order in which they were written, so those before the gap are about
                    // to go too.
                    page.clear();
                }
                if page.len() == limit || !budget.take(entry.json.len()) {
                    return Ok(page);
                }
                page.push(entry);
            }
        }
        Ok(page)
    }

    async fn history(
        &self,
        conversation: &ConversationKey,
        range: HistoryRange,
        end: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<HistoryPage, StoreError> {
        self.core.history(conversation, range, end, PageLimits { messages: limit, bytes: bytes_max }).await
    }

    async fn message(&self, conversation: &ConversationKey, seq: Seq) -> Result<Option<StoredMessage>, StoreError> {
        self.core.message(conversation, seq).await
    }

    async fn member(&self, conversation: &ConversationKey, user: &UserId) -> Result<Option<Member>, StoreError> {
        self.core.apply_here(conversation).await?;
        self.core.read_member(conversation, user).await
    }

    async fn members(&self, conversation: &ConversationKey) -> Result<Vec<(UserId, Member)>, StoreError> {
        self.core.apply_here(conversation).await?;
        self.core.read_members(conversation).await
    }

    async fn active(&self, living: &[Incarnation]) -> Result<Vec<(Incarnation, ConversationKey)>, StoreError> {
        self.core.quorum.active(living).await
    }

    async fn forget_active(&self, dead: &Incarnation, conversations: &[ConversationKey]) -> Result<(), StoreError> {
        let removals = conversations.iter().cloned().map(|conversation| {
            let (core, dead) = (self.core.clone(), dead.clone());
            async move { core.remove_note(&dead, &conversation).await }
        });
        all_of(removals, NOTES_AT_ONCE).await
    }
}

#[async_trait]
impl Cursors for ScyllaStore {
    async fn put_cursors(
        &self,
        conversation: &ConversationKey,
        cursors: Vec<(UserId, Cursor)>,
    ) -> Result<(), StoreError> {
        self.core.write_members(conversation, None, cursors).await
    }
}

impl Core {
    /// Removes a note, unless the head still names its writer as the owner.
    async fn remove_note(&self, dead: &Incarnation, conversation: &ConversationKey) -> Result<(), StoreError> {
        // The term that followed has removed it, as a rule.
        if self.quorum.read_note(dead, conversation).await?.is_none() {
            return Ok(());
        }
        let head = self.quorum.read_head(conversation).await?;
        if head.as_ref().is_some_and(|head| head.owner.as_ref() == Some(dead)) {
            return Ok(());
        }
        self.log.forget_note(conversation, dead, head.map_or(TermNumber(1), |head| head.term)).await
    }

    /// Projects what `term` has made durable and is not projected yet.
    pub(super) async fn apply(&self, conversation: &ConversationKey, term: &LocalTerm) -> Result<(), StoreError> {
        let _only = term.applying.lock().await;
        let end = term.end();
        if !term.is_applied(end) {
            self.bring_up(conversation, end).await?;
            term.note_applied(end);
        }
        Ok(())
    }

    /// The same for the term that runs in this process, if one does. If another process has it, members are queried
    /// there.
    async fn apply_here(&self, conversation: &ConversationKey) -> Result<(), StoreError> {
        match self.terms.get(conversation) {
            Some(term) => self.apply(conversation, &term).await,
            None => Ok(()),
        }
    }

    /// Removes the former owner's note, now that the conversation is in `term`.
    async fn forget_former(&self, conversation: &ConversationKey, former: Option<&Incarnation>, term: TermNumber) {
        let Some(former) = former else { return };
        if let Err(error) = self.log.forget_note(conversation, former, TermNumber(term.0 - 1)).await {
            // The conversation is taken over once more, needlessly.
            tracing::debug!(%error, "a note in active stays");
        }
    }

    /// Brings the projections up to the log's end, and reads what the owner needs.
    async fn begun(
        &self,
        conversation: &ConversationKey,
        start: TermStart,
        window: RecentWindow,
    ) -> Result<Option<Begun>, StoreError> {
        let TermStart { term, end, untold } = start;
        let (projected, recent) =
            tokio::try_join!(self.bring_up(conversation, end), self.recent(conversation, end, window))?;
        let Some(Projected { state, .. }) = projected else { return Ok(None) };
        self.terms.put(conversation, term, end, state.messages);
        let Recent { sends, after, removed } = recent;
        let members = self.read_members(conversation).await?;
        let is_member = |user: &UserId| members.binary_search_by(|(member, _)| member.cmp(user)).is_ok();
        Ok(Some(Begun {
            term,
            end,
            messages: state.messages,
            meta: state.meta,
            removed: removed.into_iter().filter(|(user, _)| !is_member(user)).collect(),
            members,
            recent: sends,
            recent_after: after,
            last_message: state.last_message,
            untold,
        }))
    }

    /// Reads what the window covers, backwards from the end to its first entry or the first message that is too old.
    async fn recent(
        &self,
        conversation: &ConversationKey,
        end: Seq,
        window: RecentWindow,
    ) -> Result<Recent, StoreError> {
        let after = Seq::new(end.get().saturating_sub(window.entries_max));
        let mut recent = Recent { sends: Vec::new(), after, removed: BTreeMap::new() };
        let mut scan = Scan::of_many(self, conversation, after.next(), end, Order::Descending);
        'window: while let Some(entries) = scan.next().await? {
            for entry in &entries {
                if !recent.note(entry, window)? {
                    break 'window;
                }
            }
        }
        recent.sends.reverse();
        Ok(recent)
    }
}

struct Recent {
    sends: Vec<RecentSend>,
    after: Seq,
    removed: BTreeMap<UserId, Seq>,
}

impl Recent {
    /// Whether the window reaches further back than this entry.
    fn note(&mut self, entry: &StoredEntry, window: RecentWindow) -> Result<bool, StoreError> {
        let at = format!("entry {}", entry.seq);
        if is_of_type(entry, Message::TYPE) {
            let message: Message = decode_at(at.as_bytes(), &entry.json)?;
            if message.timestamp < window.since {
                self.after = message.seq;
                return Ok(false);
            }
            let mentions = message.content.mentions();
            let Message { from, client_id, seq, timestamp: at, .. } = message;
            self.sends.push(RecentSend { from, client_id, seq, at, mentions });
        } else if is_of_type(entry, Membership::TYPE) {
            let membership: Membership = decode_at(at.as_bytes(), &entry.json)?;
            if membership.timestamp >= window.since {
                for user in membership.removed {
                    // Entries are visited newest first, and the newest counts.
                    self.removed.entry(user).or_insert(membership.seq);
                }
            }
        }
        Ok(true)
    }
}
