//! The store's traits on top of any engine that reads rows and commits transactions.

use super::{Process, Rows, Running, Transaction, begun, cursors, inbox, keys, log, log_read, push, users, values};
use crate::{
    Appended, Begun, Channel, Claim, ConversationKey, Cursor, Cursors, DeadLetter, Entry, Head, HistoryPage,
    HistoryRange, Inbox, InboxChange, InboxPage, InboxRange, InboxRow, Incarnation, LeasedJob, Log, Member, PushDevice,
    PushEnd, PushJob, PushStore, Receipt, Release, StoreError, StoredEntry, StoredMessage, TermNumber, UserKey,
    UserRecord, Users,
};
use async_trait::async_trait;
use std::future::Future;
use std::sync::Arc;
use switchboard_protocol::{ConversationId, DeviceId, Seq, TenantId, Timestamp, UserId};

/// When an operation is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Once it is synced to disk.
    Synced,
    /// Once it is visible. It outlives the process, and is on disk before any later synced commit, but a power failure
    /// may undo it.
    Buffered,
}

/// What an engine has to know about a write before it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) op: &'static str,
    pub(crate) durability: Durability,
    /// Estimated memory while it waits.
    pub(crate) bytes: usize,
}

/// The expected cost of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadCost {
    /// One or two rows that are usually in memory, or known not to exist.
    Point,
    /// Anything more.
    Scan,
}

/// How operations reach the rows. Writes are carried out sequentially, in the order in which they were submitted.
pub(crate) trait Engine: Send + Sync + 'static {
    type Rows: Rows + 'static;

    fn write<T: Send + 'static>(
        &self,
        write: Write,
        operation: impl FnOnce(&mut Transaction<'_, Self::Rows>) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;

    fn read<T: Send + 'static>(
        &self,
        op: &'static str,
        cost: ReadCost,
        operation: impl FnOnce(&Self::Rows) -> Result<T, StoreError> + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;

    /// The process that this handle belongs to; `None` if there is only one.
    fn process(&self) -> Option<Arc<Process>> {
        None
    }

    /// The running terms, if only one process changes the rows.
    fn running(&self) -> Option<Arc<Running>> {
        None
    }

    /// See [`Log::release`].
    fn let_go(&self, _conversation: &ConversationKey, _term: TermNumber) -> Option<Release> {
        None
    }
}

/// The names of all operations, for metrics.
pub(crate) const OPERATIONS: [&str; 40] = [
    "begin_term",
    "begin_term_read",
    "append",
    "append_nothing",
    "end_term",
    "head",
    "read",
    "history",
    "message",
    "member",
    "members",
    "active",
    "forget_active",
    "put_cursors",
    "put_inbox",
    "inbox",
    "inbox_row",
    "user",
    "user_blocks",
    "block",
    "unblock",
    "revoke",
    "put_last_seen",
    "put_user_name",
    "expire",
    "put_push_device",
    "remove_push_device",
    "push_devices",
    "put_notification_preferences",
    "notification_preferences",
    "enqueue_pushes",
    "withdraw_pushes",
    "due_pushes",
    "take_pushes",
    "finish_push",
    "outstanding_pushes",
    "oldest_push",
    "dead_letters",
    "retry_dead_letter",
    "check",
];

/// Estimated memory overhead of an item.
const ITEM_BYTES: usize = 256;

/// Inbox changes per operation: a home writes those of a second at once, and appends can run in between.
const INBOX_CHANGES_AT_ONCE: usize = 64;

fn synced(op: &'static str, bytes: usize) -> Write {
    Write { op, durability: Durability::Synced, bytes: bytes.saturating_add(ITEM_BYTES) }
}

/// For writes that are repeated or recovered in another way after a power failure.
pub(super) fn buffered(op: &'static str, items: usize) -> Write {
    Write { op, durability: Durability::Buffered, bytes: items.saturating_add(1).saturating_mul(ITEM_BYTES) }
}

#[async_trait]
impl<E: Engine> Log for E {
    async fn begin_term(&self, conversation: &ConversationKey, claim: Claim) -> Result<Option<Begun>, StoreError> {
        let key = conversation.clone();
        // No sync of its own: it precedes the term's first append, which is synced, in the journal. A power failure can
        // undo only a term in which nothing was appended, of a process that is gone.
        let (recent, process) = (claim.recent, self.process());
        let begin = {
            let (process, running) = (process.clone(), self.running());
            move |tx: &mut Transaction<'_, E::Rows>| {
                let begun = log::begin_term(tx, &key, &claim, process.as_deref())?;
                if let (Some(begun), Some(running)) = (&begun, running) {
                    running.begin(&key, begun.head.term);
                }
                Ok(begun)
            }
        };
        let Some(term) = self.write(buffered("begin_term", 1), begin).await? else { return Ok(None) };
        if let Some(process) = process {
            process.hand_out(conversation, term.head.term);
        }
        let key = conversation.clone();
        let read = move |rows: &E::Rows| begun::begun(rows, &key, term, recent);
        Engine::read(self, "begin_term_read", ReadCost::Scan, read).await.map(Some)
    }

    async fn append(
        &self,
        conversation: &ConversationKey,
        term: TermNumber,
        entries: Arc<[Entry]>,
    ) -> Result<Appended, StoreError> {
        let (key, process) = (conversation.clone(), self.process());
        if entries.is_empty() {
            if let Some(runs) = self.running().and_then(|running| running.runs(conversation, term)) {
                return Ok(if runs { Appended::Durable } else { Appended::Superseded });
            }
            let runs = move |rows: &E::Rows| log::append_nothing(rows, &key, term, process.as_deref());
            return Engine::read(self, "append_nothing", ReadCost::Point, runs).await;
        }
        let bytes = entries.iter().map(|entry| entry.json.len() + ITEM_BYTES).sum();
        let append = move |tx: &mut Transaction<'_, E::Rows>| log::append(tx, &key, term, &entries, process.as_deref());
        self.write(synced("append", bytes), append).await
    }

    async fn end_term(&self, conversation: &ConversationKey, term: TermNumber) -> Result<(), StoreError> {
        // If a power failure undoes it, the conversation is taken over once more, needlessly.
        let (key, process, running) = (conversation.clone(), self.process(), self.running());
        let end = move |tx: &mut Transaction<'_, E::Rows>| {
            if let Some(running) = running.filter(|running| running.runs(&key, term) == Some(true)) {
                running.end(&key);
            }
            log::end_term(tx, &key, term, process.as_deref())
        };
        self.write(buffered("end_term", 1), end).await
    }

    fn release(&self, conversation: &ConversationKey, term: TermNumber) -> Option<Release> {
        self.let_go(conversation, term)
    }

    async fn head(&self, conversation: &ConversationKey) -> Result<Option<Head>, StoreError> {
        let (key, process) = (conversation.clone(), self.process());
        self.read("head", ReadCost::Point, move |rows| log_read::head(rows, &key, process.as_deref())).await
    }

    async fn read(
        &self,
        conversation: &ConversationKey,
        after: Seq,
        end: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredEntry>, StoreError> {
        let key = conversation.clone();
        let read = move |rows: &E::Rows| log_read::read(rows, &key, after, end, limit, bytes_max);
        Engine::read(self, "read", ReadCost::Scan, read).await
    }

    async fn history(
        &self,
        conversation: &ConversationKey,
        range: HistoryRange,
        end: Seq,
        limit: usize,
        bytes_max: usize,
    ) -> Result<HistoryPage, StoreError> {
        let key = conversation.clone();
        let read = move |rows: &E::Rows| log_read::history(rows, &key, range, end, limit, bytes_max);
        Engine::read(self, "history", ReadCost::Scan, read).await
    }

    async fn message(&self, conversation: &ConversationKey, seq: Seq) -> Result<Option<StoredMessage>, StoreError> {
        let key = conversation.clone();
        Engine::read(self, "message", ReadCost::Scan, move |rows| log_read::message(rows, &key, seq)).await
    }

    async fn member(&self, conversation: &ConversationKey, user: &UserId) -> Result<Option<Member>, StoreError> {
        let (key, user, process) = (conversation.clone(), user.clone(), self.process());
        let member = move |rows: &E::Rows| log_read::member(rows, &key, &user, process.as_deref());
        Engine::read(self, "member", ReadCost::Point, member).await
    }

    async fn members(&self, conversation: &ConversationKey) -> Result<Vec<(UserId, Member)>, StoreError> {
        let (key, process) = (conversation.clone(), self.process());
        let members = move |rows: &E::Rows| log_read::members(rows, &key, process.as_deref());
        Engine::read(self, "members", ReadCost::Scan, members).await
    }

    async fn active(&self, living: &[Incarnation]) -> Result<Vec<(Incarnation, ConversationKey)>, StoreError> {
        let living = living.to_vec();
        let active = move |rows: &E::Rows| log_read::active(rows, &living);
        Engine::read(self, "active", ReadCost::Scan, active).await
    }

    async fn forget_active(&self, dead: &Incarnation, conversations: &[ConversationKey]) -> Result<(), StoreError> {
        let (dead, conversations) = (dead.clone(), conversations.to_vec());
        let write = buffered("forget_active", conversations.len());
        self.write(write, move |tx| log::forget_active(tx, &dead, &conversations)).await
    }
}

#[async_trait]
impl<E: Engine> Cursors for E {
    async fn put_cursors(
        &self,
        conversation: &ConversationKey,
        cursors: Vec<(UserId, Cursor)>,
    ) -> Result<(), StoreError> {
        let key = conversation.clone();
        let write = synced("put_cursors", cursors.len() * ITEM_BYTES);
        self.write(write, move |tx| cursors::put(tx, &key, &cursors)).await
    }
}

#[async_trait]
impl<E: Engine> Inbox for E {
    async fn put_inbox(&self, changes: Vec<(UserKey, InboxChange)>) -> Result<(), StoreError> {
        let (mut rest, mut all_synced) = (changes, false);
        while !all_synced {
            let part: Vec<_> = rest.drain(..rest.len().min(INBOX_CHANGES_AT_ONCE)).collect();
            all_synced = rest.is_empty();
            // Syncing the last one syncs all before it.
            let durability = if all_synced { Durability::Synced } else { Durability::Buffered };
            let write = Write { durability, ..synced("put_inbox", part.len() * 4 * ITEM_BYTES) };
            self.write(write, move |tx| inbox::put(tx, &part)).await?;
        }
        Ok(())
    }

    async fn inbox(&self, user: &UserKey, range: InboxRange, limit: usize) -> Result<InboxPage, StoreError> {
        let key = user.clone();
        Engine::read(self, "inbox", ReadCost::Scan, move |rows| inbox::page(rows, &key, range, limit)).await
    }

    async fn inbox_row(&self, user: &UserKey, conversation: &ConversationId) -> Result<Option<InboxRow>, StoreError> {
        let (user, conversation) = (user.clone(), conversation.clone());
        Engine::read(self, "inbox_row", ReadCost::Point, move |rows| inbox::row(rows, &user, &conversation)).await
    }
}

#[async_trait]
impl<E: Engine> Users for E {
    async fn user(&self, user: &UserKey) -> Result<UserRecord, StoreError> {
        let key = user.clone();
        let (record, complete) =
            Engine::read(self, "user", ReadCost::Point, move |rows| users::row(rows, &key)).await?;
        if complete {
            return Ok(record);
        }
        let key = user.clone();
        Engine::read(self, "user_blocks", ReadCost::Scan, move |rows| users::record(rows, &key)).await
    }

    async fn block(&self, user: &UserKey, other: &UserId, at: Timestamp) -> Result<(), StoreError> {
        let (user, other) = (user.clone(), other.clone());
        self.write(synced("block", 0), move |tx| users::block(tx, &user, &other, at)).await
    }

    async fn unblock(&self, user: &UserKey, other: &UserId) -> Result<(), StoreError> {
        let (user, other) = (user.clone(), other.clone());
        self.write(synced("unblock", 0), move |tx| users::unblock(tx, &user, &other)).await
    }

    async fn revoke(&self, user: &UserKey, at: Timestamp) -> Result<(), StoreError> {
        let user = user.clone();
        self.write(synced("revoke", 0), move |tx| users::revoke(tx, &user, at)).await
    }

    async fn put_last_seen(&self, seen: Vec<(UserKey, Timestamp)>) -> Result<(), StoreError> {
        let write = buffered("put_last_seen", seen.len());
        self.write(write, move |tx| users::put_last_seen(tx, &seen)).await
    }

    async fn put_user_name(&self, user: &UserKey, name: &str) -> Result<(), StoreError> {
        let (user, name) = (user.clone(), name.to_owned());
        self.write(buffered("put_user_name", 1), move |tx| users::put_name(tx, &user, name)).await
    }
}

#[async_trait]
impl<E: Engine> PushStore for E {
    async fn put_device(&self, user: &UserKey, device: &DeviceId, registered: PushDevice) -> Result<(), StoreError> {
        let (key, bytes) = (keys::push_device(user, device), registered.target.len());
        self.write(synced("put_push_device", bytes), move |tx| tx.put(key, &registered)).await
    }

    async fn remove_device(
        &self,
        user: &UserKey,
        device: &DeviceId,
        target: Option<String>,
    ) -> Result<bool, StoreError> {
        let (user, device) = (user.clone(), device.clone());
        let remove =
            move |tx: &mut Transaction<'_, E::Rows>| push::remove_device(tx, &user, &device, target.as_deref());
        self.write(synced("remove_push_device", 0), remove).await
    }

    async fn devices(&self, user: &UserKey) -> Result<Vec<(DeviceId, PushDevice)>, StoreError> {
        let user = user.clone();
        Engine::read(self, "push_devices", ReadCost::Scan, move |rows| push::devices(rows, &user)).await
    }

    async fn put_notification_preferences(&self, user: &UserKey, preferences: String) -> Result<(), StoreError> {
        let (key, bytes) = (keys::notification_preferences(user), preferences.len());
        let put = move |tx: &mut Transaction<'_, E::Rows>| tx.put(key, &preferences);
        self.write(synced("put_notification_preferences", bytes), put).await
    }

    async fn notification_preferences(&self, user: &UserKey) -> Result<Option<String>, StoreError> {
        let key = keys::notification_preferences(user);
        let read = move |rows: &E::Rows| {
            rows.get(key.as_bytes())?.map(|value| values::decode(&key, value.as_ref())).transpose()
        };
        Engine::read(self, "notification_preferences", ReadCost::Point, read).await
    }

    async fn enqueue_pushes(&self, jobs: Vec<PushJob>) -> Result<(), StoreError> {
        let bytes = jobs.len().saturating_mul(ITEM_BYTES);
        self.write(synced("enqueue_pushes", bytes), move |tx| push::enqueue(tx, &jobs)).await
    }

    async fn withdraw_pushes(
        &self,
        user: &UserKey,
        conversation: &ConversationId,
        up_to_seq: Seq,
        receipt: Receipt,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (user, conversation) = (user.clone(), conversation.clone());
        let withdraw =
            move |tx: &mut Transaction<'_, E::Rows>| push::withdraw(tx, &user, &conversation, up_to_seq, receipt, at);
        self.write(synced("withdraw_pushes", 0), withdraw).await
    }

    async fn take_pushes(
        &self,
        channel: Channel,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<LeasedJob>, StoreError> {
        let read = move |rows: &E::Rows| push::due(rows, channel, now, limit);
        let due = Engine::read(self, "due_pushes", ReadCost::Scan, read).await?;
        if due.is_empty() {
            return Ok(Vec::new());
        }
        // A lease that is undone by a power failure costs one more attempt.
        let write = buffered("take_pushes", due.len());
        self.write(write, move |tx| push::take(tx, due, now, lease_until)).await
    }

    async fn finish_push(&self, leased: LeasedJob, end: PushEnd, at: Timestamp) -> Result<(), StoreError> {
        self.write(synced("finish_push", 0), move |tx| push::finish(tx, leased, end, at)).await
    }

    async fn outstanding_pushes(&self, user: &UserKey) -> Result<Vec<PushJob>, StoreError> {
        let user = user.clone();
        Engine::read(self, "outstanding_pushes", ReadCost::Scan, move |rows| push::outstanding(rows, &user)).await
    }

    async fn oldest_push(&self, channel: Channel) -> Result<Option<Timestamp>, StoreError> {
        Engine::read(self, "oldest_push", ReadCost::Scan, move |rows| push::oldest(rows, channel)).await
    }

    async fn dead_letters(&self, tenant: &TenantId, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let tenant = tenant.clone();
        let read = move |rows: &E::Rows| push::dead_letters(rows, &tenant, after, limit);
        Engine::read(self, "dead_letters", ReadCost::Scan, read).await
    }

    async fn retry_dead_letter(&self, tenant: &TenantId, id: u64, at: Timestamp) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        let retry = move |tx: &mut Transaction<'_, E::Rows>| push::retry_dead_letter(tx, &tenant, id, at);
        self.write(synced("retry_dead_letter", 0), retry).await
    }
}
