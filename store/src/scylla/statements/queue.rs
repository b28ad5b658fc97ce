//! The statements that find due jobs: hints, whose timestamps are the numbers of their places, and the list of buckets
//! that may hold any, which is changed by compare-and-set.

use crate::StoreError;
use crate::scylla::client::{Client, Statement};

pub(in crate::scylla) struct QueueStatements {
    pub(in crate::scylla) hints: Statement,
    pub(in crate::scylla) put_hint: Statement,
    pub(in crate::scylla) remove_hint: Statement,
    pub(in crate::scylla) buckets: Statement,
    pub(in crate::scylla) bucket: Statement,
    pub(in crate::scylla) first_bucket: Statement,
    pub(in crate::scylla) set_bucket: Statement,
    pub(in crate::scylla) remove_bucket: Statement,
}

impl QueueStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        Ok(Self {
            hints: client
                .prepare_paged(
                    "push_hints",
                    "SELECT due_ms, tenant, user_id, conversation, number FROM KS.push_queue
                     WHERE channel = ? AND priority = ? AND bucket IN ? AND shard IN ? AND due_ms <= ?
                     PER PARTITION LIMIT ?",
                )
                .await?,
            put_hint: client
                .prepare(
                    "put_push_hint",
                    "INSERT INTO KS.push_queue
                     (channel, priority, bucket, shard, due_ms, tenant, user_id, conversation, number)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
                )
                .await?,
            remove_hint: client
                .prepare(
                    "remove_push_hint",
                    "DELETE FROM KS.push_queue USING TIMESTAMP ?
                     WHERE channel = ? AND priority = ? AND bucket = ? AND shard = ? AND due_ms = ? AND tenant = ?
                     AND user_id = ? AND conversation = ?",
                )
                .await?,
            buckets: client
                .prepare_paged("push_buckets", "SELECT priority, bucket, state FROM KS.push_buckets WHERE channel = ?")
                .await?,
            bucket: client
                .prepare(
                    "push_bucket",
                    "SELECT state FROM KS.push_buckets WHERE channel = ? AND priority = ? AND bucket = ?",
                )
                .await?,
            first_bucket: client
                .prepare(
                    "first_push_bucket",
                    "INSERT INTO KS.push_buckets (channel, priority, bucket, state) VALUES (?, ?, ?, ?)
                     IF NOT EXISTS USING TTL ?",
                )
                .await?,
            set_bucket: client
                .prepare(
                    "set_push_bucket",
                    "UPDATE KS.push_buckets USING TTL ? SET state = ?
                     WHERE channel = ? AND priority = ? AND bucket = ? IF state = ?",
                )
                .await?,
            remove_bucket: client
                .prepare(
                    "remove_push_bucket",
                    "DELETE FROM KS.push_buckets WHERE channel = ? AND priority = ? AND bucket = ? IF state = ?",
                )
                .await?,
        })
    }
}
