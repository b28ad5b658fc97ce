//! The shared store as one node's process sees it: reports durable answers to the oracle.

mod push;

use crate::oracle::Oracle;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use switchboard_protocol::{ConversationId, Seq, Timestamp, UserId};
use switchboard_store::{
    Appended, Begun, Claim, ConversationKey, Cursor, Cursors, Entry, Head, HistoryPage, HistoryRange, Inbox,
    InboxChange, InboxPage, InboxRange, InboxRow, Incarnation, Log, Member, MemoryNode, Release, Store, StoreError,
    StoredEntry, StoredMessage, TermNumber, UserKey, UserRecord, Users,
};

pub(crate) struct Recorder {
    pub(crate) store: MemoryNode,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) exact: Arc<ExactFaults>,
}

/// Faults of single operations, set by a test.
#[derive(Default)]
pub(crate) struct ExactFaults {
    /// Delay before it is carried out.
    pub(crate) begin_term_ms: AtomicU64,
    pub(crate) put_inbox_ms: AtomicU64,
    pub(crate) message_ms: AtomicU64,
    pub(crate) read_ms: AtomicU64,
    pub(crate) active_ms: AtomicU64,
    pub(crate) put_user_ms: AtomicU64,
    /// Delay after it is carried out.
    pub(crate) user_answer_ms: AtomicU64,
    /// It is not done, and fails.
    pub(crate) put_inbox_fails: AtomicBool,
    pub(crate) begin_term_fails: AtomicBool,
    pub(crate) append_fails: AtomicBool,
    /// It is refused for good.
    pub(crate) append_refused: AtomicBool,
    /// It is done, but fails.
    pub(crate) begin_term_unsaid: AtomicBool,
    pub(crate) begins: Begins,
    /// How often an inbox's rows were read.
    pub(crate) inbox_reads: AtomicUsize,
}

/// How many terms are being begun at once.
#[derive(Default)]
pub(crate) struct Begins {
    now: AtomicUsize,
    pub(crate) most: AtomicUsize,
}

impl Begins {
    pub(crate) fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }
}

async fn wait(ms: &AtomicU64) {
    let ms = ms.load(Ordering::Relaxed);
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn fail(fails: &AtomicBool) -> Result<(), StoreError> {
    if fails.load(Ordering::Relaxed) { Err(StoreError::unavailable("a test's will")) } else { Ok(()) }
}

#[async_trait]
impl Log for Recorder {
    async fn begin_term(&self, conversation: &ConversationKey, claim: Claim) -> Result<Option<Begun>, StoreError> {
        let by = claim.by.clone();
        let begins = &self.exact.begins;
        begins.most.fetch_max(begins.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        wait(&self.exact.begin_term_ms).await;
        begins.now.fetch_sub(1, Ordering::Relaxed);
        fail(&self.exact.begin_term_fails)?;
        let begun = self.store.begin_term(conversation, claim).await;
        fail(&self.exact.begin_term_unsaid)?;
        let id = conversation.conversation.as_str();
        match &begun {
            Ok(Some(begun)) => self.oracle.trace(format_args!("term {} of {id} by {by}", begun.term.0)),
            Ok(None) => self.oracle.trace(format_args!("no term of {id} by {by}")),
            Err(error) => self.oracle.trace(format_args!("no term of {id} by {by}: {error}")),
        }
        begun
    }

    async fn append(
        &self,
        conversation: &ConversationKey,
        term: TermNumber,
        entries: Arc<[Entry]>,
    ) -> Result<Appended, StoreError> {
        fail(&self.exact.append_fails)?;
        if self.exact.append_refused.load(Ordering::Relaxed) {
            return Err(StoreError::Misplaced { what: "a test's will".to_owned() });
        }
        let appended = self.store.append(conversation, term, entries.clone()).await;
        match &appended {
            Ok(Appended::Durable) => self.oracle.durable(conversation, &entries),
            Err(StoreError::Misplaced { what }) => self.oracle.violated(format!("a misplaced append: {what}")),
            _ => {}
        }
        appended
    }

    async fn end_term(&self, conversation: &ConversationKey, term: TermNumber) -> Result<(), StoreError> {
        self.store.end_term(conversation, term).await
    }

    fn release(&self, conversation: &ConversationKey, term: TermNumber) -> Option<Release> {
        let released = self.store.release(conversation, term);
        self.oracle.trace(format_args!("term {} of {} released: {released:?}", term.0, conversation.conversation));
        released
    }

    async fn head(&self, conversation: &ConversationKey) -> Result<Option<Head>, StoreError> {
        self.store.head(conversation).await
    }

    async fn read(
        &self,
        conversation: &ConversationKey,
        after: Seq,
        end: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        wait(&self.exact.read_ms).await;
        self.store.read(conversation, after, end, limit, bytes_max).await
    }

    async fn history(
        &self,
        conversation: &ConversationKey,
        range: HistoryRange,
        end: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<HistoryPage, StoreError> {
        self.store.history(conversation, range, end, limit, bytes_max).await
    }

    async fn message(&self, conversation: &ConversationKey, seq: Seq) -> Result<Option<StoredMessage>, StoreError> {
        wait(&self.exact.message_ms).await;
        self.store.message(conversation, seq).await
    }

    async fn member(&self, conversation: &ConversationKey, user: &UserId) -> Result<Option<Member>, StoreError> {
        self.store.member(conversation, user).await
    }

    async fn members(&self, conversation: &ConversationKey) -> Result<Vec<(UserId, Member)>, StoreError> {
        self.store.members(conversation).await
    }

    async fn active(&self, living: &[Incarnation]) -> Result<Vec<(Incarnation, ConversationKey)>, StoreError> {
        wait(&self.exact.active_ms).await;
        self.store.active(living).await
    }

    async fn forget_active(&self, dead: &Incarnation, conversations: &[ConversationKey]) -> Result<(), StoreError> {
        self.store.forget_active(dead, conversations).await
    }
}

#[async_trait]
impl Cursors for Recorder {
    async fn put_cursors(
        &self,
        conversation: &ConversationKey,
        cursors: Vec<(UserId, Cursor)>,
    ) -> Result<(), StoreError> {
        self.store.put_cursors(conversation, cursors).await
    }
}

#[async_trait]
impl Inbox for Recorder {
    async fn put_inbox(&self, changes: Vec<(UserKey, InboxChange)>) -> Result<(), StoreError> {
        wait(&self.exact.put_inbox_ms).await;
        fail(&self.exact.put_inbox_fails)?;
        self.store.put_inbox(changes).await
    }

    async fn inbox(&self, user: &UserKey, range: InboxRange, limit: usize) -> Result<InboxPage, StoreError> {
        self.exact.inbox_reads.fetch_add(1, Ordering::Relaxed);
        self.store.inbox(user, range, limit).await
    }

    async fn inbox_top(&self, user: &UserKey) -> Result<u64, StoreError> {
        self.store.inbox_top(user).await
    }

    async fn inbox_row(&self, user: &UserKey, conversation: &ConversationId) -> Result<Option<InboxRow>, StoreError> {
        self.store.inbox_row(user, conversation).await
    }
}

#[async_trait]
impl Users for Recorder {
    async fn user(&self, user: &UserKey) -> Result<UserRecord, StoreError> {
        let read = self.store.user(user).await;
        wait(&self.exact.user_answer_ms).await;
        read
    }

    async fn block(&self, user: &UserKey, other: &UserId, at: Timestamp) -> Result<(), StoreError> {
        wait(&self.exact.put_user_ms).await;
        self.store.block(user, other, at).await
    }

    async fn unblock(&self, user: &UserKey, other: &UserId) -> Result<(), StoreError> {
        self.store.unblock(user, other).await
    }

    async fn revoke(&self, user: &UserKey, at: Timestamp) -> Result<(), StoreError> {
        wait(&self.exact.put_user_ms).await;
        self.store.revoke(user, at).await
    }

    async fn put_last_seen(&self, seen: Vec<(UserKey, Timestamp)>) -> Result<(), StoreError> {
        self.store.put_last_seen(seen).await
    }

    async fn put_user_name(&self, user: &UserKey, name: &str) -> Result<(), StoreError> {
        self.store.put_user_name(user, name).await
    }
}

#[async_trait]
impl Store for Recorder {
    fn store_id(&self) -> &str {
        self.store.store_id()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.store.close().await
    }
}
