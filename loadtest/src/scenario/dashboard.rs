//! `dashboard`: events for topics with many watchers. First few events, to show the cost of updates; then, on topics
//! without watchers, as many as possible.

mod publish;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use async_trait::async_trait;
use serde_json::{Value, json};

use self::publish::{Ledger, Publisher, Stream};
use self::watch::Mirror;
use super::{Baseline, Defaults, Param, Scenario};
use crate::baseline;
use crate::client::crowd::{Crowd, some_at_once};
use crate::client::session::{Client, Who};
use crate::control::Load;
use crate::meter::recorder::Counter;
use crate::report::figure::{Bar, Figure};
use crate::report::round::{Phase, Round};
use crate::verify::What;
use crate::worker::{PhaseWork, Worker};

pub(super) struct Dashboard;

/// p99, from an event to the frame that contains it: the shortest window plus 200 ms.
const FRESHNESS_MS_MAX: f64 = 1_200.0;

/// Batches under way per publisher in the phase at full speed.
const UNDER_WAY: usize = 2;

/// Concurrent handshakes.
const AT_ONCE: usize = 32;

#[async_trait(?Send)]
impl Scenario for Dashboard {
    fn name(&self) -> &'static str {
        "dashboard"
    }

    fn about(&self) -> &'static str {
        "events for topics with many watchers: freshness, CPU time per update and per event"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 1_000, rate: 40.0, warm_up_s: 3.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[
            Param {
                name: "topics",
                default: 10.0,
                about: "watched topics, with equally many watchers each; --rate is in batches per second",
            },
            Param { name: "publishers", default: 4.0, about: "publishing sessions" },
            Param { name: "series", default: 20.0, about: "series of each topic" },
            Param { name: "batch", default: 20.0, about: "events per batch for a watched topic" },
            Param { name: "bulk", default: 1_000.0, about: "events per batch in the phase at full speed, up to 1,000" },
        ]
    }

    fn settings(&self, _load: &Load) -> Vec<String> {
        // A batch of 1,000 events is larger than any chat message.
        vec!["limits.frame_bytes=1048576".to_owned(), "limits.frames_per_s=1000000".to_owned()]
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let mut boards = Boards::connect(worker, &load).await?;
        let rate = worker.plan.rate_share();
        worker.phase("warm-up", async |phase| boards.watch(phase, rate, load.warm_up_s).await).await?;
        worker.phase("load", async |phase| boards.watch(phase, rate, load.duration_s).await).await?;
        worker.phase("ingest", async |phase| boards.ingest(phase, load.duration_s).await).await?;
        if worker.network.log.is_some() {
            boards.write_down(worker).await?;
        }
        worker.see_off(boards.crowd).await
    }

    fn baselines(&self, load: &Load, round: &Round) -> Vec<Baseline> {
        let phase = round.phase("load").filter(|phase| phase.counted("updates") > 0.0);
        // The same rate of frames to each, whatever their topic.
        let bare = |phase: &Phase| {
            let rate = phase.counted("updates") / phase.seconds / load.connections as f64;
            Baseline::bare_send(&Load { rate, ..load.clone() }, phase, load.connections, 1.0)
        };
        phase.map(bare).into_iter().collect()
    }

    fn figures(&self, _load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let (Some(load), Some(ingest)) = (round.phase("load"), round.phase("ingest")) else { return Vec::new() };
        let bare = baselines.get(baseline::SEND).and_then(|round| round.phase("load"));
        let cpu = |phase: &Phase, name: &str| phase.server_cpu_us_per(phase.counted(name));
        let fresh = |percentile: f64| load.percentile_ms("freshness", percentile);
        let events_us = cpu(ingest, "events");
        let figures = [
            Figure::new("event to frame, p50", "ms", fresh(50.0)),
            Figure::new("event to frame, p99", "ms", fresh(99.0))
                .map(|figure| figure.bar(Bar::AtMost(FRESHNESS_MS_MAX))),
            Figure::new("CPU per update", "µs", cpu(load, "updates"))
                .map(|figure| figure.against("bare send", bare.and_then(|phase| cpu(phase, "deliveries"))))
                .map(|figure| figure.bar(Bar::RatioAtMost(1.4))),
            Figure::new("updates", "1/s", Some(load.counted("updates") / load.seconds)),
            Figure::new("bytes per update", "", Some(load.counted("bytes") / load.counted("frames").max(1.0))),
            Figure::new("events per CPU second", "", events_us.map(|us| 1e6 / us))
                .map(|figure| figure.bar(Bar::AtLeast(500_000.0))),
            Figure::new("CPU per event", "µs", events_us),
            Figure::new("events", "1/s", Some(ingest.counted("events") / ingest.seconds)),
            Figure::new("late events", "", Some(load.counted("late") + ingest.counted("late"))),
            Figure::new("batches not seen", "", Some(load.counted("expected") - load.counted("seen")))
                .map(|figure| figure.bar(Bar::AtMost(0.0))),
            Figure::new("events refused", "", Some(load.counted("refused") + ingest.counted("refused")))
                .map(|figure| figure.bar(Bar::AtMost(0.0))),
        ];
        figures.into_iter().flatten().collect()
    }
}

/// This worker's topics. Each is entirely in one worker, whose watchers know when each batch was intended to leave.
struct Boards {
    crowd: Crowd,
    streams: Vec<Arc<Stream>>,
    /// What is published at full speed, by each publisher to its own topic.
    bulk: Vec<Arc<Stream>>,
    watchers: Vec<(Client, Arc<Mirror>)>,
    publishers: Vec<Arc<Publisher>>,
    ledger: Arc<Ledger>,
    flat_out: Arc<AtomicBool>,
    /// The number of batches in all phases.
    said: u64,
    expected: Counter,
    seen: Counter,
}

impl Boards {
    async fn connect(worker: &mut Worker, load: &Load) -> Result<Self> {
        let plan = worker.plan.clone();
        let stream = |kind: &str, number: usize, events: usize| {
            Arc::new(Stream::new(format!("{}-{kind}-{number}", plan.run), events, load.count("series")))
        };
        let topics = load.count("topics").max(plan.workers);
        let streams: Vec<_> = plan.share(topics).map(|topic| stream("board", topic, load.count("batch"))).collect();
        let counts = watch::Counts {
            updates: worker.recorder.counter("updates"),
            seen: worker.recorder.counter("seen"),
            freshness: worker.recorder.latency("freshness"),
        };
        let is_whole = worker.network.log.is_some();
        let mirrors: Vec<_> = plan
            .share(load.connections)
            .enumerate()
            .map(|(place, number)| (number, Mirror::new(&streams[place % streams.len()], &counts, is_whole)))
            .collect();
        let mut crowd = Crowd::new(worker.network.clone());
        let people = mirrors.iter().map(|(number, mirror)| (plan.who(*number), Some(mirror.on_frame())));
        let clients = crowd.connect(people, AT_ONCE).await?;
        let watchers: Vec<_> = clients.into_iter().zip(mirrors.into_iter().map(|(_, mirror)| mirror)).collect();
        let watched = watchers.iter().map(async |(client, mirror)| {
            let frame = topic_watch(mirror.topic(), "1s");
            client.keep_saying("watch", frame.to_string());
            client.ask(frame).await
        });
        some_at_once(watched).await?;

        let (ledger, flat_out) = (Arc::new(Ledger::default()), Arc::new(AtomicBool::new(false)));
        let counts = publish::Counts {
            accepted: worker.recorder.counter("events"),
            late: worker.recorder.counter("late"),
            refused: worker.recorder.counter("refused"),
        };
        let numbers: Vec<usize> = plan.share(load.count("publishers").max(plan.workers)).collect();
        let publishers: Vec<_> = numbers.iter().map(|_| Publisher::new(&ledger, &flat_out, &counts)).collect();
        let bulk: Vec<_> = numbers.iter().map(|number| stream("bulk", *number, load.count("bulk"))).collect();
        let who = |number: usize| Who {
            user: format!("{}-publisher-{number}", plan.run),
            ..plan.who(load.connections + number)
        };
        let people = numbers.iter().zip(&publishers).map(|(number, own)| (who(*number), Some(own.on_frame())));
        for ((client, own), bulk) in crowd.connect(people, AT_ONCE).await?.iter().zip(&publishers).zip(&bulk) {
            own.attach(client, bulk);
        }
        let (expected, seen) = (worker.recorder.counter("expected"), worker.recorder.counter("seen"));
        Ok(Self { crowd, streams, bulk, watchers, publishers, ledger, flat_out, said: 0, expected, seen })
    }

    /// Publishes batches to the topics in turn, by the publishers in turn.
    async fn watch(&mut self, phase: &mut PhaseWork<'_>, rate: f64, duration_s: f64) -> Result<()> {
        let first = self.said;
        self.said += phase
            .pace(rate, duration_s, |number, intended_ns| {
                let number = usize::try_from(first + number).unwrap_or(0);
                let place = number % self.streams.len();
                // Each topic has one publisher, so that its batches arrive in order.
                self.publishers[place % self.publishers.len()].publish(&self.streams[place], intended_ns);
                let watchers = self.watchers.len() / self.streams.len();
                let more = usize::from(place < self.watchers.len() % self.streams.len());
                self.expected.add((watchers + more) as u64);
            })
            .await?;
        let (seen, expected) = (&self.seen, &self.expected);
        phase.drain(|| seen.total() >= expected.total()).await;
        Ok(())
    }

    async fn ingest(&mut self, phase: &mut PhaseWork<'_>, duration_s: f64) -> Result<()> {
        self.flat_out.store(true, Ordering::Relaxed);
        self.publishers.iter().for_each(|publisher| publisher.begin(UNDER_WAY));
        phase.hold(duration_s).await?;
        self.flat_out.store(false, Ordering::Relaxed);
        let ledger = &self.ledger;
        phase.drain(|| ledger.is_settled()).await;
        Ok(())
    }

    /// Records what was published, and the resulting windows: those that each watcher got, and all of the last hour.
    async fn write_down(&self, worker: &mut Worker) -> Result<()> {
        worker.meet("nobody publishes", Value::Null).await?;
        let log = worker.network.log.clone().context("nothing is checked")?;
        self.ledger.note("publishers", &log);
        for (client, mirror) in &self.watchers {
            let (topic, window) = (mirror.topic().to_owned(), "1s".to_owned());
            log.note(client.user(), What::Windows { topic, window, series: mirror.sums() });
        }
        let Some((client, _)) = self.watchers.first() else { return Ok(()) };
        for stream in self.streams.iter().chain(&self.bulk).filter(|stream| stream.said() > 0) {
            let state = client.ask(topic_watch(&stream.topic, "1m")).await?;
            let (topic, window) = (stream.topic.clone(), "1m".to_owned());
            log.note(client.user(), What::Windows { topic, window, series: watch::sums_of(&state)? });
            client.ask(json!({"type": "topic_unwatch", "topic": stream.topic, "window": "1m"})).await?;
        }
        Ok(())
    }
}

fn topic_watch(topic: &str, window: &str) -> Value {
    json!({"type": "topic_watch", "topic": topic, "window": window, "range_s": 3_600})
}
