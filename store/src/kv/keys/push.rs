//! The keys of push: devices, preferences, the queue's places, and dead letters.

use super::parts::Parts;
use super::{Key, Table, of_user};
use crate::{Channel, Priority, PushKey, StoreError, UserKey};
use std::ops::Range;
use switchboard_protocol::{DeviceId, TenantId, Timestamp};

pub(crate) fn push_devices(user: &UserKey) -> Key {
    of_user(Table::PushDevice, user)
}

pub(crate) fn push_device(user: &UserKey, device: &DeviceId) -> Key {
    push_devices(user).last(device.as_str())
}

/// The device at the end of a key of [`Table::PushDevice`].
pub(crate) fn parse_last_device(key: &[u8]) -> Result<DeviceId, StoreError> {
    let mut parts = Parts::new(key);
    parts.text()?;
    parts.text()?;
    parts.last()
}

pub(crate) fn notification_preferences(user: &UserKey) -> Key {
    of_user(Table::NotificationPreferences, user)
}

/// A channel's number in keys. Numbers are never reused.
fn channel_byte(channel: Channel) -> u8 {
    match channel {
        Channel::WebPush => 1,
        Channel::Fcm => 2,
        Channel::Apns => 3,
        Channel::Webhook => 4,
    }
}

fn channel(parts: &mut Parts<'_>) -> Result<Channel, StoreError> {
    let byte = parts.byte()?;
    let channel = Channel::ALL.into_iter().find(|channel| channel_byte(*channel) == byte);
    channel.ok_or_else(|| parts.unreadable())
}

fn priority_byte(priority: Priority) -> u8 {
    match priority {
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    }
}

/// Times before 1970 count as 1970.
fn time_number(at: Timestamp) -> u64 {
    u64::try_from(at.unix_ms()).unwrap_or(0)
}

fn push_place(table: Table, of: &PushKey) -> Key {
    of_user(table, &of.user).byte(channel_byte(of.channel)).last(of.conversation.as_str())
}

pub(crate) fn push_job(of: &PushKey) -> Key {
    push_place(Table::PushJob, of)
}

pub(crate) fn push_shown(of: &PushKey) -> Key {
    push_place(Table::PushShown, of)
}

/// The place of a key of [`Table::PushJob`] or [`Table::PushShown`].
pub(crate) fn parse_push_key(key: &[u8]) -> Result<PushKey, StoreError> {
    let mut parts = Parts::new(key);
    let user = UserKey { tenant: parts.id()?, user: parts.id()? };
    let channel = channel(&mut parts)?;
    Ok(PushKey { user, conversation: parts.last()?, channel })
}

fn push_due_at(channel: Channel, priority: Priority, due: u64) -> Key {
    Key::new(Table::PushDue).byte(channel_byte(channel)).byte(priority_byte(priority)).number(due)
}

pub(crate) fn push_due(of: &PushKey, priority: Priority, due: Timestamp) -> Key {
    push_due_at(of.channel, priority, time_number(due)).user(&of.user).last(of.conversation.as_str())
}

/// Everything due at or before `now`.
pub(crate) fn push_due_until(channel: Channel, priority: Priority, now: Timestamp) -> Range<Vec<u8>> {
    push_due_at(channel, priority, 0).into_bytes()..push_due_at(channel, priority, time_number(now) + 1).into_bytes()
}

/// The due time and the place of the job of a key of [`Table::PushDue`].
pub(crate) fn parse_push_due(key: &[u8]) -> Result<(Timestamp, PushKey), StoreError> {
    let mut parts = Parts::new(key);
    let channel = channel(&mut parts)?;
    parts.byte()?;
    let due = Timestamp::from_unix_ms(i64::try_from(parts.number()?).unwrap_or(i64::MAX));
    let user = UserKey { tenant: parts.id()?, user: parts.id()? };
    Ok((due, PushKey { user, conversation: parts.last()?, channel }))
}

pub(crate) fn dead_letters(tenant: &TenantId) -> Key {
    Key::new(Table::DeadLetters).text(tenant.as_str())
}

pub(crate) fn dead_letter(tenant: &TenantId, id: u64) -> Key {
    Key::new(Table::DeadLetter).text(tenant.as_str()).number(id)
}

pub(crate) fn dead_letters_after(tenant: &TenantId, after: u64) -> Range<Vec<u8>> {
    let start = dead_letter(tenant, after.saturating_add(1)).into_bytes();
    let end = Key::new(Table::DeadLetter).text(tenant.as_str()).prefixed().end;
    start..end
}

/// The id of a key of [`Table::DeadLetter`].
pub(crate) fn parse_dead_letter(key: &[u8]) -> Result<u64, StoreError> {
    let mut parts = Parts::new(key);
    parts.text()?;
    parts.number()
}
