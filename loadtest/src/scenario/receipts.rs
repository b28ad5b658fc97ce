//! `receipts`: readers send what they have received and read; what that costs, and when the sender of the messages
//! knows.
//!
//! The messages exist before, so that only receipts are measured. In groups they are sent once a second (PROTOCOL §3),
//! which is most of their latency.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Baseline, Defaults, Param, Scenario};
use crate::baseline;
use crate::client::crowd::{Crowd, some_at_once};
use crate::client::group;
use crate::client::reader::OnFrame;
use crate::client::scan;
use crate::client::session::{Client, Who};
use crate::control::Load;
use crate::meter::metrics_page;
use crate::meter::now_ns;
use crate::meter::recorder::{Counter, LatencyMeter};
use crate::report::figure::{Bar, Figure};
use crate::report::round::Round;
use crate::worker::{PhaseWork, Worker};

pub(super) struct Receipts;

/// Larger groups only get the counts of members that have received and read.
const MEMBERS_MAX: usize = 100;
/// Unanswered sends while the messages are created.
const UNDER_WAY_MAX: u64 = 512;

#[async_trait(?Send)]
impl Scenario for Receipts {
    fn name(&self) -> &'static str {
        "receipts"
    }

    fn about(&self) -> &'static str {
        "readers send `delivered` and `read` for each message: latency to its sender, CPU time, store statements"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 1_000, rate: 2_000.0, warm_up_s: 3.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[
            Param { name: "members", default: 2.0, about: "2: direct conversations; more, at most 100: groups" },
            Param::TEXT_BYTES,
        ]
    }

    fn settings(&self, _load: &Load) -> Vec<String> {
        // For the messages, which are created as fast as possible.
        vec!["limits.frames_per_s=1000000".to_owned()]
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let mut reading = Reading::connect(worker, &load).await?;
        let steps = (load.rate * (load.warm_up_s + load.duration_s)).ceil();
        let layout = Layout::of(&load);
        let readers = (layout.conversations * layout.readers_each).max(1);
        let messages = (steps / 2.0 / readers as f64).ceil() as u64 + 1;
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

/// This worker's conversations.
struct Reading {
    crowd: Crowd,
    conversations: Vec<Conversation>,
    /// All readers, each with its steps: the first readers of all conversations, then the second ones, and so on.
    readers: Vec<(Client, Arc<Steps>)>,
    /// The number of receipts in all phases.
    said: u64,
    receipts: Counter,
}

struct Conversation {
    sender: Client,
    /// The destination of the sender's messages.
    place: String,
}

/// The members of conversations: one writes, the others read.
#[derive(Clone, Copy)]
struct Layout {
    conversations: usize,
    readers_each: usize,
}

impl Layout {
    fn of(load: &Load) -> Self {
        let members = load.count("members").clamp(2, MEMBERS_MAX);
        Self { conversations: load.connections / members, readers_each: members - 1 }
    }

    fn is_group(self) -> bool {
        self.readers_each > 1
    }

    /// The number of a reader, after those of all senders.
    fn reader(self, conversation: usize, reader: usize) -> usize {
        self.conversations * (reader + 1) + conversation
    }
}

impl Reading {
    async fn connect(worker: &mut Worker, load: &Load) -> Result<Self> {
        let (plan, layout) = (worker.plan.clone(), Layout::of(load));
        let numbers: Vec<usize> = plan.share(layout.conversations).collect();
        let meters = StepMeters {
            receipts: worker.recorder.counter("receipts"),
            frames: worker.recorder.counter("receipt_frames"),
            latency: worker.recorder.latency("receipt"),
        };
        let steps: Vec<Vec<Arc<Steps>>> = numbers
            .iter()
            .map(|_| (0..layout.readers_each).map(|_| Arc::new(Steps::new(&meters, layout.is_group()))).collect())
            .collect();
        let who = |number: usize, node: usize| Who { number: number as u64, node, ..plan.who(number) };
        let mut crowd = Crowd::new(worker.network.clone());
        let senders = numbers.iter().zip(&steps).map(|(number, steps)| {
            let readers: Vec<String> =
                (0..layout.readers_each).map(|reader| plan.user(layout.reader(*number, reader))).collect();
            (who(*number, *number), Some(on_frame(readers, steps.clone())))
        });
        let senders = crowd.connect(senders, 32).await?;
        let mut readers = Vec::new();
        for reader in 0..layout.readers_each {
            // All of a conversation on the same node.
            let people = numbers.iter().map(|number| (who(layout.reader(*number, reader), *number), None));
            let clients = crowd.connect(people, 32).await?;
            readers.extend(clients.into_iter().zip(steps.iter().map(|steps| steps[reader].clone())));
        }
        let conversations =
            some_at_once(senders.into_iter().zip(numbers.iter().zip(&steps)).map(async |(sender, (number, steps))| {
                let names = (0..layout.readers_each).map(|reader| plan.user(layout.reader(*number, reader)));
                let names: Vec<String> = names.collect();
                let place = if layout.is_group() {
                    let id = make_group(&sender, &names).await?;
                    steps.iter().for_each(|steps| steps.is_in(&id));
                    format!(r#""conversation_id":"{id}""#)
                } else {
                    format!(r#""to":"{}""#, names[0])
                };
                Ok(Conversation { sender, place })
            }))
            .await?;
        Ok(Self { crowd, conversations, readers, said: 0, receipts: meters.receipts })
    }

    /// Creates this many messages in each conversation.
    async fn write(&mut self, phase: &mut PhaseWork<'_>, messages: u64, text: &str) -> Result<()> {
        let meters = phase.meters().clone();
        let (mut said, mut number) = (0, 0);
        let answered = || meters.sent.total() + meters.send_errors.total();
        for _ in 0..messages {
            for conversation in &self.conversations {
                if said >= answered() + UNDER_WAY_MAX {
                    phase.drain(|| answered() + UNDER_WAY_MAX / 2 >= said).await;
                }
                conversation.sender.send(&conversation.place, number, now_ns(), text);
                said += 1;
            }
            number += 1;
        }
        let readers_each = (self.readers.len() / self.conversations.len().max(1)) as u64;
        let is_delivered = || meters.deliveries.total() + meters.send_errors.total() >= said * readers_each;
        phase.drain(|| answered() >= said && is_delivered()).await;
        let is_known = self.readers.iter().all(|(_, steps)| steps.conversation.get().is_some());
        is_known.then_some(()).context("some conversations could not be written to")
    }

    /// Sends the receipts of all readers in turn, and waits until the senders know all of them.
    async fn run(&mut self, phase: &mut PhaseWork<'_>, rate: f64, duration_s: f64) -> Result<()> {
        if !self.readers.is_empty() {
            let first = self.said;
            self.said += phase
                .pace(rate, duration_s, |number, intended_ns| {
                    let number = usize::try_from(first + number).unwrap_or(0);
                    let (reader, steps) = &self.readers[number % self.readers.len()];
                    steps.next(reader, intended_ns);
                })
                .await?;
        }
        let (receipts, said) = (&self.receipts, self.said);
        phase.drain(|| receipts.total() >= said).await;
        phase.flushed().await;
        Ok(())
    }
}

/// Creates a group, which its sender has open: other sessions get no receipts.
async fn make_group(sender: &Client, readers: &[String]) -> Result<String> {
    let id = group::create(sender, "receipts", readers).await?;
    let frame = json!({"type": "conversation_open", "conversation_id": id});
    sender.keep_saying("open", frame.to_string());
    sender.ask(frame).await?;
    Ok(id)
}

/// Of a sender: `sent` names the conversation, receipts tell what is known of each reader.
fn on_frame(readers: Vec<String>, steps: Vec<Arc<Steps>>) -> OnFrame {
    Box::new(move |kind, json, at_ns| {
        if matches!(kind, "delivery_receipt" | "read_receipt" | "receipts") {
            steps[0].meters.frames.add(1);
        }
        match kind {
            "sent" => {
                if let Some(id) = scan::text(json, "conversation_id") {
                    steps.iter().for_each(|steps| steps.is_in(id));
                }
            }
            "delivery_receipt" => steps[0].on_receipt(scan::number(json, "seq").unwrap_or(0), 0, at_ns),
            // Who has read has received (PROTOCOL §3).
            "read_receipt" => steps[0].on_receipt(0, scan::number(json, "seq").unwrap_or(0), at_ns),
            "receipts" => {
                let frame: Value = serde_json::from_slice(json).unwrap_or_default();
                for user in frame["users"].as_array().into_iter().flatten() {
                    let place = readers.iter().position(|reader| user["user_id"] == reader.as_str());
                    let seq = |name: &str| user[name].as_u64().unwrap_or(0);
                    if let Some(place) = place {
                        steps[place].on_receipt(seq("delivered_seq"), seq("read_seq"), at_ns);
                    }
                }
            }
            _ => {}
        }
    })
}

/// What a reader has said of its conversation, and what its sender knows of that: step `2n` is that message `n + 1` was
/// delivered, step `2n + 1` that it was read.
struct Steps {
    conversation: OnceLock<String>,
    /// The `seq` before the first message's: a group begins with its `membership`.
    before: u64,
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
    fn new(meters: &StepMeters, is_group: bool) -> Self {
        let before = u64::from(is_group);
        Self { conversation: OnceLock::new(), before, meters: meters.clone(), said: Mutex::default() }
    }

    fn is_in(&self, conversation: &str) {
        self.conversation.get_or_init(|| conversation.to_owned());
    }

    /// The sender knows how far the reader has received and read.
    fn on_receipt(&self, delivered_seq: u64, read_seq: u64, at_ns: u64) {
        let steps = |seq: u64| usize::try_from(2 * seq.saturating_sub(self.before)).unwrap_or(0);
        let until = steps(delivered_seq).saturating_sub(1).max(steps(read_seq));
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
        let step = said.intended_ns.len() as u64;
        said.intended_ns.push(intended_ns);
        let kind = if step.is_multiple_of(2) { "delivered" } else { "read" };
        let seq = step / 2 + 1 + self.before;
        reader.say(&format!(r#"{{"type":"{kind}","conversation_id":"{conversation}","seq":{seq}}}"#));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(meters: &StepMeters, is_group: bool) -> Arc<Steps> {
        let steps = Arc::new(Steps::new(meters, is_group));
        steps.said.lock().unwrap().intended_ns = vec![1; 5];
        steps
    }

    #[test]
    fn a_receipt_is_for_everything_before_it() {
        let meters =
            StepMeters { receipts: Counter::default(), frames: Counter::default(), latency: LatencyMeter::default() };
        let mut on_frame = on_frame(vec!["bob".to_owned()], vec![steps(&meters, false)]);
        on_frame("delivery_receipt", br#"{"seq":1}"#, 9);
        assert_eq!(meters.receipts.total(), 1);
        on_frame("read_receipt", br#"{"seq":2}"#, 9);
        assert_eq!(meters.receipts.total(), 4);
        on_frame("read_receipt", br#"{"seq":1}"#, 9);
        // Never more than was sent.
        on_frame("read_receipt", br#"{"seq":9}"#, 9);
        assert_eq!((meters.receipts.total(), meters.frames.total()), (5, 4));
    }

    #[test]
    fn of_a_group_each_reader_is_known() {
        let meters =
            StepMeters { receipts: Counter::default(), frames: Counter::default(), latency: LatencyMeter::default() };
        let (bob, carol) = (steps(&meters, true), steps(&meters, true));
        let mut on_frame = on_frame(vec!["bob".to_owned(), "carol".to_owned()], vec![bob.clone(), carol.clone()]);
        // The first entry is not a message.
        on_frame("receipts", br#"{"users":[{"user_id":"bob","delivered_seq":1,"read_seq":1}]}"#, 9);
        assert_eq!(meters.receipts.total(), 0);
        on_frame(
            "receipts",
            br#"{"users":[{"user_id":"carol","delivered_seq":3,"read_seq":2},{"user_id":"eve","read_seq":9}]}"#,
            9,
        );
        assert_eq!((bob.said.lock().unwrap().known, carol.said.lock().unwrap().known), (0, 3));
    }
}
