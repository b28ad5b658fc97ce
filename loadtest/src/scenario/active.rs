//! `active`: the memory of an active conversation: its owner, with members, cursors and recent `client_id`s.
//!
//! There is no baseline: no bare program has such a thing, and the figure is memory, not a share of a processor.

use std::collections::BTreeMap;

use anyhow::Result;
use async_trait::async_trait;

use super::direct::Talk;
use super::{Defaults, Param, Scenario};
use crate::client::crowd::Crowd;
use crate::control::Load;
use crate::report::figure::{Bar, Figure};
use crate::report::round::Round;
use crate::worker::Worker;

pub(super) struct Active;

#[async_trait(?Send)]
impl Scenario for Active {
    fn name(&self) -> &'static str {
        "active"
    }

    fn about(&self) -> &'static str {
        "many active conversations: memory of each"
    }

    /// The duration follows from the rate: each message creates a conversation.
    fn defaults(&self) -> Defaults {
        Defaults { connections: 200, rate: 5_000.0, warm_up_s: 1.0, duration_s: 4.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[Param::TEXT_BYTES]
    }

    fn settings(&self, _load: &Load) -> Vec<String> {
        vec!["limits.frames_per_s=1000000".to_owned(), "limits.conversation_idle_ms=3600000".to_owned()]
    }

    /// Everyone writes once to each of a number of users who are not connected.
    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let (load, plan) = (worker.plan.load.clone(), worker.plan.clone());
        let numbers: Vec<usize> = plan.share(load.connections).collect();
        let mut crowd = Crowd::new(worker.network.clone());
        let clients = crowd.connect(numbers.iter().map(|number| (plan.who(*number), None)), 32).await?;
        let all = (load.rate * (load.warm_up_s + load.duration_s)).ceil() as usize;
        let rounds = all.div_ceil(load.connections.max(1)) + 1;
        let places = (0..rounds).flat_map(|round| {
            let user = &plan;
            numbers.iter().map(move |number| format!(r#""to":"{}-other-{round}""#, user.user(*number)))
        });
        let (places, text) = (places.collect(), "x".repeat(load.count("text_bytes")));
        let writers = clients.iter().cycle().take(rounds * clients.len()).cloned().collect();
        let mut talk = Talk::new(writers, places, text, false, &worker.network.meters);
        let rate = plan.rate_share();
        worker.phase("warm-up", async |phase| talk.run(phase, rate, load.warm_up_s).await).await?;
        worker.phase("load", async |phase| talk.run(phase, rate, load.duration_s).await).await?;
        worker.see_off(crowd).await
    }

    fn figures(&self, _load: &Load, round: &Round, _baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let Some(phase) = round.phase("load") else { return Vec::new() };
        let sent = phase.counted("sent");
        let grown = phase.resident_after_bytes().zip(phase.resident_before_bytes());
        let figures = [
            Figure::new(
                "memory per active conversation, what the store keeps in memory included",
                "KB",
                grown.map(|(after, before)| (after - before) / 1e3 / sent.max(1.0)),
            ),
            Figure::new("conversations made", "", Some(sent)),
            Figure::new("CPU to make one", "µs", phase.server_cpu_us_per(sent)),
            Figure::new("sends without an answer", "", Some(phase.counted("sends") - sent))
                .map(|figure| figure.bar(Bar::AtMost(0.0))),
        ];
        figures.into_iter().flatten().collect()
    }
}
