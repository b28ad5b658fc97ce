//! The statements of members and their cursors.

use crate::StoreError;
use crate::scylla::client::{Client, Figures, Statement};

pub(in crate::scylla) struct MemberStatements {
    /// For batches of the puts below.
    pub(in crate::scylla) put_batch: Figures,
    pub(in crate::scylla) put_membership: Statement,
    pub(in crate::scylla) put_delivered: Statement,
    pub(in crate::scylla) put_read: Statement,
    pub(in crate::scylla) put_mentioned: Statement,
    pub(in crate::scylla) one: Statement,
    pub(in crate::scylla) all: Statement,
}

impl MemberStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        let put = async |op, set: &str| {
            let key = "tenant = ? AND conversation = ? AND user_id = ?";
            client.prepare(op, &format!("UPDATE KS.members USING TIMESTAMP ? SET {set} WHERE {key}")).await
        };
        Ok(Self {
            put_batch: Figures::of("put_members"),
            put_membership: put("put_membership", "membership = ?").await?,
            put_delivered: put("put_delivered", "delivered_seq = ?").await?,
            put_read: put("put_read", "read_seq = ?, read_messages = ?").await?,
            put_mentioned: put("put_mentioned", "mentioned_seq = ?").await?,
            one: client
                .prepare(
                    "member",
                    "SELECT user_id, membership, delivered_seq, read_seq, read_messages, mentioned_seq FROM KS.members
                     WHERE tenant = ? AND conversation = ? AND user_id = ?",
                )
                .await?,
            all: client
                .prepare_paged(
                    "members",
                    "SELECT user_id, membership, delivered_seq, read_seq, read_messages, mentioned_seq FROM KS.members
                     WHERE tenant = ? AND conversation = ?",
                )
                .await?,
        })
    }
}
