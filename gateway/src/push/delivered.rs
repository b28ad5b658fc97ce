//! Which devices have a notification that is to be tried again for others, so that nobody is told twice. Only in memory:
//! where another node tries it again, a device may get it a second time, in place of the first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use switchboard_protocol::{DeviceId, Seq, Timestamp};
use switchboard_store::{PushJob, PushKey};

/// Notifications that are remembered; of more, the one that was noted first is forgotten.
const TOLD_MAX: usize = 10_000;

/// A retry that is overdue by this much was most likely another node's: it is forgotten first when there is no room.
const OVERDUE_MS: i64 = 60_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    of: BTreeMap<PushKey, Devices>,
    /// How many were noted ever.
    noted: u64,
}

#[derive(Debug)]
struct Devices {
    up_to_seq: Seq,
    /// The job's: what is taken back is told apart from what is shown.
    count: Option<u32>,
    devices: Vec<DeviceId>,
    retry_at: Timestamp,
    /// Ascending as they were noted.
    number: u64,
}

impl Told {
    /// Takes out what is remembered of a job; nothing if it is another one by now.
    pub(super) fn take(&self, job: &PushJob) -> Vec<DeviceId> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).of.remove(&job.key);
        let found = found.filter(|found| found.up_to_seq == job.up_to_seq && found.count == job.count);
        found.map(|found| found.devices).unwrap_or_default()
    }

    /// Remembers which devices a job has been told to until it is tried again. Whether another job was forgotten for it.
    pub(super) fn put(&self, job: &PushJob, devices: Vec<DeviceId>, retry_at: Timestamp, now: Timestamp) -> bool {
        if devices.is_empty() {
            return false;
        }
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.noted += 1;
        let number = told.noted;
        let devices = Devices { up_to_seq: job.up_to_seq, count: job.count, devices, retry_at, number };
        told.of.insert(job.key.clone(), devices);
        told.of.len() > TOLD_MAX && told.make_room(now)
    }
}

impl Noted {
    /// Forgets what is overdue, or else the one that was noted first: whether it had to.
    fn make_room(&mut self, now: Timestamp) -> bool {
        self.of.retain(|_, devices| now.unix_ms() - devices.retry_at.unix_ms() < OVERDUE_MS);
        if self.of.len() <= TOLD_MAX {
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

    fn put(told: &Told, number: usize, retry_s: i64, now_s: i64) -> bool {
        let at = |s: i64| Timestamp::from_unix_ms(s * 1_000);
        told.put(&job(number), phone(), at(retry_s), at(now_s))
    }

    #[test]
    fn it_is_remembered_once_and_of_that_very_job() {
        let told = Told::default();
        put(&told, 1, 300, 0);
        assert_eq!(told.take(&PushJob { count: None, ..job(1) }), []);
        assert_eq!(told.take(&job(1)), [], "it was another one by then");
        put(&told, 1, 300, 0);
        assert_eq!((told.take(&job(1)), told.take(&job(1))), (phone(), vec![]));
    }

    #[test]
    fn of_too_many_the_first_one_is_forgotten_which_is_said() {
        let told = Told::default();
        // Not in the order of their keys.
        assert!((0..TOLD_MAX).rev().all(|number| !put(&told, number, 300, 0)));
        assert!(!told.put(&job(TOLD_MAX), vec![], Timestamp::from_unix_ms(0), Timestamp::from_unix_ms(0)));
        assert!(put(&told, TOLD_MAX, 300, 0));
        let forgotten: Vec<_> = (0..=TOLD_MAX).filter(|number| told.take(&job(*number)).is_empty()).collect();
        assert_eq!(forgotten, [TOLD_MAX - 1]);
    }

    #[test]
    fn whose_retry_another_node_had_make_room_first() {
        let told = Told::default();
        assert!((0..TOLD_MAX).all(|number| !put(&told, number, if number < 10 { 1_800 } else { 300 }, 0)));
        assert!(!put(&told, TOLD_MAX, 600, 400), "nothing that will be asked for");
        let known: Vec<_> = (0..=TOLD_MAX).filter(|number| !told.take(&job(*number)).is_empty()).collect();
        assert_eq!(known, (0..10).chain([TOLD_MAX]).collect::<Vec<_>>());
    }
}
