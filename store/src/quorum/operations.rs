//! The operations that the log protocol needs of a replicated store, and the values that they write and read.

use crate::{ConversationKey, Incarnation, NewConversation, StoreError, TermNumber};
use bytes::Bytes;
use std::future::Future;
use switchboard_protocol::Seq;

/// A conversation's head, always compared and set as a whole.
///
/// No head recurs once it has been replaced: `term` only grows, and within a term so does `end`, until `owner` is
/// removed. So a compare-and-set that arrives late, after its conversation has moved on, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The newest term.
    pub term: TermNumber,
    /// Who may append in it; `None` once it has ended, and then nothing behind `end` is in the log.
    pub owner: Option<Incarnation>,
    /// Up to here, rows are in the log whatever term they carry; behind it, those of `term` that follow without a hole.
    pub end: Seq,
}

/// The write timestamp of a row (`USING TIMESTAMP`): of two versions, the one with the higher timestamp wins. It is
/// computed from the term and the place in it, not from a clock, so the later term wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteTimestamp(pub i64);

/// Entries that a term may have (exclusive), so that all its timestamps are below those of the next term.
pub const TERM_ENTRIES_MAX: u64 = 1 << 20;

impl WriteTimestamp {
    /// For what a conversation has before its first entry.
    pub const FIRST: Self = Self(TERM_ENTRIES_MAX.cast_signed());

    /// For the entry that is `offset` behind the log's end at the begin of `term`. Offset 0 is the term's first
    /// timestamp, which no entry has.
    pub fn of(term: TermNumber, offset: u64) -> Self {
        debug_assert!(offset < TERM_ENTRIES_MAX, "a term ends before it has so many entries");
        Self((term.0 * TERM_ENTRIES_MAX + offset).cast_signed())
    }

    /// Above all timestamps written in `term`, below all those of the next.
    pub fn last_of(term: TermNumber) -> Self {
        Self::of(term, TERM_ENTRIES_MAX - 1)
    }
}

/// A row of the log's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub seq: Seq,
    /// The term whose owner wrote it.
    pub term: TermNumber,
    /// The timestamp that it is written and rewritten with.
    pub timestamp: WriteTimestamp,
    /// The entry, as the backend encodes it.
    pub payload: Bytes,
}

/// The outcome of a compare-and-set of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The new head stands.
    Applied,
    /// This other head is there, and stays; `None` if there is no such conversation.
    Refused(Option<LogHead>),
}

/// The operations on a store with several replicas.
///
/// *By quorum* means: confirmed by, or read from, a majority of the replicas, so that a read that begins after a write
/// was confirmed sees it, or what has overwritten it. *Compare-and-set* means: linearizable (a lightweight transaction
/// at `LOCAL_SERIAL`), and, once its outcome is known, applied or not, a quorum of replicas has the current value.
///
/// [`StoreError::Unavailable`] leaves the outcome open: all of it, any part of it or nothing may have been done, or may
/// be done at any later time. Any other error says that it never will be. An operation that is dropped before it
/// answers may also be done.
pub trait Quorum: Send + Sync {
    /// Writes rows by quorum, each whole (all its columns), with its own timestamp, in any order. They may be in
    /// several partitions. A permanent error may concern only some of them: the others may have been written.
    fn write_rows(
        &self,
        conversation: &ConversationKey,
        rows: &[Row],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads by quorum the rows after `after` up to `upto`, ascending, the newest version of each. Missing rows
    /// (expired, or never written) are left out.
    fn read_rows(
        &self,
        conversation: &ConversationKey,
        after: Seq,
        upto: Seq,
    ) -> impl Future<Output = Result<Vec<Row>, StoreError>> + Send;

    /// Reads the head SERIAL: its value at some moment between the call and the answer.
    fn read_head(
        &self,
        conversation: &ConversationKey,
    ) -> impl Future<Output = Result<Option<LogHead>, StoreError>> + Send;

    /// Creates a conversation with this head by compare-and-set, if it does not exist.
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

    /// Compare-and-set of an incarnation's row from nothing to `live`. Returns whether it is `live` now; `false`: it
    /// has been fenced.
    fn register(&self, me: &Incarnation) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Compare-and-set of an incarnation's row from `live` to `fenced`. `Ok` when it was applied, or refused because
    /// the incarnation is fenced or has no row (any more).
    fn fence(&self, other: &Incarnation) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads an incarnation's row by quorum; `false` if it does not say `live`, or is not there.
    fn is_live(&self, me: &Incarnation) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Notes by quorum in `active` that the conversation must be taken over from `owner`, an incarnation of this
    /// process, if that dies; `term` is the one that it is about to begin. Returns the note's timestamp: it grows with
    /// each note of an `owner`, and nobody else writes notes for it, so any counter will do.
    fn note_active(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
        term: TermNumber,
    ) -> impl Future<Output = Result<WriteTimestamp, StoreError>> + Send;

    /// Reads an incarnation's note about a conversation by quorum: the term that it is for, and its timestamp.
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
