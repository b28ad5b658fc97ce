//! `presence`: watchers see the status of many users, who set it, come and go all the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, ensure};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Baseline, Defaults, Param, Scenario};
use crate::baseline;
use crate::client::crowd::Crowd;
use crate::client::reader::OnFrame;
use crate::client::session::{Client, Who};
use crate::control::Load;
use crate::meter::recorder::{Counter, LatencyMeter};
use crate::report::figure::{Bar, Figure};
use crate::report::round::{Phase, Round};
use crate::worker::{PhaseWork, Worker};

pub(super) struct Presence;

/// PROTOCOL §8: maximum watched users of a session.
const WATCHED_MAX: usize = 500;

#[async_trait(?Send)]
impl Scenario for Presence {
    fn name(&self) -> &'static str {
        "presence"
    }

    fn about(&self) -> &'static str {
        "watchers of users who set their status, come and go: frames and CPU time per transition, latency"
    }

    /// The rate is that of transitions.
    fn defaults(&self) -> Defaults {
        Defaults { connections: 2_000, rate: 200.0, warm_up_s: 5.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[
            Param { name: "watchers", default: 100.0, about: "connections that watch; the others are watched" },
            Param { name: "watched", default: 500.0, about: "users that each watcher watches, at most 500" },
            Param {
                name: "come_and_go_percent",
                default: 20.0,
                about: "percentage of transitions by users who leave or come back; the others set their status",
            },
            Param { name: "grace_ms", default: 1_000.0, about: "presence.grace_ms of spawned nodes" },
        ]
    }

    fn settings(&self, load: &Load) -> Vec<String> {
        vec![format!("presence.grace_ms={}", load.count("grace_ms"))]
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let mut town = Town::connect(worker, &load).await?;
        let rate = worker.plan.rate_share();
        worker.phase("watch", async |phase| town.settle(phase).await).await?;
        worker.phase("warm-up", async |phase| town.run(phase, rate, load.warm_up_s).await).await?;
        worker.phase("load", async |phase| town.run(phase, rate, load.duration_s).await).await?;
        worker.see_off(town.crowd).await
    }

    fn baselines(&self, load: &Load, round: &Round) -> Vec<Baseline> {
        let phase = round.phase("load").filter(|phase| phase.counted("presence_frames") > 0.0);
        // As many frames to each watcher, whoever they are about.
        let bare = |phase: &Phase| {
            let rate = phase.counted("presence_frames") / phase.seconds / load.number("watchers").max(1.0);
            Baseline::bare_send(&Load { rate, ..load.clone() }, phase, load.count("watchers").max(1), 1.0)
        };
        phase.map(bare).into_iter().collect()
    }

    fn figures(&self, load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let bare = baselines.get(baseline::SEND).and_then(|round| round.phase("load"));
        let bare_us = bare.and_then(|phase| phase.server_cpu_us_per(phase.counted("deliveries")));
        let transitions = phase.counted("sends");
        let per_transition = |count: f64| (transitions > 0.0).then(|| count / transitions);
        let latency =
            |name: &str, of: &str, percentile: f64| Figure::new(name, "ms", phase.percentile_ms(of, percentile));
        let watchers = load.number("watchers").max(1.0);
        let figures = [
            latency("status to its watchers, p50", "status", 50.0),
            latency("status to its watchers, p99", "status", 99.0),
            latency("coming online to its watchers, p50", "online", 50.0),
            latency("going offline to its watchers, p50", "offline", 50.0),
            Figure::new("CPU per transition", "µs", phase.server_cpu_us_per(transitions)),
            Figure::new("CPU per frame", "µs", phase.server_cpu_us_per(phase.counted("presence_frames")))
                .map(|figure| figure.against("bare send", bare_us)),
            Figure::new("CPU per change shown", "µs", phase.server_cpu_us_per(phase.counted("changes"))),
            Figure::new("changes shown per transition", "", per_transition(phase.counted("changes"))),
            Figure::new("frames per transition", "", per_transition(phase.counted("presence_frames"))),
            Figure::new("frames per watcher", "1/s", Some(phase.counted("presence_frames") / watchers / phase.seconds)),
            Figure::new("users shown wrongly at the end", "", Some(phase.counted("wrong")))
                .map(|figure| figure.bar(Bar::AtMost(0.0))),
        ];
        figures.into_iter().flatten().collect()
    }
}

/// How others see a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Offline,
    Online,
    Away,
    Busy,
}

impl Look {
    fn of(status: &str) -> Option<Self> {
        [Self::Offline, Self::Online, Self::Away, Self::Busy].into_iter().find(|look| look.text() == status)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Online => "online",
            Self::Away => "away",
            Self::Busy => "busy",
        }
    }

    /// The next status that a connected user sets.
    fn next(self) -> Self {
        match self {
            Self::Online => Self::Away,
            Self::Away => Self::Busy,
            Self::Busy | Self::Offline => Self::Online,
        }
    }
}

/// This worker's watched users and their watchers. None watches a user of another worker, because only this worker
/// knows when a user was intended to change.
struct Town {
    crowd: Crowd,
    people: Arc<People>,
    users: Vec<Client>,
    watchers: Vec<Arc<Watcher>>,
    /// The number of transitions in all phases.
    said: usize,
    come_and_go_percent: usize,
    wrong: Counter,
}

/// The current look of the watched users.
struct People {
    /// The prefix of user names before the number.
    prefix: String,
    looks: Mutex<Vec<(Look, u64)>>,
    meters: Meters,
}

struct Meters {
    frames: Counter,
    changes: Counter,
    status: LatencyMeter,
    online: LatencyMeter,
    offline: LatencyMeter,
}

impl Town {
    async fn connect(worker: &mut Worker, load: &Load) -> Result<Self> {
        let plan = worker.plan.clone();
        let watchers = plan.share(load.count("watchers")).count();
        let users = plan.share(load.connections).count().saturating_sub(watchers);
        ensure!(watchers > 0 && users > 1, "presence: too few --connections for its watchers");
        let people = Arc::new(People {
            prefix: format!("{}-{}-", plan.run, plan.worker),
            looks: Mutex::new(vec![(Look::Online, 0); users]),
            meters: Meters {
                frames: worker.recorder.counter("presence_frames"),
                changes: worker.recorder.counter("changes"),
                status: worker.recorder.latency("status"),
                online: worker.recorder.latency("online"),
                offline: worker.recorder.latency("offline"),
            },
        });
        let who = |number: usize| Who { user: people.name(number), number: number as u64, node: number };
        let mut crowd = Crowd::new(worker.network.clone());
        let clients = crowd.connect((0..users).map(|number| (who(number), None)), 32).await?;
        let each = load.count("watched").min(WATCHED_MAX).min(users);
        // Watchers are spread evenly over the users.
        let watchers: Vec<Arc<Watcher>> =
            (0..watchers).map(|watcher| Arc::new(Watcher::new(&people, watcher * users / watchers, each))).collect();
        let watching =
            watchers.iter().enumerate().map(|(place, watcher)| (who(users + place), Some(watcher.on_frame())));
        for (client, watcher) in crowd.connect(watching, 32).await?.iter().zip(&watchers) {
            client.say(&watcher.frame());
            client.keep_saying("watch", watcher.frame());
        }
        let wrong = worker.recorder.counter("wrong");
        let come_and_go_percent = load.count("come_and_go_percent").min(100);
        Ok(Self { crowd, people, users: clients, watchers, said: 0, come_and_go_percent, wrong })
    }

    /// Runs transitions, for all users in turn, and waits until all watchers see every user correctly.
    async fn run(&mut self, phase: &mut PhaseWork<'_>, rate: f64, duration_s: f64) -> Result<()> {
        let first = self.said;
        let said = phase
            .pace(rate, duration_s, |number, intended_ns| {
                let number = first + usize::try_from(number).unwrap_or(0);
                self.change(number, intended_ns);
            })
            .await?;
        self.said += usize::try_from(said).unwrap_or(0);
        self.settle(phase).await?;
        self.wrong.add(self.watchers.iter().map(|watcher| watcher.wrong()).sum());
        Ok(())
    }

    /// Waits until all watchers see every user correctly.
    async fn settle(&mut self, phase: &mut PhaseWork<'_>) -> Result<()> {
        phase.drain(|| self.watchers.iter().all(|watcher| watcher.wrong() == 0)).await;
        Ok(())
    }

    /// Changes user `number` (modulo all): the first ones of each hundred come and go, the others set their status.
    fn change(&self, number: usize, intended_ns: u64) {
        let user = number % self.users.len();
        let client = &self.users[user];
        let mut looks = lock(&self.people.looks);
        let (look, at_ns) = &mut looks[user];
        *at_ns = intended_ns;
        let was_here = *look != Look::Offline;
        if was_here && user % 100 < self.come_and_go_percent {
            *look = Look::Offline;
            client.leave();
            return;
        }
        *look = look.next();
        let frame = format!(r#"{{"type":"presence_set","status":"{}"}}"#, look.text());
        if was_here {
            client.say(&frame);
        } else {
            client.come_back(intended_ns);
        }
        // Replaces the former status, if the server has not forgotten it yet.
        client.keep_saying("status", frame);
    }
}

/// A session that watches consecutive users from `first` on, wrapping around.
struct Watcher {
    people: Arc<People>,
    first: usize,
    /// How it last saw each of them.
    seen: Mutex<Vec<Look>>,
}

impl Watcher {
    fn new(people: &Arc<People>, first: usize, each: usize) -> Self {
        Self { people: people.clone(), first, seen: Mutex::new(vec![Look::Offline; each]) }
    }

    fn frame(&self) -> String {
        let (first, each) = (self.first, lock(&self.seen).len());
        let users = lock(&self.people.looks).len();
        let names = (first..first + each).map(|number| self.people.name(number % users));
        json!({"type": "presence_watch", "user_ids": names.collect::<Vec<_>>()}).to_string()
    }

    fn on_frame(self: &Arc<Self>) -> OnFrame {
        let own = self.clone();
        Box::new(move |kind, json, at_ns| {
            if matches!(kind, "presence" | "presence_state") {
                let frame: Value = serde_json::from_slice(json).unwrap_or_default();
                let users = frame["users"].as_array().map(Vec::as_slice).unwrap_or_default();
                if kind == "presence" {
                    own.people.meters.frames.add(1);
                    own.people.meters.changes.add(users.len() as u64);
                }
                users.iter().for_each(|user| own.on_user(user, at_ns));
            }
        })
    }

    fn on_user(&self, user: &Value, at_ns: u64) {
        let number = user["user_id"].as_str().and_then(|name| self.people.number(name));
        let (Some(number), Some(look)) = (number, user["status"].as_str().and_then(Look::of)) else { return };
        let looks = lock(&self.people.looks);
        let place = (number + looks.len() - self.first) % looks.len();
        let mut seen = lock(&self.seen);
        let (Some((meant, intended_ns)), Some(seen)) = (looks.get(number), seen.get_mut(place)) else { return };
        if look == *meant && *seen != look && *intended_ns > 0 {
            self.people.meters.of(*seen, look).record_ns(at_ns.saturating_sub(*intended_ns));
        }
        *seen = look;
    }

    /// The number of users that it does not see correctly.
    fn wrong(&self) -> u64 {
        let (looks, seen) = (lock(&self.people.looks), lock(&self.seen));
        let pairs = seen.iter().enumerate().map(|(place, look)| (look, looks[(self.first + place) % looks.len()].0));
        pairs.filter(|(look, meant)| *look != meant).count() as u64
    }
}

impl People {
    fn name(&self, number: usize) -> String {
        format!("{}{number}", self.prefix)
    }

    fn number(&self, name: &str) -> Option<usize> {
        name.strip_prefix(&self.prefix)?.parse().ok()
    }
}

impl Meters {
    fn of(&self, before: Look, after: Look) -> &LatencyMeter {
        match (before, after) {
            (_, Look::Offline) => &self.offline,
            (Look::Offline, _) => &self.online,
            _ => &self.status,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(users: usize) -> Arc<People> {
        let meters = Meters {
            frames: Counter::default(),
            changes: Counter::default(),
            status: LatencyMeter::default(),
            online: LatencyMeter::default(),
            offline: LatencyMeter::default(),
        };
        Arc::new(People { prefix: "u-".to_owned(), looks: Mutex::new(vec![(Look::Online, 0); users]), meters })
    }

    #[test]
    fn the_baseline_sends_each_watcher_as_many_frames_of_the_same_size() {
        let counters = [("presence_frames", 900), ("frames", 1_000), ("bytes", 150_000)];
        let counters = counters.map(|(name, count)| (name.to_owned(), count)).into();
        let phase = Phase { name: "load".to_owned(), seconds: 3.0, counters, ..Phase::default() };
        let round = Round { phases: vec![phase], ..Round::default() };
        let params = [("watchers".to_owned(), "10".to_owned())].into();
        let baselines = Presence.baselines(&Load { connections: 40, params, ..Load::default() }, &round);
        let [Baseline { name: baseline::SEND, load }] = baselines.as_slice() else { panic!("{baselines:?}") };
        assert_eq!((load.connections, load.rate, load.count("frame_bytes")), (10, 30.0, 150));
        assert!(Presence.baselines(load, &Round::default()).is_empty());
    }

    #[test]
    fn a_watcher_knows_whom_it_sees_wrongly() {
        let watcher = Arc::new(Watcher::new(&people(4), 3, 2));
        assert_eq!(watcher.frame(), r#"{"type":"presence_watch","user_ids":["u-3","u-0"]}"#);
        assert_eq!(watcher.wrong(), 2);
        let mut on_frame = watcher.on_frame();
        on_frame(
            "presence_state",
            br#"{"users":[{"user_id":"u-3","status":"online"},{"user_id":"u-0","status":"online"}]}"#,
            1,
        );
        assert_eq!(watcher.wrong(), 0);
        // Other users are ignored.
        on_frame("presence", br#"{"users":[{"user_id":"u-1","status":"away"},{"user_id":"x","status":"away"}]}"#, 1);
        assert_eq!(watcher.wrong(), 0);
        on_frame("presence", br#"{"users":[{"user_id":"u-0","status":"away"}]}"#, 1);
        assert_eq!(watcher.wrong(), 1);
    }
}
