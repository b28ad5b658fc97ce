//! `send`: how many messages per second become durable, compared with the store alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Result;
use async_trait::async_trait;

use super::{Baseline, Defaults, Param, Scenario, statements};
use crate::baseline;
use crate::client::closed_loop::{ClosedLoop, Flood};
use crate::client::crowd::Crowd;
use crate::client::session::Who;
use crate::control::Load;
use crate::report::figure::{Bar, Figure};
use crate::report::round::{Phase, Round};
use crate::worker::Worker;

pub(super) struct Send;

#[async_trait(?Send)]
impl Scenario for Send {
    fn name(&self) -> &'static str {
        "send"
    }

    fn about(&self) -> &'static str {
        "maximum rate of durable messages, compared with the embedded store's own batched appends, or the bare driver's writes"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 512, rate: 0.0, warm_up_s: 2.0, duration_s: 10.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[Param::TEXT_BYTES, Param { name: "under_way", default: 16.0, about: "concurrent sends per client" }]
    }

    /// Makes the configured number really be under way: frames beyond a session's limit would wait unread.
    fn settings(&self, load: &Load) -> Vec<String> {
        let requests = load.count("under_way").max(1);
        vec!["limits.frames_per_s=1000000".to_owned(), format!("limits.session_requests_max={requests}")]
    }

    /// Each client writes to a user who is not connected: only the way to the disk is measured.
    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let (load, workers, run) = (worker.plan.load.clone(), worker.plan.workers, worker.plan.run.clone());
        let is_on = Arc::new(AtomicBool::new(false));
        let (text, sends) = ("x".repeat(load.count("text_bytes")), worker.recorder.counter("sends"));
        let numbers: Vec<usize> = worker.plan.share(load.connections).collect();
        let loops: Vec<Arc<ClosedLoop>> = numbers.iter().map(|_| ClosedLoop::new(&text, &is_on, &sends)).collect();
        let people = numbers.iter().zip(&loops).map(|(number, closed)| {
            let who = Who { user: format!("{run}-{number}"), number: (number / workers) as u64, node: *number };
            (who, Some(closed.on_frame()))
        });
        let mut crowd = Crowd::new(worker.network.clone());
        let clients = crowd.connect(people, 32).await?;
        for ((client, closed), number) in clients.iter().zip(&loops).zip(&numbers) {
            closed.attach(client, &format!(r#""to":"{run}-{number}-other""#));
        }
        let mut flood = Flood::new(loops, is_on);
        let under_way = load.count("under_way");
        worker.phase("warm-up", async |phase| flood.run(phase, under_way, load.warm_up_s).await).await?;
        worker.phase("load", async |phase| flood.run(phase, under_way, load.duration_s).await).await?;
        worker.see_off(crowd).await
    }

    fn baselines(&self, load: &Load, _round: &Round) -> Vec<Baseline> {
        let name = if load.scylla.is_empty() { baseline::APPEND } else { baseline::DRIVER };
        vec![Baseline { name, load: load.clone() }]
    }

    fn figures(&self, load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let is_embedded = load.scylla.is_empty();
        let (name, title, share) =
            if is_embedded { (baseline::APPEND, "bare append", 0.7) } else { (baseline::DRIVER, "bare driver", 0.6) };
        let bare = baselines.get(name).and_then(|round| round.phase("load"));
        let sent = phase.counted("sent");
        let per_s = |phase: &Phase| phase.counted("sent") / phase.seconds;
        let cpu_us = |phase: &Phase| phase.server_cpu_us_per(phase.counted("sent"));
        let waited_for = statements::waited_for(phase).filter(|_| !is_embedded && sent > 0.0);
        let figures = [
            Figure::new("durable messages", "1/s", Some(per_s(phase)))
                .map(|figure| figure.against(title, bare.map(per_s)).bar(Bar::RatioAtLeast(share))),
            Figure::new("CPU per message", "µs", cpu_us(phase))
                .map(|figure| figure.against(title, bare.and_then(cpu_us))),
            Figure::new("refused", "", Some(phase.counted("send_errors"))),
            Figure::new("without an answer", "", Some(phase.counted("sends") - sent - phase.counted("send_errors"))),
            Figure::new("store statements per message before `sent`", "", waited_for.map(|count| count / sent))
                .map(|figure| figure.bar(Bar::AtMost(1.1))),
        ];
        figures.into_iter().chain(statements::per(phase, sent, "message")).flatten().collect()
    }
}
