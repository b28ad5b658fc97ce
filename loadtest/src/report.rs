//! The result of a run: one value that is printed as a table, written as JSON, drawn as a page, and compared with
//! others.
//!
//! Nothing here measures. The JSON has its own version ([`FORMAT`]), so that today's files stay readable.

pub(crate) mod figure;
pub(crate) mod html;
pub(crate) mod machine;
pub(crate) mod markdown;
pub(crate) mod progress;
mod read;
pub(crate) mod round;
pub(crate) mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::control::Load;
use figure::Summary;
use machine::Machine;
use round::Round;

use crate::verify::Verdict;

/// Version of the JSON.
pub(crate) const FORMAT: u32 = 1;

/// A run: a scenario, repeated several times, each with its baselines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) scenario: String,
    pub(crate) version: String,
    /// The harness's own, which is also the server's if they were built together.
    pub(crate) commit: String,
    pub(crate) started_at: String,
    pub(crate) machine: Machine,
    /// The arguments, as given.
    pub(crate) command: Vec<String>,
    pub(crate) load: Load,
    pub(crate) processes: usize,
    pub(crate) nodes: usize,
    /// Settings of spawned nodes.
    pub(crate) settings: Vec<String>,
    /// It was ended early.
    pub(crate) is_interrupted: bool,
    /// Doubts about the figures.
    pub(crate) warnings: Vec<String>,
    pub(crate) repeats: Vec<Repeat>,
    pub(crate) figures: Vec<Summary>,
}

/// The real run once, followed by its baselines.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Repeat {
    pub(crate) round: Round,
    /// Of `--verify`.
    pub(crate) verdict: Option<Verdict>,
    pub(crate) baselines: BTreeMap<String, Round>,
}

impl Report {
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.repeats.iter().filter_map(|repeat| repeat.verdict.as_ref())
    }
}
