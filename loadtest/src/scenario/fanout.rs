//! `fanout`: one client writes, many read. At a rate, each delivery is a separate write; as fast as possible (`--rate
//! 0`), frames share writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Baseline, Defaults, Param, Scenario, writes_by_frames};
use crate::baseline;
use crate::client::closed_loop::ClosedLoop;
use crate::client::crowd::Crowd;
use crate::client::group;
use crate::client::session::{Client, Who};
use crate::control::Load;
use crate::meter::metrics_page;
use crate::report::figure::{Bar, Figure};
use crate::report::round::{Phase, Round};
use crate::worker::{PhaseWork, Worker};

/// Concurrent handshakes.
const AT_ONCE: usize = 32;

pub(super) struct Fanout;

#[async_trait(?Send)]
impl Scenario for Fanout {
    fn name(&self) -> &'static str {
        "fanout"
    }

    fn about(&self) -> &'static str {
        "one client writes to many: CPU time per delivery; as fast as possible with --rate 0"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 1_000, rate: 50.0, warm_up_s: 2.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[Param::TEXT_BYTES, Param { name: "under_way", default: 64.0, about: "concurrent sends if the rate is 0" }]
    }

    fn settings(&self, load: &Load) -> Vec<String> {
        let per_second = if load.rate > 0.0 { (2.0 * load.rate).max(50.0) } else { 1e6 };
        vec!["fanout.push_members_max=10000".to_owned(), format!("limits.frames_per_s={per_second:.0}")]
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let load = worker.plan.load.clone();
        let workers = worker.plan.workers;
        let run = worker.plan.run.clone();
        let user = |number: usize| format!("{run}-{number}");
        let mut crowd = Crowd::new(worker.network.clone());
        let readers: Vec<usize> = worker.plan.share(load.connections).collect();
        let people = readers.iter().map(|number| {
            let who = Who { user: user(*number), number: (number / workers) as u64, node: *number };
            (who, None)
        });
        let readers = crowd.connect(people, AT_ONCE).await?;
        let mut writer = None;
        if worker.plan.worker == 0 {
            let members: Vec<String> = (0..load.connections).map(user).collect();
            writer = Some(Writer::new(worker, &mut crowd, &members).await?);
        }
        let brought =
            worker.meet("group", writer.as_ref().map_or(Value::Null, |writer| json!(writer.conversation))).await?;
        let conversation = brought.iter().find_map(Value::as_str).context("nobody has created the group")?;
        open_if_needed(&readers, conversation).await?;
        let mut audience = Audience { readers: readers.len() as u64, said: 0 };
        worker
            .phase("warm-up", async |phase| audience.listen(phase, writer.as_ref(), &load, load.warm_up_s).await)
            .await?;
        worker
            .phase("load", async |phase| audience.listen(phase, writer.as_ref(), &load, load.duration_s).await)
            .await?;
        worker.see_off(crowd).await
    }

    fn baselines(&self, load: &Load, round: &Round) -> Vec<Baseline> {
        let Some(phase) = round.phase("load").filter(|phase| phase.counted("deliveries") > 0.0) else {
            return Vec::new();
        };
        // At a rate, each delivery is a separate write; otherwise the baseline shares writes like the servers did.
        let frames_per_write =
            if load.rate > 0.0 { 1.0 } else { frames_per_write(phase).unwrap_or(16.0).round().max(1.0) };
        vec![Baseline::bare_send(load, phase, load.connections, frames_per_write)]
    }

    fn figures(&self, load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let bare = baselines.get(baseline::SEND).and_then(|round| round.phase("load"));
        let per_cpu_s = |phase: &Phase| Some(phase.counted("deliveries") / (phase.server_cpu_us()? / 1e6));
        let is_flat_out = load.rate <= 0.0;
        let cost = Figure::new("CPU per delivery", "µs", delivery_us(phase))
            .map(|figure| figure.against("bare send", bare.and_then(delivery_us)));
        let figures = [
            if is_flat_out { cost } else { cost.map(|figure| figure.bar(Bar::RatioAtMost(1.4))) },
            Figure::new("deliveries per CPU second", "", per_cpu_s(phase))
                .map(|figure| figure.against("bare send", bare.and_then(per_cpu_s)))
                .map(|figure| if is_flat_out { figure.bar(Bar::AtLeast(1e6)) } else { figure }),
            Figure::new("deliveries", "1/s", Some(phase.counted("deliveries") / phase.seconds)),
            Figure::new("frames per write", "", frames_per_write(phase)),
            Figure::new("bytes per frame", "", Some(phase.counted("bytes") / phase.counted("frames").max(1.0))),
            latency("delivery, p50", phase, bare, 50.0),
            latency("delivery, p99", phase, bare, 99.0),
            Figure::new(
                "deliveries missing",
                "",
                Some(phase.counted("sends") * load.connections as f64 - phase.counted("deliveries")),
            ),
        ];
        figures.into_iter().chain(writes_by_frames(phase)).flatten().collect()
    }
}

fn delivery_us(phase: &Phase) -> Option<f64> {
    phase.server_cpu_us_per(phase.counted("deliveries"))
}

fn latency(name: &str, phase: &Phase, bare: Option<&Phase>, percentile: f64) -> Option<Figure> {
    let of = |phase: &Phase| phase.percentile_ms("delivery", percentile);
    Figure::new(name, "ms", of(phase)).map(|figure| figure.against("bare send", bare.and_then(of)))
}

/// According to the servers' counters.
fn frames_per_write(phase: &Phase) -> Option<f64> {
    let writes = metrics_page::sum(&phase.server_counters, "switchboard_writes_total");
    let frames = metrics_page::sum(&phase.server_counters, "switchboard_frames_sent_total");
    (writes > 0.0).then(|| frames / writes)
}

/// In a large group, only members that have it open get entries in full (PROTOCOL §3, "Large groups").
async fn open_if_needed(readers: &[Client], conversation: &str) -> Result<()> {
    let Some(first) = readers.first() else { return Ok(()) };
    let found = first.ask(json!({"type": "conversation_get", "conversation_id": conversation})).await?;
    if found["delivery"] == "activity" {
        for reader in readers {
            reader.ask(json!({"type": "conversation_open", "conversation_id": conversation})).await?;
        }
    }
    Ok(())
}

/// The writer: a client of the first worker.
struct Writer {
    client: Client,
    closed: Arc<ClosedLoop>,
    is_on: Arc<AtomicBool>,
    conversation: String,
    place: String,
    text: String,
}

impl Writer {
    async fn new(worker: &mut Worker, crowd: &mut Crowd, members: &[String]) -> Result<Self> {
        let run = &worker.plan.run;
        let is_on = Arc::new(AtomicBool::new(false));
        let text = "x".repeat(worker.plan.load.count("text_bytes"));
        let closed = ClosedLoop::new(&text, &is_on, &worker.recorder.counter("sends"));
        let who = Who { user: format!("{run}-writer"), number: members.len() as u64, node: 0 };
        // Only a writer without a schedule depends on the answers.
        let clients = crowd.connect([(who, Some(closed.on_frame()))], 1).await?;
        let client = clients.into_iter().next().context("the writer has no session")?;
        let conversation = group::create(&client, "fanout", members).await?;
        let place = format!(r#""conversation_id":"{conversation}""#);
        closed.attach(&client, &place);
        Ok(Self { client, closed, is_on, conversation, place, text })
    }

    /// Writes for this long, and returns the number of sends.
    async fn write(&self, phase: &mut PhaseWork<'_>, load: &Load, first: u64, duration_s: f64) -> Result<u64> {
        if load.rate > 0.0 {
            return phase
                .pace(load.rate, duration_s, |number, intended_ns| {
                    self.client.send(&self.place, first + number, intended_ns, &self.text);
                })
                .await;
        }
        let before = self.closed.said();
        self.is_on.store(true, Ordering::Relaxed);
        self.closed.begin(load.count("under_way"));
        phase.hold(duration_s).await?;
        self.is_on.store(false, Ordering::Relaxed);
        Ok(self.closed.said() - before)
    }
}

/// The readers of this worker.
struct Audience {
    readers: u64,
    /// The number of messages in all phases.
    said: u64,
}

impl Audience {
    async fn listen(
        &mut self,
        phase: &mut PhaseWork<'_>,
        writer: Option<&Writer>,
        load: &Load,
        duration_s: f64,
    ) -> Result<()> {
        let own = match writer {
            Some(writer) => writer.write(phase, load, self.said, duration_s).await?,
            None => 0,
        };
        phase.heard(&mut self.said, own, self.readers).await
    }
}
