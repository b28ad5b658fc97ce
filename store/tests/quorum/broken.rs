//! The protocol with one rule left out at a time: a driver that does to the protocol's operations what an
//! implementation without that rule would. The protocol itself is unchanged.

use crate::driver::{Driver, Shared, number};
use crate::node::key;
use crate::replica::{Answer, Change, Question, ROW_EPOCHS};
use std::sync::{Mutex, MutexGuard};
use switchboard_protocol::Seq;
use switchboard_store::quorum::{LogHead, Quorum, Row, Swapped, WriteTimestamp};
use switchboard_store::{ConversationKey, Incarnation, NewConversation, StoreError, TermNumber};

/// A rule of DESIGN §3 that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// What is confirmed counts as durable.
    FenceRead,
    /// The fence read begins with the write.
    FenceReadAfterConfirmation,
    /// The rows behind the end are not rewritten.
    Rewrite,
    /// They are rewritten, but nobody waits for it.
    RewriteAwaited,
    /// The rows behind the end are read before their owner is fenced.
    FenceBeforeTail,
    /// The next term begins before the owner of the last one is fenced.
    FenceBeforeSwap,
    /// The next term begins before the rows are rewritten.
    RewriteBeforeSwap,
    /// Rows behind the end count whatever their term.
    TermOfTail,
    /// Rows are written with the time of a clock that may be wrong.
    TimestampsOfTerms,
    /// A release applies to whatever term the head names.
    TermOfRelease,
    /// A node that has released a term continues in it.
    StopOnRelease,
    /// A plain read that says `fenced` is trusted.
    OwnFence,
    /// After a begin with an open outcome, the owner continues from the end that it tried to set.
    EndOfHead,
    /// The end is raised to what is confirmed.
    EndDurable,
    /// The end is not raised before rows behind it expire.
    EndRaised,
    /// Readers show all rows that they find.
    BoundOfReaders,
    /// Heads are compared only by term and owner.
    EndCompared,
    /// An append with an open outcome counts as confirmed.
    Repeat,
    /// Appends do not wait until the conversation is noted as active.
    NoteAwaited,
    /// A takeover removes the note of a term that its last owner is about to begin.
    TermOfNote,
    /// Ending a term removes the notes of the same node's later ones.
    OwnNote,
}

/// A node's driver, which leaves out at most one rule.
pub(crate) struct Broken {
    rule: Option<Rule>,
    driver: Driver,
    memory: Mutex<Memory>,
}

/// What a left-out rule has to remember between operations.
#[derive(Default)]
struct Memory {
    /// The last head that was read.
    head: Option<LogHead>,
    /// Rows that were read, so that writing them is recognised as a rewrite.
    read: Vec<Row>,
    tail_read_early: Option<(Seq, Vec<Row>)>,
    rewrite_owed: Vec<Row>,
    fence_owed: Option<Incarnation>,
    live_read_early: Option<bool>,
    tried: Option<LogHead>,
    confirmed: Option<Row>,
}

impl Broken {
    pub(crate) fn new(store: Shared, rule: Option<Rule>) -> Self {
        Self { rule, driver: Driver(store), memory: Mutex::default() }
    }

    fn is(&self, rule: Rule) -> bool {
        self.rule == Some(rule)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    fn is_rewrite(&self, rows: &[Row]) -> bool {
        let memory = self.memory();
        rows.iter().any(|row| memory.read.iter().any(|read| (read.seq, read.timestamp) == (row.seq, row.timestamp)))
    }

    async fn rewrite(&self, conversation: &ConversationKey, rows: &[Row]) -> Result<(), StoreError> {
        match self.rule {
            Some(Rule::Rewrite) => Ok(()),
            Some(Rule::RewriteAwaited) => {
                let store = &mut *self.driver.0.lock();
                let (rows, expires) = (rows.into(), store.epoch + ROW_EPOCHS);
                store.begin_write(vec![Change::Rows { conversation: number(conversation), rows, expires }]);
                Ok(())
            }
            Some(Rule::RewriteBeforeSwap) => {
                self.memory().rewrite_owed = rows.to_vec();
                Ok(())
            }
            _ => self.driver.write_rows(conversation, rows).await,
        }
    }

    /// A plain read that does not go through compare-and-set.
    async fn seems_fenced(&self, other: &Incarnation) -> Result<bool, StoreError> {
        Ok(matches!(self.driver.0.read(Question::Life { life: other.life }).await?, Answer::Live(Some(false))))
    }

    fn is_raise(old: &LogHead, new: &LogHead) -> bool {
        old.term == new.term
    }
}

/// Readers know where the log ends; a takeover asks for all that there may be.
fn is_of_tail(after: Seq, upto: Seq) -> bool {
    upto.get() - after.get() > 100
}

impl Quorum for Broken {
    async fn write_rows(&self, conversation: &ConversationKey, rows: &[Row]) -> Result<(), StoreError> {
        if self.rule.is_none() {
            return self.driver.write_rows(conversation, rows).await;
        }
        if self.is_rewrite(rows) {
            return self.rewrite(conversation, rows).await;
        }
        let mut rows = rows.to_vec();
        if self.is(Rule::TimestampsOfTerms) {
            let store = &self.driver.0.lock();
            rows.iter_mut()
                .for_each(|row| row.timestamp = WriteTimestamp(store.generator.below(1 << 22).cast_signed()));
        }
        let write = self.driver.write_rows(conversation, &rows);
        let written = if self.is(Rule::FenceReadAfterConfirmation) {
            let head = self.memory().head.clone();
            let Some(me) = head.and_then(|head| head.owner) else { return write.await };
            let (written, live) = tokio::join!(write, self.driver.is_live(&me));
            self.memory().live_read_early = live.ok();
            written
        } else {
            write.await
        };
        self.memory().confirmed = rows.last().filter(|_| written.is_ok()).cloned();
        if self.is(Rule::Repeat) { Ok(()) } else { written }
    }

    async fn read_rows(&self, conversation: &ConversationKey, after: Seq, upto: Seq) -> Result<Vec<Row>, StoreError> {
        if self.rule.is_none() || !is_of_tail(after, upto) {
            return self.driver.read_rows(conversation, after, upto).await;
        }
        if let Some((_, rows)) = self.memory().tail_read_early.take_if(|(of, _)| *of == after) {
            return Ok(rows);
        }
        let mut rows = self.driver.read_rows(conversation, after, upto).await?;
        let mut memory = self.memory();
        if let Some(head) = memory.head.clone().filter(|head| self.is(Rule::TermOfTail) && head.end == after) {
            rows.iter_mut().for_each(|row| row.term = head.term);
        }
        memory.read.clone_from(&rows);
        Ok(rows)
    }

    async fn read_head(&self, conversation: &ConversationKey) -> Result<Option<LogHead>, StoreError> {
        let mut head = self.driver.read_head(conversation).await?;
        let mut memory = self.memory();
        if let (Some(tried), Some(head)) = (memory.tried.take(), &mut head)
            && (tried.term, &tried.owner) == (head.term, &head.owner)
        {
            *head = tried;
        }
        memory.head.clone_from(&head);
        Ok(head)
    }

    async fn create_head(
        &self,
        conversation: &ConversationKey,
        new: &NewConversation,
        head: &LogHead,
    ) -> Result<Swapped, StoreError> {
        let swapped = self.driver.create_head(conversation, new, head).await;
        self.memory().head = Some(head.clone());
        swapped
    }

    async fn swap_head(
        &self,
        conversation: &ConversationKey,
        old: &LogHead,
        new: &LogHead,
    ) -> Result<Swapped, StoreError> {
        let mut new = new.clone();
        if Self::is_raise(old, &new) && new.owner.is_some() {
            if self.is(Rule::EndRaised) {
                return Ok(Swapped::Refused(Some(old.clone())));
            }
            let confirmed = self.memory().confirmed.clone().filter(|row| row.term == new.term);
            if let Some(row) = confirmed.filter(|_| self.is(Rule::EndDurable)) {
                new.end = new.end.max(row.seq);
            }
        }
        let swapped = self.driver.swap_head(conversation, old, &new).await;
        let owed = std::mem::take(&mut self.memory().rewrite_owed);
        if !owed.is_empty() {
            drop(self.driver.write_rows(conversation, &owed).await);
        }
        let owed = self.memory().fence_owed.take();
        if let Some(other) = owed {
            while self.driver.fence(&other).await.is_err() {}
        }
        let mut memory = self.memory();
        memory.head = Some(new.clone());
        if self.is(Rule::EndOfHead) && !Self::is_raise(old, &new) {
            memory.tried = Some(new).filter(|_| swapped.is_err());
        }
        swapped
    }

    async fn register(&self, me: &Incarnation) -> Result<bool, StoreError> {
        self.driver.register(me).await
    }

    async fn fence(&self, other: &Incarnation) -> Result<(), StoreError> {
        match self.rule {
            Some(Rule::FenceBeforeTail) => {
                let head = self.memory().head.clone();
                let after = head.map_or(Seq::ZERO, |head| head.end);
                let rows = self.driver.read_rows(&key(0), after, Seq::new(after.get() + 256)).await?;
                self.driver.fence(other).await?;
                let mut memory = self.memory();
                memory.read.clone_from(&rows);
                memory.tail_read_early = Some((after, rows));
                Ok(())
            }
            Some(Rule::FenceBeforeSwap) => {
                self.memory().fence_owed = Some(other.clone());
                Ok(())
            }
            Some(Rule::OwnFence) if self.seems_fenced(other).await? => Ok(()),
            _ => self.driver.fence(other).await,
        }
    }

    async fn is_live(&self, me: &Incarnation) -> Result<bool, StoreError> {
        let early = self.memory().live_read_early.take();
        match (self.rule, early) {
            (Some(Rule::FenceRead), _) => Ok(true),
            (_, Some(live)) => Ok(live),
            _ => self.driver.is_live(me).await,
        }
    }

    async fn note_active(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
        term: TermNumber,
    ) -> Result<WriteTimestamp, StoreError> {
        if self.is(Rule::NoteAwaited) {
            let (conversation, life) = (number(conversation), owner.life);
            let store = &mut *self.driver.0.lock();
            let note = store.note(term);
            store.begin_write(vec![Change::Note { conversation, life, note }]);
            return Ok(note.0);
        }
        self.driver.note_active(owner, conversation, term).await
    }

    async fn read_note(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
    ) -> Result<Option<(TermNumber, WriteTimestamp)>, StoreError> {
        let note = self.driver.read_note(owner, conversation).await?;
        Ok(note.map(|(term, timestamp)| (if self.is(Rule::TermOfNote) { TermNumber(0) } else { term }, timestamp)))
    }

    async fn remove_active(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
        timestamp: WriteTimestamp,
    ) -> Result<(), StoreError> {
        let last = if self.is(Rule::OwnNote) { WriteTimestamp(i64::MAX) } else { timestamp };
        self.driver.remove_active(owner, conversation, last).await
    }
}
