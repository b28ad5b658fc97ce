//! Push: devices and preferences, one row per job, and the index by which jobs are found when they are due.
//!
//! A job's row says where it stands in the index (`due`), so that both are changed together. A lease is a `due` in the
//! future.

use super::keys::{self, Table};
use super::values::{self, DeadLetterRow, DeadLettersRow, PushJobRow, PushShownRow};
use super::{Rows, Transaction};
use crate::push::DEAD_LETTERS_MAX;
use crate::{Channel, DeadLetter, LeasedJob, Priority, PushDevice, PushEnd, PushJob, PushKey, StoreError, UserKey};
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

pub(super) fn enqueue<R: Rows>(tx: &mut Transaction<'_, R>, jobs: &[PushJob]) -> Result<(), StoreError> {
    jobs.iter().try_for_each(|job| put(tx, job, 0))
}

fn put<R: Rows>(tx: &mut Transaction<'_, R>, job: &PushJob, attempts: u32) -> Result<(), StoreError> {
    let found = tx.get::<PushJobRow>(&keys::push_job(&job.key))?;
    if found.as_ref().is_some_and(|found| found.up_to_seq > job.up_to_seq) {
        return Ok(());
    }
    // Until the worker that has the one there is done, or its lease over: the older one must not come last.
    let leased_until = found.as_ref().filter(|found| found.leased).map(|found| found.due);
    // The inbox's versions serve as numbers, because none is given twice.
    let row = PushJobRow {
        up_to_seq: job.up_to_seq,
        count: job.count,
        priority: job.priority,
        not_before: job.not_before,
        due: leased_until.map_or(job.not_before, |until| until.max(job.not_before)),
        leased: leased_until.is_some(),
        attempts,
        number: tx.next_inbox_version(),
    };
    replace(tx, &job.key, found.as_ref(), Some(row))
}

/// Puts a job's row in place of another, and its place in the index too.
fn replace<R: Rows>(
    tx: &mut Transaction<'_, R>,
    key: &PushKey,
    old: Option<&PushJobRow>,
    new: Option<PushJobRow>,
) -> Result<(), StoreError> {
    if let Some(old) = old {
        tx.remove(keys::push_due(key, old.priority, old.due));
    }
    let Some(new) = new else {
        tx.remove(keys::push_job(key));
        return Ok(());
    };
    tx.put_bytes(keys::push_due(key, new.priority, new.due), Vec::new());
    tx.put(keys::push_job(key), &new)
}

pub(super) fn withdraw<R: Rows>(
    tx: &mut Transaction<'_, R>,
    user: &UserKey,
    conversation: &ConversationId,
    up_to_seq: Seq,
    read: bool,
    at: Timestamp,
) -> Result<(), StoreError> {
    for channel in Channel::ALL {
        let key = PushKey { user: user.clone(), conversation: conversation.clone(), channel };
        let job = tx.get::<PushJobRow>(&keys::push_job(&key))?;
        let is_newer = job.as_ref().is_some_and(|job| job.up_to_seq > up_to_seq);
        // What a worker is just sending is shown in a moment.
        let is_leased = job.as_ref().is_some_and(|job| job.leased && job.count.is_some());
        if !is_newer && !is_leased && job.as_ref().is_some_and(|job| job.count.is_some()) {
            replace(tx, &key, job.as_ref(), None)?;
        }
        let shown = tx.get::<PushShownRow>(&keys::push_shown(&key))?;
        let is_shown = shown.is_some_and(|shown| shown.up_to_seq <= up_to_seq);
        if read && !is_newer && (is_shown || is_leased) {
            let (count, priority) = (None, Priority::Low);
            put(tx, &PushJob { key, up_to_seq, count, priority, not_before: at }, 0)?;
        }
    }
    Ok(())
}

/// The places of what is due, in the order in which it is to be taken.
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

/// Leases those of `due` that still are.
pub(super) fn take<R: Rows>(
    tx: &mut Transaction<'_, R>,
    due: Vec<PushKey>,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Vec<LeasedJob>, StoreError> {
    let mut taken = Vec::with_capacity(due.len());
    for key in due {
        let Some(found) = tx.get::<PushJobRow>(&keys::push_job(&key))?.filter(|found| found.due <= now) else {
            continue;
        };
        let (attempts, number) = (found.attempts + 1, tx.next_inbox_version());
        let leased = PushJobRow { due: lease_until, leased: true, attempts, number, ..found.clone() };
        replace(tx, &key, Some(&found), Some(leased.clone()))?;
        taken.push(LeasedJob { job: job(key, &leased), attempt: attempts, number });
    }
    Ok(taken)
}

fn job(key: PushKey, row: &PushJobRow) -> PushJob {
    let PushJobRow { up_to_seq, count, priority, not_before, .. } = *row;
    PushJob { key, up_to_seq, count, priority, not_before }
}

pub(super) fn finish<R: Rows>(
    tx: &mut Transaction<'_, R>,
    leased: LeasedJob,
    end: PushEnd,
    at: Timestamp,
) -> Result<(), StoreError> {
    let LeasedJob { job, attempt, number } = leased;
    let has_nobody_left = end == PushEnd::Dropped && job.count.is_none();
    if end == PushEnd::Sent || has_nobody_left {
        note_shown(tx, &job, at)?;
    }
    let Some(found) = tx.get::<PushJobRow>(&keys::push_job(&job.key))? else { return Ok(()) };
    if found.number != number {
        // It is another one by now, which waited for this; or another worker has it.
        let released = PushJobRow { due: found.not_before, leased: false, ..found.clone() };
        let is_waiting = found.leased && found.attempts == 0;
        return if is_waiting { replace(tx, &job.key, Some(&found), Some(released)) } else { Ok(()) };
    }
    match end {
        PushEnd::Retry { at, .. } => {
            let retried = PushJobRow { due: at, leased: false, ..found.clone() };
            replace(tx, &job.key, Some(&found), Some(retried))
        }
        PushEnd::Dead { reason } => {
            replace(tx, &job.key, Some(&found), None)?;
            // That something was not taken back is no letter: the next notification replaces it.
            if job.count.is_some() { bury(tx, job, attempt, reason, at) } else { Ok(()) }
        }
        PushEnd::Sent | PushEnd::Dropped => replace(tx, &job.key, Some(&found), None),
    }
}

/// Notes what the devices show now.
fn note_shown<R: Rows>(tx: &mut Transaction<'_, R>, job: &PushJob, at: Timestamp) -> Result<(), StoreError> {
    let key = keys::push_shown(&job.key);
    let shown = tx.get::<PushShownRow>(&key)?;
    if shown.is_some_and(|shown| shown.up_to_seq > job.up_to_seq) {
        return Ok(());
    }
    match job.count {
        Some(count) => {
            let (up_to_seq, priority) = (job.up_to_seq, job.priority);
            tx.put(key, &PushShownRow { up_to_seq, count, priority, sent_at: at })
        }
        None => {
            tx.remove(key);
            Ok(())
        }
    }
}

fn bury<R: Rows>(
    tx: &mut Transaction<'_, R>,
    job: PushJob,
    attempts: u32,
    reason: String,
    died_at: Timestamp,
) -> Result<(), StoreError> {
    let tenant = job.key.user.tenant.clone();
    let key = keys::dead_letters(&tenant);
    let mut letters = tx.get::<DeadLettersRow>(&key)?.unwrap_or_default();
    letters.last += 1;
    while letters.last - letters.gone > DEAD_LETTERS_MAX {
        letters.gone += 1;
        tx.remove(keys::dead_letter(&tenant, letters.gone));
    }
    tx.put(key, &letters)?;
    let PushJob { key: PushKey { user, conversation, channel }, up_to_seq, count, priority, .. } = job;
    let count = count.unwrap_or(0);
    let user = user.user;
    let letter = DeadLetterRow { user, conversation, channel, up_to_seq, count, priority, attempts, reason, died_at };
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
            Ok(dead_letter(tenant, id, values::decode_at(key.as_ref(), value.as_ref())?))
        })
        .collect()
}

fn dead_letter(tenant: &TenantId, id: u64, row: DeadLetterRow) -> DeadLetter {
    let DeadLetterRow { user, conversation, channel, up_to_seq, count, priority, attempts, reason, died_at } = row;
    let key = PushKey { user: UserKey { tenant: tenant.clone(), user }, conversation, channel };
    let job = PushJob { key, up_to_seq, count: Some(count), priority, not_before: died_at };
    DeadLetter { id, job, attempts, reason, died_at }
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
    let job = PushJob { not_before: at, ..dead_letter(tenant, id, row).job };
    put(tx, &job, 0)?;
    Ok(true)
}

pub(super) fn outstanding(rows: &impl Rows, user: &UserKey) -> Result<Vec<PushJob>, StoreError> {
    let mut all = Vec::new();
    for row in rows.range(keys::of_user(Table::PushShown, user).prefixed()) {
        let (key, value) = row?;
        let shown: PushShownRow = values::decode_at(key.as_ref(), value.as_ref())?;
        let PushShownRow { up_to_seq, count, priority, sent_at } = shown;
        let key = keys::parse_push_key(key.as_ref())?;
        all.push(PushJob { key, up_to_seq, count: Some(count), priority, not_before: sent_at });
    }
    for row in rows.range(keys::of_user(Table::PushJob, user).prefixed()) {
        let (key, value) = row?;
        let found: PushJobRow = values::decode_at(key.as_ref(), value.as_ref())?;
        if found.count.is_some() {
            all.push(job(keys::parse_push_key(key.as_ref())?, &found));
        }
    }
    Ok(all)
}
