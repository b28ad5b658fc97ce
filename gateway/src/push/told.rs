//! Which devices have a notification that is to be tried again for others, so that nobody is told twice. Only in memory:
//! where another node tries it again, a device may get it a second time, in place of the first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use switchboard_protocol::{DeviceId, Seq};
use switchboard_store::{PushJob, PushKey};

/// Notifications that are remembered; of more, one is forgotten.
const TOLD_MAX: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<BTreeMap<PushKey, Devices>>);

#[derive(Debug)]
struct Devices {
    up_to_seq: Seq,
    /// The job's: what is taken back is told apart from what is shown.
    count: Option<u32>,
    devices: Vec<DeviceId>,
}

impl Told {
    /// Takes out what is remembered of a job; nothing if it is another one by now.
    pub(super) fn take(&self, job: &PushJob) -> Vec<DeviceId> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&job.key);
        let found = found.filter(|found| found.up_to_seq == job.up_to_seq && found.count == job.count);
        found.map(|found| found.devices).unwrap_or_default()
    }

    /// Remembers which devices a job has been told to. Whether another job was forgotten for it.
    pub(super) fn put(&self, job: &PushJob, devices: Vec<DeviceId>) -> bool {
        if devices.is_empty() {
            return false;
        }
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(job.key.clone(), Devices { up_to_seq: job.up_to_seq, count: job.count, devices });
        told.len() > TOLD_MAX && told.pop_first().is_some()
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

    #[test]
    fn it_is_remembered_once_and_of_that_very_job() {
        let told = Told::default();
        told.put(&job(1), phone());
        assert_eq!(told.take(&PushJob { count: None, ..job(1) }), []);
        assert_eq!(told.take(&job(1)), [], "it was another one by then");
        told.put(&job(1), phone());
        assert_eq!((told.take(&job(1)), told.take(&job(1))), (phone(), vec![]));
    }

    #[test]
    fn of_too_many_one_is_forgotten_which_is_said() {
        let told = Told::default();
        assert!((0..TOLD_MAX).all(|number| !told.put(&job(number), phone())));
        assert!(!told.put(&job(TOLD_MAX), vec![]), "nothing to remember");
        assert!(told.put(&job(TOLD_MAX), phone()));
        let known = (0..=TOLD_MAX).filter(|number| !told.take(&job(*number)).is_empty());
        assert_eq!(known.count(), TOLD_MAX);
    }
}
