//! The rules of the push queue for one of its places, the same in every backend: how its job changes, and what the
//! devices show. Backends add only how a place is stored, how it is changed atomically, and how due jobs are found.
//!
//! A lease is a `due` in the future.

use super::{LeasedJob, Priority, PushEnd, PushJob, PushKey, Receipt};
use serde::{Deserialize, Serialize};
use switchboard_protocol::{Seq, Timestamp};

/// A stored place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct QueuePlace {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<JobRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shown: Option<ShownRow>,
}

/// A job in the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRow {
    pub(crate) up_to_seq: Seq,
    /// `None`: the shown notification is withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u32>,
    pub(crate) priority: Priority,
    pub(crate) not_before: Timestamp,
    /// When it may be taken (again).
    pub(crate) due: Timestamp,
    /// A worker has this job, or the one that it replaced.
    pub(crate) leased: bool,
    /// How often it was taken.
    pub(crate) attempts: u32,
    /// Changes each time the job is put or taken.
    pub(crate) number: u64,
}

/// The notification of a conversation that a user's devices of one channel show.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ShownRow {
    pub(crate) up_to_seq: Seq,
    pub(crate) count: u32,
    pub(crate) priority: Priority,
    pub(crate) sent_at: Timestamp,
}

impl QueuePlace {
    /// The job's position among the due jobs.
    pub(crate) fn due(&self) -> Option<(Priority, Timestamp)> {
        self.job.as_ref().map(|job| (job.priority, job.due))
    }

    /// See [`PushStore::enqueue_pushes`](super::PushStore::enqueue_pushes).
    pub(crate) fn put(&mut self, job: &PushJob, number: u64) {
        let is_waiting = self.job.as_ref().is_some_and(|found| found.up_to_seq > job.up_to_seq);
        let is_shown = job.count.is_some() && self.shown.is_some_and(|shown| shown.up_to_seq >= job.up_to_seq);
        if is_waiting || is_shown {
            return;
        }
        // Wait until the worker that has the current job is done, or its lease is over, so that the older one is not
        // sent last.
        let leased_until = self.job.as_ref().filter(|found| found.leased).map(|found| found.due);
        let PushJob { key: _, up_to_seq, count, priority, not_before } = *job;
        self.job = Some(JobRow {
            up_to_seq,
            count,
            priority,
            not_before,
            due: leased_until.map_or(not_before, |until| until.max(not_before)),
            leased: leased_until.is_some(),
            attempts: 0,
            number,
        });
    }

    /// See [`PushStore::withdraw_pushes`](super::PushStore::withdraw_pushes).
    pub(crate) fn withdraw(&mut self, key: &PushKey, up_to_seq: Seq, receipt: Receipt, at: Timestamp, number: u64) {
        let job = self.job.as_ref();
        // A receipt may name an entry that does not exist yet: notifications of later messages must not be withdrawn
        // now.
        let told_up_to = job.map(|job| job.up_to_seq).max(self.shown.map(|shown| shown.up_to_seq));
        let Some(up_to_seq) = told_up_to.map(|told| told.min(up_to_seq)) else { return };
        let is_newer = job.is_some_and(|job| job.up_to_seq > up_to_seq);
        // What a worker is sending right now will be shown in a moment.
        let is_leased = job.is_some_and(|job| job.leased && job.count.is_some());
        if !is_newer && !is_leased && job.is_some_and(|job| job.count.is_some()) {
            self.job = None;
        }
        let is_shown = self.shown.is_some_and(|shown| shown.up_to_seq <= up_to_seq);
        if receipt == Receipt::Read && !is_newer && (is_shown || is_leased) {
            let (key, count, priority) = (key.clone(), None, Priority::Low);
            self.put(&PushJob { key, up_to_seq, count, priority, not_before: at }, number);
        }
    }

    /// Leases the job, if it is due.
    pub(crate) fn take(
        &mut self,
        key: &PushKey,
        now: Timestamp,
        lease_until: Timestamp,
        number: u64,
    ) -> Option<LeasedJob> {
        let job = self.job.as_mut().filter(|job| job.due <= now)?;
        job.attempts += 1;
        (job.due, job.leased, job.number) = (lease_until, true, number);
        Some(LeasedJob { job: job.of(key), attempt: job.attempts, number })
    }

    /// See [`PushStore::finish_push`](super::PushStore::finish_push). Returns whether the job should become a dead
    /// letter.
    pub(crate) fn finish(&mut self, leased: &LeasedJob, end: &PushEnd, at: Timestamp) -> bool {
        let has_nobody_left = *end == PushEnd::Dropped && leased.job.count.is_none();
        if *end == PushEnd::Sent || has_nobody_left {
            self.note_shown(&leased.job, at);
        }
        let shown_up_to = self.shown.map(|shown| shown.up_to_seq);
        let Some(job) = self.job.as_mut() else { return false };
        if job.number != leased.number {
            // Either a newer job, which waited for this one, is here now, or another worker has the job.
            let is_waiting = job.leased && job.attempts == 0;
            if is_waiting && job.count.is_some() && shown_up_to >= Some(job.up_to_seq) {
                // Two homes have enqueued the same notification.
                self.job = None;
            } else if is_waiting {
                (job.due, job.leased) = (job.not_before, false);
            }
            return false;
        }
        if let PushEnd::Retry { at, .. } = end {
            (job.due, job.leased) = (*at, false);
            return false;
        }
        self.job = None;
        // A failed withdrawal is not a dead letter: the next notification replaces what is shown.
        matches!(end, PushEnd::Dead { .. }) && leased.job.count.is_some()
    }

    /// Records what the devices show now.
    fn note_shown(&mut self, job: &PushJob, at: Timestamp) {
        if self.shown.is_some_and(|shown| shown.up_to_seq > job.up_to_seq) {
            return;
        }
        let PushJob { key: _, up_to_seq, count, priority, .. } = *job;
        self.shown = count.map(|count| ShownRow { up_to_seq, count, priority, sent_at: at });
    }
}

impl JobRow {
    pub(crate) fn of(&self, key: &PushKey) -> PushJob {
        let Self { up_to_seq, count, priority, not_before, .. } = *self;
        PushJob { key: key.clone(), up_to_seq, count, priority, not_before }
    }
}

impl ShownRow {
    /// As a job that was due when it was sent.
    pub(crate) fn of(&self, key: &PushKey) -> PushJob {
        let Self { up_to_seq, count, priority, sent_at } = *self;
        PushJob { key: key.clone(), up_to_seq, count: Some(count), priority, not_before: sent_at }
    }
}
