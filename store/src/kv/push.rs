//! Push: devices and preferences, a row each for the job and the shown notification of a place, and the index that
//! finds due jobs. A job's row says where it is in the index (`due`), so that both change together.

use super::keys::{self, Key, Table};
use super::values::{self, DeadLettersRow};
use super::{Rows, Transaction};
use crate::push::{DEAD_LETTERS_MAX, DeadLetterRow, JobRow, QueuePlace, ShownRow};
use crate::{
    Channel, DeadLetter, LeasedJob, Priority, PushDevice, PushEnd, PushJob, PushKey, Receipt, StoreError, UserKey,
};
use serde::Serialize;
use switchboard_protocol::{ConversationId, DeviceId, Seq, TenantId, Timestamp};

pub(super) fn remove_device<R: Rows>(
    tx: &mut Transaction<'_, R>,
    user: &UserKey,
    device: &DeviceId,
    target: Option<&str>,
) -> Result<bool, StoreError> {
    let key = keys::push_device(user, device);
    let found = tx.get::<PushDevice>(&key)?;
    let is_it = found.is_some_and(|found| target.is_none_or(|target| target == found.target));
    if is_it {
        tx.remove(key);
    }
    Ok(is_it)
}

pub(super) fn devices(rows: &impl Rows, user: &UserKey) -> Result<Vec<(DeviceId, PushDevice)>, StoreError> {
    let all = rows.range(keys::push_devices(user).prefixed());
    all.map(|row| {
        let (key, value) = row?;
        Ok((keys::parse_last_device(key.as_ref())?, values::decode_at(key.as_ref(), value.as_ref())?))
    })
    .collect()
}

/// Changes a place, along with its rows elsewhere.
fn change<R: Rows, T>(
    tx: &mut Transaction<'_, R>,
    key: &PushKey,
    make: impl FnOnce(&mut QueuePlace, u64) -> T,
) -> Result<T, StoreError> {
    let before = QueuePlace { job: tx.get(&keys::push_job(key))?, shown: tx.get(&keys::push_shown(key))? };
    let mut after = before.clone();
    // The inbox's versions serve as numbers, because each is used only once.
    let made = make(&mut after, tx.next_inbox_version());
    if after.job != before.job {
        if let Some((priority, due)) = before.due() {
            tx.remove(keys::push_due(key, priority, due));
        }
        if let Some((priority, due)) = after.due() {
            tx.put_bytes(keys::push_due(key, priority, due), Vec::new());
        }
        replace(tx, keys::push_job(key), after.job.as_ref())?;
    }
    if after.shown != before.shown {
        replace(tx, keys::push_shown(key), after.shown.as_ref())?;
    }
    Ok(made)
}

fn replace<R: Rows>(tx: &mut Transaction<'_, R>, key: Key, row: Option<&impl Serialize>) -> Result<(), StoreError> {
    match row {
        Some(row) => tx.put(key, row),
        None => {
            tx.remove(key);
            Ok(())
        }
    }
}

pub(super) fn enqueue<R: Rows>(tx: &mut Transaction<'_, R>, jobs: &[PushJob]) -> Result<(), StoreError> {
    jobs.iter().try_for_each(|job| change(tx, &job.key, |place, number| place.put(job, number)))
}

pub(super) fn withdraw<R: Rows>(
    tx: &mut Transaction<'_, R>,
    user: &UserKey,
    conversation: &ConversationId,
    up_to_seq: Seq,
    receipt: Receipt,
    at: Timestamp,
) -> Result<(), StoreError> {
    for channel in Channel::ALL {
        let key = PushKey { user: user.clone(), conversation: conversation.clone(), channel };
        change(tx, &key, |place, number| place.withdraw(&key, up_to_seq, receipt, at, number))?;
    }
    Ok(())
}

/// The places of due jobs, in the order in which they should be taken.
pub(super) fn due(
    rows: &impl Rows,
    channel: Channel,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<PushKey>, StoreError> {
    let mut due = Vec::new();
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        let rest = limit - due.len();
        for row in rows.range(keys::push_due_until(channel, priority, now)).take(rest) {
            due.push(keys::parse_push_due(row?.0.as_ref())?.1);
        }
    }
    Ok(due)
}

pub(super) fn oldest(rows: &impl Rows, channel: Channel) -> Result<Option<Timestamp>, StoreError> {
    let mut oldest: Option<Timestamp> = None;
    for priority in [Priority::High, Priority::Normal, Priority::Low] {
        if let Some(row) = rows.range(keys::push_due_until(channel, priority, Timestamp::MAX)).next() {
            let (due, _) = keys::parse_push_due(row?.0.as_ref())?;
            oldest = Some(oldest.map_or(due, |oldest| oldest.min(due)));
        }
    }
    Ok(oldest)
}

/// Leases those of `due` that are still due.
pub(super) fn take<R: Rows>(
    tx: &mut Transaction<'_, R>,
    due: Vec<PushKey>,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Vec<LeasedJob>, StoreError> {
    let take = |key| change(tx, &key, |place, number| place.take(&key, now, lease_until, number)).transpose();
    due.into_iter().filter_map(take).collect()
}

pub(super) fn finish<R: Rows>(
    tx: &mut Transaction<'_, R>,
    leased: LeasedJob,
    end: PushEnd,
    at: Timestamp,
) -> Result<(), StoreError> {
    let is_dead = change(tx, &leased.job.key, |place, _| place.finish(&leased, &end, at))?;
    let PushEnd::Dead { reason } = end else { return Ok(()) };
    if is_dead { bury(tx, leased, reason, at) } else { Ok(()) }
}

fn bury<R: Rows>(
    tx: &mut Transaction<'_, R>,
    leased: LeasedJob,
    reason: String,
    died_at: Timestamp,
) -> Result<(), StoreError> {
    let tenant = leased.job.key.user.tenant.clone();
    let key = keys::dead_letters(&tenant);
    let mut letters = tx.get::<DeadLettersRow>(&key)?.unwrap_or_default();
    letters.last += 1;
    while letters.last - letters.gone > DEAD_LETTERS_MAX {
        letters.gone += 1;
        tx.remove(keys::dead_letter(&tenant, letters.gone));
    }
    tx.put(key, &letters)?;
    let letter = DeadLetterRow::new(leased.job, leased.attempt, reason, died_at);
    tx.put(keys::dead_letter(&tenant, letters.last), &letter)
}

pub(super) fn dead_letters(
    rows: &impl Rows,
    tenant: &TenantId,
    after: u64,
    limit: usize,
) -> Result<Vec<DeadLetter>, StoreError> {
    let found = rows.range(keys::dead_letters_after(tenant, after)).take(limit);
    found
        .map(|row| {
            let (key, value) = row?;
            let id = keys::parse_dead_letter(key.as_ref())?;
            Ok(values::decode_at::<DeadLetterRow>(key.as_ref(), value.as_ref())?.of(tenant, id))
        })
        .collect()
}

pub(super) fn retry_dead_letter<R: Rows>(
    tx: &mut Transaction<'_, R>,
    tenant: &TenantId,
    id: u64,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let key = keys::dead_letter(tenant, id);
    let Some(row) = tx.get::<DeadLetterRow>(&key)? else { return Ok(false) };
    tx.remove(key);
    enqueue(tx, &[PushJob { not_before: at, ..row.of(tenant, id).job }])?;
    Ok(true)
}

pub(super) fn outstanding(rows: &impl Rows, user: &UserKey) -> Result<Vec<PushJob>, StoreError> {
    let mut all = Vec::new();
    for row in rows.range(keys::of_user(Table::PushShown, user).prefixed()) {
        let (key, value) = row?;
        let shown: ShownRow = values::decode_at(key.as_ref(), value.as_ref())?;
        all.push(shown.of(&keys::parse_push_key(key.as_ref())?));
    }
    for row in rows.range(keys::of_user(Table::PushJob, user).prefixed()) {
        let (key, value) = row?;
        let job: JobRow = values::decode_at(key.as_ref(), value.as_ref())?;
        if job.count.is_some() {
            all.push(job.of(&keys::parse_push_key(key.as_ref())?));
        }
    }
    Ok(all)
}
