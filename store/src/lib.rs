//! The gateway's storage, as traits named after what they promise (DESIGN §3, §4, §6).
//!
//! The backends are `embedded.rs`, and `memory.rs` for the simulation, which both use the rows of `kv.rs`; and
//! `scylla.rs` for several nodes, whose log is kept by `quorum.rs`. All pass the suite in `contract.rs`. Only a backend
//! knows its database. This crate decides nothing about permissions, sends nothing to anyone, and assigns no `seq`: the
//! conversation's owner does that, in the router.

#[cfg(feature = "contract")]
pub mod contract;
mod embedded;
mod entry;
mod error;
mod kv;
mod memory;
mod push;
pub mod quorum;
mod retention;
mod scylla;

pub use embedded::{EmbeddedOptions, EmbeddedStore};
pub use entry::{
    Begun, Claim, ConversationKey, ConversationMeta, Cursor, Entry, Head, HistoryPage, HistoryRange, InboxChange,
    InboxLast, InboxPage, InboxRange, InboxRow, Incarnation, Kind, Member, MessageState, NewConversation, Outline,
    Preview, ReactionState, RecentSend, RecentWindow, Settings, StoredEntry, StoredMessage, TermNumber, UserKey,
    UserRecord,
};
pub use error::{SetupError, StoreError};
pub use memory::{Faults, MemoryNode, MemoryStore};
pub use push::{
    Channel, DEAD_LETTERS_MAX, DeadLetter, LeasedJob, Priority, PushDevice, PushEnd, PushJob, PushKey, PushStore,
    Receipt,
};
pub use quorum::{Previous, Release};
pub use retention::Retention;
pub use scylla::{ScyllaOptions, ScyllaStore};

use async_trait::async_trait;
use std::sync::Arc;
use switchboard_protocol::{ConversationId, Seq, Timestamp, UserId};

/// The outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// These entries are in the log, at these `seq`, for ever and for every reader.
    Durable,
    /// Another term has begun. Nothing of this append that was not answered with `Durable` before is in the log, unless
    /// it lies below the new term's end. The caller no longer owns the conversation.
    Superseded,
}

/// The conversation logs (DESIGN §3).
/// Order: the entries of one conversation are in the log in the order of their `seq`, without holes. Atomicity: an
/// append is in the log as a whole or, if it was superseded or the process died, up to some entry of it. Visibility:
/// what `append` answered with [`Appended::Durable`] is returned by every later `read`, `history`, `head` and
/// `begin_term`.
#[async_trait]
pub trait Log: Send + Sync {
    /// Begins the next term of a conversation for `claim.by`, ending every earlier one: an append of an earlier term
    /// that is not durable yet will be answered with [`Appended::Superseded`]. Notes the conversation in `active` for
    /// `claim.by` before the term's first append is durable, at the latest.
    ///
    /// Returns `None` if the conversation does not exist and `claim.create` is empty. With `claim.create`, a
    /// conversation that already exists is left as it is.
    ///
    /// [`StoreError::Owned`] if another process has it, unless `claim.previous` says that it has released it or is
    /// gone.
    async fn begin_term(&self, conversation: &ConversationKey, claim: Claim) -> Result<Option<Begun>, StoreError>;

    /// Appends entries whose `seq` follow the log's end (or repeat what this term has appended: an append that ended
    /// with an error may be repeated unchanged, and is stored once). Projections (members, message states, title and
    /// custom) include an entry once its append is durable. An error leaves the outcome open. An owner has one append
    /// of a conversation under way at a time: of several at once, any may be the first, and the others leave a hole,
    /// which is refused with [`StoreError::Misplaced`].
    ///
    /// An empty append asks whether the term still runs: `Durable` says that nobody else had begun one when this was
    /// called, so what its owner knows is still complete.
    ///
    /// Cursors are part of the projections: a message raises its sender's cursors (delivered, read, messages) to
    /// itself, and the cursors of a new member start at the entry that adds the user.
    async fn append(
        &self,
        conversation: &ConversationKey,
        term: TermNumber,
        entries: Arc<[Entry]>,
    ) -> Result<Appended, StoreError>;

    /// Ends `term` with nothing owed: removes the conversation from `active`. Does nothing if the term is not the
    /// newest. An append of a term that has ended is answered with [`Appended::Superseded`].
    async fn end_term(&self, conversation: &ConversationKey, term: TermNumber) -> Result<(), StoreError>;

    /// Releases a term, so that another process can go on from the returned end: what is not durable yet never will be.
    /// `None` if there is nothing to tell another process: the term is not known (any more), or the store has only one
    /// process.
    fn release(&self, conversation: &ConversationKey, term: TermNumber) -> Option<Release> {
        let _ = (conversation, term);
        None
    }

    /// The conversation's head as far as it is durable; `None` if it was never begun. While another process has the
    /// term, its end may be an earlier one: the owner knows.
    async fn head(&self, conversation: &ConversationKey) -> Result<Option<Head>, StoreError>;

    /// The entries after `after` up to `end`, ascending, at most `limit` of them and about `bytes_max` bytes (at least
    /// one if there is one). `end` comes from the owner or from the head; nothing beyond it is shown. Where entries
    /// have expired ([`Retention`]), the result starts later than `after`, or is empty.
    async fn read(
        &self,
        conversation: &ConversationKey,
        after: Seq,
        end: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredEntry>, StoreError>;

    /// The messages in `range`, ascending, at most `limit` and about `bytes_max` bytes, as of one moment: when the
    /// log's end was [`HistoryPage::end`] (`end` or later).
    async fn history(
        &self,
        conversation: &ConversationKey,
        range: HistoryRange,
        end: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<HistoryPage, StoreError>;

    /// The current state of the message at `seq`; `None` if there is no entry or it is not a message.
    async fn message(&self, conversation: &ConversationKey, seq: Seq) -> Result<Option<StoredMessage>, StoreError>;

    /// A stored member; `None` for anyone else.
    async fn member(&self, conversation: &ConversationKey, user: &UserId) -> Result<Option<Member>, StoreError>;

    /// The stored members, ordered by id.
    async fn members(&self, conversation: &ConversationKey) -> Result<Vec<(UserId, Member)>, StoreError>;

    /// The conversations noted for incarnations other than `living`: those that must be taken over from dead ones.
    async fn active(&self, living: &[Incarnation]) -> Result<Vec<(Incarnation, ConversationKey)>, StoreError>;

    /// Removes the notes of a dead incarnation about conversations whose next term another one has begun.
    async fn forget_active(&self, dead: &Incarnation, conversations: &[ConversationKey]) -> Result<(), StoreError>;
}

/// Values per conversation and user, besides the log.
#[async_trait]
pub trait Cursors: Send + Sync {
    /// Raises receipt cursors; durable when it returns. Each value only grows: a smaller one changes nothing. Cursors
    /// of users who are not members are dropped.
    async fn put_cursors(
        &self,
        conversation: &ConversationKey,
        cursors: Vec<(UserId, Cursor)>,
    ) -> Result<(), StoreError>;
}

/// Each user's inbox: one row per conversation that the user was ever in.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Merges changes into inbox rows; durable when it returns. Each part only grows in its own order (see
    /// [`InboxChange`]), so repeats and late changes change nothing. A row that did change gets a `version` above every
    /// version that any earlier [`Inbox::inbox`] of that user has returned.
    async fn put_inbox(&self, changes: Vec<(UserKey, InboxChange)>) -> Result<(), StoreError>;

    /// The user's rows with a version in `range`, newest first, and the conversations whose owners must be asked, in
    /// one read.
    async fn inbox(&self, user: &UserKey, range: InboxRange, limit: usize) -> Result<InboxPage, StoreError>;

    /// [`InboxPage::top`], without a page.
    async fn inbox_top(&self, user: &UserKey) -> Result<u64, StoreError> {
        self.inbox(user, InboxRange { after: u64::MAX, below: None }, 0).await.map(|page| page.top)
    }

    /// One row.
    async fn inbox_row(&self, user: &UserKey, conversation: &ConversationId) -> Result<Option<InboxRow>, StoreError>;
}

/// Values per user.
#[async_trait]
pub trait Users: Send + Sync {
    /// The whole record in one read; the default record for a user never seen.
    async fn user(&self, user: &UserKey) -> Result<UserRecord, StoreError>;

    /// `user` blocks `other`, recorded on both sides; durable and visible when it returns. Idempotent.
    async fn block(&self, user: &UserKey, other: &UserId, at: Timestamp) -> Result<(), StoreError>;

    /// Removes a block.
    async fn unblock(&self, user: &UserKey, other: &UserId) -> Result<(), StoreError>;

    /// From now on, refuses tokens issued in or before the second of `at`; durable when it returns. Only grows.
    async fn revoke(&self, user: &UserKey, at: Timestamp) -> Result<(), StoreError>;

    /// Records when users were last seen; a smaller time changes nothing.
    async fn put_last_seen(&self, seen: Vec<(UserKey, Timestamp)>) -> Result<(), StoreError>;

    /// Sets the user's name; of two concurrent ones either wins. A power failure may undo it: each token brings it
    /// again.
    async fn put_user_name(&self, user: &UserKey, name: &str) -> Result<(), StoreError>;
}

/// A complete backend.
#[async_trait]
pub trait Store: Log + Cursors + Inbox + Users + PushStore {
    /// Identifies the store's life: created with the store, and different after a restore (PROTOCOL §2).
    fn store_id(&self) -> &str;

    /// Checks that the store answers, for `/readyz`.
    async fn check(&self) -> Result<(), StoreError>;

    /// Removes the entries that are older than their tenants' [`Retention`] at `now`, oldest first in each
    /// conversation, with the states of their messages. Returns how many. Should be called periodically; what an error
    /// leaves over, the next call removes. Does nothing if the database expires rows by itself.
    async fn expire(&self, now: Timestamp) -> Result<u64, StoreError> {
        let _ = now;
        Ok(0)
    }

    /// Flushes and closes; everything answered is durable.
    async fn close(&self) -> Result<(), StoreError>;
}
