//! Removes what is older than its tenant's retention: each conversation's oldest entries, in order, so that the rest
//! has no gap, and with each entry the state of its message.

use super::engine::buffered;
use super::keys::{self, Key, Table};
use super::log_read::{self, StoredIn};
use super::values;
use super::{Engine, ReadCost, Rows, Transaction};
use crate::{ConversationKey, Retention, StoreError};
use serde::Deserialize;
use std::ops::Range;
use switchboard_protocol::{Seq, Timestamp};

/// Conversations read at a time.
const CONVERSATIONS_AT_ONCE: usize = 256;

/// Entries removed in one write.
const ENTRIES_AT_ONCE: usize = 256;

/// See [`crate::Store::expire`].
pub(crate) async fn expire<E: Engine>(engine: &E, retention: &Retention, now: Timestamp) -> Result<u64, StoreError> {
    let mut removed = 0;
    let mut range = keys::heads().prefixed();
    loop {
        let next = range.clone();
        let some = Engine::read(engine, "expire", ReadCost::Scan, move |rows| conversations(rows, next)).await?;
        let Some(last) = some.last() else { return Ok(removed) };
        range.start = keys::head(last).prefixed().end;
        for conversation in some {
            if let Some(cutoff) = retention.cutoff_of(&conversation.tenant, now) {
                removed += expire_of(engine, &conversation, cutoff).await?;
            }
        }
    }
}

fn conversations(rows: &impl Rows, range: Range<Vec<u8>>) -> Result<Vec<ConversationKey>, StoreError> {
    rows.range(range).take(CONVERSATIONS_AT_ONCE).map(|row| keys::parse_head(row?.0.as_ref())).collect()
}

async fn expire_of<E: Engine>(
    engine: &E,
    conversation: &ConversationKey,
    cutoff: Timestamp,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let key = conversation.clone();
        let expired = move |rows: &E::Rows| expired(rows, &key, cutoff);
        let Expired { entries, rows } = Engine::read(engine, "expire", ReadCost::Scan, expired).await?;
        let remove = move |tx: &mut Transaction<'_, E::Rows>| {
            rows.into_iter().for_each(|key| tx.remove(key));
            Ok(())
        };
        if entries > 0 {
            engine.write(buffered("expire", entries), remove).await?;
        }
        removed += entries as u64;
        if entries < ENTRIES_AT_ONCE {
            return Ok(removed);
        }
    }
}

struct Expired {
    entries: usize,
    /// Of the entries and of their messages' states.
    rows: Vec<Key>,
}

/// The oldest entries, up to the first that is kept.
fn expired(rows: &impl Rows, conversation: &ConversationKey, cutoff: Timestamp) -> Result<Expired, StoreError> {
    let mut expired = Expired { entries: 0, rows: Vec::new() };
    for entry in log_read::from(rows, conversation, Seq::ZERO).take(ENTRIES_AT_ONCE) {
        let StoredIn { table, entry } = entry?;
        let key = keys::entry(table, conversation, entry.seq);
        let dated: Dated = values::decode_at(key.as_bytes(), &entry.json)?;
        if dated.timestamp >= cutoff {
            break;
        }
        expired.entries += 1;
        expired.rows.push(key);
        if table == Table::Message {
            for row in rows.range(keys::states(conversation, entry.seq, entry.seq)) {
                expired.rows.push(Key::of_row(row?.0.as_ref()));
            }
        }
    }
    Ok(expired)
}

#[derive(Deserialize)]
struct Dated {
    timestamp: Timestamp,
}
