//! Leases due notifications from the push queue, has each one sent (`attempt.rs`), and writes the result back. Every node
//! runs one worker; the leases divide the work between them. Each provider has its own lane, so a slow or unreachable
//! provider delays no other. Owns the lanes and the attempts under way.

mod attempt;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{counter, gauge};
use switchboard_protocol::Timestamp;
use switchboard_push_providers::{Busy, Lane, Pass};
use switchboard_router::{Router, TraceStep};
use switchboard_store::{Channel, ConversationKey, LeasedJob, PushEnd, PushJob, PushKey, Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::attempt::{Attempt, Attempted, Failure};
use super::delivered::Delivered;
use super::providers::Providers;
use crate::gateway::Gateway;

/// Time between two polls for due jobs; [`Router::push_nudges`] makes them earlier.
const POLL_MS: u64 = 1_000;
/// Jobs that one poll takes, at most.
const TAKE_MAX: usize = 64;
/// Pause before a result is written to the queue again after an error.
const FINISH_AGAIN_MS: u64 = 1_000;
/// Time between two updates of the metrics that are read from the queue.
const FIGURES_MS: u64 = 5_000;

/// See the module.
pub(crate) struct Worker {
    gateway: Arc<Gateway>,
    store: Arc<dyn Store>,
    router: Router,
    /// One for each of [`Channel::ALL`].
    lanes: [Lane; Channel::ALL.len()],
    delivered: Delivered,
    under_way: TaskTracker,
    /// A lane was full: an attempt that ends notifies `room`.
    wants_room: AtomicBool,
    room: Notify,
}

/// A job that is this worker's alone `until` then.
struct Lease {
    job: LeasedJob,
    until: Timestamp,
}

impl Worker {
    pub(crate) fn new(gateway: Arc<Gateway>, store: Arc<dyn Store>, router: Router) -> Self {
        let lane = |_| Lane::new(gateway.push.in_flight_max, gateway.clock.clone());
        Self {
            lanes: Channel::ALL.map(lane),
            gateway,
            store,
            router,
            delivered: Delivered::default(),
            under_way: TaskTracker::new(),
            wants_room: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    /// Takes and sends jobs until `stop`.
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

    /// Waits for the attempts under way. To be called after [`Worker::run`] has stopped.
    pub(crate) async fn finish(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Updates the metrics that nothing else updates, until `stop`.
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

    /// How long the oldest due job of all channels has been due.
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

    /// The time `ms` milliseconds from now.
    fn in_ms(&self, ms: u64) -> Timestamp {
        Timestamp::from_unix_ms(self.gateway.clock.wall_ms().saturating_add_unsigned(ms))
    }

    /// Starts attempts at a channel's due jobs, as many as its lane has room for. Whether more may be due.
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
        for (job, pass) in taken.into_iter().zip(passes) {
            let (worker, providers, lease) = (self.clone(), providers.clone(), Lease { job, until });
            self.under_way.spawn(async move { worker.carry_out(&providers, lease, pass).await });
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

    async fn carry_out(&self, providers: &Providers, lease: Lease, pass: Pass) {
        let attempted = Attempt::new(self, providers, &lease, pass).run().await;
        match attempted {
            Ok(attempted) => self.finish_push(lease, attempted).await,
            // When the lease has expired, the job is due again.
            Err(error) => tracing::debug!(%error, "a notification waits for the store"),
        }
        if self.wants_room.swap(false, Ordering::Relaxed) {
            self.room.notify_one();
        }
    }

    /// Writes the result of an attempt to the queue, repeating it while the lease lasts.
    async fn finish_push(&self, lease: Lease, attempted: Attempted) {
        let (Lease { job: leased, until }, Attempted { end, failures }) = (lease, attempted);
        while let Err(error) = self.store.finish_push(leased.clone(), end.clone(), self.now()).await {
            tracing::debug!(%error, "the result of a notification can't be written for now");
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

    /// Adds a step to the trace of the job's message.
    fn note(&self, job: &PushJob, step: TraceStep) {
        let PushKey { user, conversation, .. } = &job.key;
        let conversation = ConversationKey { tenant: user.tenant.clone(), conversation: conversation.clone() };
        self.router.note_trace(&conversation, job.up_to_seq, Some(&user.user), step);
    }
}
