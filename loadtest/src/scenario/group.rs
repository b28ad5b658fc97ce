//! `group`: groups of any size in which everyone writes, in both delivery modes (PROTOCOL §3, "Large groups").

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use async_trait::async_trait;
use serde_json::json;

use super::{Baseline, Defaults, Param, Scenario};
use crate::baseline;
use crate::client::crowd::{Crowd, some_at_once};
use crate::client::group;
use crate::client::reader::OnFrame;
use crate::client::scan;
use crate::client::session::Client;
use crate::control::Load;
use crate::meter::metrics_page;
use crate::meter::recorder::{Counter, LatencyMeter};
use crate::report::figure::{Bar, Figure};
use crate::report::round::{Phase, Round};
use crate::worker::{PhaseWork, Worker};

pub(super) struct Group;

/// How long several nodes are observed before anything is sent.
const QUIET_S: f64 = 5.0;

#[async_trait(?Send)]
impl Scenario for Group {
    fn name(&self) -> &'static str {
        "group"
    }

    fn about(&self) -> &'static str {
        "groups of equal size, in both delivery modes: latency to one and to all members, CPU time per delivery, bus publishes"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 1_000, rate: 200.0, warm_up_s: 3.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[
            Param {
                name: "members",
                default: 100.0,
                about: "members per group, 2 to 10,000; the connections determine the number of groups, at least one",
            },
            Param {
                name: "push_members_max",
                default: 100.0,
                about: "fanout.push_members_max of spawned nodes: larger groups are delivered only to members that have them open",
            },
            Param {
                name: "open_percent",
                default: 10.0,
                about: "percentage of members that have a larger group open, and write",
            },
            Param::TEXT_BYTES,
        ]
    }

    fn settings(&self, load: &Load) -> Vec<String> {
        let layout = Layout::of(load);
        let per_writer = 2.0 * load.rate / (layout.groups * layout.writers(load, true)).max(1) as f64;
        vec![
            format!("fanout.push_members_max={}", load.count("push_members_max")),
            format!("limits.frames_per_s={:.0}", per_writer.max(50.0)),
        ]
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let layout = Layout::of(&load);
        let everyone = (worker.plan.workers == 1).then(|| Arc::new(Everyone::new(worker)));
        let mut crowd = Crowd::new(worker.network.clone());
        let numbers: Vec<usize> = worker.plan.share(layout.connected).collect();
        let plan = worker.plan.clone();
        let people = numbers.iter().map(|number| (plan.who(*number), everyone.as_ref().map(Everyone::on_frame)));
        let clients = crowd.connect(people, 32).await?;
        let groups = make_groups(worker, layout, &numbers, &clients).await?;
        let mut talk = Talk::new(worker, layout, &numbers, clients, &groups).await?;
        if let Some(everyone) = &everyone {
            everyone.size.store(talk.writers_per_group.min(layout.connected / layout.groups), Ordering::Relaxed);
        }
        if worker.plan.addresses.len() > 1 {
            worker.phase("quiet", async |phase| phase.hold(QUIET_S).await).await?;
        }
        worker.phase("warm-up", async |phase| talk.run(phase, load.warm_up_s).await).await?;
        worker.phase("load", async |phase| talk.run(phase, load.duration_s).await).await?;
        worker.see_off(crowd).await
    }

    fn baselines(&self, load: &Load, round: &Round) -> Vec<Baseline> {
        let Some(phase) = round.phase("load").filter(|phase| phase.counted("sent") > 0.0) else { return Vec::new() };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most as many as connections")]
        let readers = (phase.counted("deliveries") / phase.counted("sent")).round().max(1.0) as usize;
        vec![Baseline::bare_send(load, phase, readers, 1.0)]
    }

    fn figures(&self, _load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let bare = baselines.get(baseline::SEND).and_then(|round| round.phase("load"));
        let delivery_us = |phase: &Phase| phase.server_cpu_us_per(phase.counted("deliveries"));
        let latency =
            |name: &str, of: &str, percentile: f64| Figure::new(name, "ms", phase.percentile_ms(of, percentile));
        let sent = phase.counted("sent");
        let per_message = |count: f64| (sent > 0.0 && !phase.server_counters.is_empty()).then(|| count / sent);
        let publishes = |phase: &Phase| metrics_page::sum(&phase.server_counters, "switchboard_bus_publishes_total");
        // Heartbeats between nodes, independent of the sends.
        let quiet_per_s = round.phase("quiet").map(|quiet| publishes(quiet) / quiet.seconds);
        let of_messages = quiet_per_s.map(|quiet_per_s| publishes(phase) - quiet_per_s * phase.seconds);
        let activity = phase.server_counters.get(r#"switchboard_frames_sent_total{type="conversation_activity"}"#);
        let figures = [
            latency("send to a member, p50", "delivery", 50.0),
            latency("send to a member, p99", "delivery", 99.0),
            latency("send to the last member, p50", "everyone", 50.0),
            latency("send to the last member, p99", "everyone", 99.0),
            latency("send to `sent`, p99", "sent", 99.0),
            Figure::new("CPU per delivery", "µs", delivery_us(phase))
                .map(|figure| figure.against("bare send", bare.and_then(delivery_us))),
            Figure::new("CPU per message", "µs", phase.server_cpu_us_per(sent)),
            Figure::new("deliveries", "1/s", Some(phase.counted("deliveries") / phase.seconds)),
            Figure::new("deliveries per message", "", (sent > 0.0).then(|| phase.counted("deliveries") / sent)),
            Figure::new("activity frames per message", "", per_message(activity.copied().unwrap_or(0.0))),
            Figure::new("bus publishes per message", "", of_messages.and_then(per_message))
                .map(|figure| figure.bar(Bar::AtMost(10.0))),
            Figure::new("bus publishes while nothing is sent", "1/s", quiet_per_s),
            Figure::new("deliveries missing", "", Some(phase.counted("expected") - phase.counted("deliveries")))
                .map(|figure| figure.bar(Bar::AtMost(0.0))),
        ];
        figures.into_iter().flatten().collect()
    }
}

/// The members of groups: user `n` is in group `n % groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    groups: usize,
    members: usize,
    /// Users with a session. If there are fewer than a group has members, the others are only names.
    connected: usize,
}

impl Layout {
    fn of(load: &Load) -> Self {
        let members = load.count("members").clamp(2, 10_000);
        let groups = (load.connections / members).max(1);
        Self { groups, members, connected: load.connections.min(groups * members) }
    }

    fn members_of(self, group: usize) -> impl Iterator<Item = usize> {
        (0..self.members).map(move |place| group + place * self.groups)
    }

    /// The writers of each group: members that get every message in full. Others would not write into a group that they
    /// don't have open.
    fn writers(self, load: &Load, is_activity: bool) -> usize {
        let open = (self.members * load.count("open_percent").min(100)).div_ceil(100).max(2);
        if is_activity { open } else { self.members }
    }
}

/// Creates this worker's groups, and returns those of all workers, by number.
async fn make_groups(
    worker: &mut Worker,
    layout: Layout,
    numbers: &[usize],
    clients: &[Client],
) -> Result<BTreeMap<usize, String>> {
    let plan = worker.plan.clone();
    let own = numbers.iter().zip(clients).filter(|(number, _)| **number < layout.groups);
    let made = some_at_once(own.map(async |(number, client)| {
        let others: Vec<String> = layout.members_of(*number).skip(1).map(|member| plan.user(member)).collect();
        Ok((*number, group::create(client, "group", &others).await?))
    }));
    let made: Vec<(usize, String)> = made.await?;
    let mut all = BTreeMap::new();
    for brought in worker.meet("groups", json!(made)).await? {
        all.extend(serde_json::from_value::<Vec<(usize, String)>>(brought)?);
    }
    Ok(all)
}

/// Sends by all writers of this worker in turn.
struct Talk {
    /// Each with the number of its group, and the destination of its sends.
    writers: Vec<(Client, usize, String)>,
    writers_per_group: usize,
    /// The number of this worker's users who get every message of their group, by group.
    audience: Vec<u64>,
    text: String,
    rate: f64,
    /// The number of sends in all phases.
    said: u64,
    /// The number of expected deliveries in all phases.
    due: u64,
    expected: Counter,
}

impl Talk {
    async fn new(
        worker: &mut Worker,
        layout: Layout,
        numbers: &[usize],
        clients: Vec<Client>,
        groups: &BTreeMap<usize, String>,
    ) -> Result<Self> {
        let load = &worker.plan.load;
        let is_activity = match (clients.first(), numbers.first()) {
            (Some(client), Some(number)) => {
                let frame = json!({"type": "conversation_get", "conversation_id": groups[&(number % layout.groups)]});
                client.ask(frame).await?["delivery"] == "activity"
            }
            _ => false,
        };
        let writers_per_group = layout.writers(load, is_activity);
        // Clients that verify ask for what they are not sent.
        let is_told_all = |number: usize| worker.plan.is_followed || number / layout.groups < writers_per_group;
        let mut audience = vec![0; layout.groups];
        numbers.iter().filter(|number| is_told_all(**number)).for_each(|number| audience[number % layout.groups] += 1);
        let mut writers = Vec::new();
        for (client, number) in clients.into_iter().zip(numbers) {
            let group = number % layout.groups;
            let id = groups.get(&group).with_context(|| format!("nobody has created group {group}"))?;
            if number / layout.groups < writers_per_group {
                writers.push((client, group, id.clone()));
            }
        }
        if is_activity {
            some_at_once(writers.iter().map(async |(client, _, id)| {
                let frame = json!({"type": "conversation_open", "conversation_id": id});
                client.keep_saying("open", frame.to_string());
                client.ask(frame).await
            }))
            .await?;
        }
        writers.iter_mut().for_each(|(_, _, place)| *place = format!(r#""conversation_id":"{place}""#));
        let text = "x".repeat(load.count("text_bytes"));
        let expected = worker.recorder.counter("expected");
        Ok(Self {
            writers,
            writers_per_group,
            audience,
            text,
            rate: worker.plan.rate_share(),
            said: 0,
            due: 0,
            expected,
        })
    }

    /// Runs a phase's sends, and waits until all have arrived.
    async fn run(&mut self, phase: &mut PhaseWork<'_>, duration_s: f64) -> Result<()> {
        let mut said = vec![0u64; self.audience.len()];
        let first = self.said;
        if !self.writers.is_empty() {
            self.said += phase
                .pace(self.rate, duration_s, |number, intended_ns| {
                    let number = first + number;
                    let place = usize::try_from(number).unwrap_or(0) % self.writers.len();
                    let (client, group, place) = &self.writers[place];
                    client.send(place, number, intended_ns, &self.text);
                    said[*group] += 1;
                })
                .await?;
        }
        // The sending session gets `sent`.
        let own = self.said - first;
        let mut due = 0;
        for brought in phase.meet("said", json!(said)).await? {
            let said: Vec<u64> = serde_json::from_value(brought)?;
            due += said.iter().zip(&self.audience).map(|(said, audience)| said * audience).sum::<u64>();
        }
        self.expected.add(due - own);
        self.due += due - own;
        let (meters, all, due) = (phase.meters().clone(), self.said, self.due);
        phase
            .drain(|| meters.sent.total() + meters.send_errors.total() >= all && meters.deliveries.total() >= due)
            .await;
        Ok(())
    }
}

/// Records when a message has reached all its recipients. Only if they are all in one process.
struct Everyone {
    run: String,
    latency: LatencyMeter,
    /// The number of users who get each message in full, including its sender.
    size: AtomicUsize,
    /// The number of users that each `client_id` has reached.
    reached: Mutex<HashMap<String, usize>>,
}

impl Everyone {
    fn new(worker: &mut Worker) -> Self {
        Self {
            run: worker.plan.run.clone(),
            latency: worker.recorder.latency("everyone"),
            size: AtomicUsize::new(0),
            reached: Mutex::default(),
        }
    }

    fn on_frame(self: &Arc<Self>) -> OnFrame {
        let own = self.clone();
        Box::new(move |kind, json, at_ns| {
            if let Some(client_id) = scan::text(json, "client_id").filter(|_| kind == "message") {
                own.on_delivery(client_id, at_ns);
            }
        })
    }

    fn on_delivery(&self, client_id: &str, at_ns: u64) {
        let Some(intended_ns) = crate::client::network::intended_ns(client_id, &self.run) else { return };
        let others = self.size.load(Ordering::Relaxed).saturating_sub(1);
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match reached.get_mut(client_id) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => *reached.entry(client_id.to_owned()).or_insert(1),
        };
        if count >= others {
            reached.remove(client_id);
            self.latency.record_ns(at_ns.saturating_sub(intended_ns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(connections: usize, members: usize) -> Layout {
        let params = [("members".to_owned(), members.to_string())].into();
        Layout::of(&Load { connections, params, ..Load::default() })
    }

    #[test]
    fn connections_make_whole_groups_and_everyone_is_in_one() {
        assert_eq!(layout(1_000, 300), Layout { groups: 3, members: 300, connected: 900 });
        assert_eq!(layout(100, 10_000), Layout { groups: 1, members: 10_000, connected: 100 });
        let three = layout(12, 4);
        let mut all: Vec<usize> = (0..three.groups).flat_map(|group| three.members_of(group)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..12).collect::<Vec<_>>());
    }
}
