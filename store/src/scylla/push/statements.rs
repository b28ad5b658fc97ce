//! The statements of push, prepared once. Rows are compared and set, but for hints, whose timestamps are their places'
//! numbers.

use crate::StoreError;
use crate::scylla::client::{Client, Statement, with_pages};

pub(in crate::scylla) struct PushStatements {
    pub(super) devices: Statement,
    pub(super) first_device: Statement,
    pub(super) change_device: Statement,
    pub(super) remove_device: Statement,
    pub(super) remove_device_as: Statement,

    pub(super) preferences: Statement,
    pub(super) first_preferences: Statement,
    pub(super) change_preferences: Statement,

    pub(super) place: Statement,
    pub(super) places_of_conversation: Statement,
    pub(super) places_of_user: Statement,
    pub(super) first_place: Statement,
    pub(super) next_place: Statement,

    pub(super) hints: Statement,
    pub(super) put_hint: Statement,
    pub(super) remove_hint: Statement,

    pub(super) buckets: Statement,
    pub(super) bucket: Statement,
    pub(super) first_bucket: Statement,
    pub(super) set_bucket: Statement,
    pub(super) remove_bucket: Statement,

    pub(super) newest_letter: Statement,
    pub(super) letters: Statement,
    pub(super) letter: Statement,
    pub(super) first_letter: Statement,
    pub(super) remove_letter: Statement,
    pub(super) end_letter: Statement,
}

impl PushStatements {
    #[expect(clippy::too_many_lines, reason = "one line for each statement")]
    pub(in crate::scylla) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        let keyspace = &client.keyspace;
        let prepare = async |op, cql: &str| client.prepare(op, cql.replace("KS.", &format!("{keyspace}."))).await;
        Ok(Self {
            devices: with_pages(
                prepare(
                    "push_devices",
                    "SELECT device, channel, target, registered_ms FROM KS.push_devices
                     WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            ),
            first_device: prepare(
                "first_push_device",
                "INSERT INTO KS.push_devices (channel, target, registered_ms, tenant, user_id, device)
                 VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS",
            )
            .await?,
            change_device: prepare(
                "change_push_device",
                "UPDATE KS.push_devices SET channel = ?, target = ?, registered_ms = ?
                 WHERE tenant = ? AND user_id = ? AND device = ? IF EXISTS",
            )
            .await?,
            remove_device: prepare(
                "remove_push_device",
                "DELETE FROM KS.push_devices WHERE tenant = ? AND user_id = ? AND device = ? IF EXISTS",
            )
            .await?,
            remove_device_as: prepare(
                "remove_push_device_as",
                "DELETE FROM KS.push_devices WHERE tenant = ? AND user_id = ? AND device = ? IF target = ?",
            )
            .await?,

            preferences: prepare(
                "notification_preferences",
                "SELECT preferences FROM KS.notification_preferences WHERE tenant = ? AND user_id = ?",
            )
            .await?,
            first_preferences: prepare(
                "first_notification_preferences",
                "INSERT INTO KS.notification_preferences (preferences, tenant, user_id) VALUES (?, ?, ?)
                 IF NOT EXISTS",
            )
            .await?,
            change_preferences: prepare(
                "change_notification_preferences",
                "UPDATE KS.notification_preferences SET preferences = ? WHERE tenant = ? AND user_id = ? IF EXISTS",
            )
            .await?,

            place: prepare(
                "push_place",
                "SELECT number, place FROM KS.push_deliveries
                 WHERE tenant = ? AND user_id = ? AND conversation = ? AND channel = ?",
            )
            .await?,
            places_of_conversation: with_pages(
                prepare(
                    "push_places_of_conversation",
                    "SELECT channel, number, place FROM KS.push_deliveries
                     WHERE tenant = ? AND user_id = ? AND conversation = ?",
                )
                .await?,
            ),
            places_of_user: with_pages(
                prepare(
                    "push_places_of_user",
                    "SELECT conversation, channel, number, place FROM KS.push_deliveries
                     WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            ),
            first_place: prepare(
                "first_push_place",
                "INSERT INTO KS.push_deliveries (number, place, tenant, user_id, conversation, channel)
                 VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS USING TTL ?",
            )
            .await?,
            next_place: prepare(
                "next_push_place",
                "UPDATE KS.push_deliveries USING TTL ? SET number = ?, place = ?
                 WHERE tenant = ? AND user_id = ? AND conversation = ? AND channel = ? IF number = ?",
            )
            .await?,

            hints: with_pages(
                prepare(
                    "push_hints",
                    "SELECT due_ms, tenant, user_id, conversation, number FROM KS.push_queue
                     WHERE channel = ? AND priority = ? AND bucket IN ? AND shard IN ? AND due_ms <= ?
                     PER PARTITION LIMIT ?",
                )
                .await?,
            ),
            put_hint: prepare(
                "put_push_hint",
                "INSERT INTO KS.push_queue
                 (channel, priority, bucket, shard, due_ms, tenant, user_id, conversation, number)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            remove_hint: prepare(
                "remove_push_hint",
                "DELETE FROM KS.push_queue USING TIMESTAMP ?
                 WHERE channel = ? AND priority = ? AND bucket = ? AND shard = ? AND due_ms = ? AND tenant = ?
                 AND user_id = ? AND conversation = ?",
            )
            .await?,

            buckets: with_pages(
                prepare("push_buckets", "SELECT priority, bucket, state FROM KS.push_buckets WHERE channel = ?")
                    .await?,
            ),
            bucket: prepare(
                "push_bucket",
                "SELECT state FROM KS.push_buckets WHERE channel = ? AND priority = ? AND bucket = ?",
            )
            .await?,
            first_bucket: prepare(
                "first_push_bucket",
                "INSERT INTO KS.push_buckets (channel, priority, bucket, state) VALUES (?, ?, ?, ?)
                 IF NOT EXISTS USING TTL ?",
            )
            .await?,
            set_bucket: prepare(
                "set_push_bucket",
                "UPDATE KS.push_buckets USING TTL ? SET state = ?
                 WHERE channel = ? AND priority = ? AND bucket = ? IF state = ?",
            )
            .await?,
            remove_bucket: prepare(
                "remove_push_bucket",
                "DELETE FROM KS.push_buckets WHERE channel = ? AND priority = ? AND bucket = ? IF state = ?",
            )
            .await?,

            newest_letter: prepare(
                "newest_dead_letter",
                "SELECT id FROM KS.dead_letters WHERE tenant = ? ORDER BY id DESC LIMIT 1",
            )
            .await?,
            letters: with_pages(
                prepare("dead_letters", "SELECT id, letter FROM KS.dead_letters WHERE tenant = ? AND id > ?").await?,
            ),
            letter: prepare("dead_letter", "SELECT letter FROM KS.dead_letters WHERE tenant = ? AND id = ?").await?,
            first_letter: prepare(
                "first_dead_letter",
                "INSERT INTO KS.dead_letters (tenant, id, letter) VALUES (?, ?, ?) IF NOT EXISTS",
            )
            .await?,
            remove_letter: prepare(
                "remove_dead_letter",
                "DELETE FROM KS.dead_letters WHERE tenant = ? AND id = ? IF EXISTS",
            )
            .await?,
            end_letter: prepare(
                "end_dead_letter",
                "UPDATE KS.dead_letters SET letter = ? WHERE tenant = ? AND id = ? IF letter = ?",
            )
            .await?,
        })
    }
}
