//! The result of one round: its phases with their counters, latencies, processes and seconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::meter::latency::{Counts, Latencies};
use crate::meter::process::ProcessUse;
use crate::meter::recorder::Sample;

/// One run of a load against servers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Round {
    pub(crate) phases: Vec<Phase>,
    /// The clients' problems, and their counts.
    pub(crate) complaints: BTreeMap<String, u64>,
}

/// A named part of a round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Phase {
    pub(crate) name: String,
    /// Its length, including the waits at its end.
    pub(crate) seconds: f64,
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) latencies: BTreeMap<String, Counts>,
    /// The servers on this machine.
    pub(crate) servers: Vec<ProcessShare>,
    /// All worker processes together.
    pub(crate) workers: Option<ProcessShare>,
    /// CPU time of the whole machine, all processes included.
    pub(crate) machine_cpu_us: u64,
    /// The growth of the servers' own counters, all servers together.
    pub(crate) server_counters: BTreeMap<String, f64>,
    pub(crate) series: Vec<Second>,
}

/// A process's resource use in a phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessShare {
    pub(crate) name: String,
    pub(crate) cpu_us: u64,
    pub(crate) resident_before_bytes: u64,
    pub(crate) resident_after_bytes: u64,
}

/// A second of a phase, for the curves.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Since the start of the phase.
    pub(crate) at_s: f64,
    /// Its length: the last second of a phase is shorter.
    pub(crate) passed_s: f64,
    /// What was counted, by name.
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) latencies: BTreeMap<String, Percentiles>,
    /// The servers on this machine, by name.
    pub(crate) servers: BTreeMap<String, Usage>,
    /// All worker processes together.
    pub(crate) clients: Option<Usage>,
}

/// Resource use in a second, and at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPUs: 1 is one of them, fully used.
    pub(crate) cpu: f64,
    pub(crate) resident_bytes: u64,
}

/// A second's latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Round {
    pub(crate) fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.name == name)
    }
}

impl Phase {
    /// 0 if nothing was counted under this name.
    pub(crate) fn counted(&self, name: &str) -> f64 {
        self.counters.get(name).copied().unwrap_or(0) as f64
    }

    /// CPUs used by the clients: 1 is one of them, fully used.
    pub(crate) fn client_cpu(&self) -> f64 {
        self.workers.as_ref().map_or(0.0, |share| share.cpu_us as f64 / 1e6 / self.seconds.max(1e-3))
    }

    /// CPUs used by unrelated processes.
    pub(crate) fn foreign_cpu(&self) -> f64 {
        let own: u64 = self.servers.iter().chain(&self.workers).map(|share| share.cpu_us).sum();
        self.machine_cpu_us.saturating_sub(own) as f64 / 1e6 / self.seconds.max(1e-3)
    }

    /// All servers' CPU time, in microseconds; `None` if they run elsewhere.
    pub(crate) fn server_cpu_us(&self) -> Option<f64> {
        (!self.servers.is_empty()).then(|| self.servers.iter().map(|share| share.cpu_us).sum::<u64>() as f64)
    }

    /// All servers' CPU time divided by `things`.
    pub(crate) fn server_cpu_us_per(&self, things: f64) -> Option<f64> {
        self.server_cpu_us().filter(|_| things > 0.0).map(|us| us / things)
    }

    /// All servers' resident memory at the end, in bytes.
    pub(crate) fn resident_after_bytes(&self) -> Option<f64> {
        let bytes: u64 = self.servers.iter().map(|share| share.resident_after_bytes).sum();
        (!self.servers.is_empty()).then_some(bytes as f64)
    }

    pub(crate) fn resident_before_bytes(&self) -> Option<f64> {
        let bytes: u64 = self.servers.iter().map(|share| share.resident_before_bytes).sum();
        (!self.servers.is_empty()).then_some(bytes as f64)
    }

    /// `None` if there were none.
    pub(crate) fn percentile_ms(&self, name: &str, percentile: f64) -> Option<f64> {
        self.latencies.get(name).map(|counts| Latencies::from(counts).percentile_ms(percentile))
    }
}

impl ProcessShare {
    pub(crate) fn between(name: &str, begin: ProcessUse, end: ProcessUse) -> Self {
        Self {
            name: name.to_owned(),
            cpu_us: end.cpu_us.saturating_sub(begin.cpu_us),
            resident_before_bytes: begin.resident_bytes,
            resident_after_bytes: end.resident_bytes,
        }
    }
}

impl Second {
    /// What clients have counted; the rest comes from the sampling of processes.
    pub(crate) fn of(sample: &Sample) -> Self {
        let latencies = sample.latencies.iter().map(|(name, counts)| (name.clone(), Percentiles::of(counts)));
        Self { counters: sample.counters.clone(), latencies: latencies.collect(), ..Self::default() }
    }
}

impl Usage {
    /// `None` if it was not running all the time.
    pub(crate) fn between(begin: Option<ProcessUse>, end: Option<ProcessUse>, passed_s: f64) -> Option<Self> {
        let (begin, end) = (begin?, end?);
        let cpu = end.cpu_us.saturating_sub(begin.cpu_us) as f64 / 1e6 / passed_s;
        Some(Self { cpu, resident_bytes: end.resident_bytes })
    }
}

impl Percentiles {
    fn of(counts: &Counts) -> Self {
        let all = Latencies::from(counts);
        Self { p50_ms: all.percentile_ms(50.0), p99_ms: all.percentile_ms(99.0), max_ms: all.max_ms() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_used_the_processors_is_told_apart() {
        let share = |cpu_us| ProcessShare { cpu_us, ..ProcessShare::default() };
        let phase = Phase {
            seconds: 2.0,
            servers: vec![share(1_000_000), share(500_000)],
            workers: Some(share(300_000)),
            machine_cpu_us: 2_000_000,
            ..Phase::default()
        };
        assert_eq!((phase.client_cpu(), phase.foreign_cpu()), (0.15, 0.1));
        assert_eq!(phase.server_cpu_us_per(1_000.0), Some(1_500.0));
        assert_eq!((phase.server_cpu_us_per(0.0), Phase::default().server_cpu_us()), (None, None));
    }
}
