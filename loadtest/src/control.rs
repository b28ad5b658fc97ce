//! The protocol between the coordinator and its worker processes: one JSON value per line, over the worker's standard
//! input and output.
//!
//! Workers run in lockstep through *gates*: a worker that reaches one waits until all have, and gets what the others
//! contributed. The beginning and the end of a phase are gates too, at which the coordinator samples the processes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::address::Address;
use crate::client::network::Entry;
use crate::client::session::Who;
use crate::meter::recorder::Sample;
use crate::provider::Site;

/// Coordinator to worker.
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first one.
    Start(Box<Plan>),
    /// All workers have reached the gate; their contributions, ordered by worker.
    Pass(Vec<Value>),
    /// End the load early, and report.
    Stop,
}

/// Worker to coordinator.
#[derive(Serialize, Deserialize)]
pub(crate) enum Said {
    At {
        gate: Gate,
        brought: Value,
    },
    /// The counters of one second of a phase.
    Tick {
        second: u64,
        sample: Sample,
    },
    /// The end, with the problems on the way and their counts.
    Done {
        complaints: BTreeMap<String, u64>,
    },
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Gate {
    Meet(String),
    Begin(String),
    End(String),
    /// Kills the nodes that were spawned, and restarts them on their stores.
    Restart,
    /// Kills the first spawned node for good.
    Kill,
}

/// The load to run, by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    Scenario(String),
    Baseline(String),
}

/// A worker's instructions.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) work: Work,
    /// This worker's number, and the number of workers.
    pub(crate) worker: usize,
    pub(crate) workers: usize,
    /// Distinguishes this round's users and messages from all others.
    pub(crate) run: String,
    pub(crate) addresses: Vec<Address>,
    /// Certificates in PEM, if an address uses TLS.
    pub(crate) ca: Option<String>,
    pub(crate) entry: Entry,
    pub(crate) load: Load,
    /// Clients follow the log, and reconnect when a session is lost.
    pub(crate) is_followed: bool,
    /// Clients ask for their home (`GET /v1/connect`), and connect there.
    pub(crate) is_at_home: bool,
    /// The folder for the histories of the workers' clients.
    pub(crate) history: Option<PathBuf>,
    /// The push service that the nodes are configured with.
    pub(crate) provider: Option<Site>,
}

/// The amount of load. Rates and connections are totals over all workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) rate: f64,
    pub(crate) warm_up_s: f64,
    pub(crate) duration_s: f64,
    /// Connections use TLS.
    #[serde(default)]
    pub(crate) is_tls: bool,
    /// The number of nodes in the gateway.
    #[serde(default)]
    pub(crate) nodes: usize,
    /// `host:port` of the ScyllaDB or Cassandra of spawned nodes; empty if their store is embedded.
    #[serde(default)]
    pub(crate) scylla: Vec<String>,
    /// The scenario's own parameters, by name.
    pub(crate) params: BTreeMap<String, String>,
}

impl Load {
    /// A parameter as a number.
    ///
    /// # Panics
    /// If it was not declared: the command line has checked that every parameter is there and valid.
    pub(crate) fn number(&self, name: &str) -> f64 {
        let text = self.params.get(name).map(String::as_str).unwrap_or_default();
        text.parse().unwrap_or_else(|_| panic!("{name} is declared as a number"))
    }

    /// Like [`Load::number`], as an integer.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "declared as a whole number")]
    pub(crate) fn count(&self, name: &str) -> usize {
        self.number(name) as usize
    }
}

impl Plan {
    /// This worker's share of `total` things: every `workers`-th.
    pub(crate) fn share(&self, total: usize) -> impl Iterator<Item = usize> + use<> {
        (self.worker..total).step_by(self.workers.max(1))
    }

    /// A user of this run, and their connection: `number` is one of this worker's share.
    pub(crate) fn who(&self, number: usize) -> Who {
        Who { user: self.user(number), number: (number / self.workers.max(1)) as u64, node: number }
    }

    /// The name of a user of this run.
    pub(crate) fn user(&self, number: usize) -> String {
        format!("{}-{number}", self.run)
    }

    /// This worker's equal share of the rate.
    pub(crate) fn rate_share(&self) -> f64 {
        self.load.rate / self.workers.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once() {
        let plan = |worker| Plan {
            work: Work::Scenario(String::new()),
            worker,
            workers: 3,
            run: String::new(),
            addresses: Vec::new(),
            ca: None,
            entry: Entry::Upgraded,
            load: Load::default(),
            is_followed: false,
            is_at_home: false,
            history: None,
            provider: None,
        };
        let mut all: Vec<usize> = (0..3).flat_map(|worker| plan(worker).share(10)).collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }
}
