//! `storm`: all clients of a node lose their sessions, and come back at once, each with `sync` and `changes` of what it
//! missed. With `--param restart=1` the node is killed meanwhile and knows only what is in its store.

use std::collections::BTreeMap;

use anyhow::Result;
use async_trait::async_trait;

use super::{Baseline, Defaults, Param, Scenario, statements};
use crate::baseline;
use crate::client::crowd::Crowd;
use crate::client::network::Meters;
use crate::client::session::Client;
use crate::control::Load;
use crate::meter::now_ns;
use crate::meter::recorder::Counter;
use crate::report::figure::{Bar, Figure};
use crate::report::round::Round;
use crate::worker::{PhaseWork, Worker};

pub(super) struct Storm;

/// Clients per writer.
const CLIENTS_PER_WRITER: usize = 100;
/// Unanswered sends while the clients are away.
const UNDER_WAY_MAX: u64 = 512;

#[async_trait(?Send)]
impl Scenario for Storm {
    fn name(&self) -> &'static str {
        "storm"
    }

    fn about(&self) -> &'static str {
        "all clients reconnect at once with `sync` and fetch what they missed: time until the last is done, CPU time, store reads"
    }

    /// The duration is how long the clients may take to come back.
    fn defaults(&self) -> Defaults {
        Defaults { connections: 1_000, rate: 0.0, warm_up_s: 10.0, duration_s: 60.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[
            Param { name: "missed", default: 3.0, about: "messages to each client while it is away" },
            Param { name: "spread_ms", default: 0.0, about: "the time over which the clients reconnect" },
            Param {
                name: "restart",
                default: 0.0,
                about: "1: spawned nodes are killed and restarted while the clients are away",
            },
            Param::TEXT_BYTES,
        ]
    }

    fn settings(&self, _load: &Load) -> Vec<String> {
        // For the missed messages, which are written as fast as possible.
        vec!["limits.frames_per_s=1000000".to_owned()]
    }

    fn is_followed(&self) -> bool {
        true
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let mut crowd = Crowd::new(worker.network.clone());
        let mut town = Town::connect(worker, &mut crowd, &load).await?;
        worker.phase("prepare", async |phase| town.prepare(phase).await).await?;
        for (name, most_s) in [("warm-up", load.warm_up_s), ("load", load.duration_s)] {
            if most_s > 0.0 {
                worker.phase("away", async |phase| town.miss(phase, &load).await).await?;
                if load.count("restart") > 0 {
                    worker.restart_nodes().await?;
                }
                worker.phase(name, async |phase| town.come_back(phase, &load, most_s).await).await?;
            }
        }
        worker.see_off(crowd).await
    }

    fn baselines(&self, load: &Load, _round: &Round) -> Vec<Baseline> {
        // The baseline of `connect`; it needs the number of concurrent handshakes.
        let mut load = Load { warm_up_s: 1.0, duration_s: 1.0, ..load.clone() };
        load.params.insert("at_once".to_owned(), load.connections.to_string());
        vec![Baseline { name: baseline::ACCEPT, load }]
    }

    fn figures(&self, load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let bare = baselines.get(baseline::ACCEPT).and_then(|round| round.phase("accept"));
        let bare_us = bare.and_then(|phase| phase.server_cpu_us_per(phase.counted("connects")));
        let clients = phase.counted("due").max(1.0);
        let latency = |name: &str, percentile: f64| Figure::new(name, "ms", phase.percentile_ms("resume", percentile));
        let statements = statements::by_operation(&phase.server_counters);
        let reads: f64 = statements.iter().filter(|(op, _)| READS.contains(op)).map(|(_, count)| count).sum();
        let is_told = !phase.server_counters.is_empty();
        let mut figures: Vec<Option<Figure>> = vec![
            latency("back and synced, p50", 50.0),
            latency("back and synced, p99", 99.0),
            latency("back and synced, the last", 100.0),
            Figure::new("CPU per reconnect", "µs", phase.server_cpu_us_per(phase.counted("resumed")))
                .map(|figure| figure.against("bare accept + upgrade", bare_us)),
            Figure::new("store reads per client", "", is_told.then(|| reads / clients))
                .map(|figure| figure.bar(Bar::AtMost(1.0))),
        ];
        figures.extend(statements::per(phase, clients, "client"));
        figures.extend([
            Figure::new("not back", "", Some(phase.counted("due") - phase.counted("resumed")))
                .map(|figure| figure.bar(Bar::AtMost(0.0))),
            Figure::new(
                "messages missing",
                "",
                Some(load.connections as f64 * load.number("missed") - phase.counted("deliveries")),
            )
            .map(|figure| figure.bar(Bar::AtMost(0.0))),
        ]);
        figures.into_iter().flatten().collect()
    }
}

/// The store's read operations.
const READS: &[&str] = &[
    "active",
    "append_nothing",
    "begin_term_read",
    "head",
    "history",
    "inbox",
    "inbox_row",
    "member",
    "members",
    "message",
    "read",
    "user",
    "user_blocks",
];

/// This worker's clients, and their writers.
struct Town {
    /// Each with the index of its writer, and the conversation.
    clients: Vec<(Client, usize, String)>,
    writers: Vec<Client>,
    text: String,
    /// The number of sends in all phases.
    said: u64,
    /// The number of clients that should be up to date, in all phases.
    due: Counter,
}

impl Town {
    async fn connect(worker: &mut Worker, crowd: &mut Crowd, load: &Load) -> Result<Self> {
        let plan = worker.plan.clone();
        let numbers: Vec<usize> = plan.share(load.connections).collect();
        let clients = crowd.connect(numbers.iter().map(|number| (plan.who(*number), None)), 32).await?;
        // Each worker has its own writers, or its clients would have none.
        let writers = numbers.len().div_ceil(CLIENTS_PER_WRITER);
        let writers = (0..writers).map(|writer| plan.who(load.connections + writer * plan.workers + plan.worker));
        let writers = crowd.connect(writers.map(|who| (who, None)), 32).await?;
        let clients = clients.into_iter().zip(&numbers).enumerate().map(|(place, (client, number))| {
            (client, place / CLIENTS_PER_WRITER, format!(r#""to":"{}""#, plan.user(*number)))
        });
        let clients = clients.collect();
        let (text, due) = ("x".repeat(load.count("text_bytes")), worker.recorder.counter("due"));
        Ok(Self { clients, writers, text, said: 0, due })
    }

    /// Gives every client a conversation, and a cursor.
    async fn prepare(&mut self, phase: &mut PhaseWork<'_>) -> Result<()> {
        self.write(phase, 1).await;
        let (meters, said) = (phase.meters().clone(), self.said);
        phase.drain(|| meters.deliveries.total() + meters.send_errors.total() >= said).await;
        self.clients.iter().for_each(|(client, ..)| client.sync(now_ns()));
        self.due.add(self.clients.len() as u64);
        phase.drain(|| meters.resumed.total() >= self.due.total()).await;
        Ok(())
    }

    /// All clients leave, and miss messages.
    async fn miss(&mut self, phase: &mut PhaseWork<'_>, load: &Load) -> Result<()> {
        // A client that has not recovered from the previous storm yet would carry the messages it missed there into
        // this one.
        let meters = phase.meters().clone();
        phase.drain(|| self.is_all_back(&meters)).await;
        self.clients.iter().for_each(|(client, ..)| client.leave());
        self.write(phase, load.count("missed")).await;
        self.writers.iter().for_each(Client::leave);
        // Inboxes are written behind, and those writes must not be part of the storm.
        phase.flushed().await;
        Ok(())
    }

    /// All clients come back, and get what they missed.
    async fn come_back(&mut self, phase: &mut PhaseWork<'_>, load: &Load, most_s: f64) -> Result<()> {
        let spread_s = load.number("spread_ms") / 1e3;
        let began_ns = now_ns();
        let mut turns = phase.turns(if spread_s > 0.0 { self.clients.len() as f64 / spread_s } else { 0.0 }, spread_s);
        for client in self.clients.iter().map(|(client, ..)| client).chain(&self.writers) {
            let intended_ns = if spread_s > 0.0 { turns.next().await?.unwrap_or_else(now_ns) } else { began_ns };
            client.come_back(intended_ns);
            self.due.add(1);
        }
        let meters = phase.meters().clone();
        phase.until(most_s, || self.is_all_back(&meters)).await;
        Ok(())
    }

    /// Whether every client that came back is up to date, and has received everything.
    fn is_all_back(&self, meters: &Meters) -> bool {
        let has_all = meters.deliveries.total() + meters.send_errors.total() >= self.said;
        has_all && meters.resumed.total() >= self.due.total()
    }

    /// Sends this many messages to each client, and waits until they are durable.
    async fn write(&mut self, phase: &mut PhaseWork<'_>, messages: usize) {
        let meters = phase.meters().clone();
        let answered = || meters.sent.total() + meters.send_errors.total();
        for _ in 0..messages {
            for (_, writer, place) in &self.clients {
                if self.said >= answered() + UNDER_WAY_MAX {
                    phase.drain(|| answered() + UNDER_WAY_MAX / 2 >= self.said).await;
                }
                self.writers[*writer].send(place, self.said, now_ns(), &self.text);
                self.said += 1;
            }
        }
        phase.drain(|| answered() >= self.said).await;
    }
}
