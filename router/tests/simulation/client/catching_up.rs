//! How a client learns what it has missed: `sync`, and `changes` or `history` of the conversations that it knows of.

use super::{Client, Failure};
use crate::copy::Copy;
use std::collections::BTreeMap;
use switchboard_protocol::client::{ChangesGet, HistoryGet, HistoryRange, SyncGet};
use switchboard_protocol::{ClientFrame, ConversationId, ErrorCode, Seq, ServerFrame};
use switchboard_store::ConversationKey;

impl Client {
    /// Returns whether everything it knows of is here.
    pub(crate) async fn catch_up(&mut self) -> bool {
        let now_ms = self.oracle.now_ms();
        for (_, conversation) in self.in_doubt.extract_if(.., |(due_ms, _)| *due_ms <= now_ms).collect::<Vec<_>>() {
            self.changes(&conversation).await;
        }
        if self.wants_sync && self.sync().await {
            self.wants_sync = false;
        }
        let behind = |(id, copy): (&ConversationId, &Copy)| copy.is_behind().then(|| id.clone());
        for conversation in self.copies.iter().filter_map(behind).collect::<Vec<_>>() {
            if !self.changes(&conversation).await {
                return false;
            }
        }
        !self.wants_sync
    }

    /// `sync` to the end of its pages. Returns whether it succeeded.
    pub(crate) async fn sync(&mut self) -> bool {
        let (before, read) = (self.oracle.answered_by_now(), self.oracle.read_by_now());
        let resumed = self.paging;
        let mut first = !resumed;
        loop {
            let limit = if self.generator.percent(50) { 200 } else { 2 };
            let entries_per_conversation = if self.generator.percent(20) { 3 } else { 0 };
            let asked = SyncGet { cursor: self.cursor.clone(), entries_per_conversation, limit };
            let Ok(ServerFrame::Sync(page)) = self.call(ClientFrame::Sync(asked)).await else { return false };
            self.oracle.count(|counts| counts.syncs += 1);
            if page.reset && self.cursor.is_some() {
                self.oracle.violated(format!("a known cursor of {:?} was reset", self.user));
            }
            for row in page.conversations {
                let id = row.conversation.conversation_id.clone();
                let me = (self.key(&id), self.me());
                self.oracle.synced(&self.user, row.clone(), read.get(&me).copied().unwrap_or(0));
                self.copies.entry(id).or_default().hear(row.conversation.last_seq);
            }
            self.cursor = Some(page.cursor);
            if first && !page.more {
                // Of several pages, the first may be older than what a later one is compared with.
                self.check_complete(&before);
            }
            first = false;
            // Pages that began earlier are as of then: what has come since needs another `sync`.
            let resumed = std::mem::replace(&mut self.paging, page.more) && resumed;
            if !page.more {
                return !resumed;
            }
        }
    }

    /// What was answered before `sync` is known now, or was before.
    fn check_complete(&self, before: &BTreeMap<ConversationKey, u64>) {
        for (key, answered) in before.iter().filter(|(key, _)| key.tenant == self.user.tenant) {
            let told = self.copies.get(&key.conversation).map_or(0, |copy| copy.heard.max(copy.applied));
            self.oracle.told("sync", &self.user, key, *answered, Some(told));
        }
    }

    /// `changes` until there are no more. Returns whether it succeeded.
    pub(crate) async fn changes(&mut self, conversation: &ConversationId) -> bool {
        let (key, me) = (self.key(conversation), self.me());
        loop {
            let before = self.oracle.answered_by_now().get(&key).copied().unwrap_or(0);
            let after = Seq::new(self.copies.entry(conversation.clone()).or_default().applied);
            let limit = if self.generator.percent(50) { 500 } else { 3 };
            let asked = ChangesGet { conversation_id: conversation.clone(), after, limit };
            match self.call(ClientFrame::Changes(asked)).await {
                Ok(ServerFrame::Changes(changes)) => {
                    self.oracle.told("changes", &self.user, &key, before, Some(changes.last_seq.get()));
                    if changes.reset {
                        return self.reload(conversation).await;
                    }
                    let copy = self.copies.entry(conversation.clone()).or_default();
                    if copy.take_changes(changes, &me) {
                        return !copy.is_behind();
                    }
                }
                Err(Failure::Refused(error)) if error.code() == ErrorCode::NotFound => {
                    self.oracle.told("changes", &self.user, &key, before, None);
                    self.copies.remove(conversation);
                    self.open.remove(conversation);
                    return true;
                }
                _ => return false,
            }
        }
    }

    /// Forgets the conversation's messages and reloads them by `history`.
    async fn reload(&mut self, conversation: &ConversationId) -> bool {
        self.oracle.count(|counts| counts.resets += 1);
        let mut copy = Copy::default();
        let mut range = HistoryRange::Newest;
        loop {
            let asked = HistoryGet { conversation_id: conversation.clone(), range, limit: 50 };
            let Ok(ServerFrame::History(page)) = self.call(ClientFrame::History(asked)).await else { return false };
            if range == HistoryRange::Newest {
                copy.begin_history(&page);
            }
            let first = page.messages.first().map(|message| message.seq);
            let more = page.more;
            copy.take_history(page);
            match first {
                Some(first) if more => range = HistoryRange::Before(first),
                _ => break,
            }
        }
        self.copies.insert(conversation.clone(), copy);
        true
    }
}
