//! Every statement, prepared once. The rest of this backend knows no CQL but the schema's.
//!
//! Each write to tables that are not compared and set names its timestamp, so that no clock of any node decides which one
//! stays: entries and what is projected from them the entry's own, values that only grow themselves (DESIGN §3), notes in
//! `active` a counter of their only writer's.

use super::client::{Client, Figures, Statement, serial, with_pages};
use super::push::PushStatements;
use crate::StoreError;

pub(super) struct Statements {
    pub(super) insert_entry: Statement,
    pub(super) insert_entries: Figures,
    pub(super) entries: Statement,
    pub(super) entries_first: Statement,
    pub(super) entries_last: Statement,

    pub(super) head: Statement,
    pub(super) head_shown: Statement,
    pub(super) create_head: Statement,
    pub(super) swap_head: Statement,
    pub(super) created: Statement,

    pub(super) register: Statement,
    pub(super) registered: Statement,
    pub(super) fence: Statement,
    pub(super) is_live: Statement,

    pub(super) note_active: Statement,
    pub(super) remove_active: Statement,
    pub(super) note: Statement,
    pub(super) active_partitions: Statement,
    pub(super) active: Statement,

    pub(super) state: Statement,
    pub(super) put_state: Statement,

    pub(super) put_members: Figures,
    pub(super) put_membership: Statement,
    pub(super) put_delivered: Statement,
    pub(super) put_read: Statement,
    pub(super) put_mentioned: Statement,
    pub(super) member: Statement,
    pub(super) members: Statement,

    pub(super) put_message_states: Figures,
    pub(super) put_message_state: Statement,
    pub(super) message_states: Statement,

    pub(super) inbox: Statement,
    pub(super) inbox_row: Statement,
    pub(super) put_inbox: Figures,
    pub(super) put_inbox_version: Statement,
    pub(super) put_inbox_last: Statement,
    pub(super) put_inbox_mentioned: Statement,
    pub(super) put_inbox_read: Statement,
    pub(super) put_inbox_membership: Statement,
    pub(super) put_inbox_settings: Statement,
    pub(super) inbox_epoch: Statement,
    pub(super) inbox_epoch_serial: Statement,
    pub(super) first_inbox_epoch: Statement,
    pub(super) next_inbox_epoch: Statement,

    pub(super) user: Statement,
    pub(super) revoke: Statement,
    pub(super) put_last_seen: Statement,
    pub(super) user_name: Statement,
    pub(super) put_user_name: Statement,
    pub(super) block: Statement,
    pub(super) first_block: Statement,
    pub(super) next_block: Statement,
    pub(super) put_blocked_by: Statement,

    pub(super) push: PushStatements,

    pub(super) check: Statement,
}

impl Statements {
    #[expect(clippy::too_many_lines, reason = "one line for each statement")]
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        let keyspace = &client.keyspace;
        let prepare = async |op, cql: &str| client.prepare(op, cql.replace("KS.", &format!("{keyspace}."))).await;
        Ok(Self {
            insert_entry: prepare(
                "insert_entry",
                "INSERT INTO KS.messages (tenant, conversation, bucket, seq, term, payload) VALUES (?, ?, ?, ?, ?, ?)
                 USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            insert_entries: Figures::of("insert_entries"),
            entries: with_pages(
                prepare(
                    "entries",
                    "SELECT seq, term, WRITETIME(payload), payload FROM KS.messages
                     WHERE tenant = ? AND conversation = ? AND bucket = ? AND seq > ? AND seq <= ?",
                )
                .await?,
            ),
            entries_first: prepare(
                "entries_first",
                "SELECT seq, payload FROM KS.messages
                 WHERE tenant = ? AND conversation = ? AND bucket = ? AND seq >= ? AND seq <= ?
                 ORDER BY seq ASC LIMIT ?",
            )
            .await?,
            entries_last: prepare(
                "entries_last",
                "SELECT seq, payload FROM KS.messages
                 WHERE tenant = ? AND conversation = ? AND bucket = ? AND seq >= ? AND seq <= ?
                 ORDER BY seq DESC LIMIT ?",
            )
            .await?,

            head: serial(
                prepare(
                    "head",
                    "SELECT term, owner, log_end FROM KS.conversation_head WHERE tenant = ? AND conversation = ?",
                )
                .await?,
            ),
            head_shown: prepare(
                "head_shown",
                "SELECT term, owner, log_end FROM KS.conversation_head WHERE tenant = ? AND conversation = ?",
            )
            .await?,
            create_head: prepare(
                "create_head",
                "INSERT INTO KS.conversation_head (tenant, conversation, created, term, owner, log_end)
                 VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS",
            )
            .await?,
            swap_head: prepare(
                "swap_head",
                "UPDATE KS.conversation_head SET term = ?, owner = ?, log_end = ?
                 WHERE tenant = ? AND conversation = ? IF term = ? AND owner = ? AND log_end = ?",
            )
            .await?,
            created: prepare(
                "created",
                "SELECT created FROM KS.conversation_head WHERE tenant = ? AND conversation = ?",
            )
            .await?,

            register: prepare("register", "INSERT INTO KS.nodes (node, state) VALUES (?, ?) IF NOT EXISTS").await?,
            registered: serial(prepare("registered", "SELECT state FROM KS.nodes WHERE node = ?").await?),
            fence: prepare("fence", "UPDATE KS.nodes SET state = ? WHERE node = ? IF state = ?").await?,
            is_live: prepare("is_live", "SELECT state FROM KS.nodes WHERE node = ?").await?,

            note_active: prepare(
                "note_active",
                "INSERT INTO KS.active (node, shard, tenant, conversation, term) VALUES (?, ?, ?, ?, ?)
                 USING TIMESTAMP ?",
            )
            .await?,
            remove_active: prepare(
                "remove_active",
                "DELETE FROM KS.active USING TIMESTAMP ?
                 WHERE node = ? AND shard = ? AND tenant = ? AND conversation = ?",
            )
            .await?,
            note: prepare(
                "note",
                "SELECT term, WRITETIME(term) FROM KS.active
                 WHERE node = ? AND shard = ? AND tenant = ? AND conversation = ?",
            )
            .await?,
            active_partitions: with_pages(
                prepare("active_partitions", "SELECT DISTINCT node, shard FROM KS.active").await?,
            ),
            active: with_pages(
                prepare("active", "SELECT tenant, conversation FROM KS.active WHERE node = ? AND shard = ?").await?,
            ),

            state: prepare(
                "conversation_state",
                "SELECT applied_seq, state FROM KS.conversation_state WHERE tenant = ? AND conversation = ?",
            )
            .await?,
            put_state: prepare(
                "put_conversation_state",
                "INSERT INTO KS.conversation_state (tenant, conversation, applied_seq, state) VALUES (?, ?, ?, ?)
                 USING TIMESTAMP ?",
            )
            .await?,

            put_members: Figures::of("put_members"),
            put_membership: prepare(
                "put_membership",
                "UPDATE KS.members USING TIMESTAMP ? SET membership = ?
                 WHERE tenant = ? AND conversation = ? AND user_id = ?",
            )
            .await?,
            put_delivered: prepare(
                "put_delivered",
                "UPDATE KS.members USING TIMESTAMP ? SET delivered_seq = ?
                 WHERE tenant = ? AND conversation = ? AND user_id = ?",
            )
            .await?,
            put_read: prepare(
                "put_read",
                "UPDATE KS.members USING TIMESTAMP ? SET read_seq = ?, read_messages = ?
                 WHERE tenant = ? AND conversation = ? AND user_id = ?",
            )
            .await?,
            put_mentioned: prepare(
                "put_mentioned",
                "UPDATE KS.members USING TIMESTAMP ? SET mentioned_seq = ?
                 WHERE tenant = ? AND conversation = ? AND user_id = ?",
            )
            .await?,
            member: prepare(
                "member",
                "SELECT user_id, membership, delivered_seq, read_seq, read_messages, mentioned_seq FROM KS.members
                 WHERE tenant = ? AND conversation = ? AND user_id = ?",
            )
            .await?,
            members: with_pages(
                prepare(
                    "members",
                    "SELECT user_id, membership, delivered_seq, read_seq, read_messages, mentioned_seq FROM KS.members
                     WHERE tenant = ? AND conversation = ?",
                )
                .await?,
            ),

            put_message_states: Figures::of("put_message_states"),
            put_message_state: prepare(
                "put_message_state",
                "INSERT INTO KS.message_states
                 (tenant, conversation, bucket, seq, part, emoji, user_id, entry_seq, value)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?",
            )
            .await?,
            message_states: with_pages(
                prepare(
                    "message_states",
                    "SELECT seq, part, emoji, user_id, entry_seq, value FROM KS.message_states
                     WHERE tenant = ? AND conversation = ? AND bucket = ? AND seq >= ? AND seq <= ?",
                )
                .await?,
            ),

            inbox: with_pages(
                prepare(
                    "inbox",
                    "SELECT conversation, version, last, mentioned_seq, read_seq, read_messages, membership_seq, member,
                     settings_number, settings FROM KS.inbox WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            ),
            inbox_row: with_pages(
                prepare(
                    "inbox_row",
                    "SELECT conversation, version, last, mentioned_seq, read_seq, read_messages, membership_seq, member,
                     settings_number, settings FROM KS.inbox WHERE tenant = ? AND user_id = ? AND conversation IN ?",
                )
                .await?,
            ),
            put_inbox: Figures::of("put_inbox"),
            put_inbox_version: prepare(
                "put_inbox_version",
                "UPDATE KS.inbox USING TIMESTAMP ? SET version = ?
                 WHERE tenant = ? AND user_id = ? AND conversation = ?",
            )
            .await?,
            put_inbox_last: prepare(
                "put_inbox_last",
                "UPDATE KS.inbox USING TIMESTAMP ? SET last = ?
                 WHERE tenant = ? AND user_id = ? AND conversation = ?",
            )
            .await?,
            put_inbox_mentioned: prepare(
                "put_inbox_mentioned",
                "UPDATE KS.inbox USING TIMESTAMP ? SET mentioned_seq = ?
                 WHERE tenant = ? AND user_id = ? AND conversation = ?",
            )
            .await?,
            put_inbox_read: prepare(
                "put_inbox_read",
                "UPDATE KS.inbox USING TIMESTAMP ? SET read_seq = ?, read_messages = ?
                 WHERE tenant = ? AND user_id = ? AND conversation = ?",
            )
            .await?,
            put_inbox_membership: prepare(
                "put_inbox_membership",
                "UPDATE KS.inbox USING TIMESTAMP ? SET membership_seq = ?, member = ?
                 WHERE tenant = ? AND user_id = ? AND conversation = ?",
            )
            .await?,
            put_inbox_settings: prepare(
                "put_inbox_settings",
                "UPDATE KS.inbox USING TIMESTAMP ? SET settings_number = ?, settings = ?
                 WHERE tenant = ? AND user_id = ? AND conversation = ?",
            )
            .await?,
            inbox_epoch: prepare(
                "inbox_epoch",
                "SELECT epoch FROM KS.inbox_epochs WHERE tenant = ? AND user_id = ?",
            )
            .await?,
            inbox_epoch_serial: serial(
                prepare("inbox_epoch_serial", "SELECT epoch FROM KS.inbox_epochs WHERE tenant = ? AND user_id = ?")
                    .await?,
            ),
            first_inbox_epoch: prepare(
                "first_inbox_epoch",
                "INSERT INTO KS.inbox_epochs (epoch, tenant, user_id) VALUES (?, ?, ?) IF NOT EXISTS",
            )
            .await?,
            next_inbox_epoch: prepare(
                "next_inbox_epoch",
                "UPDATE KS.inbox_epochs SET epoch = ? WHERE tenant = ? AND user_id = ? IF epoch = ?",
            )
            .await?,

            user: with_pages(
                prepare(
                    "user",
                    "SELECT revoked_ms, last_seen_ms, name, side, other, since_ms FROM KS.users
                     WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            ),
            revoke: prepare(
                "revoke",
                "UPDATE KS.users USING TIMESTAMP ? SET revoked_ms = ? WHERE tenant = ? AND user_id = ?",
            )
            .await?,
            put_last_seen: prepare(
                "put_last_seen",
                "UPDATE KS.users USING TIMESTAMP ? SET last_seen_ms = ? WHERE tenant = ? AND user_id = ?",
            )
            .await?,
            user_name: serial(
                prepare("user_name", "SELECT name FROM KS.users WHERE tenant = ? AND user_id = ? LIMIT 1").await?,
            ),
            put_user_name: prepare(
                "put_user_name",
                "UPDATE KS.users SET name = ? WHERE tenant = ? AND user_id = ? IF name = ?",
            )
            .await?,
            block: serial(
                prepare(
                    "block",
                    "SELECT number, since_ms FROM KS.users
                     WHERE tenant = ? AND user_id = ? AND side = 'blocks' AND other = ?",
                )
                .await?,
            ),
            first_block: prepare(
                "first_block",
                "INSERT INTO KS.users (number, since_ms, tenant, user_id, side, other)
                 VALUES (1, ?, ?, ?, 'blocks', ?) IF NOT EXISTS",
            )
            .await?,
            next_block: prepare(
                "next_block",
                "UPDATE KS.users SET number = ?, since_ms = ?
                 WHERE tenant = ? AND user_id = ? AND side = 'blocks' AND other = ? IF number = ?",
            )
            .await?,
            put_blocked_by: prepare(
                "put_blocked_by",
                "UPDATE KS.users USING TIMESTAMP ? SET number = ?, since_ms = ?
                 WHERE tenant = ? AND user_id = ? AND side = 'blocked_by' AND other = ?",
            )
            .await?,

            push: Box::pin(PushStatements::prepare(client)).await?,

            check: prepare("check", "SELECT value FROM KS.store WHERE part = 'store_id'").await?,
        })
    }
}
