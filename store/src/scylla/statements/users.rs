//! The statements of users: revocation, last seen, name and blocks. Names and blocks are changed by compare-and-set.

use crate::StoreError;
use crate::scylla::client::{Client, Statement};

pub(in crate::scylla) struct UserStatements {
    pub(in crate::scylla) user: Statement,
    pub(in crate::scylla) revoke: Statement,
    pub(in crate::scylla) put_last_seen: Statement,
    pub(in crate::scylla) name: Statement,
    pub(in crate::scylla) put_name: Statement,
    pub(in crate::scylla) block: Statement,
    pub(in crate::scylla) first_block: Statement,
    pub(in crate::scylla) next_block: Statement,
    pub(in crate::scylla) put_blocked_by: Statement,
}

impl UserStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, StoreError> {
        Ok(Self {
            user: client
                .prepare_paged(
                    "user",
                    "SELECT revoked_ms, last_seen_ms, name, side, other, since_ms FROM KS.users
                     WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            revoke: client
                .prepare(
                    "revoke",
                    "UPDATE KS.users USING TIMESTAMP ? SET revoked_ms = ? WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            put_last_seen: client
                .prepare(
                    "put_last_seen",
                    "UPDATE KS.users USING TIMESTAMP ? SET last_seen_ms = ? WHERE tenant = ? AND user_id = ?",
                )
                .await?,
            name: client
                .prepare_serial("user_name", "SELECT name FROM KS.users WHERE tenant = ? AND user_id = ? LIMIT 1")
                .await?,
            put_name: client
                .prepare("put_user_name", "UPDATE KS.users SET name = ? WHERE tenant = ? AND user_id = ? IF name = ?")
                .await?,
            block: client
                .prepare_serial(
                    "block",
                    "SELECT number, since_ms FROM KS.users
                     WHERE tenant = ? AND user_id = ? AND side = 'blocks' AND other = ?",
                )
                .await?,
            first_block: client
                .prepare(
                    "first_block",
                    "INSERT INTO KS.users (number, since_ms, tenant, user_id, side, other)
                     VALUES (1, ?, ?, ?, 'blocks', ?) IF NOT EXISTS",
                )
                .await?,
            next_block: client
                .prepare(
                    "next_block",
                    "UPDATE KS.users SET number = ?, since_ms = ?
                     WHERE tenant = ? AND user_id = ? AND side = 'blocks' AND other = ? IF number = ?",
                )
                .await?,
            put_blocked_by: client
                .prepare(
                    "put_blocked_by",
                    "UPDATE KS.users USING TIMESTAMP ? SET number = ?, since_ms = ?
                     WHERE tenant = ? AND user_id = ? AND side = 'blocked_by' AND other = ?",
                )
                .await?,
        })
    }
}
