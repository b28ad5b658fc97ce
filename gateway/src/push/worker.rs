//! Takes what is due from the queue, has the providers send it, and tells the queue how it ended. Every node has one;
//! leases share the work among them. Each provider has a lane of its own, so that one that is slow or away delays no
//! other. Owns the lanes and what is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{counter, gauge};
use switchboard_protocol::{DeviceId, Timestamp};
use switchboard_push_providers::{Body, Busy, Lane, Outcome, Pass, Push, Reason, Target, retry};
use switchboard_router::{Router, TraceStep};
use switchboard_store::{
    Channel, ConversationKey, LeasedJob, PushDevice, PushEnd, PushJob, PushKey, Store, StoreError,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::compose::{Composed, compose};
use super::providers::Providers;
use super::told::Told;
use crate::gateway::Gateway;

/// Time between two looks for what has become due, when nobody says that something is.
const POLL_MS: u64 = 1_000;
/// Jobs that are taken at once.
const TAKE_MAX: usize = 64;
/// Time between two attempts to tell the queue how a job ended.
const FINISH_AGAIN_MS: u64 = 1_000;
/// Time between two looks at how old the queue is.
const FIGURES_MS: u64 = 5_000;

/// See the module.
pub(crate) struct Worker {
    gateway: Arc<Gateway>,
    store: Arc<dyn Store>,
    router: Router,
    /// One for each of [`Channel::ALL`].
    lanes: [Lane; Channel::ALL.len()],
    told: Told,
    under_way: TaskTracker,
    /// A lane was full: who leaves one says so.
    wants_room: AtomicBool,
    room: Notify,
}

impl Worker {
    pub(crate) fn new(gateway: Arc<Gateway>, store: Arc<dyn Store>, router: Router) -> Self {
        let lane = |_| Lane::new(gateway.push.in_flight_max, gateway.clock.clone());
        Self {
            lanes: Channel::ALL.map(lane),
            gateway,
            store,
            router,
            told: Told::default(),
            under_way: TaskTracker::new(),
            wants_room: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    /// Works until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let nudges = self.router.push_nudges();
        while !stop.is_cancelled() {
            let mut is_more = false;
            for channel in Channel::ALL {
                is_more |= self.take(channel).await;
            }
            if is_more {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = nudges.notified() => {}
                () = self.room.notified() => {}
                () = self.gateway.clock.sleep_ms(POLL_MS) => {}
            }
        }
    }

    /// Waits for what is under way. To be called when [`Worker::run`] was stopped.
    pub(crate) async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Keeps the figures that have to be looked up, until `stop`.
    pub(crate) async fn keep_figures(self: Arc<Self>, stop: CancellationToken) {
        let oldest = gauge!("switchboard_push_queue_oldest_seconds");
        loop {
            for channel in Channel::ALL {
                let is_down = self.lane(channel).is_down();
                gauge!("switchboard_push_provider_down", "provider" => channel.as_str()).set(f64::from(is_down));
            }
            if let Ok(age_ms) = self.oldest_ms().await {
                #[expect(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^52")]
                oldest.set(age_ms as f64 / 1e3);
            }
            if stop.run_until_cancelled(self.gateway.clock.sleep_to_next_ms(FIGURES_MS)).await.is_none() {
                return;
            }
        }
    }

    /// For how long the job has been due that has waited longest.
    async fn oldest_ms(&self) -> Result<u64, StoreError> {
        let (mut oldest_ms, now_ms) = (0, self.gateway.clock.wall_ms());
        for channel in Channel::ALL {
            if let Some(due) = self.store.oldest_push(channel).await? {
                let age_ms = u64::try_from(now_ms.saturating_sub(due.unix_ms())).unwrap_or(0);
                oldest_ms = age_ms.max(oldest_ms);
            }
        }
        Ok(oldest_ms)
    }

    fn lane(&self, channel: Channel) -> &Lane {
        &self.lanes[channel as usize]
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.gateway.clock.wall_ms())
    }

    /// The time in so many milliseconds.
    fn in_ms(&self, ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(self.gateway.clock.wall_ms().saturating_add_unsigned(ms))
    }

    /// Begins with what is due of a channel, as far as there is room. Whether there may be more.
    async fn take(self: &Arc<Self>, channel: Channel) -> bool {
        let providers = self.gateway.settings().providers.clone();
        if !providers.has(channel) {
            return false;
        }
        let passes = self.passes(channel);
        if passes.is_empty() {
            return false;
        }
        let until = self.in_ms(self.gateway.push.lease_ms);
        let taken = match self.store.take_pushes(channel, self.now(), until, passes.len()).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!(%error, %channel, "the push queue can't be read for now");
                return false;
            }
        };
        let is_more = taken.len() == passes.len();
        for (leased, pass) in taken.into_iter().zip(passes) {
            let (worker, providers) = (self.clone(), providers.clone());
            self.under_way.spawn(async move { worker.carry_out(&providers, leased, pass, until).await });
        }
        is_more
    }

    fn passes(&self, channel: Channel) -> Vec<Pass> {
        let mut passes = Vec::new();
        while passes.len() < TAKE_MAX {
            match self.lane(channel).begin() {
                Ok(pass) => passes.push(pass),
                Err(Busy::Full) => {
                    self.wants_room.store(true, Ordering::Relaxed);
                    break;
                }
                // The next look at the queue is soon enough.
                Err(Busy::Down { .. }) => break,
            }
        }
        passes
    }

    async fn carry_out(&self, providers: &Providers, leased: LeasedJob, pass: Pass, until: Timestamp) {
        match self.attempt(providers, &leased, pass, until).await {
            Ok((end, failures)) => self.finish_push(leased, end, failures, until).await,
            // The lease runs out, and it is tried again.
            Err(error) => tracing::debug!(%error, "a notification waits for the store"),
        }
        if self.wants_room.swap(false, Ordering::Relaxed) {
            self.room.notify_one();
        }
    }

    /// Sends a job to the user's devices that don't have it yet.
    async fn attempt(
        &self,
        providers: &Providers,
        leased: &LeasedJob,
        mut pass: Pass,
        until: Timestamp,
    ) -> Result<(PushEnd, Vec<Failure>), StoreError> {
        let job = &leased.job;
        let body = match compose(&*self.store, job).await? {
            Composed::Body(body) => body,
            Composed::Nothing(why) => {
                self.note(job, TraceStep::NotNotified { why: why.into() });
                return Ok((PushEnd::Dropped, Vec::new()));
            }
        };
        let devices = self.store.devices(&job.key.user).await?;
        let mut tally = Tally { told: self.told.take(job), failures: Vec::new(), after_ms: None };
        for (id, device) in devices.into_iter().filter(|(_, device)| device.channel == job.key.channel) {
            if tally.told.contains(&id) {
                continue;
            }
            let outcome = self.send(providers, job, (&id, &device), body.clone(), &mut pass, until).await;
            if outcome == Outcome::Gone {
                self.remove(job, &id, device).await;
            }
            self.note_outcome(job, &id, &outcome);
            count(job.key.channel, &outcome);
            tally.add(id, outcome);
        }
        let Tally { told, failures, after_ms } = tally;
        Ok((self.end_of(leased, told, &failures, after_ms), failures))
    }

    async fn send(
        &self,
        providers: &Providers,
        job: &PushJob,
        (id, device): (&DeviceId, &PushDevice),
        body: Body,
        pass: &mut Pass,
        until: Timestamp,
    ) -> Outcome {
        if self.in_ms(self.gateway.push.timeout_ms) > until {
            return failed("no time left for this device");
        }
        // What can't be read back was never a way to reach it.
        let Some(target) = Target::from_stored(device.channel, &device.target) else { return Outcome::Gone };
        let push = Push {
            tenant: job.key.user.tenant.clone(),
            user: job.key.user.user.clone(),
            device: id.clone(),
            conversation: job.key.conversation.clone(),
            up_to_seq: job.up_to_seq,
            priority: job.priority,
            ttl_s: self.gateway.push.ttl_s,
            body,
        };
        let Some(outcome) = providers.send(&target, &push).await else { return failed("the provider is off") };
        pass.ended(&outcome);
        outcome
    }

    /// Forgets a device that the provider does not know any more, unless it has been registered anew. If that can't be
    /// now, the next notification finds it gone again.
    async fn remove(&self, job: &PushJob, id: &DeviceId, device: PushDevice) {
        if let Err(error) = self.router.remove_push_device(&job.key.user, id, Some(device.target)).await {
            tracing::debug!(%error, "a device that is gone stays registered for now");
        }
    }

    /// Notes in the message's trace what a provider said.
    fn note_outcome(&self, job: &PushJob, id: &DeviceId, outcome: &Outcome) {
        let (provider, device_id) = (job.key.channel, id.clone());
        match outcome {
            Outcome::Sent if job.count.is_some() => self.note(job, TraceStep::Notified { provider, device_id }),
            Outcome::Gone => self.note(job, TraceStep::DeviceGone { provider, device_id }),
            // A withdrawal was noted when it was decided; a failure is, with what follows on it, when the queue knows it.
            Outcome::Sent | Outcome::Failed { .. } | Outcome::Refused(_) => {}
        }
    }

    fn note(&self, job: &PushJob, step: TraceStep) {
        let PushKey { user, conversation, .. } = &job.key;
        let conversation = ConversationKey { tenant: user.tenant.clone(), conversation: conversation.clone() };
        self.router.note_trace((&conversation, job.up_to_seq), Some(&user.user), step);
    }

    /// How an attempt ended. Who was told by one device has been told: the others' failure makes no dead letter.
    fn end_of(&self, leased: &LeasedJob, told: Vec<DeviceId>, failures: &[Failure], after_ms: Option<u64>) -> PushEnd {
        let is_told = !told.is_empty();
        let passing = failures.iter().rfind(|failure| failure.may_pass);
        if let Some(failure) = passing
            && let retry::Next::RetryAfter(ms) = retry::next(leased.attempt, after_ms, &self.gateway.generator)
        {
            let at = self.in_ms(ms);
            if self.told.put(&leased.job, told, at, self.now()) {
                counter!("switchboard_push_told_forgotten_total").increment(1);
            }
            return PushEnd::Retry { at, reason: failure.reason.to_string() };
        }
        match passing.or(failures.last()) {
            _ if is_told => PushEnd::Sent,
            Some(failure) => PushEnd::Dead { reason: failure.reason.to_string() },
            None => PushEnd::Dropped,
        }
    }

    /// Tells the queue how a job ended, as long as it is this node's.
    async fn finish_push(&self, leased: LeasedJob, end: PushEnd, failures: Vec<Failure>, until: Timestamp) {
        while let Err(error) = self.store.finish_push(leased.clone(), end.clone(), self.now()).await {
            tracing::debug!(%error, "how a notification ended can't be written for now");
            if self.in_ms(FINISH_AGAIN_MS) > until {
                return;
            }
            self.gateway.clock.sleep_ms(FINISH_AGAIN_MS).await;
        }
        let (provider, attempt) = (leased.job.key.channel, leased.attempt);
        let again_at = if let PushEnd::Retry { at, .. } = end { Some(at) } else { None };
        for Failure { device, reason, may_pass } in failures {
            let (device_id, reason) = (Some(device), reason.to_string());
            let again_at = again_at.filter(|_| may_pass);
            self.note(&leased.job, TraceStep::Failed { provider, device_id, reason, again_at });
        }
        match end {
            PushEnd::Dead { reason } => {
                counter!("switchboard_push_dead_letters_total", "provider" => provider.as_str()).increment(1);
                tracing::warn!(channel = %provider, attempt, reason, "a notification was given up");
            }
            PushEnd::Retry { at, reason } => {
                tracing::debug!(channel = %provider, attempt, %at, reason, "a notification is to be tried again");
                if at <= self.now() {
                    self.router.push_nudges().notify_one();
                }
            }
            PushEnd::Sent | PushEnd::Dropped => {}
        }
    }
}

/// What came of one attempt, over all devices.
struct Tally {
    /// Those that have it, of earlier attempts too.
    told: Vec<DeviceId>,
    failures: Vec<Failure>,
    /// The longest time that a provider asked for.
    after_ms: Option<u64>,
}

/// A device that has not got it.
struct Failure {
    device: DeviceId,
    reason: Reason,
    /// Another attempt may help.
    may_pass: bool,
}

impl Tally {
    fn add(&mut self, device: DeviceId, outcome: Outcome) {
        match outcome {
            Outcome::Sent => self.told.push(device),
            Outcome::Gone => {}
            Outcome::Failed { reason, after_ms } => {
                self.after_ms = self.after_ms.max(after_ms);
                self.failures.push(Failure { device, reason, may_pass: true });
            }
            Outcome::Refused(reason) => self.failures.push(Failure { device, reason, may_pass: false }),
        }
    }
}

fn failed(why: &str) -> Outcome {
    Outcome::Failed { reason: Reason::new(why), after_ms: None }
}

/// Counts what came of a request to a provider.
fn count(channel: Channel, outcome: &Outcome) {
    let outcome = match outcome {
        Outcome::Sent => "sent",
        Outcome::Gone => "gone",
        Outcome::Failed { .. } => "failed",
        Outcome::Refused(_) => "refused",
    };
    counter!("switchboard_pushes_total", "provider" => channel.as_str(), "outcome" => outcome).increment(1);
}
