//! `takeover`: one of several nodes is killed; how long do its conversations accept no messages?
//!
//! All clients are on the other nodes, each with its own conversation, which any of the nodes may own. From the moment
//! of the kill each client keeps sending into its conversation until the first of these sends is accepted.
//! Conversations owned by another node accept at once; those of the killed node once its heartbeat has expired and
//! another node has taken over. Each send is repeated as PROTOCOL §3 requires, so sends that come too early are
//! accepted later.
//!
//! There is no baseline: the bar is a time limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, ensure};
use async_trait::async_trait;

use super::{Defaults, Param, Scenario};
use crate::client::crowd::Crowd;
use crate::client::reader::OnFrame;
use crate::client::session::{Client, Who};
use crate::control::Load;
use crate::meter::now_ns;
use crate::meter::recorder::{Counter, LatencyMeter};
use crate::report::figure::{Bar, Figure};
use crate::report::round::{Phase, Round};
use crate::worker::{PhaseWork, Worker};

pub(super) struct Takeover;

/// The terms that began without their predecessor having ended.
const TAKEN_OVER: &str = r#"switchboard_terms_total{reason="takeover"}"#;

/// How long conversations of a killed node may accept no messages, in addition to the time for which a node counts as
/// alive (DESIGN §8).
const BEYOND_TTL_MS: f64 = 1_000.0;

/// Sends per second into a conversation that accepts nothing.
const TRIES_PER_S: f64 = 10.0;

#[async_trait(?Send)]
impl Scenario for Takeover {
    fn name(&self) -> &'static str {
        "takeover"
    }

    fn about(&self) -> &'static str {
        "the first of several nodes is killed: time until its conversations accept messages again"
    }

    /// The duration is the maximum time that this may take.
    fn defaults(&self) -> Defaults {
        Defaults { connections: 300, rate: 0.0, warm_up_s: 0.0, duration_s: 30.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[
            Param { name: "heartbeat_ttl_ms", default: 3_000.0, about: "cluster.heartbeat_ttl_ms of the nodes" },
            Param::TEXT_BYTES,
        ]
    }

    fn settings(&self, load: &Load) -> Vec<String> {
        vec![format!("cluster.heartbeat_ttl_ms={}", load.count("heartbeat_ttl_ms"))]
    }

    /// Clients that get `unavailable` repeat their sends.
    fn is_followed(&self) -> bool {
        true
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let (plan, text) = (worker.plan.clone(), "x".repeat(worker.plan.load.count("text_bytes")));
        let others = plan.addresses.len().saturating_sub(1);
        ensure!(others > 0, "takeover requires several nodes, such as --spawn 3");
        let (latency, count) = (worker.recorder.latency("accepted"), worker.recorder.counter("accepted"));
        let watch = Arc::new(Watch { killed_ns: AtomicU64::default(), latency, count });
        let numbers: Vec<usize> = plan.share(plan.load.connections).collect();
        let accepted: Vec<Arc<AtomicBool>> = numbers.iter().map(|_| Arc::default()).collect();
        let people = numbers.iter().zip(&accepted).map(|(number, accepted)| {
            let who = Who { node: 1 + number % others, ..plan.who(*number) };
            (who, Some(watch.on_frame(accepted)))
        });
        let mut crowd = Crowd::new(worker.network.clone());
        let clients = crowd.connect(people, 32).await?;
        let places = numbers.iter().map(|number| format!(r#""to":"{}-other""#, plan.user(*number)));
        let clients = clients.into_iter().zip(places).zip(accepted);
        let clients = clients.map(|((client, place), accepted)| (client, place, accepted)).collect();
        let mut town = Town { clients, text, said: 0 };
        let most_s = plan.load.duration_s;
        worker
            .phase("prepare", async |phase| {
                town.say(now_ns());
                town.answered(phase).await
            })
            .await?;
        worker
            .phase("load", async |phase| {
                watch.killed_ns.store(now_ns(), Ordering::Relaxed);
                phase.kill_first_node().await?;
                town.say_until_accepted(phase, most_s).await?;
                town.answered(phase).await
            })
            .await?;
        worker.see_off(crowd).await
    }

    fn figures(&self, load: &Load, round: &Round, _baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let taken_over = phase.server_counters.get(TAKEN_OVER).copied();
        let bar = Bar::AtMost(load.number("heartbeat_ttl_ms") + BEYOND_TTL_MS);
        let figures = [
            Figure::new("conversations taken over", "", taken_over),
            Figure::new("kill to the first message accepted, taken over, p50", "ms", median_ms(phase, taken_over)),
            Figure::new("kill to the first message accepted, the last conversation", "ms", last_ms(phase, "accepted"))
                .map(|figure| figure.bar(bar)),
            Figure::new("send to `sent` with its repeats, the slowest", "ms", last_ms(phase, "sent")),
            Figure::new(
                "conversations that accepted none",
                "",
                Some(load.connections as f64 - phase.counted("accepted")),
            )
            .map(|figure| figure.bar(Bar::AtMost(0.0))),
        ];
        figures.into_iter().flatten().collect()
    }
}

/// The median of the conversations that were taken over, which are those that took longest.
fn median_ms(phase: &Phase, taken_over: Option<f64>) -> Option<f64> {
    let taken_over = taken_over.filter(|taken_over| *taken_over > 0.0)?;
    let half = (taken_over / 2.0 / phase.counted("accepted").max(1.0)).min(1.0);
    phase.percentile_ms("accepted", 100.0 * (1.0 - half))
}

fn last_ms(phase: &Phase, latency: &str) -> Option<f64> {
    phase.percentile_ms(latency, 100.0)
}

/// Records for each client the first send that is accepted after the kill.
struct Watch {
    /// 0 before the kill.
    killed_ns: AtomicU64,
    latency: LatencyMeter,
    count: Counter,
}

impl Watch {
    fn on_frame(self: &Arc<Self>, accepted: &Arc<AtomicBool>) -> OnFrame {
        let (watch, accepted) = (self.clone(), accepted.clone());
        Box::new(move |kind, _, at_ns| {
            let killed_ns = watch.killed_ns.load(Ordering::Relaxed);
            if kind == "sent" && killed_ns > 0 && !accepted.swap(true, Ordering::Relaxed) {
                watch.latency.record_ns(at_ns.saturating_sub(killed_ns));
                watch.count.add(1);
            }
        })
    }
}

/// This worker's clients, each with its destination, and whether that has accepted a send after the kill.
struct Town {
    clients: Vec<(Client, String, Arc<AtomicBool>)>,
    text: String,
    said: u64,
}

impl Town {
    /// Sends into each conversation that has not accepted a send. Returns whether there is one.
    fn say(&mut self, intended_ns: u64) -> bool {
        let before = self.said;
        for (client, place, _) in self.clients.iter().filter(|(.., accepted)| !accepted.load(Ordering::Relaxed)) {
            client.send(place, self.said, intended_ns, &self.text);
            self.said += 1;
        }
        self.said > before
    }

    async fn say_until_accepted(&mut self, phase: &mut PhaseWork<'_>, most_s: f64) -> Result<()> {
        let mut turns = phase.turns(TRIES_PER_S, most_s);
        while let Some(intended_ns) = turns.next().await? {
            if !self.say(intended_ns) {
                break;
            }
        }
        Ok(())
    }

    /// Waits for all answers.
    async fn answered(&self, phase: &mut PhaseWork<'_>) -> Result<()> {
        let (meters, said) = (phase.meters().clone(), self.said);
        phase.drain(|| meters.sent.total() + meters.send_errors.total() >= said).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::latency::Latencies;

    #[test]
    fn the_slowest_are_those_that_were_taken_over() {
        let mut latencies = Latencies::default();
        (1..=6).for_each(|ms| latencies.record_ns(ms * 1_000_000));
        [3_100, 3_200, 3_300, 4_500].into_iter().for_each(|ms: u64| latencies.record_ns(ms * 1_000_000));
        let phase = Phase {
            name: "load".to_owned(),
            counters: [("accepted".to_owned(), 10)].into(),
            latencies: [("accepted".to_owned(), latencies.counts())].into(),
            server_counters: [(TAKEN_OVER.to_owned(), 4.0)].into(),
            ..Phase::default()
        };
        let params = [("heartbeat_ttl_ms".to_owned(), "3000".to_owned())].into();
        let load = Load { connections: 11, params, ..Load::default() };
        let round = Round { phases: vec![phase], ..Round::default() };
        let figures = Takeover.figures(&load, &round, &BTreeMap::new());
        let values: Vec<f64> = figures.iter().map(|figure| figure.value.round()).collect();
        assert_eq!((values[0], values[3]), (4.0, 1.0));
        assert!((3_190.0..3_310.0).contains(&values[1]) && (4_490.0..4_510.0).contains(&values[2]), "{values:?}");
        assert_eq!(figures[2].bar.and_then(|bar| bar.is_met(figures[2].value, None)), Some(false));
    }
}
