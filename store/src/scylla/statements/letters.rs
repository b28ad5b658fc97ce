//! The statements of dead letters. Their rows are changed by compare-and-set.

use crate::StoreError;
use crate::scylla::client::{Client, Statement};

pub(in crate::scylla) struct LetterStatements {
    pub(in crate::scylla) newest: Statement,
    pub(in crate::scylla) after: Statement,
    pub(in crate::scylla) one: Statement,
    pub(in crate::scylla) first: Statement,
    pub(in crate::scylla) remove: Statement,
    pub(in crate::scylla) end: Statement,
}

impl LetterStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        Ok(Self {
            newest: client
                .prepare(
                    "newest_dead_letter",
                    "SELECT id FROM KS.dead_letters WHERE tenant = ? ORDER BY id DESC LIMIT 1",
                )
                .await?,
            after: client
                .prepare_paged("dead_letters", "SELECT id, letter FROM KS.dead_letters WHERE tenant = ? AND id > ?")
                .await?,
            one: client
                .prepare("dead_letter", "SELECT letter FROM KS.dead_letters WHERE tenant = ? AND id = ?")
                .await?,
            first: client
                .prepare(
                    "first_dead_letter",
                    "INSERT INTO KS.dead_letters (tenant, id, letter) VALUES (?, ?, ?) IF NOT EXISTS",
                )
                .await?,
            remove: client
                .prepare("remove_dead_letter", "DELETE FROM KS.dead_letters WHERE tenant = ? AND id = ? IF EXISTS")
                .await?,
            end: client
                .prepare(
                    "end_dead_letter",
                    "UPDATE KS.dead_letters SET letter = ? WHERE tenant = ? AND id = ? IF letter = ?",
                )
                .await?,
        })
    }
}
