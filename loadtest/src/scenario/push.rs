//! `push`: users who are away get messages, and the push service gets notifications: first at a rate, to show how long
//! that takes, then once for each conversation as fast as possible.
//!
//! There is no baseline: most of a notification's cost is storing the message, holding it, and TLS to the push service, and
//! no bare program does that.

mod ledger;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;

use self::ledger::{Counts, Ledger};
use super::{Defaults, Param, Scenario};
use crate::client::crowd::{Crowd, some_at_once};
use crate::client::device;
use crate::client::network::client_id;
use crate::client::session::Client;
use crate::control::Load;
use crate::meter::recorder::Counter;
use crate::meter::{NS_PER_S, now_ns};
use crate::provider::Provider;
use crate::report::figure::{Bar, Figure};
use crate::report::round::{Phase, Round};
use crate::worker::{PhaseWork, Worker};

pub(super) struct Push;

/// `push.per_hour` of spawned nodes, the maximum.
const PER_HOUR: usize = 1_000;
/// `push.lease_ms` of spawned nodes: what a node has taken when it is killed passes to another one while the clients wait.
const LEASE_MS: usize = 10_000;
/// `push.timeout_ms` of spawned nodes. A request that fails twice is repeated only after 5 minutes, so it must not fail
/// because the machine is busy.
const TIMEOUT_MS: usize = 5_000;
/// How long to wait for the next notification, in addition to the hold.
const PATIENCE_S: f64 = 30.0;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Unanswered sends at full speed.
const UNDER_WAY_MAX: u64 = 512;
/// Concurrent handshakes.
const AT_ONCE: usize = 32;

/// The nodes' counter of requests to the push service, and the label of those that failed.
const REQUESTS: &str = "switchboard_pushes_total{";
const FAILED: &str = r#"outcome="failed""#;

/// The phase that sends everything at once.
const BURST: &str = "burst";

#[async_trait(?Send)]
impl Scenario for Push {
    fn name(&self) -> &'static str {
        "push"
    }

    fn about(&self) -> &'static str {
        "messages to users who are away: notifications per second, time until the push service gets them, losses and duplicates"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 100, rate: 500.0, warm_up_s: 3.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[
            Param {
                name: "users",
                default: 1_000.0,
                about: "users who are away, with a device each; the connections are the writers",
            },
            Param {
                name: "conversations",
                default: 3.0,
                about: "conversations of each of them, at most as many as writers",
            },
            Param { name: "hold_ms", default: 1_000.0, about: "push.hold_ms of spawned nodes" },
        ]
    }

    fn settings(&self, load: &Load) -> Vec<String> {
        vec![
            format!("push.hold_ms={}", load.count("hold_ms")),
            // Each message gets its own notification.
            "push.collapse_ms=0".to_owned(),
            format!("push.per_hour={PER_HOUR}"),
            format!("push.lease_ms={LEASE_MS}"),
            format!("push.timeout_ms={TIMEOUT_MS}"),
            "limits.frames_per_s=1000000".to_owned(),
        ]
    }

    fn has_provider(&self) -> bool {
        true
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let mut post = Post::connect(worker, &load).await?;
        let rate = worker.plan.rate_share();
        worker.phase("warm-up", async |phase| post.write(phase, rate, load.warm_up_s).await).await?;
        worker.phase("load", async |phase| post.write(phase, rate, load.duration_s).await).await?;
        worker.phase(BURST, async |phase| post.burst(phase).await).await?;
        worker.see_off(post.crowd).await
    }

    fn figures(&self, load: &Load, round: &Round, _baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let (Some(phase), Some(burst)) = (round.phase("load"), round.phase(BURST)) else { return Vec::new() };
        let both = |name: &str| Some(phase.counted(name) + burst.counted(name));
        let failed = |phase: &Phase| -> f64 {
            let of_requests = phase.server_counters.iter().filter(|(name, _)| name.starts_with(REQUESTS));
            of_requests.filter(|(name, _)| name.contains(FAILED)).map(|(_, count)| count).sum()
        };
        let cpu_us = |phase: &Phase| phase.server_cpu_us_per(phase.counted("notifications"));
        // No notifications come during the first hold.
        let per_s = |phase: &Phase| {
            phase.counted("notifications") / (phase.seconds - load.number("hold_ms") / 1e3).max(f64::EPSILON)
        };
        let latency = |name: &str, percentile: f64| Figure::new(name, "ms", phase.percentile_ms("push", percentile));
        let none =
            |name: &str, count: Option<f64>| Figure::new(name, "", count).map(|figure| figure.bar(Bar::AtMost(0.0)));
        let figures = [
            latency("message to push, less the hold, p50", 50.0),
            latency("message to push, less the hold, p99", 99.0),
            Figure::new("notifications", "1/s", Some(per_s(phase))),
            Figure::new("CPU per message and notification", "µs", cpu_us(phase)),
            Figure::new("notifications, as fast as it goes", "1/s", Some(per_s(burst))),
            Figure::new("CPU per message and notification, as fast as it goes", "µs", cpu_us(burst)),
            none("messages that nobody was told of", Some(burst.counted("untold"))),
            none("doubled notifications", both("doubled")),
            Figure::new("repeated notifications, which a receiver tells by their id", "", both("repeated")),
            Figure::new("notifications behind a later one", "", both("overtaken")),
            Figure::new(
                "requests that failed: repeated at once, then after 5 minutes",
                "",
                Some(failed(phase) + failed(burst)),
            ),
        ];
        figures.into_iter().flatten().collect()
    }
}

/// This worker's writers, and the users who are away. Each conversation is entirely in one worker.
struct Post {
    crowd: Crowd,
    writers: Vec<Client>,
    /// The index of each conversation's writer, and the recipient.
    conversations: Vec<(usize, String)>,
    ledger: Arc<Ledger>,
    run: String,
    hold_s: f64,
    workers: usize,
    /// The number of sends in all phases.
    said: u64,
    /// Messages of all phases without a notification when the last phase ended.
    untold: Counter,
    _provider: Provider,
}

impl Post {
    async fn connect(worker: &mut Worker, load: &Load) -> Result<Self> {
        let (plan, network) = (worker.plan.clone(), worker.network.clone());
        let site = plan.provider.as_ref().context("push requires --spawn")?;
        let (users, conversations) = (load.count("users").max(plan.workers), load.count("conversations").max(1));
        ensure!(load.rate > 0.0, "push: --rate must not be 0; the maximum rate is measured anyway, after the load");
        let each = load.rate * (load.warm_up_s + load.duration_s) / users as f64 + conversations as f64;
        ensure!(
            each <= PER_HOUR as f64,
            "push: more than push.per_hour={PER_HOUR} for each user; increase --param users"
        );

        let hold_s = load.number("hold_ms") / 1e3;
        let ledger = Arc::new(Ledger::new(&plan.run, hold_s, Counts::new(&mut worker.recorder), network.log.clone()));
        let provider = Provider::start(site, ledger.clone().on_notification())?;
        let mut crowd = Crowd::new(network.clone());
        let writers = plan.share(load.connections.max(plan.workers));
        let writers = crowd.connect(writers.map(|number| (plan.who(number), Some(ledger.clone().on_frame()))), AT_ONCE);
        let writers = writers.await?;
        let away: Vec<_> = plan.share(users).map(|number| plan.who(load.connections + number)).collect();
        some_at_once(away.iter().map(|who| device::register(&network, who))).await?;

        // All first conversations come first, so that a user's messages are far apart.
        let (count, away) = (conversations.min(writers.len()), &away);
        let conversation =
            |user: usize, nth: usize| ((user + nth) % writers.len(), format!(r#""to":"{}""#, away[user].user));
        let conversations = (0..count)
            .flat_map(|nth| (0..away.len()).map(move |user| (user, nth)))
            .map(|(user, nth)| conversation(user, nth))
            .collect();
        let untold = worker.recorder.counter("untold");
        let (run, workers) = (plan.run.clone(), plan.workers);
        Ok(Self { crowd, writers, conversations, ledger, run, hold_s, workers, said: 0, untold, _provider: provider })
    }

    /// Sends messages to all conversations in turn, and waits for all notifications.
    async fn write(&mut self, phase: &mut PhaseWork<'_>, rate: f64, duration_s: f64) -> Result<()> {
        let first = self.said;
        self.said += phase.pace(rate, duration_s, |number, intended_ns| self.send(first + number, intended_ns)).await?;
        self.told(phase).await
    }

    /// Sends a message to each conversation, as fast as possible.
    async fn burst(&mut self, phase: &mut PhaseWork<'_>) -> Result<()> {
        let meters = phase.meters().clone();
        let answered = || meters.sent.total() + meters.send_errors.total();
        for _ in 0..self.conversations.len() {
            if phase.is_stopped() {
                break;
            }
            if self.said >= answered() + UNDER_WAY_MAX {
                phase.drain(|| answered() + UNDER_WAY_MAX / 2 >= self.said).await;
            }
            self.send(self.said, now_ns());
            self.said += 1;
        }
        self.told(phase).await?;
        self.untold.add(self.ledger.untold());
        Ok(())
    }

    /// The text is also a `client_id`: it carries the intended moment to the push service.
    fn send(&self, number: u64, intended_ns: u64) {
        let place = usize::try_from(number).unwrap_or(0) % self.conversations.len();
        let (writer, to) = &self.conversations[place];
        self.writers[*writer].send(to, number, intended_ns, &client_id(&self.run, 0, number, intended_ns));
    }

    /// Waits until the push service has notifications of everything that was acknowledged, or no new ones arrive.
    async fn told(&mut self, phase: &mut PhaseWork<'_>) -> Result<()> {
        let (meters, said) = (phase.meters().clone(), self.said);
        phase.drain(|| meters.sent.total() + meters.send_errors.total() >= said).await;
        let patience_ns = ((self.hold_s + PATIENCE_S) * NS_PER_S as f64) as u64;
        let (mut fewest, mut until_ns) = (u64::MAX, u64::MAX);
        loop {
            if self.workers > 1 {
                self.ledger.learn(&phase.meet("told", self.ledger.told()).await?);
            }
            // All workers end this together.
            let untold = phase.sum("untold", self.ledger.untold()).await?;
            if untold < fewest {
                (fewest, until_ns) = (untold, now_ns() + patience_ns);
            }
            let over = phase.sum("over", u64::from(now_ns() > until_ns)).await?;
            if untold == 0 || over > 0 {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
        Ok(())
    }
}
