//! The operations that the log protocol needs of a replicated store, and the values that they write and read.

use crate::{ConversationKey, Incarnation, NewConversation, StoreError, TermNumber};
use bytes::Bytes;
use std::future::Future;
use switchboard_protocol::Seq;

/// A conversation's head as it is compared and set, always whole.
///
/// No head comes back once it has been replaced: `term` only grows, and within a term so does `end`, until `owner` is
/// taken out. So a compare-and-set that arrives late, after its conversation has gone on, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The newest term.
    pub term: TermNumber,
    /// Who may append in it; none once it has ended, and then nothing behind `end` is in the log.
    pub owner: Option<Incarnation>,
    /// Up to here, rows are in the log whatever term they carry; behind, those of `term` that follow without a hole.
    pub end: Seq,
}

/// When a row was written, as the store is told (`USING TIMESTAMP`): of two versions, the one with the higher timestamp
/// stays. Made from the term and the place in it, so it takes no clock: whoever has the later term wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteTimestamp(pub i64);

/// How many entries a term may have at most (exclusive), so that each has a timestamp below those of the next term.
pub const TERM_ENTRIES_MAX: u64 = 1 << 20;

impl WriteTimestamp {
    /// That of what a conversation has before its first entry.
    pub const FIRST: Self = Self(TERM_ENTRIES_MAX.cast_signed());

    /// The one of the entry that is `offset` behind the log's end at the begin of `term`; for `offset` 0 the term's
    /// first, which no entry has.
    pub fn of(term: TermNumber, offset: u64) -> Self {
        debug_assert!(offset < TERM_ENTRIES_MAX, "a term ends before it has so many entries");
        Self((term.0 * TERM_ENTRIES_MAX + offset).cast_signed())
    }

    /// Above all that is written in `term`, below all that is written in the next.
    pub fn last_of(term: TermNumber) -> Self {
        Self::of(term, TERM_ENTRIES_MAX - 1)
    }
}

/// A row of the log's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub seq: Seq,
    /// Who wrote it: the owner of this term.
    pub term: TermNumber,
    /// The timestamp that it was written with, and is written with again.
    pub timestamp: WriteTimestamp,
    /// The entry, as the backend encodes it.
    pub payload: Bytes,
}

/// What a compare-and-set of a head came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The new head stands.
    Applied,
    /// This other one stood there, and stays; none where there is no such conversation.
    Refused(Option<LogHead>),
}

/// The operations on a store with several replicas.
///
/// *By quorum* means: confirmed by, or read from, a majority of the replicas, so that a read that begins after a write was
/// confirmed sees it, or what has overwritten it. *Compare-and-set* means: linearizable (a lightweight transaction at
/// `LOCAL_SERIAL`), and, when its outcome is known, applied or not, a quorum of replicas has what stands now.
///
/// [`StoreError::Unavailable`] leaves the outcome open: all of it, any part of it or nothing may have been done, or may
/// yet be, at any later time. Any other error says that it never will be. An operation that is dropped before it answers
/// may be done as well.
pub trait Quorum: Send + Sync {
    /// Writes rows by quorum, each whole (all its columns), with its own timestamp, in any order. They may be in several
    /// partitions. An error that says that it never will be done may be about some of them: any others may be there.
    fn write_rows(
        &self,
        conversation: &ConversationKey,
        rows: &[Row],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads by quorum the rows after `after` up to `upto`, ascending; where none is (it has expired, was never written),
    /// it leaves it out. Of each row the newest version.
    fn read_rows(
        &self,
        conversation: &ConversationKey,
        after: Seq,
        upto: Seq,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Reads the head SERIAL, that is, as of a moment between the call and the answer.
    fn read_head(
        &self,
        conversation: &ConversationKey,
    ) -> impl Future<Output = Result<Option<LogHead>, StoreError>> + Send;

    /// Compare-and-set of a conversation that does not exist: makes it, with this head.
    fn create_head(
        &self,
        conversation: &ConversationKey,
        new: &NewConversation,
        head: &LogHead,
    ) -> impl Future<Output = Result<Swapped, StoreError>> + Send;

    /// Compare-and-set of the head from exactly `old` to `new`.
    fn swap_head(
        &self,
        conversation: &ConversationKey,
        old: &LogHead,
        new: &LogHead,
    ) -> impl Future<Output = Result<Swapped, StoreError>> + Send;

    /// Compare-and-set of an incarnation's row from nothing to `live`. Whether it is `live` now; `false`: it has been
    /// fenced.
    fn register(&self, me: &Incarnation) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Compare-and-set of an incarnation's row from `live` to `fenced`. `Ok` when it was applied, or refused because it is
    /// fenced or has no row (any more).
    fn fence(&self, other: &Incarnation) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads an incarnation's row by quorum; `false` if it does not say `live`, or is not there.
    fn is_live(&self, me: &Incarnation) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Notes by quorum in `active` that the conversation is to be taken over from `owner`, who is of this process, when he
    /// dies; `term` is the one that he is about to begin. Gives the note's timestamp: it grows with each note of an
    /// `owner`, and nobody else writes his, so it may come from any counter.
    fn note_active(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
        term: TermNumber,
    ) -> impl Future<Output = Result<WriteTimestamp, StoreError>> + Send;

    /// Reads by quorum of an incarnation's note about a conversation for which term it was written, and its timestamp.
    fn read_note(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
    ) -> impl Future<Output = Result<Option<(TermNumber, WriteTimestamp)>, StoreError>> + Send;

    /// Removes that note by quorum, unless it was written with a higher timestamp.
    fn remove_active(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
        timestamp: WriteTimestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
