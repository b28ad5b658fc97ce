//! `direct`: many pairs that write to each other, at a rate independent of the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use async_trait::async_trait;

use super::{Baseline, Defaults, Param, Scenario, statements};
use crate::baseline;
use crate::client::closed_loop::{ClosedLoop, Flood};
use crate::client::crowd::Crowd;
use crate::client::network::Meters;
use crate::client::session::{Client, Who};
use crate::control::Load;
use crate::meter::{NS_PER_S, now_ns};
use crate::report::figure::{Bar, Figure};
use crate::report::round::Round;
use crate::worker::{PhaseWork, Worker};

pub(super) struct Direct;

#[async_trait(?Send)]
impl Scenario for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn about(&self) -> &'static str {
        "pairs that write to each other, open loop: latency to `sent` and to the other side"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 1_000, rate: 2_000.0, warm_up_s: 3.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[
            Param::TEXT_BYTES,
            Param {
                name: "share",
                default: 0.0,
                about: "share of the saturation rate, which is measured in the warm-up; 0: use --rate",
            },
            Param { name: "under_way", default: 4.0, about: "concurrent sends per client while that is measured" },
        ]
    }

    fn settings(&self, load: &Load) -> Vec<String> {
        if load.number("share") > 0.0 {
            return vec!["limits.frames_per_s=1000000".to_owned()];
        }
        // Twice what each session will send; the bucket holds two seconds' worth.
        let per_session = 2.0 * load.rate / load.connections.max(1) as f64;
        if per_session > 50.0 { vec![format!("limits.frames_per_s={per_session:.0}")] } else { Vec::new() }
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let workers = worker.plan.workers;
        let pairs: Vec<usize> = worker.plan.share(load.connections / 2).collect();
        let run = worker.plan.run.clone();
        let user = |pair: usize, side: usize| format!("{run}-{pair}-{side}");
        let text = "x".repeat(load.count("text_bytes"));
        let (is_on, sends) = (Arc::new(AtomicBool::new(false)), worker.recorder.counter("sends"));
        let share = load.number("share");
        // Clients that only follow the schedule do not look at answers.
        let new_loop = || (share > 0.0).then(|| ClosedLoop::new(&text, &is_on, &sends));
        let loops: Vec<Option<Arc<ClosedLoop>>> = (0..2 * pairs.len()).map(|_| new_loop()).collect();
        let sides = pairs.iter().flat_map(|pair| [0, 1].map(|side| (*pair, side)));
        let people = sides.zip(&loops).map(|((pair, side), closed)| {
            let number = (2 * (pair / workers) + side) as u64;
            (Who { user: user(pair, side), number, node: pair }, closed.as_ref().map(ClosedLoop::on_frame))
        });
        let mut crowd = Crowd::new(worker.network.clone());
        let clients = crowd.connect(people, 32).await?;
        let places: Vec<String> =
            pairs.iter().flat_map(|pair| [1, 0].map(|other| format!(r#""to":"{}""#, user(*pair, other)))).collect();
        let loops: Vec<Arc<ClosedLoop>> = loops.into_iter().flatten().collect();
        for (closed, (client, place)) in loops.iter().zip(clients.iter().zip(&places)) {
            closed.attach(client, place);
        }
        let mut rate = worker.plan.rate_share();
        let mut talk = Talk::new(clients, places, text, true, &worker.network.meters);
        if share > 0.0 {
            let mut flood = Flood::new(loops, is_on);
            let (under_way, find_s) = (load.count("under_way"), load.warm_up_s.max(1.0));
            let once_s = talk.clients.len() as f64 / BEGUN_PER_S;
            worker.phase("begin", async |phase| talk.run(phase, BEGUN_PER_S, once_s).await).await?;
            let saturate =
                worker.phase(SATURATE, async |phase| talk.saturate(phase, &mut flood, under_way, find_s).await);
            rate = share * saturate.await?;
        }
        worker.phase("warm-up", async |phase| talk.run(phase, rate, load.warm_up_s).await).await?;
        worker.phase("load", async |phase| talk.run(phase, rate, load.duration_s).await).await?;
        worker.see_off(crowd).await
    }

    fn baselines(&self, load: &Load, round: &Round) -> Vec<Baseline> {
        let rate = saturating_rate(round).map_or(load.rate, |rate| rate * load.number("share"));
        vec![Baseline { name: baseline::ECHO, load: Load { rate, ..load.clone() } }]
    }

    fn figures(&self, load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let echo = baselines.get(baseline::ECHO).and_then(|round| round.phase("load"));
        let latency = |name: &str, of: &str, percentile: f64| {
            let bare = echo.and_then(|phase| phase.percentile_ms("sent", percentile));
            Figure::new(name, "ms", phase.percentile_ms(of, percentile)).map(|figure| figure.against("bare echo", bare))
        };
        // DESIGN §8: on one node, and across nodes.
        let (p50_ms, p99_ms) = if load.nodes > 1 { (5.0, 25.0) } else { (2.0, 10.0) };
        let (sent, delivered) = (phase.counted("sent"), phase.counted("deliveries"));
        let echo_us = echo.and_then(|phase| phase.server_cpu_us_per(phase.counted("sent")));
        let figures = [
            latency("send to `sent`, p50", "sent", 50.0),
            latency("send to `sent`, p99", "sent", 99.0),
            latency("send to the other side, p50", "delivery", 50.0).map(|figure| figure.bar(Bar::AtMost(p50_ms))),
            latency("send to the other side, p99", "delivery", 99.0).map(|figure| figure.bar(Bar::AtMost(p99_ms))),
            Figure::new("CPU per message", "µs", phase.server_cpu_us_per(sent))
                .map(|figure| figure.against("bare echo", echo_us)),
            Figure::new("saturating rate", "1/s", saturating_rate(round)),
            Figure::new("sends answered", "1/s", Some(sent / phase.seconds)),
            Figure::new("sends without an answer", "", Some(phase.counted("sends") - sent)),
            Figure::new("sends without a delivery", "", Some(phase.counted("sends") - delivered)),
        ];
        figures.into_iter().chain(statements::per(phase, sent, "message")).flatten().collect()
    }
}

/// Messages that start a conversation, per second and worker, before the search for the maximum: creating a
/// conversation costs more than a message in it.
const BEGUN_PER_S: f64 = 1_000.0;

/// The phase that sends as fast as answers come.
const SATURATE: &str = "saturate";

fn saturating_rate(round: &Round) -> Option<f64> {
    round.phase(SATURATE).map(|phase| phase.counted("sent") / phase.seconds)
}

/// Sends by all clients in turn, each to the other side.
pub(crate) struct Talk {
    clients: Vec<Client>,
    places: Vec<String>,
    text: String,
    /// Whether anyone else receives the sends.
    is_delivered: bool,
    /// The number of sends in all phases.
    said: u64,
    meters: Meters,
}

impl Talk {
    /// `places` has the destination of each client's sends, as [`Client::send`] takes it.
    pub(crate) fn new(
        clients: Vec<Client>,
        places: Vec<String>,
        text: String,
        is_delivered: bool,
        meters: &Meters,
    ) -> Self {
        Self { clients, places, text, is_delivered, said: 0, meters: meters.clone() }
    }

    /// Sends as fast as possible. Returns the number of accepted sends per second.
    async fn saturate(
        &mut self,
        phase: &mut PhaseWork<'_>,
        flood: &mut Flood,
        under_way: usize,
        duration_s: f64,
    ) -> Result<f64> {
        let (before, began_ns) = (self.meters.sent.total(), now_ns());
        self.said += flood.run(phase, under_way, duration_s).await?;
        let (said, meters) = (self.said, &self.meters);
        // Includes answers to sends that were under way at the end, and their time.
        let per_s = (meters.sent.total() - before) as f64 / (now_ns() - began_ns) as f64 * NS_PER_S as f64;
        phase.drain(|| meters.deliveries.total() + meters.send_errors.total() >= said).await;
        Ok(per_s)
    }

    /// Runs a phase's sends, and waits until all have arrived.
    pub(crate) async fn run(&mut self, phase: &mut PhaseWork<'_>, rate: f64, duration_s: f64) -> Result<()> {
        if self.clients.is_empty() {
            return Ok(());
        }
        let first = self.said;
        let sent = phase
            .pace(rate, duration_s, |number, intended_ns| {
                let number = first + number;
                let place = usize::try_from(number).unwrap_or(0) % self.clients.len();
                self.clients[place].send(&self.places[place], number, intended_ns, &self.text);
            })
            .await?;
        self.said += sent;
        let (said, meters) = (self.said, &self.meters);
        let is_answered = || meters.sent.total() + meters.send_errors.total() >= said;
        phase
            .drain(|| {
                is_answered() && (!self.is_delivered || meters.deliveries.total() + meters.send_errors.total() >= said)
            })
            .await;
        Ok(())
    }
}
