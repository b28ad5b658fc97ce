//! Inboxes: rows whose parts merge by their own timestamps, under versions that only grow.
//!
//! **Versions.** A client has seen everything up to the `top` of a page, so a row that changes later needs a version
//! above every `top` that was ever returned. Normally one process, the user's home, writes the user's rows; for a while
//! there may be two. Each takes an *epoch* of the user by compare-and-set before it writes, and a version is epoch and
//! count. A write counts only if, after it is at a quorum, a quorum read still shows the writer's epoch: the taker of
//! the next epoch reads after that, and finds the write. If the epoch has changed, everything is written again under a
//! new one. A row that was read is not known to be at a quorum, nor to have counted: a change that it already contains
//! is written again too, whole. A row that was written here is not read again (`kept.rs`).
//!
//! **Reading** is done when nothing newer comes up: all versions below the newest that one read saw were confirmed
//! before that one was sent, so the next read sees them. A process that writes the inbox itself knows the newest
//! version and needs only one read.
//!
//! **What a read costs.** A user's rows are ordered by conversation, so there is no reading a range of versions: each
//! read goes through the whole partition, a row for each conversation that the user was ever in. It keeps only the rows
//! that it returns, and the ids of those whose owners are asked. So a client with n conversations that pages through
//! them, 200 at a time, makes the database read n²/200 rows. A second table, ordered by version, would save that, for
//! one more row to write and one to delete with every change. Reads of single rows don't go through the partition, nor
//! does [`Inbox::inbox_top`] in a process that writes the inbox.

mod kept;

use super::client::{Statement, unreadable};
use super::housekeeping::all_of;
use super::members::{Values, number, text};
use super::quorum::bigint;
use super::{Core, ScyllaStore};
use crate::kv::values::decode_at;
use crate::{Inbox, InboxChange, InboxPage, InboxRange, InboxRow, StoreError, UserKey};
use async_trait::async_trait;
use kept::{KeptRows, Merged};
use scylla::value::CqlValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_protocol::{ConversationId, Seq};

/// A version's lower bits count the rows written in an epoch. The whole version is also a write timestamp, which
/// ScyllaDB accepts up to some days from now in microseconds: enough for 60 million epochs of one user.
const COUNT_BITS: u32 = 24;

/// How often another home may interfere before a write fails.
const WRITE_ATTEMPTS_MAX: u32 = 4;
const EPOCH_ATTEMPTS_MAX: u32 = 8;
const READ_ATTEMPTS_MAX: u32 = 8;

/// The fraction of the remembered users that is forgotten when there is no room: one in this many.
const FORGOTTEN_PART: usize = 16;

/// Users whose changes are written concurrently, at most.
const USERS_AT_ONCE: usize = 64;

/// Up to that many, one in this many users of a flush at a time, so that live appends do not wait behind a burst.
const USERS_IN_TURN: usize = 4;

/// Rows in one statement.
const BATCH_ROWS_MAX: usize = 50;

/// The users whose inboxes this process writes, and the rows that it has written.
pub(super) struct Inboxes {
    writers: Mutex<HashMap<UserKey, Arc<Writer>>>,
    writers_max: usize,
    kept: KeptRows,
}

/// Locked by each read or write of the inbox in this process.
type Writer = tokio::sync::Mutex<Option<Epoch>>;

/// The epoch that this process may write under. Forgotten when a write's outcome is unknown.
#[derive(Clone, Copy)]
struct Epoch {
    number: u64,
    /// The newest version written in it; 0: none.
    newest: u64,
}

impl Epoch {
    fn next_version(&mut self) -> u64 {
        self.newest = self.newest.max(self.number << COUNT_BITS) + 1;
        self.newest
    }

    fn is_full(self, rows: usize) -> bool {
        let count = self.newest & ((1 << COUNT_BITS) - 1);
        count + rows as u64 >= 1 << COUNT_BITS
    }
}

impl Inboxes {
    pub(super) fn new(writers_max: usize, rows_bytes: usize) -> Self {
        Self { writers: Mutex::default(), writers_max, kept: KeptRows::new(rows_bytes) }
    }

    fn map(&self) -> MutexGuard<'_, HashMap<UserKey, Arc<Writer>>> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch that this process has written under, once no write is under way; `None` if it has written nothing, or
    /// does not know what became of it.
    async fn written(&self, user: &UserKey) -> Option<Epoch> {
        let writer = self.map().get(user).cloned()?;
        let epoch = *writer.lock().await;
        epoch.filter(|epoch| epoch.newest > 0)
    }

    /// Returns the user's writer. If there is no room, forgets arbitrary users that are not in use; they take a new
    /// epoch with their next write.
    fn writer(&self, user: &UserKey) -> Arc<Writer> {
        let mut map = self.map();
        if map.len() >= self.writers_max {
            let mut left = (self.writers_max / FORGOTTEN_PART).max(1);
            map.retain(|_, writer| {
                let is_forgotten = left > 0 && Arc::strong_count(writer) == 1;
                left -= usize::from(is_forgotten);
                !is_forgotten
            });
        }
        map.entry(user.clone()).or_default().clone()
    }
}

#[async_trait]
impl Inbox for ScyllaStore {
    async fn put_inbox(&self, changes: Vec<(UserKey, InboxChange)>) -> Result<(), StoreError> {
        let mut of_users: BTreeMap<UserKey, Vec<InboxChange>> = BTreeMap::new();
        for (user, change) in changes {
            of_users.entry(user).or_default().push(change);
        }
        let at_once = of_users.len().div_ceil(USERS_IN_TURN).min(USERS_AT_ONCE);
        let writes = of_users.into_iter().map(|(user, changes)| {
            let core = self.core.clone();
            async move { core.put_inbox(&user, &changes).await }
        });
        all_of(writes, at_once).await
    }

    async fn inbox(&self, user: &UserKey, range: InboxRange, limit: usize) -> Result<InboxPage, StoreError> {
        self.core.read_inbox(user, range, limit).await
    }

    /// Needs no row if this process has written the newest one: a row that counts under another epoch was written after
    /// that epoch was taken, and so after this process's was read.
    async fn inbox_top(&self, user: &UserKey) -> Result<u64, StoreError> {
        if let Some(epoch) = self.core.inboxes.written(user).await
            && self.core.epoch_by(user, &self.core.statements.inbox.epoch).await? == Some(epoch.number)
        {
            return Ok(epoch.newest);
        }
        self.core.read_inbox(user, InboxRange { after: u64::MAX, below: None }, 0).await.map(|page| page.top)
    }

    async fn inbox_row(&self, user: &UserKey, conversation: &ConversationId) -> Result<Option<InboxRow>, StoreError> {
        Ok(self.core.inbox_rows_of(user, &[conversation]).await?.pop())
    }
}

/// The rows of a page, found by going through all of a user's rows in any order. Holds one page.
struct NewestRows {
    range: InboxRange,
    limit: usize,
    rows: BTreeMap<u64, InboxRow>,
    top: u64,
    more: bool,
    asked: Vec<ConversationId>,
}

impl NewestRows {
    fn new(range: InboxRange, limit: usize) -> Self {
        Self { range, limit, rows: BTreeMap::new(), top: 0, more: false, asked: Vec::new() }
    }

    fn extend(&mut self, row: Option<InboxRow>) {
        let Some(row) = row else { return };
        self.top = self.top.max(row.version);
        if row.is_asked() {
            self.asked.push(row.conversation.clone());
        }
        if row.version > self.range.after && self.range.below.is_none_or(|below| row.version < below) {
            self.rows.insert(row.version, row);
        }
        if self.rows.len() > self.limit {
            self.rows.pop_first();
            self.more = true;
        }
    }

    fn into_page(mut self) -> InboxPage {
        self.asked.sort_unstable();
        let rows = self.rows.into_values().rev().collect();
        InboxPage { rows, top: self.top, more: self.more, asked: self.asked }
    }
}

/// A stored row: conversation, version, last, `mentioned_seq`, `read_seq`, `read_messages`, `membership_seq`, member,
/// `settings_number`, settings.
type Columns = (
    String,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<bool>,
    Option<i64>,
    Option<String>,
);

impl Core {
    /// Goes through all rows. Always reads whole ones: if a read of the versions repaired only these, the next read might
    /// find a version without what belongs to it.
    async fn each_inbox_row(
        &self,
        user: &UserKey,
        visit: impl FnMut(Columns) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let values = (user.tenant.as_str(), user.user.as_str());
        self.client.each_row(&self.statements.inbox.rows, values, visit).await
    }

    async fn newest_version(&self, user: &UserKey) -> Result<u64, StoreError> {
        let mut newest = 0;
        let note = |(_, version, ..): Columns| {
            newest = newest.max(version.unwrap_or_default().cast_unsigned());
            Ok(())
        };
        self.each_inbox_row(user, note).await?;
        Ok(newest)
    }

    async fn inbox_rows_of(
        &self,
        user: &UserKey,
        conversations: &[&ConversationId],
    ) -> Result<Vec<InboxRow>, StoreError> {
        let mut rows = Vec::new();
        // ScyllaDB accepts 100 in one statement.
        for conversations in conversations.chunks(BATCH_ROWS_MAX) {
            let ids: Vec<&str> = conversations.iter().map(|conversation| conversation.as_str()).collect();
            let values = (user.tenant.as_str(), user.user.as_str(), ids);
            let found = self.client.rows(&self.statements.inbox.some_rows, values).await?;
            for columns in found {
                rows.extend(row(columns)?);
            }
        }
        Ok(rows)
    }

    /// A page, complete: no row with a version below the newest is missing.
    async fn read_inbox(&self, user: &UserKey, range: InboxRange, limit: usize) -> Result<InboxPage, StoreError> {
        let mut before = match self.inboxes.written(user).await {
            Some(epoch) => epoch.newest,
            None => self.newest_version(user).await?,
        };
        for _ in 0..READ_ATTEMPTS_MAX {
            let mut page = NewestRows::new(range, limit);
            self.each_inbox_row(user, |columns| row(columns).map(|row| page.extend(row))).await?;
            if page.top == before {
                return Ok(page.into_page());
            }
            before = page.top;
        }
        Err(StoreError::unavailable("the inbox changes faster than it is read"))
    }

    async fn put_inbox(&self, user: &UserKey, changes: &[InboxChange]) -> Result<(), StoreError> {
        let writer = self.inboxes.writer(user);
        let mut writing = writer.lock().await;
        for _ in 0..WRITE_ATTEMPTS_MAX {
            // Taken out: if this write fails or is dropped, it is unknown what was written.
            let mut epoch = match writing.take().filter(|epoch| !epoch.is_full(changes.len())) {
                Some(epoch) => epoch,
                None => self.next_epoch(user).await?,
            };
            let rows = self.merged(user, changes, &mut epoch).await?;
            if rows.is_empty() {
                *writing = Some(epoch);
                return Ok(());
            }
            self.write_inbox(user, &rows).await?;
            if self.epoch_by(user, &self.statements.inbox.epoch).await? == Some(epoch.number) {
                self.inboxes.kept.put(user, rows);
                *writing = Some(epoch);
                return Ok(());
            }
        }
        Err(StoreError::unavailable("another home writes the same inbox"))
    }

    /// The rows that have to be written, each with its new version.
    async fn merged(
        &self,
        user: &UserKey,
        changes: &[InboxChange],
        epoch: &mut Epoch,
    ) -> Result<Vec<Merged>, StoreError> {
        let mut rows = self.rows_before(user, changes).await?;
        let mut versions: BTreeMap<u64, &ConversationId> = BTreeMap::new();
        for change in changes {
            let Some(merged) = rows.get_mut(&change.conversation) else { continue };
            if merged.row.merge(change) || (merged.is_uncertain() && !is_empty(change)) {
                versions.remove(&merged.row.version);
                merged.row.version = epoch.next_version();
                versions.insert(merged.row.version, &change.conversation);
            }
        }
        Ok(versions.into_values().filter_map(|id| rows.remove(id)).collect())
    }

    /// The rows that are changed, from the cache or else from the store.
    async fn rows_before(
        &self,
        user: &UserKey,
        changes: &[InboxChange],
    ) -> Result<BTreeMap<ConversationId, Merged>, StoreError> {
        let mut rows = BTreeMap::new();
        let mut unknown = Vec::new();
        for InboxChange { conversation, .. } in changes {
            rows.entry(conversation.clone()).or_insert_with(|| {
                self.inboxes.kept.get(user, conversation).unwrap_or_else(|| {
                    unknown.push(conversation);
                    Merged::nothing(conversation)
                })
            });
        }
        for row in self.inbox_rows_of(user, &unknown).await? {
            if let Some(merged) = rows.get_mut(&row.conversation) {
                merged.row = row;
            }
        }
        Ok(rows)
    }

    async fn next_epoch(&self, user: &UserKey) -> Result<Epoch, StoreError> {
        let (tenant, id) = (user.tenant.as_str(), user.user.as_str());
        // The compare-and-set decides, so a plain read will do as a first guess; it misses what is being decided.
        let mut read = &self.statements.inbox.epoch;
        for _ in 0..EPOCH_ATTEMPTS_MAX {
            let before = self.epoch_by(user, read).await?;
            read = &self.statements.inbox.epoch_serial;
            let number = before.unwrap_or_default() + 1;
            let applied = match before {
                None => {
                    let values = (bigint(number), tenant, id);
                    self.client.compare_and_set(&self.statements.inbox.first_epoch, values).await?
                }
                Some(before) => {
                    let values = (bigint(number), tenant, id, bigint(before));
                    self.client.compare_and_set(&self.statements.inbox.next_epoch, values).await?
                }
            };
            if applied {
                return Ok(Epoch { number, newest: 0 });
            }
        }
        Err(StoreError::unavailable("others keep taking the inbox's epoch"))
    }

    async fn epoch_by(&self, user: &UserKey, statement: &Statement) -> Result<Option<u64>, StoreError> {
        let found: Option<(i64,)> = self.client.row(statement, (user.tenant.as_str(), user.user.as_str())).await?;
        Ok(found.map(|(epoch,)| epoch.cast_unsigned()))
    }

    /// Writes the parts of rows that are not cached, ordered by version.
    async fn write_inbox(&self, user: &UserKey, rows: &[Merged]) -> Result<(), StoreError> {
        for rows in rows.chunks(BATCH_ROWS_MAX) {
            let mut statements = Vec::new();
            let mut values = Vec::new();
            for merged in rows {
                for (statement, mut cells) in self.cells(merged)? {
                    cells.extend([text(user.tenant.as_str()), text(user.user.as_str())]);
                    cells.push(text(merged.row.conversation.as_str()));
                    statements.push(statement);
                    values.push(cells);
                }
            }
            self.client.batch(&self.statements.inbox.put_batch, statements, values).await?;
        }
        Ok(())
    }

    /// The parts of a row that are newer than the cached ones, each with its timestamp first. Parts that were never set
    /// are left out.
    fn cells(&self, Merged { row, kept }: &Merged) -> Result<Vec<(&Statement, Values)>, StoreError> {
        let statements = &self.statements.inbox;
        let mut cells = vec![(&statements.put_version, vec![number(row.version), number(row.version)])];
        let mut put = |statement, at: u64, values: &[Option<CqlValue>]| {
            cells.push((statement, [&[number(at)], values].concat()));
        };
        if row.last.last_seq > kept.last.last_seq {
            let last = serde_json::to_string(&row.last).map_err(unreadable)?;
            put(&statements.put_last, row.last.last_seq.get(), &[text(last)]);
        }
        if row.mentioned_seq > kept.mentioned_seq {
            let seq = row.mentioned_seq.get();
            put(&statements.put_mentioned, seq, &[number(seq)]);
        }
        if row.read_seq > kept.read_seq {
            let seq = row.read_seq.get();
            put(&statements.put_read, seq, &[number(seq), number(row.read_messages)]);
        }
        if row.membership_seq > kept.membership_seq {
            let seq = row.membership_seq.get();
            put(&statements.put_membership, seq, &[number(seq), Some(CqlValue::Boolean(row.member))]);
        }
        if row.settings_number > kept.settings_number {
            let settings = serde_json::to_string(&row.settings).map_err(unreadable)?;
            put(&statements.put_settings, row.settings_number, &[number(row.settings_number), text(settings)]);
        }
        Ok(cells)
    }
}

fn is_empty(change: &InboxChange) -> bool {
    let InboxChange { conversation: _, last, mentioned_seq, read, membership, settings } = change;
    last.is_none() && *mentioned_seq == Seq::ZERO && read.is_none() && membership.is_none() && settings.is_none()
}

fn row(columns: Columns) -> Result<Option<InboxRow>, StoreError> {
    let (id, version, last, mentioned, read, read_messages, membership, member, settings_number, settings) = columns;
    let Some(version) = version else { return Ok(None) };
    let count = |value: Option<i64>| value.unwrap_or_default().cast_unsigned();
    let mut row = InboxRow::new(id.parse().map_err(unreadable)?);
    row.version = version.cast_unsigned();
    if let Some(last) = last {
        row.last = decode_at(b"inbox last", last.as_bytes())?;
    }
    row.mentioned_seq = Seq::new(count(mentioned));
    (row.read_seq, row.read_messages) = (Seq::new(count(read)), count(read_messages));
    row.membership_seq = Seq::new(count(membership));
    row.member = member.unwrap_or(row.member);
    row.settings_number = count(settings_number);
    if let Some(settings) = settings {
        row.settings = decode_at(b"inbox settings", settings.as_bytes())?;
    }
    Ok(Some(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_the_newest_rows_of_its_range_and_no_more() {
        // As the table has them: in an order that has nothing to do with their versions.
        let versions = (1..=100).map(|n| n * 37 % 101);
        let range = InboxRange { after: 20, below: Some(90) };
        let mut page = NewestRows::new(range, 5);
        for version in versions {
            let row = InboxRow { version, ..InboxRow::new(format!("c{version}").parse().unwrap()) };
            page.extend(Some(row));
            assert!(page.rows.len() <= 5);
        }
        let page = page.into_page();
        let versions: Vec<u64> = page.rows.iter().map(|row| row.version).collect();
        assert_eq!((versions.as_slice(), page.top, page.more), ([89, 88, 87, 86, 85].as_slice(), 100, true));
    }
}
