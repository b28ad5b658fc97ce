//! Push: devices, preferences, the queue and its dead letters.
//!
//! **A place** of the queue is one row (`push_deliveries`), changed as a whole by compare-and-set under a number that
//! only grows; `crate::push::QueuePlace` decides what it becomes, as in every backend (`places.rs`).
//!
//! **When it is due** is in `push_queue`, which workers poll (`queue.rs`). A row there is written before the place
//! changes, and is only a hint: a reader that finds a hint that does not match its place removes it. So a job is found
//! whenever and in whatever order nodes die.
//!
//! **Dead letters** are one partition per tenant, ordered by id (`letters.rs`).
//!
//! Devices and preferences have no order of their own: they are changed by compare-and-set, so that no clock decides
//! which of two changes wins. Times are the callers' (see [`PushStore`]); nothing here reads a clock.

mod letters;
mod places;
mod queue;

pub(super) use queue::Buckets;

use super::client::unreadable;
use super::{Core, ScyllaStore};
use crate::{
    Channel, DeadLetter, LeasedJob, Priority, PushDevice, PushEnd, PushJob, PushStore, Receipt, StoreError, UserKey,
};
use async_trait::async_trait;
use places::Change;
use std::collections::BTreeMap;
use switchboard_protocol::{ConversationId, DeviceId, Seq, TenantId, Timestamp};

/// How often a change of a row is retried because somebody else changed it meanwhile.
const ATTEMPTS_MAX: u32 = 8;

/// How long untaken jobs, and the record of what devices show, are kept: as long as push services keep undeliverable
/// messages. Bounds the queue of a channel that no node serves any more.
const KEPT_S: i32 = 28 * 24 * 60 * 60;

fn contended(what: &str) -> StoreError {
    StoreError::unavailable(format!("{what} is being changed by others"))
}

fn channel(name: &str) -> Result<Channel, StoreError> {
    let found = Channel::ALL.into_iter().find(|channel| channel.as_str() == name);
    found.ok_or_else(|| unreadable(format!("a channel {name:?}")))
}

#[async_trait]
impl PushStore for ScyllaStore {
    async fn put_device(&self, user: &UserKey, device: &DeviceId, registered: PushDevice) -> Result<(), StoreError> {
        let Core { client, statements, .. } = &*self.core;
        let PushDevice { channel, target, registered_at } = registered;
        let (channel, target, at_ms) = (channel.as_str(), target.as_str(), registered_at.unix_ms());
        let values = (channel, target, at_ms, user.tenant.as_str(), user.user.as_str(), device.as_str());
        for _ in 0..ATTEMPTS_MAX {
            for statement in [&statements.devices.change, &statements.devices.first] {
                if client.compare_and_set(statement, values).await? {
                    return Ok(());
                }
            }
        }
        Err(contended("a device"))
    }

    async fn remove_device(
        &self,
        user: &UserKey,
        device: &DeviceId,
        target: Option<String>,
    ) -> Result<bool, StoreError> {
        let Core { client, statements, .. } = &*self.core;
        let key = (user.tenant.as_str(), user.user.as_str(), device.as_str());
        match target {
            None => client.compare_and_set(&statements.devices.remove, key).await,
            Some(target) => {
                let (tenant, user, device) = key;
                client.compare_and_set(&statements.devices.remove_as, (tenant, user, device, target)).await
            }
        }
    }

    async fn devices(&self, user: &UserKey) -> Result<Vec<(DeviceId, PushDevice)>, StoreError> {
        let values = (user.tenant.as_str(), user.user.as_str());
        let found: Vec<(String, String, String, i64)> =
            self.core.client.rows(&self.core.statements.devices.all, values).await?;
        let device = |(id, name, target, at_ms): (String, String, String, i64)| {
            let registered_at = Timestamp::from_unix_ms(at_ms);
            Ok((id.parse().map_err(unreadable)?, PushDevice { channel: channel(&name)?, target, registered_at }))
        };
        found.into_iter().map(device).collect()
    }

    async fn put_notification_preferences(&self, user: &UserKey, preferences: String) -> Result<(), StoreError> {
        let Core { client, statements, .. } = &*self.core;
        let values = (preferences.as_str(), user.tenant.as_str(), user.user.as_str());
        for _ in 0..ATTEMPTS_MAX {
            for statement in [&statements.devices.change_preferences, &statements.devices.first_preferences] {
                if client.compare_and_set(statement, values).await? {
                    return Ok(());
                }
            }
        }
        Err(contended("preferences"))
    }

    async fn notification_preferences(&self, user: &UserKey) -> Result<Option<String>, StoreError> {
        let values = (user.tenant.as_str(), user.user.as_str());
        let found: Option<(String,)> = self.core.client.row(&self.core.statements.devices.preferences, values).await?;
        Ok(found.map(|(preferences,)| preferences))
    }

    async fn enqueue_pushes(&self, jobs: Vec<PushJob>) -> Result<(), StoreError> {
        let mut of_places: BTreeMap<_, Vec<PushJob>> = BTreeMap::new();
        for job in jobs {
            of_places.entry(job.key.clone()).or_default().push(job);
        }
        for _ in 0..ATTEMPTS_MAX {
            let mut changes = self.core.read_places(of_places.keys().cloned()).await?;
            for change in &mut changes {
                let number = change.number_after();
                of_places.get(&change.key).into_iter().flatten().for_each(|job| change.after.put(job, number));
            }
            let (done, outcome) = self.core.carry_out(changes).await;
            outcome?;
            of_places.retain(|place, _| !done.contains(place));
            if of_places.is_empty() {
                return Ok(());
            }
        }
        Err(contended("a place in the queue"))
    }

    async fn withdraw_pushes(
        &self,
        user: &UserKey,
        conversation: &ConversationId,
        up_to_seq: Seq,
        receipt: Receipt,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS_MAX {
            let mut changes = self.core.places_of_conversation(user, conversation).await?;
            for change in &mut changes {
                let number = change.number_after();
                change.after.withdraw(&change.key, up_to_seq, receipt, at, number);
            }
            let places = changes.len();
            let (done, outcome) = self.core.carry_out(changes).await;
            outcome?;
            if done.len() == places {
                return Ok(());
            }
        }
        Err(contended("a place in the queue"))
    }

    async fn take_pushes(
        &self,
        channel: Channel,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<LeasedJob>, StoreError> {
        let hints = self.core.due(channel, now, limit).await?;
        let mut changes = self.core.hinted(hints, now).await?;
        let mut leased = Vec::with_capacity(changes.len());
        changes.retain_mut(|change| {
            let job = change.after.take(&change.key, now, lease_until, change.number_after());
            leased.extend(job.clone());
            job.is_some()
        });
        let (done, outcome) = self.core.carry_out(changes).await;
        leased.retain(|leased| done.contains(&leased.job.key));
        // Jobs whose outcome is unknown wait for the end of their lease.
        if leased.is_empty() { outcome.map(|()| leased) } else { Ok(leased) }
    }

    async fn finish_push(&self, leased: LeasedJob, end: PushEnd, at: Timestamp) -> Result<(), StoreError> {
        let mut is_buried = false;
        for _ in 0..ATTEMPTS_MAX {
            let mut changes = self.core.read_places([leased.job.key.clone()].into_iter()).await?;
            let is_dead = changes.iter_mut().any(|change| change.after.finish(&leased, &end, at));
            // Before the job leaves the queue: duplicating it is better than losing it.
            if let PushEnd::Dead { reason } = &end
                && is_dead
                && !is_buried
            {
                self.core.bury(&leased, reason, at).await?;
                is_buried = true;
            }
            let (done, outcome) = self.core.carry_out(changes).await;
            outcome?;
            if !done.is_empty() {
                return Ok(());
            }
        }
        Err(contended("a place in the queue"))
    }

    async fn outstanding_pushes(&self, user: &UserKey) -> Result<Vec<PushJob>, StoreError> {
        let places = self.core.places_of_user(user).await?;
        let (mut shown, mut waiting) = (Vec::new(), Vec::new());
        for Change { key, before, .. } in &places {
            shown.extend(before.shown.map(|shown| shown.of(key)));
            waiting.extend(before.job.as_ref().filter(|job| job.count.is_some()).map(|job| job.of(key)));
        }
        shown.append(&mut waiting);
        Ok(shown)
    }

    async fn oldest_push(&self, channel: Channel) -> Result<Option<Timestamp>, StoreError> {
        self.core.oldest_due(channel).await
    }

    async fn dead_letters(&self, tenant: &TenantId, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.core.dead_letters(tenant, after, limit).await
    }

    async fn retry_dead_letter(&self, tenant: &TenantId, id: u64, at: Timestamp) -> Result<bool, StoreError> {
        let Some((letter, text)) = self.core.dead_letter(tenant, id).await? else { return Ok(false) };
        // Queued before it stops being a letter: duplicating it is better than losing it.
        self.enqueue_pushes(vec![PushJob { not_before: at, ..letter.job }]).await?;
        self.core.end_dead_letter(tenant, id, &text).await
    }
}

/// A priority as stored. Numbers are never reused.
fn priority_number(priority: Priority) -> i32 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

fn priority(number: i32) -> Result<Priority, StoreError> {
    let all = [Priority::Low, Priority::Normal, Priority::High];
    let found = all.into_iter().find(|priority| priority_number(*priority) == number);
    found.ok_or_else(|| unreadable(format!("a priority {number}")))
}
