//! User records: one row per user, and one row on each side of every block.

use super::keys::{self, Table};
use super::values::{self, UserRow};
use super::{Rows, Transaction};
use crate::{StoreError, UserKey, UserRecord};
use switchboard_protocol::{Timestamp, UserId};

/// The part of a user's record that is in the user's own row, and whether that is all of it.
pub(super) fn row(rows: &impl Rows, user: &UserKey) -> Result<(UserRecord, bool), StoreError> {
    let key = keys::user(user);
    let row = match rows.get(key.as_bytes())? {
        Some(value) => values::decode(&key, value.as_ref())?,
        None => UserRow::default(),
    };
    let UserRow { revoked_at, last_seen_at, name, blocks, blocked_by } = row;
    let record = UserRecord { revoked_at, last_seen_at, name, ..UserRecord::default() };
    Ok((record, blocks == 0 && blocked_by == 0))
}

/// The whole record.
pub(super) fn record(rows: &impl Rows, user: &UserKey) -> Result<UserRecord, StoreError> {
    let (record, _) = row(rows, user)?;
    let blocks = blocks(rows, Table::Block, user)?;
    let blocked_by = self::blocks(rows, Table::BlockedBy, user)?;
    Ok(UserRecord { blocks, blocked_by, ..record })
}

fn blocks(rows: &impl Rows, table: Table, user: &UserKey) -> Result<Vec<(UserId, Timestamp)>, StoreError> {
    let all = rows.range(keys::blocks(table, user).prefixed());
    all.map(|row| {
        let (key, value) = row?;
        Ok((keys::parse_last_user(key.as_ref())?, values::decode_at(key.as_ref(), value.as_ref())?))
    })
    .collect()
}

pub(super) fn block<R: Rows>(
    tx: &mut Transaction<'_, R>,
    user: &UserKey,
    other: &UserId,
    at: Timestamp,
) -> Result<(), StoreError> {
    let forth = keys::block(Table::Block, user, other);
    if tx.get_bytes(&forth)?.is_some() {
        return Ok(());
    }
    let blocked = UserKey { tenant: user.tenant.clone(), user: other.clone() };
    tx.put(forth, &at)?;
    tx.put(keys::block(Table::BlockedBy, &blocked, &user.user), &at)?;
    change(tx, user, |row| row.blocks += 1)?;
    change(tx, &blocked, |row| row.blocked_by += 1)
}

pub(super) fn unblock<R: Rows>(tx: &mut Transaction<'_, R>, user: &UserKey, other: &UserId) -> Result<(), StoreError> {
    let forth = keys::block(Table::Block, user, other);
    if tx.get_bytes(&forth)?.is_none() {
        return Ok(());
    }
    let blocked = UserKey { tenant: user.tenant.clone(), user: other.clone() };
    tx.remove(forth);
    tx.remove(keys::block(Table::BlockedBy, &blocked, &user.user));
    change(tx, user, |row| row.blocks = row.blocks.saturating_sub(1))?;
    change(tx, &blocked, |row| row.blocked_by = row.blocked_by.saturating_sub(1))
}

pub(super) fn revoke<R: Rows>(tx: &mut Transaction<'_, R>, user: &UserKey, at: Timestamp) -> Result<(), StoreError> {
    change(tx, user, |row| row.revoked_at = row.revoked_at.max(Some(at)))
}

pub(super) fn put_last_seen<R: Rows>(
    tx: &mut Transaction<'_, R>,
    seen: &[(UserKey, Timestamp)],
) -> Result<(), StoreError> {
    seen.iter().try_for_each(|(user, at)| change(tx, user, |row| row.last_seen_at = row.last_seen_at.max(Some(*at))))
}

pub(super) fn put_name<R: Rows>(tx: &mut Transaction<'_, R>, user: &UserKey, name: String) -> Result<(), StoreError> {
    change(tx, user, |row| row.name = Some(name))
}

/// Writes the user's row if `make` changes it.
fn change<R: Rows>(
    tx: &mut Transaction<'_, R>,
    user: &UserKey,
    make: impl FnOnce(&mut UserRow),
) -> Result<(), StoreError> {
    let key = keys::user(user);
    let before = tx.get::<UserRow>(&key)?.unwrap_or_default();
    let mut row = before.clone();
    make(&mut row);
    if row == before { Ok(()) } else { tx.put(key, &row) }
}
