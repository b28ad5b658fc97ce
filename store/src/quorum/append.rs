//! Appending: rows are written, confirmed, and then durable.

use super::term::{Term, Unsettled};
use super::{Quorum, QuorumLog, Row};
use crate::{Appended, ConversationKey, StoreError, TermNumber};
use bytes::Bytes;
use switchboard_protocol::Seq;

impl<Q: Quorum> QuorumLog<Q> {
    /// Appends entries from `first` on. They follow what is durable in `term`, or repeat it. With no entries, it only
    /// checks that the term still runs: before a fence read that says `live`, nobody can have begun another one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the outcome is open; the same append must be repeated, and no other is accepted.
    /// [`StoreError::Misplaced`]: a hole, another entry's place, something else than the open append, or a term that
    /// has not begun. Any other error is a refusal for good: the term is over.
    pub async fn append(
        &self,
        conversation: &ConversationKey,
        term: TermNumber,
        first: Seq,
        payloads: &[Bytes],
    ) -> Result<Appended, StoreError> {
        let Some(term) = self.conversations.term(conversation).filter(|running| running.number == term) else {
            return self.not_running(conversation, term).await;
        };
        if payloads.is_empty() {
            let live = term.life.is_live(&self.quorum).await?;
            return Ok(if live && !term.is_over() { Appended::Durable } else { Appended::Superseded });
        }
        let mut unsettled = term.appending.lock().await;
        if term.is_over() {
            return Ok(Appended::Superseded);
        }
        let durable = term.durable();
        let misplaced =
            |why: &str| StoreError::Misplaced { what: format!("append of {first} to {conversation:?}: {why}") };
        let repeated = (durable.get() + 1).checked_sub(first.get()).ok_or_else(|| misplaced("leaves a hole"))?;
        let (repeated, new) = payloads.split_at(payloads.len().min(usize::try_from(repeated).unwrap_or(usize::MAX)));
        if !self.are_stored(conversation, first, repeated).await? {
            return Err(misplaced("another entry is there"));
        }
        if new.is_empty() {
            return Ok(Appended::Durable);
        }
        if unsettled.0.is_empty() {
            unsettled.0 = new.to_vec();
        } else if unsettled.0 != new {
            return Err(misplaced("what became of another append is not known yet"));
        }
        let appended = self.settle(conversation, &term, durable, &unsettled).await?;
        unsettled.0.clear();
        if term.has_full_bucket() {
            self.bucket_filled.notify_one();
        }
        Ok(appended)
    }

    /// Writes what follows `durable`, and finds out whether it is durable too.
    async fn settle(
        &self,
        conversation: &ConversationKey,
        term: &Term,
        durable: Seq,
        unsettled: &Unsettled,
    ) -> Result<Appended, StoreError> {
        let places = durable.get() + 1..;
        let rows = unsettled.0.iter().zip(places).map(|(payload, seq)| {
            let seq = Seq::new(seq);
            let timestamp = term.timestamp(seq)?;
            Some(Row { seq, term: term.number, timestamp, payload: payload.clone() })
        });
        let Some(rows) = rows.collect::<Option<Vec<Row>>>() else {
            // The term has no timestamps left for so many; the next term has.
            term.stop();
            return Ok(Appended::Superseded);
        };
        let upto = Seq::new(durable.get() + rows.len() as u64);
        if !term.is_confirmed(upto) {
            if let Err(error) = self.quorum.write_rows(conversation, &rows).await {
                if !matches!(error, StoreError::Unavailable { .. }) {
                    term.stop();
                }
                return Err(error);
            }
            term.confirm(upto);
        }
        // Confirmed is not durable: a node that fenced this one may have read the tail before the rows were there. If
        // this node is not fenced now, any later fence comes before a tail read that finds them.
        if term.life.is_live(&self.quorum).await? { Ok(term.make_durable(upto)) } else { Ok(Appended::Superseded) }
    }

    async fn are_stored(
        &self,
        conversation: &ConversationKey,
        first: Seq,
        payloads: &[Bytes],
    ) -> Result<bool, StoreError> {
        if payloads.is_empty() {
            return Ok(true);
        }
        let after = Seq::new(first.get().saturating_sub(1));
        let rows = self.quorum.read_rows(conversation, after, Seq::new(after.get() + payloads.len() as u64)).await?;
        Ok(rows.iter().map(|row| &row.payload).eq(payloads))
    }

    /// An append in a term that this process does not have: over, unless there never was one.
    async fn not_running(&self, conversation: &ConversationKey, term: TermNumber) -> Result<Appended, StoreError> {
        match self.quorum.read_head(conversation).await? {
            Some(head) if term <= head.term => Ok(Appended::Superseded),
            _ => Err(StoreError::Misplaced {
                what: format!("append to {conversation:?}: term {} has not begun", term.0),
            }),
        }
    }
}
