//! The statements of the log: entries, and the heads of conversations. Heads are changed by compare-and-set.

use crate::StoreError;
use crate::scylla::client::{Client, Figures, Statement};

pub(in crate::scylla) struct LogStatements {
    pub(in crate::scylla) insert_entry: Statement,
    pub(in crate::scylla) insert_entries: Figures,
    pub(in crate::scylla) entries: Statement,
    pub(in crate::scylla) entries_first: Statement,
    pub(in crate::scylla) entries_last: Statement,
    pub(in crate::scylla) head: Statement,
    pub(in crate::scylla) head_shown: Statement,
    pub(in crate::scylla) create_head: Statement,
    pub(in crate::scylla) swap_head: Statement,
    pub(in crate::scylla) created: Statement,
}

impl LogStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        Ok(Self {
            insert_entry: client
                .prepare(
                    "insert_entry",
                    "INSERT INTO KS.messages (tenant, conversation, bucket, seq, term, payload) VALUES (?, ?, ?, ?, ?, ?)
                     USING TIMESTAMP ? AND TTL ?",
                )
                .await?,
            insert_entries: Figures::of("insert_entries"),
            entries: client
                .prepare_paged(
                    "entries",
                    "SELECT seq, term, WRITETIME(payload), payload FROM KS.messages
                     WHERE tenant = ? AND conversation = ? AND bucket = ? AND seq > ? AND seq <= ?",
                )
                .await?,
            entries_first: client
                .prepare(
                    "entries_first",
                    "SELECT seq, payload FROM KS.messages
                     WHERE tenant = ? AND conversation = ? AND bucket = ? AND seq >= ? AND seq <= ?
                     ORDER BY seq ASC LIMIT ?",
                )
                .await?,
            entries_last: client
                .prepare(
                    "entries_last",
                    "SELECT seq, payload FROM KS.messages
                     WHERE tenant = ? AND conversation = ? AND bucket = ? AND seq >= ? AND seq <= ?
                     ORDER BY seq DESC LIMIT ?",
                )
                .await?,
            head: client
                .prepare_serial(
                    "head",
                    "SELECT term, owner, log_end FROM KS.conversation_head WHERE tenant = ? AND conversation = ?",
                )
                .await?,
            head_shown: client
                .prepare(
                    "head_shown",
                    "SELECT term, owner, log_end FROM KS.conversation_head WHERE tenant = ? AND conversation = ?",
                )
                .await?,
            create_head: client
                .prepare(
                    "create_head",
                    "INSERT INTO KS.conversation_head (tenant, conversation, created, term, owner, log_end)
                     VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS",
                )
                .await?,
            swap_head: client
                .prepare(
                    "swap_head",
                    "UPDATE KS.conversation_head SET term = ?, owner = ?, log_end = ?
                     WHERE tenant = ? AND conversation = ? IF term = ? AND owner = ? AND log_end = ?",
                )
                .await?,
            created: client
                .prepare(
                    "created",
                    "SELECT created FROM KS.conversation_head WHERE tenant = ? AND conversation = ?",
                )
                .await?,
        })
    }
}
