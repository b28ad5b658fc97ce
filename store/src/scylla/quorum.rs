//! The operations of the log protocol (`crate::quorum`), in CQL.

use super::client::{Client, Statement, unreadable};
use super::statements::Statements;
use crate::quorum::{BUCKET_ENTRIES, LogHead, Quorum, Row, Swapped, WriteTimestamp};
use crate::{ConversationKey, Incarnation, NewConversation, Retention, StoreError, TermNumber};
use bytes::Bytes;
use futures_util::future::try_join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use switchboard_clock::Clock;
use switchboard_protocol::{Seq, TenantId};
use xxhash_rust::xxh3::xxh3_64;

/// The states of an incarnation.
const LIVE: &str = "live";
const FENCED: &str = "fenced";

/// The owner of a head that has none. Not null: the two servers might compare nulls differently.
const NOBODY: &str = "";

/// Partitions that an incarnation's notes are spread over.
const ACTIVE_SHARDS: u64 = 16;

/// Limits of one batch. Cassandra limits only batches over several partitions; ScyllaDB warns from 128 KiB on.
const BATCH_BYTES_MAX: usize = 64 << 10;
const BATCH_ROWS_MAX: usize = 128;

#[derive(Clone)]
pub(super) struct CqlQuorum {
    pub(super) client: Arc<Client>,
    pub(super) statements: Arc<Statements>,
    pub(super) notes: Arc<NoteTimes>,
    pub(super) retention: Arc<Retention>,
}

/// The timestamps of this process's notes. They follow the clock as long as it moves forward, but only for garbage
/// collection: the servers purge a tombstone only when no data as old is left with a lower timestamp.
pub(super) struct NoteTimes {
    clock: Clock,
    last: AtomicI64,
}

impl NoteTimes {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, last: AtomicI64::new(0) }
    }

    fn next(&self) -> WriteTimestamp {
        let now_us = self.clock.wall_ms().saturating_mul(1_000);
        let next = |last: i64| now_us.max(last + 1);
        let updated = self.last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)));
        WriteTimestamp(next(updated.unwrap_or_else(|last| last)))
    }
}

/// A seq, term or count as a CQL `bigint`.
pub(super) fn bigint(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn bucket(seq: Seq) -> u64 {
    seq.get() / BUCKET_ENTRIES
}

impl Quorum for CqlQuorum {
    async fn write_rows(&self, conversation: &ConversationKey, rows: &[Row]) -> Result<(), StoreError> {
        // In parallel, limited only by `statements_max`. If one fails, those behind it may have been written: behind
        // the hole they are in no log.
        let writes: Vec<_> = statements(rows).map(|rows| self.write_batch(conversation, rows)).collect();
        try_join_all(writes).await.map(drop)
    }

    async fn read_rows(&self, conversation: &ConversationKey, after: Seq, upto: Seq) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        if upto <= after {
            return Ok(rows);
        }
        let (tenant, id) = (conversation.tenant.as_str(), conversation.conversation.as_str());
        for bucket in bucket(after.next())..=bucket(upto) {
            let values = (tenant, id, bigint(bucket), bigint(after.get()), bigint(upto.get()));
            let found: Vec<(i64, i64, i64, Vec<u8>)> = self.client.rows(&self.statements.log.entries, values).await?;
            rows.extend(found.into_iter().map(|(seq, term, timestamp, payload)| Row {
                seq: Seq::new(seq.cast_unsigned()),
                term: TermNumber(term.cast_unsigned()),
                timestamp: WriteTimestamp(timestamp),
                payload: Bytes::from(payload),
            }));
        }
        Ok(rows)
    }

    async fn read_head(&self, conversation: &ConversationKey) -> Result<Option<LogHead>, StoreError> {
        self.head_by(&self.statements.log.head, conversation).await
    }

    async fn create_head(
        &self,
        conversation: &ConversationKey,
        new: &NewConversation,
        head: &LogHead,
    ) -> Result<Swapped, StoreError> {
        let created = serde_json::to_string(new).map_err(unreadable)?;
        let (term, owner, end) = columns(head);
        let values = (conversation.tenant.as_str(), conversation.conversation.as_str(), created, term, owner, end);
        let applied = self.client.compare_and_set(&self.statements.log.create_head, values).await?;
        self.swapped(conversation, applied).await
    }

    async fn swap_head(
        &self,
        conversation: &ConversationKey,
        old: &LogHead,
        new: &LogHead,
    ) -> Result<Swapped, StoreError> {
        let (tenant, id) = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let ((term, owner, end), (old_term, old_owner, old_end)) = (columns(new), columns(old));
        let values = (term, owner, end, tenant, id, old_term, old_owner, old_end);
        let applied = self.client.compare_and_set(&self.statements.log.swap_head, values).await?;
        self.swapped(conversation, applied).await
    }

    async fn register(&self, me: &Incarnation) -> Result<bool, StoreError> {
        let node = me.to_string();
        if self.client.compare_and_set(&self.statements.nodes.register, (&node, LIVE)).await? {
            return Ok(true);
        }
        let state: Option<(String,)> = self.client.row(&self.statements.nodes.registered, (&node,)).await?;
        Ok(state.is_some_and(|(state,)| state == LIVE))
    }

    async fn fence(&self, other: &Incarnation) -> Result<(), StoreError> {
        self.client.compare_and_set(&self.statements.nodes.fence, (FENCED, other.to_string(), LIVE)).await.map(drop)
    }

    async fn is_live(&self, me: &Incarnation) -> Result<bool, StoreError> {
        let state: Option<(String,)> = self.client.row(&self.statements.nodes.is_live, (me.to_string(),)).await?;
        Ok(state.is_some_and(|(state,)| state == LIVE))
    }

    async fn note_active(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
        term: TermNumber,
    ) -> Result<WriteTimestamp, StoreError> {
        let timestamp = self.notes.next();
        let (tenant, id) = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let values = (owner.to_string(), shard(conversation), tenant, id, bigint(term.0), timestamp.0);
        self.client.execute(&self.statements.nodes.note_active, values).await?;
        Ok(timestamp)
    }

    async fn read_note(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
    ) -> Result<Option<(TermNumber, WriteTimestamp)>, StoreError> {
        let (tenant, id) = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let values = (owner.to_string(), shard(conversation), tenant, id);
        let found: Option<(i64, i64)> = self.client.row(&self.statements.nodes.note, values).await?;
        Ok(found.map(|(term, timestamp)| (TermNumber(term.cast_unsigned()), WriteTimestamp(timestamp))))
    }

    async fn remove_active(
        &self,
        owner: &Incarnation,
        conversation: &ConversationKey,
        timestamp: WriteTimestamp,
    ) -> Result<(), StoreError> {
        let (tenant, id) = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let values = (timestamp.0, owner.to_string(), shard(conversation), tenant, id);
        self.client.execute(&self.statements.nodes.remove_active, values).await.map(drop)
    }
}

impl CqlQuorum {
    /// Writes rows of one bucket.
    async fn write_batch(&self, conversation: &ConversationKey, rows: &[Row]) -> Result<(), StoreError> {
        let ttl_s = self.ttl_s(&conversation.tenant);
        let (tenant, id) = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let values = |row: &Row| {
            let (seq, term) = (bigint(row.seq.get()), bigint(row.term.0));
            (tenant, id, bigint(bucket(row.seq)), seq, term, row.payload.clone(), row.timestamp.0, ttl_s)
        };
        let statement = &self.statements.log.insert_entry;
        match rows {
            [row] => self.client.execute(statement, values(row)).await.map(drop),
            rows => {
                let statements = rows.iter().map(|_| statement);
                let values: Vec<_> = rows.iter().map(values).collect();
                self.client.batch(&self.statements.log.insert_entries, statements, values).await
            }
        }
    }

    /// The TTL for what is written for a tenant; 0: none.
    pub(super) fn ttl_s(&self, tenant: &TenantId) -> i32 {
        self.retention.seconds_of(tenant).map_or(0, |seconds| i32::try_from(seconds).unwrap_or(i32::MAX))
    }

    /// The conversations noted by incarnations that are not in `living`. The partitions of living ones are skipped:
    /// their notes come and go, and reading them would mean reading the tombstones.
    pub(super) async fn active(
        &self,
        living: &[Incarnation],
    ) -> Result<Vec<(Incarnation, ConversationKey)>, StoreError> {
        let partitions: Vec<(String, i32)> = self.client.rows(&self.statements.nodes.active_partitions, ()).await?;
        let mut active = Vec::new();
        for (node, shard) in partitions {
            let incarnation = parse_incarnation(&node)?;
            if living.contains(&incarnation) {
                continue;
            }
            let found: Vec<(String, String)> = self.client.rows(&self.statements.nodes.active, (node, shard)).await?;
            for (tenant, conversation) in found {
                let tenant = tenant.parse().map_err(unreadable)?;
                let conversation = conversation.parse().map_err(unreadable)?;
                active.push((incarnation.clone(), ConversationKey { tenant, conversation }));
            }
        }
        Ok(active)
    }

    /// The head for readers, who read no further than its end: a slightly stale head only shows them less.
    pub(super) async fn head_shown(&self, conversation: &ConversationKey) -> Result<Option<LogHead>, StoreError> {
        self.head_by(&self.statements.log.head_shown, conversation).await
    }

    async fn head_by(
        &self,
        statement: &Statement,
        conversation: &ConversationKey,
    ) -> Result<Option<LogHead>, StoreError> {
        let values = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let found: Option<(i64, String, i64)> = self.client.row(statement, values).await?;
        let Some((term, owner, end)) = found else { return Ok(None) };
        let owner = if owner == NOBODY { None } else { Some(parse_incarnation(&owner)?) };
        Ok(Some(LogHead { term: TermNumber(term.cast_unsigned()), owner, end: Seq::new(end.cast_unsigned()) }))
    }

    async fn swapped(&self, conversation: &ConversationKey, applied: bool) -> Result<Swapped, StoreError> {
        if applied { Ok(Swapped::Applied) } else { Ok(Swapped::Refused(self.read_head(conversation).await?)) }
    }
}

/// The rows of each statement: rows of one partition, as many as fit.
fn statements(mut rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    std::iter::from_fn(move || {
        let first = rows.first()?;
        let mut bytes = 0;
        let fits = |row: &&Row| {
            bytes += row.payload.len();
            bytes <= BATCH_BYTES_MAX && bucket(row.seq) == bucket(first.seq)
        };
        let fitting = rows.iter().take(BATCH_ROWS_MAX).take_while(fits).count();
        // At least one, whatever its size.
        let (batch, rest) = rows.split_at(fitting.max(1));
        rows = rest;
        Some(batch)
    })
}

fn columns(head: &LogHead) -> (i64, String, i64) {
    let owner = head.owner.as_ref().map_or_else(|| NOBODY.to_owned(), ToString::to_string);
    (bigint(head.term.0), owner, bigint(head.end.get()))
}

fn shard(conversation: &ConversationKey) -> i32 {
    let hash =
        xxh3_64(conversation.tenant.as_str().as_bytes()) ^ xxh3_64(conversation.conversation.as_str().as_bytes());
    i32::try_from(hash % ACTIVE_SHARDS).unwrap_or_default()
}

/// The node's id and the life, as [`Incarnation`] displays them: separated by a `~`, which no id contains.
fn parse_incarnation(text: &str) -> Result<Incarnation, StoreError> {
    let parts = text.split_once('~');
    let parsed = parts.and_then(|(node, life)| Some((node.parse().ok()?, u64::from_str_radix(life, 16).ok()?)));
    let (node, life) = parsed.ok_or_else(|| unreadable(format!("incarnation {text:?}")))?;
    Ok(Incarnation { node, life })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incarnations_are_read_as_they_are_shown() {
        let one = Incarnation { node: "n-1.a:b@c".parse().unwrap(), life: 0xfeed };
        assert_eq!(parse_incarnation(&one.to_string()).unwrap(), one);
        for text in ["", "n1", "n1~", "n1~xyz", "~1", "n 1~1"] {
            assert!(parse_incarnation(text).is_err(), "{text}");
        }
    }

    #[test]
    fn statements_are_cut_by_rows_bytes_and_partitions() {
        let row = |seq: u64, bytes: usize| Row {
            seq: Seq::new(seq),
            term: TermNumber(1),
            timestamp: WriteTimestamp(1),
            payload: Bytes::from(vec![0; bytes]),
        };
        let cut = |rows: &[Row]| statements(rows).map(<[Row]>::len).collect::<Vec<_>>();
        assert_eq!(cut(&[]), [0_usize; 0]);
        assert_eq!(cut(&[row(1, BATCH_BYTES_MAX + 1), row(2, 1)]), [1, 1], "one goes whatever its size");
        assert_eq!(cut(&[row(1, BATCH_BYTES_MAX), row(2, 0), row(3, 1)]), [2, 1]);
        assert_eq!(cut(&vec![row(1, 1); BATCH_ROWS_MAX + 1]), [BATCH_ROWS_MAX, 1]);
        let last = BUCKET_ENTRIES - 1;
        assert_eq!(cut(&[row(last - 1, 1), row(last, 1), row(last + 1, 1)]), [2, 1]);
    }
}
