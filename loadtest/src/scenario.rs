//! The scenarios: what is measured, one file each.
//!
//! A scenario has two halves. Its load ([`Scenario::work`]) runs in the worker processes, in phases. Its figures
//! ([`Scenario::figures`]) are computed by the coordinator from what the phases showed, and need nothing else: so they can
//! be tested without a server.

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

/// What can be measured.
#[async_trait(?Send)]
pub(crate) trait Scenario: Sync {
    fn name(&self) -> &'static str;

    /// One line for `list`.
    fn about(&self) -> &'static str;

    /// How much load there is when the command line does not say.
    fn defaults(&self) -> Defaults;

    /// Its own parameters.
    fn params(&self) -> &'static [Param] {
        &[]
    }

    /// What nodes that are started for it are set to, besides what the user sets.
    fn settings(&self, _load: &Load) -> Vec<String> {
        Vec::new()
    }

    /// Whether its clients follow the log even where nothing is verified: those who come back have to.
    fn is_followed(&self) -> bool {
        false
    }

    /// Whether nodes that are started for it have a push service, at which the workers listen.
    fn has_provider(&self) -> bool {
        false
    }

    /// The load of one worker.
    async fn work(&self, worker: &mut Worker) -> Result<()>;

    /// The baselines that run right behind it; `round` is what it has shown just now.
    fn baselines(&self, _load: &Load, _round: &Round) -> Vec<Baseline> {
        Vec::new()
    }

    /// The figures of one repeat.
    fn figures(&self, load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure>;
}

/// Load as it is unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) connections: usize,
    /// Sends a second; 0 where the scenario has none.
    pub(crate) rate: f64,
    pub(crate) warm_up_s: f64,
    pub(crate) duration_s: f64,
}

/// A parameter that only one scenario has. All are numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) default: f64,
    pub(crate) about: &'static str,
}

impl Param {
    const TEXT_BYTES: Self = Self { name: "text_bytes", default: 64.0, about: "length of each message's text" };
}

/// A bare program that does the same thing, and the load for it.
#[derive(Clone, Debug)]
pub(crate) struct Baseline {
    /// One of `baseline::NAMES`; the load of the same name is played against it.
    pub(crate) name: &'static str,
    pub(crate) load: Load,
}

impl Baseline {
    /// A bare `send` of what was just delivered: as many frames a second, each to as many `readers`.
    fn bare_send(load: &Load, phase: &Phase, readers: usize, frames_per_write: f64) -> Self {
        let mut load = Load { connections: readers, ..load.clone() };
        let frame_bytes = (phase.counted("bytes") / phase.counted("frames").max(1.0)).round();
        load.params.insert("frame_bytes".to_owned(), frame_bytes.to_string());
        load.params.insert("frames_per_write".to_owned(), frames_per_write.to_string());
        Self { name: baseline::SEND, load }
    }
}

/// Of the servers' writes to sockets, how many percent were shared by so many frames.
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

/// All of them, in the order of `list`.
pub(crate) fn all() -> &'static [&'static dyn Scenario] {
    ALL
}

pub(crate) fn find(name: &str) -> Option<&'static dyn Scenario> {
    ALL.iter().copied().find(|scenario| scenario.name() == name)
}
