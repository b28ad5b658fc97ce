//! The scenarios, one file each.
//!
//! A scenario has two halves. Its load ([`Scenario::work`]) runs in the worker processes, in phases. Its figures
//! ([`Scenario::figures`]) are computed by the coordinator from the results of the phases alone, so they can be tested
//! without a server.

mod active;
mod connect;
mod dashboard;
pub(crate) mod direct;
mod fanout;
mod group;
mod mixed;
mod presence;
mod push;
mod receipts;
mod send;
mod statements;
mod storm;
mod takeover;
mod typing;

use std::collections::BTreeMap;

use anyhow::Result;
use async_trait::async_trait;

use crate::baseline;
use crate::control::Load;
use crate::meter::metrics_page;
use crate::report::figure::Figure;
use crate::report::round::{Phase, Round};
use crate::worker::Worker;

/// A measurable scenario.
#[async_trait(?Send)]
pub(crate) trait Scenario: Sync {
    fn name(&self) -> &'static str;

    /// One line for `list`.
    fn about(&self) -> &'static str;

    /// The load if the command line does not say otherwise.
    fn defaults(&self) -> Defaults;

    /// Its own parameters.
    fn params(&self) -> &'static [Param] {
        &[]
    }

    /// Settings of spawned nodes, in addition to the user's.
    fn settings(&self, _load: &Load) -> Vec<String> {
        Vec::new()
    }

    /// Whether its clients follow the log even without verification, as reconnecting clients must.
    fn is_followed(&self) -> bool {
        false
    }

    /// Whether spawned nodes have a push service, for which the workers listen.
    fn has_provider(&self) -> bool {
        false
    }

    /// The load of one worker.
    async fn work(&self, worker: &mut Worker) -> Result<()>;

    /// The baselines that run directly afterwards; `round` is the result of the real run.
    fn baselines(&self, _load: &Load, _round: &Round) -> Vec<Baseline> {
        Vec::new()
    }

    /// The figures of one repeat.
    fn figures(&self, load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure>;
}

/// The default load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) connections: usize,
    /// Sends per second; 0 if the scenario has no sends.
    pub(crate) rate: f64,
    pub(crate) warm_up_s: f64,
    pub(crate) duration_s: f64,
}

/// A parameter of a single scenario. All are numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) default: f64,
    pub(crate) about: &'static str,
}

impl Param {
    const TEXT_BYTES: Self = Self { name: "text_bytes", default: 64.0, about: "length of each message's text" };
}

/// A bare program that does the same work, and its load.
#[derive(Clone, Debug)]
pub(crate) struct Baseline {
    /// One of `baseline::NAMES`; the load of the same name is run against it.
    pub(crate) name: &'static str,
    pub(crate) load: Load,
}

impl Baseline {
    /// A bare `send` of what was delivered: the same rate of frames, each to the same number of `readers`.
    fn bare_send(load: &Load, phase: &Phase, readers: usize, frames_per_write: f64) -> Self {
        let mut load = Load { connections: readers, ..load.clone() };
        let frame_bytes = (phase.counted("bytes") / phase.counted("frames").max(1.0)).round();
        load.params.insert("frame_bytes".to_owned(), frame_bytes.to_string());
        load.params.insert("frames_per_write".to_owned(), frames_per_write.to_string());
        Self { name: baseline::SEND, load }
    }
}

/// The share of the servers' socket writes, in percent, by the number of frames in a write.
fn writes_by_frames(phase: &Phase) -> Vec<Option<Figure>> {
    let writes = |least: u32| {
        let name = format!(r#"switchboard_writes_total{{frames="{least}"}}"#);
        phase.server_counters.get(&name).copied().unwrap_or(0.0)
    };
    let all = metrics_page::sum(&phase.server_counters, "switchboard_writes_total");
    let steps = (0..8).map(|power| 1_u32 << power).filter(|least| all > 0.0 && writes(*least) > 0.0);
    let share = |least: u32| Some(100.0 * writes(least) / all);
    steps
        .map(|least| Figure::new(&format!("writes of {least} frames or more, below {}", 2 * least), "%", share(least)))
        .collect()
}

static ALL: &[&dyn Scenario] = &[
    &connect::Connect,
    &direct::Direct,
    &fanout::Fanout,
    &group::Group,
    &send::Send,
    &active::Active,
    &receipts::Receipts,
    &presence::Presence,
    &typing::Typing,
    &dashboard::Dashboard,
    &push::Push,
    &storm::Storm,
    &takeover::Takeover,
    &mixed::Mixed,
];

/// All scenarios, in the order of `list`.
pub(crate) fn all() -> &'static [&'static dyn Scenario] {
    ALL
}

pub(crate) fn find(name: &str) -> Option<&'static dyn Scenario> {
    ALL.iter().copied().find(|scenario| scenario.name() == name)
}
