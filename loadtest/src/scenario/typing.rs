//! `typing`: people start and stop typing in groups; what that costs, and when the others see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use serde_json::json;

use super::{Baseline, Defaults, Param, Scenario};
use crate::baseline;
use crate::client::crowd::{Crowd, some_at_once};
use crate::client::group;
use crate::client::reader::OnFrame;
use crate::client::scan;
use crate::client::session::{Client, Who};
use crate::control::Load;
use crate::meter::recorder::{Counter, LatencyMeter};
use crate::report::figure::{Bar, Figure};
use crate::report::round::{Phase, Round};
use crate::worker::{PhaseWork, Worker};

pub(super) struct Typing;

/// Events per typist. Every second one is a `typing_start`, of which the server passes on one in 2 s (PROTOCOL §4).
const EVENTS_PER_S_MAX: f64 = 0.75;

#[async_trait(?Send)]
impl Scenario for Typing {
    fn name(&self) -> &'static str {
        "typing"
    }

    fn about(&self) -> &'static str {
        "people start and stop typing in groups: latency to the others, CPU time per event and per frame"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 1_000, rate: 500.0, warm_up_s: 3.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[Param { name: "members", default: 10.0, about: "members per group, 2 to 500" }]
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let rate_max = EVENTS_PER_S_MAX * (groups(&load) * members(&load)) as f64;
        ensure!(load.rate <= rate_max, "typing: --rate must be at most {rate_max} with this number of connections");
        let mut typists = Typists::connect(worker, &load).await?;
        let rate = worker.plan.rate_share();
        worker.phase("warm-up", async |phase| typists.run(phase, rate, load.warm_up_s).await).await?;
        worker.phase("load", async |phase| typists.run(phase, rate, load.duration_s).await).await?;
        worker.see_off(typists.crowd).await
    }

    fn baselines(&self, load: &Load, round: &Round) -> Vec<Baseline> {
        let phase = round.phase("load").filter(|phase| phase.counted("typing_frames") > 0.0);
        phase.map(|phase| Baseline::bare_send(load, phase, members(load) - 1, 1.0)).into_iter().collect()
    }

    fn figures(&self, _load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let bare = baselines.get(baseline::SEND).and_then(|round| round.phase("load"));
        let frame_us = |phase: &Phase, name: &str| phase.server_cpu_us_per(phase.counted(name));
        let latency = |name: &str, percentile: f64| Figure::new(name, "ms", phase.percentile_ms("typing", percentile));
        let figures = [
            latency("event to the others, p50", 50.0),
            latency("event to the others, p99", 99.0),
            Figure::new("CPU per event", "µs", frame_us(phase, "sends")),
            Figure::new("CPU per frame", "µs", frame_us(phase, "typing_frames"))
                .map(|figure| figure.against("bare send", bare.and_then(|phase| frame_us(phase, "deliveries")))),
            Figure::new("frames", "1/s", Some(phase.counted("typing_frames") / phase.seconds)),
            Figure::new("frames missing", "", Some(phase.counted("expected") - phase.counted("typing_frames")))
                .map(|figure| figure.bar(Bar::AtMost(0.0))),
        ];
        figures.into_iter().flatten().collect()
    }
}

fn groups(load: &Load) -> usize {
    (load.connections / members(load)).max(1)
}

fn members(load: &Load) -> usize {
    load.count("members").clamp(2, 500)
}

/// This worker's people. Each group is entirely in one worker, whose members know when each of them was intended to
/// type.
struct Typists {
    crowd: Crowd,
    typists: Vec<(Client, String)>,
    intended: Arc<Intended>,
    members: u64,
    /// The number of events in all phases.
    said: u64,
    expected: Counter,
}

impl Typists {
    async fn connect(worker: &mut Worker, load: &Load) -> Result<Self> {
        let (plan, members) = (worker.plan.clone(), members(load));
        let groups: Vec<usize> = plan.share(groups(load)).collect();
        let users = groups.len() * members;
        let intended = Arc::new(Intended {
            prefix: format!("{}-{}-", plan.run, plan.worker),
            typists: (0..users).map(|_| Typist::new(members)).collect(),
            frames: worker.recorder.counter("typing_frames"),
            latency: worker.recorder.latency("typing"),
        });
        let user = |number: usize| format!("{}{number}", intended.prefix);
        let people = (0..users).map(|number| {
            let node = groups[number / members];
            (Who { user: user(number), number: number as u64, node }, Some(intended.on_frame(number % members)))
        });
        let mut crowd = Crowd::new(worker.network.clone());
        let clients = crowd.connect(people, 32).await?;
        let conversations = some_at_once(clients.chunks(members).enumerate().map(async |(group, clients)| {
            let others: Vec<String> = (1..members).map(|place| user(group * members + place)).collect();
            let conversation = group::create(&clients[0], "typing", &others).await?;
            for client in clients {
                // In a large group, only members that have it open see who types.
                let frame = json!({"type": "conversation_open", "conversation_id": conversation});
                client.keep_saying("open", frame.to_string());
                client.ask(frame).await?;
            }
            Ok(conversation)
        }))
        .await?;
        let frame = |number: usize| conversations[number / members].clone();
        let typists = clients.into_iter().enumerate().map(|(number, client)| (client, frame(number))).collect();
        let expected = worker.recorder.counter("expected");
        Ok(Self { crowd, typists, intended, members: members as u64, said: 0, expected })
    }

    /// All people in turn: they start in one round, and stop in the next.
    async fn run(&mut self, phase: &mut PhaseWork<'_>, rate: f64, duration_s: f64) -> Result<()> {
        let (first, users) = (self.said, self.typists.len());
        if users > 0 {
            self.said += phase
                .pace(rate, duration_s, |number, intended_ns| {
                    let number = usize::try_from(first + number).unwrap_or(0);
                    let (client, conversation) = &self.typists[number % users];
                    let kind = if (number / users) % 2 == 0 { "typing_start" } else { "typing_stop" };
                    self.intended.say(number % users, intended_ns);
                    client.say(&format!(r#"{{"type":"{kind}","conversation_id":"{conversation}"}}"#));
                })
                .await?;
        }
        self.expected.add((self.said - first) * (self.members - 1));
        let (frames, expected) = (&self.intended.frames, &self.expected);
        phase.drain(|| frames.total() >= expected.total()).await;
        Ok(())
    }
}

/// What each user was intended to say, and what the others in the group have been shown of it.
struct Intended {
    /// The prefix of user names before the number.
    prefix: String,
    typists: Vec<Typist>,
    frames: Counter,
    latency: LatencyMeter,
}

struct Typist {
    /// When the user was last intended to start or stop.
    at_ns: AtomicU64,
    /// The number of starts and stops.
    said: AtomicU64,
    /// The number of them that each member of the group was shown. A stop of the server (PROTOCOL §4), which comes
    /// before the user's own one, stands for that: the server passes on one stop for a start.
    shown: Vec<AtomicU64>,
}

impl Typist {
    fn new(members: usize) -> Self {
        let shown = (0..members).map(|_| AtomicU64::new(0)).collect();
        Self { at_ns: AtomicU64::new(0), said: AtomicU64::new(0), shown }
    }
}

impl Intended {
    fn say(&self, user: usize, intended_ns: u64) {
        let typist = &self.typists[user];
        typist.at_ns.store(intended_ns, Ordering::Relaxed);
        let said = typist.said.fetch_add(1, Ordering::Relaxed) + 1;
        let early = typist.shown.iter().filter(|shown| shown.load(Ordering::Relaxed) >= said);
        self.frames.add(early.count() as u64);
    }

    /// For the member at this place of a group.
    fn on_frame(self: &Arc<Self>, member: usize) -> OnFrame {
        let own = self.clone();
        Box::new(move |kind, json, read_ns| {
            if !matches!(kind, "typing_start" | "typing_stop") {
                return;
            }
            let number = scan::text(json, "user_id").and_then(|user| user.strip_prefix(&own.prefix)?.parse().ok());
            let Some(typist) = number.and_then(|number: usize| own.typists.get(number)) else { return };
            let shown = typist.shown[member].fetch_add(1, Ordering::Relaxed) + 1;
            // Otherwise the user has not said it yet, and then it counts.
            if shown <= typist.said.load(Ordering::Relaxed) {
                own.frames.add(1);
                own.latency.record_ns(read_ns.saturating_sub(typist.at_ns.load(Ordering::Relaxed)));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_of_the_server_counts_once_the_user_has_stopped() {
        let frames = Counter::default();
        let intended = Arc::new(Intended {
            prefix: "u-".to_owned(),
            typists: (0..3).map(|_| Typist::new(3)).collect(),
            frames: frames.clone(),
            latency: LatencyMeter::default(),
        });
        let mut others: Vec<OnFrame> = [0, 2].map(|member| intended.on_frame(member)).into();
        let mut shown = |kind: &str| {
            for other in &mut others {
                other(kind, br#"{"user_id":"u-1"}"#, 7);
            }
            frames.total()
        };
        intended.say(1, 1);
        assert_eq!(shown("typing_start"), 2);
        assert_eq!(shown("typing_stop"), 2);
        intended.say(1, 2);
        assert_eq!(frames.total(), 4);
        intended.say(1, 3);
        assert_eq!(shown("typing_start"), 6);
        intended.say(1, 4);
        assert_eq!(shown("typing_stop"), 8);
    }
}
