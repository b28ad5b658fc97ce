//! `receipts`: readers say what they have received and read; what that costs, and when the sender of the messages knows.
//!
//! The messages are there before: what is measured is receipts and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;

use super::{Baseline, Defaults, Param, Scenario};
use crate::baseline;
use crate::client::crowd::Crowd;
use crate::client::reader::OnFrame;
use crate::client::scan;
use crate::client::session::Client;
use crate::control::Load;
use crate::meter::metrics_page;
use crate::meter::now_ns;
use crate::meter::recorder::{Counter, LatencyMeter};
use crate::report::figure::{Bar, Figure};
use crate::report::round::Round;
use crate::worker::{PhaseWork, Worker};

pub(super) struct Receipts;

/// Messages without an answer while they are made.
const UNDER_WAY_MAX: u64 = 512;

#[async_trait(?Send)]
impl Scenario for Receipts {
    fn name(&self) -> &'static str {
        "receipts"
    }

    fn about(&self) -> &'static str {
        "readers say `delivered` and `read` for each message: latency to its sender, processor time, store statements"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 1_000, rate: 2_000.0, warm_up_s: 3.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[Param::TEXT_BYTES]
    }

    fn settings(&self, _load: &Load) -> Vec<String> {
        // For the messages, which are made as fast as it goes.
        vec!["limits.frames_per_s=1000000".to_owned()]
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let mut reading = Reading::connect(worker, &load).await?;
        let steps = (load.rate * (load.warm_up_s + load.duration_s)).ceil();
        let messages = (steps / 2.0 / (load.connections / 2).max(1) as f64).ceil() as u64 + 1;
        let text = "x".repeat(load.count("text_bytes"));
        worker.phase("write", async |phase| reading.write(phase, messages, &text).await).await?;
        let rate = worker.plan.rate_share();
        worker.phase("warm-up", async |phase| reading.run(phase, rate, load.warm_up_s).await).await?;
        worker.phase("load", async |phase| reading.run(phase, rate, load.duration_s).await).await?;
        worker.see_off(reading.crowd).await
    }

    fn baselines(&self, load: &Load, _round: &Round) -> Vec<Baseline> {
        vec![Baseline { name: baseline::ECHO, load: load.clone() }]
    }

    fn figures(&self, _load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let echo = baselines.get(baseline::ECHO).and_then(|round| round.phase("load"));
        let latency = |name: &str, percentile: f64| {
            let bare = echo.and_then(|phase| phase.percentile_ms("sent", percentile));
            Figure::new(name, "ms", phase.percentile_ms("receipt", percentile))
                .map(|figure| figure.against("bare echo", bare))
        };
        let receipts = phase.counted("receipts");
        let echo_us = echo.and_then(|phase| phase.server_cpu_us_per(phase.counted("sent")));
        let statements = metrics_page::sum(&phase.server_counters, "switchboard_store_statements_total");
        let is_told = receipts > 0.0 && !phase.server_counters.is_empty();
        let figures = [
            latency("receipt to the sender, p50", 50.0),
            latency("receipt to the sender, p99", 99.0),
            Figure::new("CPU per receipt", "µs", phase.server_cpu_us_per(receipts))
                .map(|figure| figure.against("bare echo", echo_us)),
            Figure::new("store statements per receipt", "", is_told.then(|| statements / receipts)),
            Figure::new("frames per receipt", "", (receipts > 0.0).then(|| phase.counted("receipt_frames") / receipts)),
            Figure::new("receipts missing", "", Some(phase.counted("sends") - receipts))
                .map(|figure| figure.bar(Bar::AtMost(0.0))),
        ];
        figures.into_iter().flatten().collect()
    }
}

/// This worker's pairs.
struct Reading {
    crowd: Crowd,
    pairs: Vec<Pair>,
    /// What was said in all phases.
    said: u64,
    receipts: Counter,
}

struct Pair {
    sender: Client,
    reader: Client,
    /// Where the sender's messages go.
    place: String,
    steps: Arc<Steps>,
}

impl Reading {
    async fn connect(worker: &mut Worker, load: &Load) -> Result<Self> {
        let plan = worker.plan.clone();
        let numbers: Vec<usize> = plan.share(load.connections / 2).collect();
        let meters = StepMeters {
            receipts: worker.recorder.counter("receipts"),
            frames: worker.recorder.counter("receipt_frames"),
            latency: worker.recorder.latency("receipt"),
        };
        let steps: Vec<Arc<Steps>> = numbers.iter().map(|_| Arc::new(Steps::new(&meters))).collect();
        let readers = load.connections / 2;
        let people = numbers.iter().zip(&steps).flat_map(|(number, steps)| {
            let (sender, mut reader) = (plan.who(*number), plan.who(readers + number));
            // Both at the same node, and their numbers unique in the worker whatever their share.
            reader.node = sender.node;
            reader.number = (readers + number) as u64;
            [(sender, Some(steps.on_frame())), (reader, None)]
        });
        let mut crowd = Crowd::new(worker.network.clone());
        let clients = crowd.connect(people, 32).await?;
        let pairs = clients.chunks_exact(2).zip(numbers.iter().zip(steps)).map(|(clients, (number, steps))| Pair {
            sender: clients[0].clone(),
            reader: clients[1].clone(),
            place: format!(r#""to":"{}""#, plan.user(readers + number)),
            steps,
        });
        Ok(Self { crowd, pairs: pairs.collect(), said: 0, receipts: meters.receipts })
    }

    /// Makes so many messages in each conversation.
    async fn write(&mut self, phase: &mut PhaseWork<'_>, messages: u64, text: &str) -> Result<()> {
        let meters = phase.meters().clone();
        let (mut said, mut number) = (0, 0);
        let answered = || meters.sent.total() + meters.send_errors.total();
        for _ in 0..messages {
            for pair in &self.pairs {
                if said >= answered() + UNDER_WAY_MAX {
                    phase.drain(|| answered() + UNDER_WAY_MAX / 2 >= said).await;
                }
                pair.sender.send(&pair.place, number, now_ns(), text);
                said += 1;
            }
            number += 1;
        }
        phase.drain(|| answered() >= said && meters.deliveries.total() + meters.send_errors.total() >= said).await;
        let is_known = self.pairs.iter().all(|pair| pair.steps.conversation.get().is_some());
        is_known.then_some(()).context("some conversations could not be written to")
    }

    /// One step after the other, round all pairs; and the wait until the senders know of all.
    async fn run(&mut self, phase: &mut PhaseWork<'_>, rate: f64, duration_s: f64) -> Result<()> {
        if !self.pairs.is_empty() {
            let first = self.said;
            self.said += phase
                .pace(rate, duration_s, |number, intended_ns| {
                    let number = usize::try_from(first + number).unwrap_or(0);
                    let pair = &self.pairs[number % self.pairs.len()];
                    pair.steps.next(&pair.reader, intended_ns);
                })
                .await?;
        }
        let (receipts, said) = (&self.receipts, self.said);
        phase.drain(|| receipts.total() >= said).await;
        phase.flushed().await;
        Ok(())
    }
}

/// What a reader has said of its conversation, and what its sender knows of that: step `2n` is that message `n + 1` was
/// delivered, step `2n + 1` that it was read.
struct Steps {
    conversation: OnceLock<String>,
    meters: StepMeters,
    said: Mutex<Said>,
}

#[derive(Clone)]
struct StepMeters {
    receipts: Counter,
    frames: Counter,
    latency: LatencyMeter,
}

#[derive(Default)]
struct Said {
    /// When each step was meant to be said.
    intended_ns: Vec<u64>,
    /// Steps of which the sender knows: all before this one.
    known: usize,
}

impl Steps {
    fn new(meters: &StepMeters) -> Self {
        Self { conversation: OnceLock::new(), meters: meters.clone(), said: Mutex::default() }
    }

    /// Of the sender: `sent` names the conversation, receipts tell what is known.
    fn on_frame(self: &Arc<Self>) -> OnFrame {
        let own = self.clone();
        Box::new(move |kind, json, at_ns| {
            let seq = || usize::try_from(scan::number(json, "seq")?).ok();
            match kind {
                "sent" => {
                    if let Some(id) = scan::text(json, "conversation_id") {
                        own.conversation.get_or_init(|| id.to_owned());
                    }
                }
                "delivery_receipt" => own.on_receipt(seq().map_or(0, |seq| (2 * seq).saturating_sub(1)), at_ns),
                // Who has read has received (PROTOCOL §3).
                "read_receipt" => own.on_receipt(seq().map_or(0, |seq| 2 * seq), at_ns),
                _ => {}
            }
        })
    }

    /// The sender knows of all steps before `until`.
    fn on_receipt(&self, until: usize, at_ns: u64) {
        self.meters.frames.add(1);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let until = until.min(said.intended_ns.len());
        for step in said.known..until {
            self.meters.receipts.add(1);
            self.meters.latency.record_ns(at_ns.saturating_sub(said.intended_ns[step]));
        }
        said.known = said.known.max(until);
    }

    fn next(&self, reader: &Client, intended_ns: u64) {
        let Some(conversation) = self.conversation.get() else { return };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let step = said.intended_ns.len();
        said.intended_ns.push(intended_ns);
        let kind = if step.is_multiple_of(2) { "delivered" } else { "read" };
        reader.say(&format!(r#"{{"type":"{kind}","conversation_id":"{conversation}","seq":{}}}"#, step / 2 + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_for_everything_before_it() {
        let meters =
            StepMeters { receipts: Counter::default(), frames: Counter::default(), latency: LatencyMeter::default() };
        let steps = Arc::new(Steps::new(&meters));
        steps.said.lock().unwrap().intended_ns = vec![1; 5];
        let mut on_frame = steps.on_frame();
        on_frame("delivery_receipt", br#"{"seq":1}"#, 9);
        assert_eq!(meters.receipts.total(), 1);
        on_frame("read_receipt", br#"{"seq":2}"#, 9);
        assert_eq!(meters.receipts.total(), 4);
        on_frame("read_receipt", br#"{"seq":1}"#, 9);
        // Never more than was said.
        on_frame("read_receipt", br#"{"seq":9}"#, 9);
        assert_eq!((meters.receipts.total(), meters.frames.total()), (5, 4));
    }
}
