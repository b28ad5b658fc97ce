//! One attempt to send a notification: each of the user's devices that does not have it yet gets a request, and the
//! outcomes decide what happens to the job. Owns the outcomes until then. Does not write the result: that is the worker's.

use metrics::counter;
use switchboard_protocol::DeviceId;
use switchboard_push_providers::{Body, Outcome, Pass, Push, Reason, Target, retry};
use switchboard_router::TraceStep;
use switchboard_store::{Channel, PushDevice, PushEnd, PushJob, StoreError};

use super::{Lease, Worker};
use crate::push::compose::{Composed, compose};
use crate::push::providers::Providers;

/// See the file's comment.
pub(super) struct Attempt<'a> {
    worker: &'a Worker,
    providers: &'a Providers,
    lease: &'a Lease,
    /// The lane's leave to send.
    pass: Pass,
    /// The devices that have the notification, by earlier attempts too.
    delivered: Vec<DeviceId>,
    failures: Vec<Failure>,
    /// The longest delay that a provider asked for.
    retry_after_ms: Option<u64>,
}

/// The result of an attempt.
pub(super) struct Attempted {
    pub(super) end: PushEnd,
    pub(super) failures: Vec<Failure>,
}

/// A device that did not get the notification.
pub(super) struct Failure {
    pub(super) device: DeviceId,
    pub(super) reason: Reason,
    /// Another attempt may succeed.
    pub(super) may_pass: bool,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(worker: &'a Worker, providers: &'a Providers, lease: &'a Lease, pass: Pass) -> Self {
        let (delivered, failures) = (Vec::new(), Vec::new());
        Self { worker, providers, lease, pass, delivered, failures, retry_after_ms: None }
    }

    fn job(&self) -> &'a PushJob {
        &self.lease.job.job
    }

    /// Sends the notification.
    ///
    /// # Errors
    /// The store's; then nothing was sent.
    pub(super) async fn run(mut self) -> Result<Attempted, StoreError> {
        let job = self.job();
        let body = match compose(&*self.worker.store, job).await? {
            Composed::Body(body) => body,
            Composed::Nothing(why) => {
                self.worker.note(job, TraceStep::NotNotified { why: why.into() });
                return Ok(Attempted { end: PushEnd::Dropped, failures: Vec::new() });
            }
        };
        let devices = self.worker.store.devices(&job.key.user).await?;
        self.delivered = self.worker.delivered.take(job);
        for (id, device) in devices.into_iter().filter(|(_, device)| device.channel == job.key.channel) {
            if self.delivered.contains(&id) {
                continue;
            }
            let outcome = self.send(&id, &device, body.clone()).await;
            if outcome == Outcome::Gone {
                self.unregister(&id, device).await;
            }
            self.note_outcome(&id, &outcome);
            count(job.key.channel, &outcome);
            self.add(id, outcome);
        }
        Ok(self.end())
    }

    /// Sends to one device.
    async fn send(&mut self, id: &DeviceId, device: &PushDevice, body: Body) -> Outcome {
        let (job, push) = (self.job(), &self.worker.gateway.push);
        if self.worker.in_ms(push.timeout_ms) > self.lease.until {
            return failed("no time left for this device");
        }
        // A target that can't be parsed was never a way to reach the device.
        let Some(target) = Target::from_stored(device.channel, &device.target) else { return Outcome::Gone };
        let push = Push {
            tenant: job.key.user.tenant.clone(),
            user: job.key.user.user.clone(),
            device: id.clone(),
            conversation: job.key.conversation.clone(),
            up_to_seq: job.up_to_seq,
            priority: job.priority,
            ttl_s: push.ttl_s,
            body,
        };
        let Some(outcome) = self.providers.send(&target, &push).await else { return failed("the provider is off") };
        self.pass.ended(&outcome);
        outcome
    }

    /// Unregisters a device that the provider no longer knows, unless it has been registered again since. If this fails,
    /// the next notification finds the device gone again.
    async fn unregister(&self, id: &DeviceId, device: PushDevice) {
        let user = &self.job().key.user;
        if let Err(error) = self.worker.router.remove_push_device(user, id, Some(device.target)).await {
            tracing::debug!(%error, "a device that is gone stays registered for now");
        }
    }

    /// Adds a device's outcome to the message's trace.
    fn note_outcome(&self, id: &DeviceId, outcome: &Outcome) {
        let job = self.job();
        let (provider, device_id) = (job.key.channel, id.clone());
        match outcome {
            Outcome::Sent if job.count.is_some() => self.worker.note(job, TraceStep::Notified { provider, device_id }),
            Outcome::Gone => self.worker.note(job, TraceStep::DeviceGone { provider, device_id }),
            // A withdrawal was noted when it was decided. A failure is noted with the time of the next attempt, once that
            // is in the queue.
            Outcome::Sent | Outcome::Failed { .. } | Outcome::Refused(_) => {}
        }
    }

    fn add(&mut self, device: DeviceId, outcome: Outcome) {
        match outcome {
            Outcome::Sent => self.delivered.push(device),
            Outcome::Gone => {}
            Outcome::Failed { reason, after_ms } => {
                self.retry_after_ms = self.retry_after_ms.max(after_ms);
                self.failures.push(Failure { device, reason, may_pass: true });
            }
            Outcome::Refused(reason) => self.failures.push(Failure { device, reason, may_pass: false }),
        }
    }

    /// What the outcomes amount to. A user with the notification on one device has been notified: the failure of the
    /// others makes no dead letter.
    fn end(self) -> Attempted {
        let Self { worker, lease, delivered, failures, retry_after_ms, .. } = self;
        let is_delivered = !delivered.is_empty();
        let passing = failures.iter().rfind(|failure| failure.may_pass);
        if let Some(failure) = passing
            && let retry::Next::RetryAfter(ms) =
                retry::next(lease.job.attempt, retry_after_ms, &worker.gateway.generator)
        {
            let at = worker.in_ms(ms);
            if worker.delivered.put(&lease.job.job, delivered, at, worker.now()) {
                counter!("switchboard_push_told_forgotten_total").increment(1);
            }
            let end = PushEnd::Retry { at, reason: failure.reason.to_string() };
            return Attempted { end, failures };
        }
        let end = match passing.or(failures.last()) {
            _ if is_delivered => PushEnd::Sent,
            Some(failure) => PushEnd::Dead { reason: failure.reason.to_string() },
            None => PushEnd::Dropped,
        };
        Attempted { end, failures }
    }
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed { reason: Reason::new(why), after_ms: None }
}

/// Counts the outcome of a request to a provider.
fn count(channel: Channel, outcome: &Outcome) {
    let outcome = match outcome {
        Outcome::Sent => "sent",
        Outcome::Gone => "gone",
        Outcome::Failed { .. } => "failed",
        Outcome::Refused(_) => "refused",
    };
    counter!("switchboard_pushes_total", "provider" => channel.as_str(), "outcome" => outcome).increment(1);
}
