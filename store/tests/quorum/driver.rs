//! A node's access to the replicas: the quorum operations, each a future that the schedule completes.

use crate::replica::{Answer, Change, Question, ROW_EPOCHS};
use crate::store::{Decision, Store};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use switchboard_protocol::Seq;
use switchboard_store::quorum::{LogHead, Quorum, Row, Swapped, WriteTimestamp};
use switchboard_store::{ConversationKey, Incarnation, NewConversation, StoreError, TermNumber};

/// The store, shared by all.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Store>>);

impl Shared {
    pub(crate) fn new(store: Store) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap()
    }

    fn answer(&self, begin: impl FnOnce(&mut Store) -> usize) -> Answered {
        let op = begin(&mut self.lock());
        Answered { store: self.clone(), op }
    }

    pub(crate) async fn read(&self, question: Question) -> Result<Answer, StoreError> {
        self.answer(|store| store.begin_read(question)).await
    }

    pub(crate) async fn decide(&self, decision: Decision) -> Result<Answer, StoreError> {
        self.answer(|store| store.begin_decision(decision)).await
    }

    pub(crate) async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.answer(|store| store.begin_write(changes)).await.map(|_| ())
    }

    pub(crate) async fn swap(&self, decision: Decision) -> Result<Swapped, StoreError> {
        match self.decide(decision).await? {
            Answer::Swapped(swapped) => Ok(swapped),
            _ => unreachable!("the answer to a compare-and-set"),
        }
    }
}

struct Answered {
    store: Shared,
    op: usize,
}

impl Future for Answered {
    type Output = Result<Answer, StoreError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.store.lock().answer(self.op, context.waker()) {
            Some(answer) => Poll::Ready(answer.map_err(|()| StoreError::unavailable("timed out"))),
            None => Poll::Pending,
        }
    }
}

/// The conversation's number in the simulation.
pub(crate) fn number(conversation: &ConversationKey) -> usize {
    usize::from(conversation.conversation.as_str().as_bytes()[0] - b'a')
}

/// How each node reaches the replicas if no rule is left out.
pub(crate) struct Driver(pub(crate) Shared);

impl Quorum for Driver {
    async fn write_rows(&self, conversation: &ConversationKey, rows: &[Row]) -> Result<(), StoreError> {
        let conversation = number(conversation);
        let changes = {
            let store = &mut *self.0.lock();
            let expires = store.epoch + ROW_EPOCHS;
            // Rows of one statement arrive together, those of parallel statements independently.
            let together = if store.chance(50) { rows.len() } else { 1 };
            let change = |rows: &[Row]| Change::Rows { conversation, rows: rows.into(), expires };
            let mut changes: Vec<Change> = rows.chunks(together).map(change).collect();
            if store.chance(store.weather.refused) {
                // One of them; the others may be done.
                changes.remove(store.generator.below(changes.len() as u64) as usize);
                store.begin_write(changes);
                return Err(StoreError::Unreadable { what: "rows that the store refuses".to_owned() });
            }
            changes
        };
        self.0.write(changes).await
    }

    async fn read_rows(&self, conversation: &ConversationKey, after: Seq, upto: Seq) -> Result<Vec<Row>, StoreError> {
        let conversation = number(conversation);
        let answer = self.0.read(Question::Rows { conversation, after: after.get(), upto: upto.get() }).await?;
        Ok(answer.into_rows(self.0.lock().epoch))
    }

    async fn read_head(&self, conversation: &ConversationKey) -> Result<Option<LogHead>, StoreError> {
        match self.0.decide(Decision::ReadHead { conversation: number(conversation) }).await? {
            Answer::Head(head) => Ok(head),
            _ => unreachable!("the answer to a read of the head"),
        }
    }

    async fn create_head(
        &self,
        conversation: &ConversationKey,
        _: &NewConversation,
        head: &LogHead,
    ) -> Result<Swapped, StoreError> {
        self.0.swap(Decision::CreateHead { conversation: number(conversation), head: head.clone() }).await
    }

    async fn swap_head(
        &self,
        conversation: &ConversationKey,
        old: &LogHead,
        new: &LogHead,
    ) -> Result<Swapped, StoreError> {
        let conversation = number(conversation);
        self.0.swap(Decision::SwapHead { conversation, old: old.clone(), new: new.clone() }).await
    }

    async fn register(&self, me: &Incarnation) -> Result<bool, StoreError> {
        Ok(matches!(self.0.decide(Decision::Register { life: me.life }).await?, Answer::Live(Some(true))))
    }

    async fn fence(&self, other: &Incarnation) -> Result<(), StoreError> {
        self.0.decide(Decision::Fence { life: other.life }).await.map(|_| ())
    }

    async fn is_live(&self, me: &Incarnation) -> Result<bool, StoreError> {
        Ok(matches!(self.0.read(Question::Life { life: me.life }).await?, Answer::Live(Some(true))))
    }

    async fn note_active(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
        term: TermNumber,
    ) -> Result<WriteTimestamp, StoreError> {
        let (conversation, life) = (number(conversation), owner.life);
        let note = self.0.lock().note(term);
        self.0.write(vec![Change::Note { conversation, life, note }]).await?;
        Ok(note.0)
    }

    async fn read_note(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
    ) -> Result<Option<(TermNumber, WriteTimestamp)>, StoreError> {
        match self.0.read(Question::Note { conversation: number(conversation), life: owner.life }).await? {
            Answer::Note(note) => Ok(note.and_then(|(timestamp, term)| Some((term?, timestamp)))),
            _ => unreachable!("the answer to a read of a note"),
        }
    }

    async fn remove_active(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
        timestamp: WriteTimestamp,
    ) -> Result<(), StoreError> {
        let (conversation, life) = (number(conversation), owner.life);
        self.0.write(vec![Change::Note { conversation, life, note: (timestamp, None) }]).await
    }
}
