//! The statements of inboxes and their epochs. Epochs are changed by compare-and-set.

use crate::StoreError;
use crate::scylla::client::{Client, Figures, Statement};

pub(in crate::scylla) struct InboxStatements {
    pub(in crate::scylla) rows: Statement,
    pub(in crate::scylla) some_rows: Statement,
    /// For batches of the puts below.
    pub(in crate::scylla) put_batch: Figures,
    pub(in crate::scylla) put_version: Statement,
    pub(in crate::scylla) put_last: Statement,
    pub(in crate::scylla) put_mentioned: Statement,
    pub(in crate::scylla) put_read: Statement,
    pub(in crate::scylla) put_membership: Statement,
    pub(in crate::scylla) put_settings: Statement,
    pub(in crate::scylla) epoch: Statement,
    pub(in crate::scylla) epoch_serial: Statement,
    pub(in crate::scylla) first_epoch: Statement,
    pub(in crate::scylla) next_epoch: Statement,
}

impl InboxStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        let put = async |op, set: &str| {
            let key = "tenant = ? AND user_id = ? AND conversation = ?";
            client.prepare(op, &format!("UPDATE KS.inbox USING TIMESTAMP ? SET {set} WHERE {key}")).await
        };
        Ok(Self {
            rows: client
                .prepare_paged(
                    "inbox",
                    "SELECT conversation, version, last, mentioned_seq, read_seq, read_messages, membership_seq, member,
                     settings_number, settings FROM KS.inbox WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            some_rows: client
                .prepare_paged(
                    "inbox_row",
                    "SELECT conversation, version, last, mentioned_seq, read_seq, read_messages, membership_seq, member,
                     settings_number, settings FROM KS.inbox WHERE tenant = ? AND user_id = ? AND conversation IN ?",
                )
                .await?,
            put_batch: Figures::of("put_inbox"),
            put_version: put("put_inbox_version", "version = ?").await?,
            put_last: put("put_inbox_last", "last = ?").await?,
            put_mentioned: put("put_inbox_mentioned", "mentioned_seq = ?").await?,
            put_read: put("put_inbox_read", "read_seq = ?, read_messages = ?").await?,
            put_membership: put("put_inbox_membership", "membership_seq = ?, member = ?").await?,
            put_settings: put("put_inbox_settings", "settings_number = ?, settings = ?").await?,
            epoch: client
                .prepare(
                    "inbox_epoch",
                    "SELECT epoch FROM KS.inbox_epochs WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            epoch_serial: client
                .prepare_serial(
                    "inbox_epoch_serial",
                    "SELECT epoch FROM KS.inbox_epochs WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            first_epoch: client
                .prepare(
                    "first_inbox_epoch",
                    "INSERT INTO KS.inbox_epochs (epoch, tenant, user_id) VALUES (?, ?, ?) IF NOT EXISTS",
                )
                .await?,
            next_epoch: client
                .prepare(
                    "next_inbox_epoch",
                    "UPDATE KS.inbox_epochs SET epoch = ? WHERE tenant = ? AND user_id = ? IF epoch = ?",
                )
                .await?,
        })
    }
}
