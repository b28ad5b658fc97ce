//! One round: workers run a load against servers, and the counters and resource use of each phase are collected.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chaos::Chaos;
use crate::control::{Gate, Order, Plan, Said};
use crate::meter::latency::Latencies;
use crate::meter::metrics_page::{self, Series};
use crate::meter::process::{ProcessUse, look_at, machine_cpu_us};
use crate::meter::recorder::Sample;
use crate::meter::{NS_PER_S, now_ns};
use crate::nodes::Server;
use crate::report::progress;
use crate::report::round::{Phase, ProcessShare, Round, Second, Usage};

/// Unprocessed lines of all workers.
const LINES_MAX: usize = 1_024;
/// Rates over a shorter time are meaningless: the last second of a phase, or what has piled up while a node restarted.
const SHOWN_MIN_S: f64 = 0.2;
/// How long all workers may be silent: they report each second within a phase, and between phases when they finish
/// something.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// Runs `plan` with `plan.workers` processes.
///
/// # Errors
/// A worker failed, or a server has ended.
pub(crate) async fn play(
    plan: &Plan,
    title: &str,
    servers: &mut [Server],
    chaos: Option<Chaos>,
    stop: &CancellationToken,
) -> Result<Round> {
    let (lines, said) = mpsc::channel(LINES_MAX);
    let mut crew = Crew { workers: Vec::new(), readers: JoinSet::new() };
    for number in 0..plan.workers {
        crew.start(Plan { worker: number, ..plan.clone() }, lines.clone()).await?;
    }
    drop(lines);
    let mut referee = Referee { crew, servers, title: title.to_owned(), round: Round::default(), phase: None, chaos };
    referee.watch(said, plan.workers, stop).await?;
    Ok(referee.round)
}

/// The worker processes.
struct Crew {
    workers: Vec<(Child, ChildStdin)>,
    /// Each ends with its worker's output.
    readers: JoinSet<()>,
}

impl Crew {
    async fn start(&mut self, plan: Plan, lines: mpsc::Sender<(usize, Said)>) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().context("can't start a worker")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let number = plan.worker;
        self.readers.spawn(async move {
            let mut read = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = read.next_line().await {
                let said = serde_json::from_str(&line).unwrap_or_else(|error| Said::Failed(format!("{error}: {line}")));
                if lines.send((number, said)).await.is_err() {
                    return;
                }
            }
        });
        self.workers.push((child, stdin));
        order(&mut self.workers[number].1, &Order::Start(Box::new(plan))).await
    }

    async fn tell(&mut self, what: &Order) -> Result<()> {
        for (_, stdin) in &mut self.workers {
            order(stdin, what).await?;
        }
        Ok(())
    }

    fn look(&self) -> Option<ProcessUse> {
        let looks = self.workers.iter().filter_map(|(child, _)| look_at(child.id()?).ok());
        looks.reduce(|sum, one| ProcessUse {
            cpu_us: sum.cpu_us + one.cpu_us,
            resident_bytes: sum.resident_bytes + one.resident_bytes,
        })
    }
}

async fn order(stdin: &mut ChildStdin, order: &Order) -> Result<()> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    stdin.write_all(&line).await.context("a worker has exited")?;
    Ok(())
}

/// A sample of the resource use of all processes.
struct Look {
    at_ns: u64,
    servers: Vec<Option<ProcessUse>>,
    workers: Option<ProcessUse>,
    machine_cpu_us: u64,
}

/// A running phase.
struct Running {
    name: String,
    begin: Look,
    counters: Vec<Option<Series>>,
    last: Look,
    latencies: BTreeMap<String, Latencies>,
    phase: Phase,
    /// Seconds that not all workers have reported yet, with the number of reports.
    seconds: BTreeMap<u64, (usize, Sample)>,
}

struct Referee<'a> {
    crew: Crew,
    servers: &'a mut [Server],
    title: String,
    round: Round,
    phase: Option<Running>,
    chaos: Option<Chaos>,
}

impl Referee<'_> {
    async fn watch(
        &mut self,
        mut said: mpsc::Receiver<(usize, Said)>,
        workers: usize,
        stop: &CancellationToken,
    ) -> Result<()> {
        let mut waiting: BTreeMap<usize, (Gate, Value)> = BTreeMap::new();
        let (mut done, mut is_stopped) = (0, false);
        let mut clock = tokio::time::interval(Duration::from_secs(1));
        let mut silence_end = Instant::now() + SILENCE_MAX;
        while done < workers {
            let (number, said) = tokio::select! {
                said = said.recv() => {
                    silence_end = Instant::now() + SILENCE_MAX;
                    said.context("a worker has exited")?
                }
                () = tokio::time::sleep_until(silence_end) => bail!("no message from the workers for too long"),
                () = stop.cancelled(), if !is_stopped => {
                    is_stopped = true;
                    self.crew.tell(&Order::Stop).await?;
                    continue;
                }
                _ = clock.tick() => {
                    self.check_servers()?;
                    if let Some(chaos) = &mut self.chaos {
                        chaos.strike(self.servers).await?;
                    }
                    continue;
                }
            };
            match said {
                Said::Failed(error) => bail!("worker {number}: {error}"),
                Said::Done { complaints } => {
                    done += 1;
                    for (text, count) in complaints {
                        *self.round.complaints.entry(text).or_default() += count;
                    }
                }
                Said::Tick { second, sample } => self.on_tick(second, &sample),
                Said::At { gate, brought } => {
                    waiting.insert(number, (gate, brought));
                    if waiting.len() == workers {
                        let all = std::mem::take(&mut waiting);
                        self.open(all.into_values().collect()).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// All workers are at a gate.
    async fn open(&mut self, arrived: Vec<(Gate, Value)>) -> Result<()> {
        let (gates, brought): (Vec<Gate>, Vec<Value>) = arrived.into_iter().unzip();
        let gate = gates.first().context("no workers")?;
        if gates.iter().any(|other| other != gate) {
            bail!("the workers are at different gates: {gates:?}");
        }
        match gate {
            Gate::Meet(_) => {}
            Gate::Restart => {
                for server in &mut *self.servers {
                    server.kill_and_start().await?;
                }
            }
            Gate::Kill => self.servers.first_mut().context("no node to kill")?.kill().await?,
            Gate::Begin(name) => {
                self.begin(name.clone()).await;
                if let Some(chaos) = self.chaos.as_mut().filter(|_| name == "load") {
                    chaos.begin();
                }
            }
            Gate::End(_) => {
                if let Some(chaos) = &mut self.chaos {
                    chaos.end();
                }
                self.end().await;
            }
        }
        self.crew.tell(&Order::Pass(brought)).await
    }

    async fn begin(&mut self, name: String) {
        let counters = counters(self.servers).await;
        let (begin, last) = (self.look(), self.look());
        self.phase = Some(Running {
            name,
            begin,
            counters,
            last,
            latencies: BTreeMap::new(),
            phase: Phase::default(),
            seconds: BTreeMap::new(),
        });
    }

    async fn end(&mut self) {
        let end = self.look();
        let Some(running) = self.phase.take() else { return };
        let counters = counters(self.servers).await;
        let mut phase = running.phase;
        phase.name = running.name;
        phase.seconds = (end.at_ns - running.begin.at_ns) as f64 / NS_PER_S as f64;
        for (place, server) in self.servers.iter().enumerate() {
            if let (Some(begin), Some(end)) = (running.begin.servers[place], end.servers[place]) {
                phase.servers.push(ProcessShare::between(&server.name, begin, end));
            }
            if let (Some(before), Some(after)) = (&running.counters[place], &counters[place]) {
                for (name, value) in metrics_page::growth(before, after) {
                    *phase.server_counters.entry(name).or_default() += value;
                }
            }
        }
        if let (Some(begin), Some(end)) = (running.begin.workers, end.workers) {
            phase.workers = Some(ProcessShare::between("clients", begin, end));
        }
        phase.machine_cpu_us = end.machine_cpu_us.saturating_sub(running.begin.machine_cpu_us);
        phase.latencies = running.latencies.iter().map(|(name, all)| (name.clone(), all.counts())).collect();
        self.round.phases.push(phase);
    }

    fn look(&self) -> Look {
        Look {
            at_ns: now_ns(),
            servers: self.servers.iter().map(Server::look).collect(),
            workers: self.crew.look(),
            machine_cpu_us: machine_cpu_us().unwrap_or_default(),
        }
    }

    fn on_tick(&mut self, second: u64, sample: &Sample) {
        let Some(running) = &mut self.phase else { return };
        for (name, count) in &sample.counters {
            *running.phase.counters.entry(name.clone()).or_default() += count;
        }
        for (name, counts) in &sample.latencies {
            running.latencies.entry(name.clone()).or_default().merge(counts);
        }
        let (told, all) = running.seconds.entry(second).or_default();
        *told += 1;
        all.merge(sample);
        if *told == self.crew.workers.len() {
            self.on_second(second);
        }
    }

    /// All workers have reported a second: samples the processes, and shows progress.
    fn on_second(&mut self, second: u64) {
        let now = self.look();
        let Some(running) = &mut self.phase else { return };
        let Some((_, sample)) = running.seconds.remove(&second) else { return };
        let passed_s = (now.at_ns - running.last.at_ns) as f64 / NS_PER_S as f64;
        let servers = self.servers.iter().zip(running.last.servers.iter().zip(&now.servers));
        let servers = servers.filter_map(|(server, (before, after))| {
            Some((server.name.clone(), Usage::between(*before, *after, passed_s)?))
        });
        let second = Second {
            at_s: (now.at_ns - running.begin.at_ns) as f64 / NS_PER_S as f64,
            passed_s,
            servers: servers.collect(),
            clients: Usage::between(running.last.workers, now.workers, passed_s),
            ..Second::of(&sample)
        };
        if second.passed_s >= SHOWN_MIN_S {
            progress::show(&self.title, &running.name, &second);
        }
        running.phase.series.push(second);
        running.last = now;
    }

    fn check_servers(&mut self) -> Result<()> {
        for server in &mut *self.servers {
            if let Some(status) = server.has_ended() {
                bail!("{} has exited unexpectedly ({status})", server.name);
            }
        }
        Ok(())
    }
}

async fn counters(servers: &[Server]) -> Vec<Option<Series>> {
    let mut all = Vec::new();
    for server in servers {
        all.push(server.counters().await);
    }
    all
}
