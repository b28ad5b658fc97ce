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

    pub(super) fn put(&self, job: &PushJob, devices: Vec<DeviceId>) {
        if devices.is_empty() {
            return;
        }
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(job.key.clone(), Devices { up_to_seq: job.up_to_seq, count: job.count, devices });
        if told.len() > TOLD_MAX {
            told.pop_first();
        }
    }
}
