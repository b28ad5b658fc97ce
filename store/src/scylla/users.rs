//! User records: one partition each, so that a record is one read.
//!
//! A block is in the blocking user's partition, numbered and changed by compare-and-set, and copied to the blocked
//! user's partition, with that number as its timestamp. A removed block remains as a marked row. A name has no order of
//! its own, so it is changed by compare-and-set too.

use super::client::unreadable;
use super::housekeeping::all_of;
use super::{Core, ScyllaStore};
use crate::{StoreError, UserKey, UserRecord, Users};
use async_trait::async_trait;
use switchboard_protocol::{Timestamp, UserId};

/// How often a block is retried because another device of the same user changed it meanwhile.
const BLOCK_ATTEMPTS_MAX: u32 = 8;

/// Users whose times are written concurrently.
const USERS_AT_ONCE: usize = 64;

/// The `since_ms` of a removed block.
const NOT_BLOCKED: i64 = i64::MIN;

/// How often a name is retried because another session of the same user set it meanwhile.
const NAME_ATTEMPTS_MAX: u32 = 8;

/// `revoked_ms`, `last_seen_ms`, `name`, then a block's side, other user and `since_ms`.
type UserRow = (Option<i64>, Option<i64>, Option<String>, Option<String>, Option<String>, Option<i64>);

#[async_trait]
impl Users for ScyllaStore {
    async fn user(&self, user: &UserKey) -> Result<UserRecord, StoreError> {
        let values = (user.tenant.as_str(), user.user.as_str());
        let rows: Vec<UserRow> = self.core.client.rows(&self.core.statements.users.user, values).await?;
        let mut record = UserRecord::default();
        for (revoked_ms, last_seen_ms, name, side, other, since_ms) in rows {
            record.revoked_at = revoked_ms.map(Timestamp::from_unix_ms);
            record.last_seen_at = last_seen_ms.map(Timestamp::from_unix_ms);
            record.name = name;
            let (Some(side), Some(other), Some(since_ms)) = (side, other, since_ms) else { continue };
            let blocks = if side == "blocks" { &mut record.blocks } else { &mut record.blocked_by };
            if since_ms != NOT_BLOCKED {
                blocks.push((other.parse().map_err(unreadable)?, Timestamp::from_unix_ms(since_ms)));
            }
        }
        Ok(record)
    }

    async fn block(&self, user: &UserKey, other: &UserId, at: Timestamp) -> Result<(), StoreError> {
        self.core.set_block(user, other, at.unix_ms()).await
    }

    async fn unblock(&self, user: &UserKey, other: &UserId) -> Result<(), StoreError> {
        self.core.set_block(user, other, NOT_BLOCKED).await
    }

    async fn revoke(&self, user: &UserKey, at: Timestamp) -> Result<(), StoreError> {
        let values = (at.unix_ms(), at.unix_ms(), user.tenant.as_str(), user.user.as_str());
        self.core.client.execute(&self.core.statements.users.revoke, values).await.map(drop)
    }

    async fn put_last_seen(&self, seen: Vec<(UserKey, Timestamp)>) -> Result<(), StoreError> {
        let writes = seen.into_iter().map(|(user, at)| {
            let core = self.core.clone();
            async move {
                let values = (at.unix_ms(), at.unix_ms(), user.tenant.as_str(), user.user.as_str());
                core.client.execute(&core.statements.users.put_last_seen, values).await.map(drop)
            }
        });
        all_of(writes, USERS_AT_ONCE).await
    }

    async fn put_user_name(&self, user: &UserKey, name: &str) -> Result<(), StoreError> {
        let Core { client, statements, .. } = &*self.core;
        let (tenant, id) = (user.tenant.as_str(), user.user.as_str());
        for _ in 0..NAME_ATTEMPTS_MAX {
            let found: Option<(Option<String>,)> = client.row(&statements.users.name, (tenant, id)).await?;
            let before = found.and_then(|(name,)| name);
            let is_set = before.as_deref() == Some(name);
            if is_set || client.compare_and_set(&statements.users.put_name, (name, tenant, id, before)).await? {
                return Ok(());
            }
        }
        Err(StoreError::unavailable("a name is being changed by others"))
    }
}

impl Core {
    async fn set_block(&self, user: &UserKey, other: &UserId, since_ms: i64) -> Result<(), StoreError> {
        let (tenant, id) = (user.tenant.as_str(), user.user.as_str());
        for _ in 0..BLOCK_ATTEMPTS_MAX {
            let key = (tenant, id, other.as_str());
            let found: Option<(i64, i64)> = self.client.row(&self.statements.users.block, key).await?;
            let applied = match found {
                None if since_ms == NOT_BLOCKED => return Ok(()),
                // Already in the requested state, but the copy may not be.
                Some((number, since)) if (since == NOT_BLOCKED) == (since_ms == NOT_BLOCKED) => {
                    return self.copy_block(user, other, number, since).await;
                }
                None => {
                    let values = (since_ms, tenant, id, other.as_str());
                    self.client.compare_and_set(&self.statements.users.first_block, values).await?
                }
                Some((number, _)) => {
                    let values = (number + 1, since_ms, tenant, id, other.as_str(), number);
                    self.client.compare_and_set(&self.statements.users.next_block, values).await?
                }
            };
            if applied {
                let number = found.map_or(0, |(number, _)| number) + 1;
                return self.copy_block(user, other, number, since_ms).await;
            }
        }
        Err(StoreError::unavailable("a block is being changed by others"))
    }

    async fn copy_block(&self, user: &UserKey, other: &UserId, number: i64, since_ms: i64) -> Result<(), StoreError> {
        let values = (number, number, since_ms, user.tenant.as_str(), other.as_str(), user.user.as_str());
        self.client.execute(&self.statements.users.put_blocked_by, values).await.map(drop)
    }
}
