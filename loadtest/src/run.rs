//! A whole run: servers, rounds with their baselines, and the report.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use switchboard_clock::Clock;
use switchboard_protocol::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::baseline;
use crate::chaos::Chaos;
use crate::client::address::Address;
use crate::client::network::Entry;
use crate::client::token::Tokens;
use crate::command_line::Run;
use crate::control::{Load, Plan, Work};
use crate::meter::metrics_page;
use crate::nodes::{self, NodeOptions, Server};
use crate::provider::Reserved;
use crate::report::figure::{self, Figure};
use crate::report::machine::Machine;
use crate::report::round::Round;
use crate::report::{FORMAT, Repeat, Report, html, table};
use crate::round;
use crate::scenario::Scenario;
use crate::verify::{self, Verdict};

/// The generator's own delay above which its latencies say more about the generator than about the server.
const LAG_MAX_MS: f64 = 1.0;
/// CPU share of other processes above which they disturb.
const FOREIGN_CPU_MAX: f64 = 0.1;
/// Share of one CPU above which a client process is the bottleneck.
const CLIENT_CPU_MAX: f64 = 0.9;

/// Measures, prints, and writes the requested files.
///
/// Returns `false` if `--verify` has found a violation.
///
/// # Errors
/// Nothing could be measured, or a file can't be written.
pub(crate) async fn run(run: &Run) -> Result<bool> {
    let descriptors = nodes::raise_descriptor_limit();
    let stop = CancellationToken::new();
    let mut report = blank(run, Machine::look(descriptors));
    {
        let measure = measure(run, &mut report, &stop);
        tokio::pin!(measure);
        tokio::select! {
            measured = &mut measure => measured?,
            () = interrupted() => {
                eprintln!("ending early, with the figures so far; another Ctrl-C ends at once");
                stop.cancel();
                tokio::select! {
                    measured = &mut measure => measured?,
                    // Dropping the run kills what it has spawned.
                    () = interrupted() => anyhow::bail!("ended at once"),
                }
            }
        }
    }
    report.is_interrupted = stop.is_cancelled();
    let figures: Vec<Vec<Figure>> =
        report.repeats.iter().map(|repeat| figures_of(run.scenario, &report.load, repeat)).collect();
    report.figures = figure::summaries(&figures);
    report.warnings = warnings(&report);
    // Before the files, which may not be writable.
    print!("{}", table::text(&report));
    if let Some(path) = &run.json {
        fs::write(path, serde_json::to_vec(&report)?).with_context(|| format!("can't write {}", path.display()))?;
    }
    if let Some(path) = &run.html {
        html::write(path, &report)?;
    }
    Ok(report.verdicts().all(|verdict| verdict.violations == 0))
}

/// Ctrl-C, or the signal by which a supervisor ends a process.
async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn blank(run: &Run, machine: Machine) -> Report {
    Report {
        format: FORMAT,
        scenario: run.scenario.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: env!("SWITCHBOARD_COMMIT").to_owned(),
        started_at: Timestamp::from_unix_ms(Clock::system().wall_ms()).to_string(),
        machine,
        command: std::env::args().skip(1).collect(),
        load: run.load.clone(),
        processes: run.processes,
        nodes: run.load.nodes,
        settings: run.settings.clone(),
        is_interrupted: false,
        warnings: Vec::new(),
        repeats: Vec::new(),
        figures: Vec::new(),
    }
}

async fn measure(run: &Run, report: &mut Report, stop: &CancellationToken) -> Result<()> {
    for number in 1..=run.repeat {
        if stop.is_cancelled() {
            break;
        }
        let title =
            |name: &str| if run.repeat > 1 { format!("{name} {number}/{}", run.repeat) } else { name.to_owned() };
        let (round, verdict) = real(run, &title(run.scenario.name()), number, stop).await?;
        report.repeats.push(Repeat { round, verdict, baselines: BTreeMap::new() });
        let Some(repeat) = report.repeats.last_mut() else { continue };
        if run.is_without_baseline {
            continue;
        }
        for wanted in run.scenario.baselines(&run.load, &repeat.round) {
            if stop.is_cancelled() {
                break;
            }
            let title = title(&format!("bare {}", wanted.name));
            let server = Server::baseline(baseline::arguments(wanted.name, &wanted.load)).await?;
            let plan = plan(
                run,
                Work::Baseline(wanted.name.to_owned()),
                &wanted.load,
                number,
                vec![server.address.clone()],
                baseline::entry(wanted.name),
            );
            let mut servers = vec![server];
            let played = round::play(&plan, &title, &mut servers, None, stop).await;
            end(servers).await;
            repeat.baselines.insert(wanted.name.to_owned(), played?);
        }
    }
    Ok(())
}

/// Runs the scenario once, against spawned nodes or the given ones.
async fn real(run: &Run, title: &str, number: usize, stop: &CancellationToken) -> Result<(Round, Option<Verdict>)> {
    let (mut servers, mut chaos) = (Vec::new(), None);
    let provider = if run.spawn > 0 && run.scenario.has_provider() { Some(Reserved::new()?) } else { None };
    let tokens = if run.spawn > 0 {
        let secret = nodes::new_secret()?;
        let own = run.scenario.settings(&run.load).into_iter().chain(shared(run, number));
        let own = own.chain(provider.as_ref().map(Reserved::settings).unwrap_or_default());
        let options = NodeOptions {
            binary: run.binary()?,
            settings: own.chain(run.settings.iter().cloned()).collect(),
            secret: secret.clone(),
            redis_url: run.redis.clone(),
            environment: provider.as_ref().map(Reserved::environment).unwrap_or_default(),
        };
        chaos = run.chaos.map(|blow| Chaos::new(blow, &options.settings));
        for node in 1..=run.spawn {
            servers.push(Server::node(&format!("n{node}"), &options).await?);
        }
        for server in servers.iter().filter(|_| run.redis.is_some()) {
            server.meets(run.spawn).await?;
        }
        Tokens::Secret(secret)
    } else {
        for (place, url) in run.urls.iter().enumerate() {
            servers.push(Server::given(url.clone(), run.metrics.get(place).cloned()));
        }
        run.secret.clone().map_or(Tokens::Development, Tokens::Secret)
    };
    let at = |server: &Server| Address { is_tls: run.load.is_tls, ..server.address.clone() };
    let addresses: Vec<Address> = servers.iter().map(at).collect();
    let history = if run.is_verified { Some(tempfile::tempdir()?) } else { None };
    let work = Work::Scenario(run.scenario.name().to_owned());
    let mut plan = plan(run, work, &run.load, number, addresses, Entry::SignedIn(tokens));
    plan.is_followed = run.is_verified || run.scenario.is_followed();
    plan.is_at_home = run.is_at_home;
    plan.history = history.as_ref().map(|folder| folder.path().to_owned());
    plan.provider = provider.as_ref().map(|reserved| reserved.site.clone());
    let played = round::play(&plan, title, &mut servers, chaos, stop).await;
    end(servers).await;
    let verdict = match &history {
        Some(folder) => Some(verdict(run, folder.path())?),
        None => None,
    };
    Ok((played?, verdict))
}

/// The settings that make spawned nodes one gateway, on an empty store and a bus of their own.
fn shared(run: &Run, number: usize) -> Vec<String> {
    let name = format!("loadtest_{:x}_{number}", Clock::system().wall_ms());
    let mut settings = Vec::new();
    if !run.load.scylla.is_empty() {
        let servers: Vec<String> = run.load.scylla.iter().map(|server| format!("{server:?}")).collect();
        settings.extend([
            "store.kind=scylla".to_owned(),
            format!("store.scylla.nodes=[{}]", servers.join(",")),
            format!("store.scylla.keyspace={name}"),
            format!("store.scylla.replication_factor={}", replicas(&run.load.scylla)),
        ]);
    }
    if run.redis.is_some() {
        settings.extend(["bus.kind=redis".to_owned(), format!("redis.prefix={name}")]);
    }
    settings
}

/// The number of replicas on these servers.
pub(crate) fn replicas(scylla: &[String]) -> usize {
    scylla.len().min(3)
}

/// Checks the clients' histories, and keeps them if requested.
fn verdict(run: &Run, folder: &Path) -> Result<Verdict> {
    let operations = verify::read_folder(folder)?;
    if let Some(path) = &run.history {
        verify::append(path, &operations)?;
    }
    Ok(verify::check(&operations))
}

async fn end(servers: Vec<Server>) {
    for server in servers {
        server.end().await;
    }
}

fn plan(run: &Run, work: Work, load: &Load, number: usize, addresses: Vec<Address>, entry: Entry) -> Plan {
    Plan {
        work,
        worker: 0,
        workers: run.processes,
        // Users and messages of earlier runs may still exist in a deployment that was not spawned.
        run: format!("l{:x}-{number}", Clock::system().wall_ms()),
        addresses,
        ca: run.ca.clone(),
        entry,
        load: load.clone(),
        is_followed: false,
        is_at_home: false,
        history: None,
        provider: None,
    }
}

fn figures_of(scenario: &dyn Scenario, load: &Load, repeat: &Repeat) -> Vec<Figure> {
    scenario.figures(load, &repeat.round, &repeat.baselines)
}

/// Doubts about the figures.
fn warnings(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    let phases = report.repeats.iter().flat_map(|repeat| &repeat.round.phases);
    for phase in phases.filter(|phase| phase.name != "warm-up") {
        if let Some(lag_ms) = phase.percentile_ms("lag", 99.0).filter(|lag_ms| *lag_ms > LAG_MAX_MS) {
            warnings.push(format!(
                "in {} the generator sent up to {lag_ms:.1} ms (p99) later than intended, which is part of the latencies",
                phase.name
            ));
        }
        let dropped = metrics_page::sum(&phase.server_counters, "switchboard_frames_dropped_total");
        if dropped > 0.0 {
            warnings.push(format!("in {} the servers dropped {dropped} ephemeral frames of slow readers", phase.name));
        }
        if phase.client_cpu() > CLIENT_CPU_MAX * report.processes as f64 {
            warnings.push(format!(
                "in {} the generator used {:.2} processors in {} process(es): it may be the bottleneck; see --processes",
                phase.name,
                phase.client_cpu(),
                report.processes
            ));
        }
        if phase.foreign_cpu() > FOREIGN_CPU_MAX * report.machine.processors as f64 {
            warnings.push(format!(
                "in {} other programs used {:.2} of {} processors: the figures are disturbed",
                phase.name,
                phase.foreign_cpu(),
                report.machine.processors
            ));
        }
    }
    warnings
}
