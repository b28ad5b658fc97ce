//! `connect`: the cost of accepting and holding connections.

use std::collections::BTreeMap;

use anyhow::Result;
use async_trait::async_trait;

use super::{Baseline, Defaults, Param, Scenario};
use crate::baseline;
use crate::client::crowd::Crowd;
use crate::client::session::Who;
use crate::command_line::CONNECTIONS_PER_PROCESS_MAX;
use crate::control::Load;
use crate::report::figure::{Bar, Figure};
use crate::report::round::Round;
use crate::worker::Worker;

/// Connections before the measurement, so that one-time allocations do not count for the first ones.
const WARM_UP_CONNECTIONS: usize = 64;

pub(super) struct Connect;

#[async_trait(?Send)]
impl Scenario for Connect {
    fn name(&self) -> &'static str {
        "connect"
    }

    fn about(&self) -> &'static str {
        "idle connections: memory of each, CPU time to accept and to hold one"
    }

    fn defaults(&self) -> Defaults {
        Defaults { connections: 5_000, rate: 0.0, warm_up_s: 3.0, duration_s: 50.0 }
    }

    fn params(&self) -> &'static [Param] {
        &[Param { name: "at_once", default: 32.0, about: "concurrent handshakes per client process" }]
    }

    async fn work(&self, worker: &mut Worker) -> Result<()> {
        let (load, workers, run) = (worker.plan.load.clone(), worker.plan.workers, worker.plan.run.clone());
        let connections = load.connections;
        let who =
            |number: usize| Who { user: format!("{run}-{number}"), number: (number / workers) as u64, node: number };
        let at_once = load.count("at_once");
        let mut crowd = Crowd::new(worker.network.clone());
        let early = worker.plan.share(WARM_UP_CONNECTIONS).map(|number| (who(connections + number), None));
        crowd.connect(early, at_once).await?;
        let connects = worker.recorder.counter("connects");
        let people: Vec<usize> = worker.plan.share(connections).collect();
        worker
            .phase("accept", async |phase| {
                for some in people.chunks(at_once.max(1) * 4) {
                    if phase.is_stopped() {
                        break;
                    }
                    let some = some.iter().map(|number| (who(*number), None));
                    connects.add(crowd.connect(some, at_once).await?.len() as u64);
                }
                Ok(())
            })
            .await?;
        worker.phase("settle", async |phase| phase.hold(load.warm_up_s).await).await?;
        worker.phase("hold", async |phase| phase.hold(load.duration_s).await).await?;
        worker.see_off(crowd).await
    }

    fn baselines(&self, load: &Load, _round: &Round) -> Vec<Baseline> {
        // The baseline is one process, however many nodes there are.
        let connections = load.connections.min(CONNECTIONS_PER_PROCESS_MAX);
        let load = Load { connections, warm_up_s: 1.0, duration_s: 1.0, ..load.clone() };
        vec![Baseline { name: baseline::ACCEPT, load }]
    }

    fn figures(&self, load: &Load, round: &Round, baselines: &BTreeMap<String, Round>) -> Vec<Figure> {
        let bare = baselines.get(baseline::ACCEPT);
        let accepted = [
            Figure::new("memory per idle connection", "KB", memory_kb(round)).map(|figure| {
                let most = if load.is_tls { 13.0 } else { 5.0 };
                figure.against("bare accept + upgrade", bare.and_then(memory_kb)).bar(Bar::AtMost(most))
            }),
            Figure::new("CPU to accept one", "µs", accept_us(round)).map(|figure| {
                let figure = figure.against("bare accept + upgrade", bare.and_then(accept_us));
                // The baseline has no TLS.
                if load.is_tls { figure } else { figure.bar(Bar::RatioAtMost(2.0)) }
            }),
            Figure::new("CPU to hold one", "µs/s", hold_us_per_s(round)).map(|figure| figure.bar(Bar::AtMost(0.8))),
            Figure::new("accepted", "1/s", accepted_per_s(round)),
        ];
        accepted.into_iter().flatten().collect()
    }
}

fn accepted(round: &Round) -> Option<f64> {
    round.phase("accept").map(|phase| phase.counted("connects")).filter(|count| *count > 0.0)
}

fn accepted_per_s(round: &Round) -> Option<f64> {
    Some(accepted(round)? / round.phase("accept")?.seconds)
}

/// KB as 1,000 bytes.
fn memory_kb(round: &Round) -> Option<f64> {
    let before = round.phase("accept")?.resident_before_bytes()?;
    let after = round.phase("hold").or(round.phase("settle"))?.resident_after_bytes()?;
    Some((after - before) / 1e3 / accepted(round)?)
}

fn accept_us(round: &Round) -> Option<f64> {
    round.phase("accept")?.server_cpu_us_per(accepted(round)?)
}

fn hold_us_per_s(round: &Round) -> Option<f64> {
    let hold = round.phase("hold")?;
    Some(hold.server_cpu_us_per(accepted(round)?)? / hold.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::round::{Phase, ProcessShare};

    fn phase(name: &str, connects: u64, cpu_us: u64, before: u64, after: u64) -> Phase {
        let share = ProcessShare {
            cpu_us,
            resident_before_bytes: before,
            resident_after_bytes: after,
            ..ProcessShare::default()
        };
        Phase {
            name: name.to_owned(),
            seconds: 10.0,
            counters: [("connects".to_owned(), connects)].into(),
            servers: vec![share],
            ..Phase::default()
        }
    }

    #[test]
    fn figures_are_per_connection() {
        let phases =
            vec![phase("accept", 1_000, 50_000, 1_000_000, 3_900_000), phase("hold", 0, 5_000, 4_000_000, 4_000_000)];
        let round = Round { phases, ..Round::default() };
        let bare = Round { phases: vec![phase("accept", 500, 10_000, 0, 0)], ..Round::default() };
        let baselines = [(baseline::ACCEPT.to_owned(), bare)].into();
        let figures = Connect.figures(&Load::default(), &round, &baselines);
        let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect();
        assert_eq!(values, [3.0, 50.0, 0.5, 100.0]);
        assert_eq!(figures[1].baseline.as_ref().unwrap().value, 20.0);
    }

    #[test]
    fn a_round_that_was_ended_early_gives_what_it_has() {
        assert!(Connect.figures(&Load::default(), &Round::default(), &BTreeMap::new()).is_empty());
    }
}
