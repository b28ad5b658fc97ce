//! `mixed`: a day of a town, abridged. A few conversations have most of the messages, people come and go, read and
//! type, and there is more activity by day than by night. `loadtest/mixed.toml` explains its parameters.

mod town;

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use anyhow::Result;
use async_trait::async_trait;
use fastrand::Rng;

use self::town::Town;
use super::{Baseline, Defaults, Param, Scenario, writes_by_frames};
use crate::baseline;
use crate::control::Load;
use crate::meter::metrics_page;
use crate::meter::recorder::Counter;
use crate::report::figure::{Bar, Figure};
use crate::report::round::Round;
use crate::worker::{PhaseWork, Worker};

pub(super) struct Mixed;

#[async_trait(?Send)]
impl Scenario for Mixed {
    fn name(&self) -> &'static str {
        "mixed"
    }

    fn about(&self) -> &'static str {
        "a simulated day: Zipf-distributed conversations, sessions that come and go, readers, typists, groups; see loadtest/mixed.toml"
    }

    /// The rate is that of messages at noon; the duration is that of the day.
    fn defaults(&self) -> Defaults {
        Defaults { connections: 1_000, rate: 200.0, warm_up_s: 5.0, duration_s: 30.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[
            Param { name: "groups", default: 20.0, about: "groups, of decreasing size" },
            Param { name: "group_members_max", default: 200.0, about: "members of the largest group" },
            Param { name: "directs_per_user", default: 2.0, about: "direct conversations that each user starts" },
            Param {
                name: "zipf",
                default: 1.0,
                about: "conversation n has 1/nˣ of the first one's messages; this is x",
            },
            Param { name: "reads_per_message", default: 2.0, about: "how often someone reads" },
            Param { name: "typing_per_message", default: 0.5, about: "how often someone starts typing" },
            Param { name: "comings_per_message", default: 0.5, about: "how often someone comes or goes" },
            Param {
                name: "night_percent",
                default: 20.0,
                about: "load and sessions at midnight, as a percentage of noon's",
            },
            Param { name: "contacts", default: 20.0, about: "users whose presence each user watches, at most 500" },
            Param::TEXT_BYTES,
            Param { name: "seed", default: 1.0, about: "seed of all random choices; the same seed repeats a run" },
        ]
    }

    fn settings(&self, _load: &Load) -> Vec<String> {
        // A popular direct conversation is busier than real ones; and clients that come back get everything that they
        // missed.
        vec!["limits.frames_per_s=1000000".to_owned(), "changes.max=1000000".to_owned()]
    }

    fn is_followed(&self) -> bool {
        true
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let rng = Rng::with_seed(load.count("seed") as u64 * 1_000 + worker.plan.worker as u64);
        let town = Town::connect(worker, rng.clone()).await?;
        let mut day = Day { town, rng, sends: worker.recorder.counter("sends"), mix: Mix::of(&load), load };
        day.load.rate = worker.plan.rate_share();
        worker.phase("prepare", async |phase| day.town.prepare(phase).await).await?;
        let (warm_up_s, duration_s) = (day.load.warm_up_s, day.load.duration_s);
        worker.phase("warm-up", async |phase| day.pass(phase, warm_up_s, |_| 0.0).await).await?;
        worker.phase("load", async |phase| day.pass(phase, duration_s, |passed| passed).await).await?;
        worker.phase("home", async |phase| day.town.come_home(phase).await).await?;
        worker.see_off(day.town.into_crowd()).await
    }

    /// The day's messages, at their mean rate.
    fn baselines(&self, load: &Load, round: &Round) -> Vec<Baseline> {
        let phase = round.phase("load").filter(|phase| phase.counted("sends") > 0.0);
        let rate = phase.map(|phase| phase.counted("sends") / phase.seconds);
        rate.map(|rate| Baseline { name: baseline::ECHO, load: Load { rate, ..load.clone() } }).into_iter().collect()
    }

    fn figures(&self, load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let echo = baselines.get(baseline::ECHO).and_then(|round| round.phase("load"));
        let echo_us = echo.and_then(|phase| phase.server_cpu_us_per(phase.counted("sent")));
        let latency =
            |name: &str, of: &str, percentile: f64| Figure::new(name, "ms", phase.percentile_ms(of, percentile));
        let against_echo = |name: &str, of: &str, percentile: f64| {
            let bare = echo.and_then(|phase| phase.percentile_ms("sent", percentile));
            latency(name, of, percentile).map(|figure| figure.against("bare echo", bare))
        };
        let sends = phase.counted("sends");
        let per_message = |count: f64| (sends > 0.0).then(|| count / sends);
        let home = round.phase("home");
        let statements = metrics_page::sum(&phase.server_counters, "switchboard_store_statements_total");
        let figures = [
            against_echo("message to who is here, p50", "live", 50.0),
            against_echo("message to who is here, p99", "live", 99.0),
            against_echo("send to `sent`, p50", "sent", 50.0),
            against_echo("send to `sent`, p99", "sent", 99.0),
            latency("back and synced, p50", "resume", 50.0),
            latency("back and synced, p99", "resume", 99.0),
            Figure::new("messages", "1/s", Some(sends / phase.seconds)),
            Figure::new("deliveries per message", "", per_message(phase.counted("deliveries"))),
            Figure::new("CPU per message, with all that belongs to it", "µs", phase.server_cpu_us_per(sends))
                .map(|figure| figure.against("bare echo", echo_us)),
            Figure::new("CPU per frame to a client", "µs", phase.server_cpu_us_per(phase.counted("frames"))),
            Figure::new(
                "store statements per message",
                "",
                per_message(statements).filter(|_| !phase.server_counters.is_empty()),
            ),
            Figure::new(
                "memory per user",
                "KB",
                phase.resident_after_bytes().map(|bytes| bytes / 1e3 / load.connections as f64),
            ),
            Figure::new("comings and goings", "1/s", Some(phase.counted("comings") / phase.seconds)),
            Figure::new("deliveries missing when all are home", "", home.map(|home| home.counted("missing")))
                .map(|figure| figure.bar(Bar::AtMost(0.0))),
        ];
        figures.into_iter().chain(writes_by_frames(phase)).flatten().collect()
    }
}

/// The activities of people, per message.
struct Mix {
    reads: f64,
    typing: f64,
    comings: f64,
    night: f64,
}

impl Mix {
    fn of(load: &Load) -> Self {
        Self {
            reads: load.number("reads_per_message"),
            typing: load.number("typing_per_message"),
            comings: load.number("comings_per_message"),
            night: (load.number("night_percent") / 100.0).min(1.0),
        }
    }

    /// Activities per message, including the message.
    fn all(&self) -> f64 {
        1.0 + self.reads + self.typing + self.comings
    }

    /// The activity at a time of the day, from 0 to 1: noon is 0.5, with the maximum.
    fn at(&self, time: f64) -> f64 {
        self.night + (1.0 - self.night) * (1.0 - (TAU * time).cos()) / 2.0
    }
}

struct Day {
    town: Town,
    rng: Rng,
    sends: Counter,
    mix: Mix,
    load: Load,
}

impl Day {
    /// Runs a phase; `time` maps the elapsed share of the phase to the time of the day.
    ///
    /// The moments are scheduled for noon's rate; at other times some of them pass without an activity.
    async fn pass(&mut self, phase: &mut PhaseWork<'_>, duration_s: f64, time: impl Fn(f64) -> f64) -> Result<()> {
        let rate = self.load.rate * self.mix.all();
        let mut number = 0.0;
        {
            let mut turns = phase.turns(rate.max(f64::MIN_POSITIVE), duration_s);
            while let Some(intended_ns) = turns.next().await? {
                let activity = self.mix.at(time(number / (rate * duration_s)));
                number += 1.0;
                if self.rng.f64() < activity {
                    self.act(activity, intended_ns);
                }
            }
        }
        self.town.answered(phase).await;
        phase.flushed().await;
        Ok(())
    }

    fn act(&mut self, activity: f64, intended_ns: u64) {
        let what = self.rng.f64() * self.mix.all();
        if what < 1.0 {
            self.sends.add(u64::from(self.town.send(intended_ns)));
        } else if what < 1.0 + self.mix.reads {
            self.town.read();
        } else if what < 1.0 + self.mix.reads + self.mix.typing {
            self.town.type_something();
        } else {
            self.town.come_or_go(activity, intended_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::round::Phase;

    #[test]
    fn the_baseline_has_the_rate_that_the_day_had() {
        let counters = [("sends".to_owned(), 300)].into();
        let phase = Phase { name: "load".to_owned(), seconds: 3.0, counters, ..Phase::default() };
        let round = Round { phases: vec![phase], ..Round::default() };
        let baselines = Mixed.baselines(&Load { connections: 40, rate: 200.0, ..Load::default() }, &round);
        let [Baseline { name: baseline::ECHO, load }] = baselines.as_slice() else { panic!("{baselines:?}") };
        assert_eq!((load.connections, load.rate), (40, 100.0));
        assert!(Mixed.baselines(load, &Round::default()).is_empty());
    }

    #[test]
    fn there_is_most_at_noon_and_least_at_midnight() {
        let mix = Mix { reads: 2.0, typing: 0.5, comings: 0.5, night: 0.2 };
        assert!((mix.all() - 4.0).abs() < 1e-9);
        for (time, activity) in [(0.0, 0.2), (0.25, 0.6), (0.5, 1.0), (1.0, 0.2)] {
            assert!((mix.at(time) - activity).abs() < 1e-9, "{time}");
        }
    }

    #[test]
    fn the_example_file_has_every_parameter_with_its_default() {
        let file: toml::Table = include_str!("../../mixed.toml").parse().unwrap();
        let of_file: BTreeMap<String, f64> =
            file.iter().map(|(name, value)| (name.clone(), value.to_string().parse().unwrap())).collect();
        let declared = Mixed.params().iter().map(|param| (param.name.to_owned(), param.default)).collect();
        assert_eq!(of_file, declared);
    }
}
