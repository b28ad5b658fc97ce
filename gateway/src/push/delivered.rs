//! Which devices already have a notification that is to be retried for others, so that they do not get it twice. Kept only
//! in memory: if another node makes the retry, they get it again, and it replaces the first one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use switchboard_protocol::{DeviceId, Seq, Timestamp};
use switchboard_store::{PushJob, PushKey};

/// Notifications that are remembered. With one more, the one noted first is forgotten.
const DELIVERED_MAX: usize = 10_000;

/// A retry that is overdue by this much was most likely made by another node: it is forgotten first when there is no room.
const OVERDUE_MS: i64 = 60_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Delivered(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    of: BTreeMap<PushKey, Devices>,
    /// Notifications noted so far.
    noted: u64,
}

#[derive(Debug)]
struct Devices {
    up_to_seq: Seq,
    /// The job's `count`: it tells a withdrawal from a notification.
    count: Option<u32>,
    devices: Vec<DeviceId>,
    retry_at: Timestamp,
    /// In the order of noting.
    number: u64,
}

impl Delivered {
    /// Takes the devices that have a job's notification; none if the key now has another job.
    pub(super) fn take(&self, job: &PushJob) -> Vec<DeviceId> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).of.remove(&job.key);
        let found = found.filter(|found| found.up_to_seq == job.up_to_seq && found.count == job.count);
        found.map(|found| found.devices).unwrap_or_default()
    }

    /// Remembers the devices that have a job's notification until its retry. Whether another job was forgotten for it.
    pub(super) fn put(&self, job: &PushJob, devices: Vec<DeviceId>, retry_at: Timestamp, now: Timestamp) -> bool {
        if devices.is_empty() {
            return false;
        }
        let mut delivered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        delivered.noted += 1;
        let number = delivered.noted;
        let devices = Devices { up_to_seq: job.up_to_seq, count: job.count, devices, retry_at, number };
        delivered.of.insert(job.key.clone(), devices);
        delivered.of.len() > DELIVERED_MAX && delivered.make_room(now)
    }
}

impl Noted {
    /// Forgets overdue retries, or, if there are none, the one noted first. Whether it forgot one that was not overdue.
    fn make_room(&mut self, now: Timestamp) -> bool {
        self.of.retain(|_, devices| now.unix_ms() - devices.retry_at.unix_ms() < OVERDUE_MS);
        if self.of.len() <= DELIVERED_MAX {
            return false;
        }
        let first = self.of.iter().min_by_key(|(_, devices)| devices.number).map(|(key, _)| key.clone());
        first.is_some_and(|key| self.of.remove(&key).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::Timestamp;
    use switchboard_store::{Channel, Priority, UserKey};

    fn job(number: usize) -> PushJob {
        let user = UserKey { tenant: "t".parse().unwrap(), user: format!("u{number}").parse().unwrap() };
        PushJob {
            key: PushKey { user, conversation: "c".parse().unwrap(), channel: Channel::Fcm },
            up_to_seq: Seq::new(7),
            count: Some(1),
            priority: Priority::High,
            not_before: Timestamp::from_unix_ms(0),
        }
    }

    fn phone() -> Vec<DeviceId> {
        vec!["phone".parse().unwrap()]
    }

    fn put(delivered: &Delivered, number: usize, retry_s: i64, now_s: i64) -> bool {
        let at = |s: i64| Timestamp::from_unix_ms(s * 1_000);
        delivered.put(&job(number), phone(), at(retry_s), at(now_s))
    }

    #[test]
    fn it_is_remembered_once_and_of_that_very_job() {
        let delivered = Delivered::default();
        put(&delivered, 1, 300, 0);
        assert_eq!(delivered.take(&PushJob { count: None, ..job(1) }), []);
        assert_eq!(delivered.take(&job(1)), [], "it was another one by then");
        put(&delivered, 1, 300, 0);
        assert_eq!((delivered.take(&job(1)), delivered.take(&job(1))), (phone(), vec![]));
    }

    #[test]
    fn of_too_many_the_first_one_is_forgotten_which_is_said() {
        let delivered = Delivered::default();
        // Not in the order of their keys.
        assert!((0..DELIVERED_MAX).rev().all(|number| !put(&delivered, number, 300, 0)));
        assert!(!delivered.put(&job(DELIVERED_MAX), vec![], Timestamp::from_unix_ms(0), Timestamp::from_unix_ms(0)));
        assert!(put(&delivered, DELIVERED_MAX, 300, 0));
        let forgotten: Vec<_> = (0..=DELIVERED_MAX).filter(|number| delivered.take(&job(*number)).is_empty()).collect();
        assert_eq!(forgotten, [DELIVERED_MAX - 1]);
    }

    #[test]
    fn whose_retry_another_node_had_make_room_first() {
        let delivered = Delivered::default();
        assert!((0..DELIVERED_MAX).all(|number| !put(&delivered, number, if number < 10 { 1_800 } else { 300 }, 0)));
        assert!(!put(&delivered, DELIVERED_MAX, 600, 400), "nothing that will be asked for");
        let known: Vec<_> = (0..=DELIVERED_MAX).filter(|number| !delivered.take(&job(*number)).is_empty()).collect();
        assert_eq!(known, (0..10).chain([DELIVERED_MAX]).collect::<Vec<_>>());
    }
}
