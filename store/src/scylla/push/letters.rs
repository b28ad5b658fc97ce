//! Dead letters: one partition per tenant, ordered by id, and limited in number.
//!
//! An id is the newest id plus one, taken by compare-and-set. A letter that was put back into the queue remains as a
//! marked row until it is among the oldest, so that no id is used twice.

use super::{ATTEMPTS_MAX, contended};
use crate::kv::values::decode_at;
use crate::push::DeadLetterRow;
use crate::scylla::Core;
use crate::scylla::client::unreadable;
use crate::scylla::quorum::bigint;
use crate::{DEAD_LETTERS_MAX, DeadLetter, LeasedJob, StoreError};
use switchboard_protocol::{TenantId, Timestamp};

/// The content of a letter that was put back into the queue.
const ENDED: &str = "";

impl Core {
    /// Adds a dead letter.
    pub(super) async fn bury(&self, leased: &LeasedJob, reason: &str, at: Timestamp) -> Result<(), StoreError> {
        let statements = &self.statements;
        let tenant = leased.job.key.user.tenant.as_str();
        let row = DeadLetterRow::new(leased.job.clone(), leased.attempt, reason.to_owned(), at);
        let letter = serde_json::to_string(&row).map_err(unreadable)?;
        // One at a time per process: a provider that refuses everything produces many, and they would conflict.
        let _burying = self.burying.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let id = self.newest_letter(tenant).await? + 1;
            if id > DEAD_LETTERS_MAX {
                let oldest = (tenant, bigint(id - DEAD_LETTERS_MAX));
                self.client.compare_and_set(&statements.letters.remove, oldest).await?;
            }
            let values = (tenant, bigint(id), letter.as_str());
            if self.client.compare_and_set(&statements.letters.first, values).await? {
                return Ok(());
            }
        }
        Err(contended("the list of dead letters"))
    }

    /// The newest letter's id; 0: none.
    async fn newest_letter(&self, tenant: &str) -> Result<u64, StoreError> {
        let found: Option<(i64,)> = self.client.row(&self.statements.letters.newest, (tenant,)).await?;
        Ok(found.map_or(0, |(id,)| id.cast_unsigned()))
    }

    pub(super) async fn dead_letters(
        &self,
        tenant: &TenantId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let values = (tenant.as_str(), bigint(after));
        let found: Vec<(i64, String)> = self.client.rows(&self.statements.letters.after, values).await?;
        let letters = found.into_iter().filter(|(_, letter)| letter != ENDED).take(limit);
        letters.map(|(id, letter)| parse(tenant, id.cast_unsigned(), &letter)).collect()
    }

    /// A letter, decoded and as stored.
    pub(super) async fn dead_letter(
        &self,
        tenant: &TenantId,
        id: u64,
    ) -> Result<Option<(DeadLetter, String)>, StoreError> {
        let values = (tenant.as_str(), bigint(id));
        let found: Option<(String,)> = self.client.row(&self.statements.letters.one, values).await?;
        let found = found.filter(|(letter,)| letter != ENDED);
        found.map(|(letter,)| Ok((parse(tenant, id, &letter)?, letter))).transpose()
    }

    /// Marks a letter that is in the queue again. Returns whether it was a letter until now.
    pub(super) async fn end_dead_letter(&self, tenant: &TenantId, id: u64, letter: &str) -> Result<bool, StoreError> {
        let values = (ENDED, tenant.as_str(), bigint(id), letter);
        self.client.compare_and_set(&self.statements.letters.end, values).await
    }
}

fn parse(tenant: &TenantId, id: u64, letter: &str) -> Result<DeadLetter, StoreError> {
    Ok(decode_at::<DeadLetterRow>(b"dead_letters letter", letter.as_bytes())?.of(tenant, id))
}
