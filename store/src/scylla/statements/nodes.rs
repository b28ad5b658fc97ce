//! The statements of nodes: whether an incarnation is live (by compare-and-set), and its `active` notes.

use crate::StoreError;
use crate::scylla::client::{Client, Statement};

pub(in crate::scylla) struct NodeStatements {
    pub(in crate::scylla) register: Statement,
    pub(in crate::scylla) registered: Statement,
    pub(in crate::scylla) fence: Statement,
    pub(in crate::scylla) is_live: Statement,
    pub(in crate::scylla) note_active: Statement,
    pub(in crate::scylla) remove_active: Statement,
    pub(in crate::scylla) note: Statement,
    pub(in crate::scylla) active_partitions: Statement,
    pub(in crate::scylla) active: Statement,
}

impl NodeStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        Ok(Self {
            register: client
                .prepare("register", "INSERT INTO KS.nodes (node, state) VALUES (?, ?) IF NOT EXISTS")
                .await?,
            registered: client.prepare_serial("registered", "SELECT state FROM KS.nodes WHERE node = ?").await?,
            fence: client.prepare("fence", "UPDATE KS.nodes SET state = ? WHERE node = ? IF state = ?").await?,
            is_live: client.prepare("is_live", "SELECT state FROM KS.nodes WHERE node = ?").await?,
            note_active: client
                .prepare(
                    "note_active",
                    "INSERT INTO KS.active (node, shard, tenant, conversation, term) VALUES (?, ?, ?, ?, ?)
                     USING TIMESTAMP ?",
                )
                .await?,
            remove_active: client
                .prepare(
                    "remove_active",
                    "DELETE FROM KS.active USING TIMESTAMP ?
                     WHERE node = ? AND shard = ? AND tenant = ? AND conversation = ?",
                )
                .await?,
            note: client
                .prepare(
                    "note",
                    "SELECT term, WRITETIME(term) FROM KS.active
                     WHERE node = ? AND shard = ? AND tenant = ? AND conversation = ?",
                )
                .await?,
            active_partitions: client
                .prepare_paged("active_partitions", "SELECT DISTINCT node, shard FROM KS.active")
                .await?,
            active: client
                .prepare_paged("active", "SELECT tenant, conversation FROM KS.active WHERE node = ? AND shard = ?")
                .await?,
        })
    }
}
