//! A worker process: runs its share of a scenario, in lockstep with the others, and reports its counters each second.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::address::Sources;
use crate::client::crowd::Crowd;
use crate::client::dial::Dialer;
use crate::client::network::{Complaints, FinalReaders, Meters, Network};
use crate::control::{Gate, Order, Plan, Said, Work};
use crate::meter::pace::Pace;
use crate::meter::recorder::{Counter, LatencyMeter, Recorder};
use crate::meter::timer::Timer;
use crate::meter::{NS_PER_S, now_ns};
use crate::verify::Log;
use crate::{baseline, nodes, scenario};

/// Unprocessed orders: there is never more than one pass and one stop.
const ORDERS_MAX: usize = 4;
/// How long to wait for deliveries after the last send.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// Late moments that are taken in a row before yielding.
const IN_A_ROW_MAX: u32 = 32;
/// A second, and a margin.
const FLUSHED_AFTER: Duration = Duration::from_millis(1_200);
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// What a scenario's load works with.
pub(crate) struct Worker {
    pub(crate) plan: Plan,
    pub(crate) network: Arc<Network>,
    pub(crate) recorder: Recorder,
    /// Cancelled when the load should end early.
    pub(crate) stop: CancellationToken,
    passes: mpsc::Receiver<Vec<Value>>,
    timer: Timer,
    /// How much later than intended this process sends: its own part of the latencies.
    lag: LatencyMeter,
    sends: Counter,
}

/// The process `switchboard-loadtest worker`.
pub(crate) fn run() -> ExitCode {
    nodes::raise_descriptor_limit();
    let result = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime");
    let result = result.and_then(|runtime| {
        let result = runtime.block_on(work());
        // A read of standard input can't be cancelled, and dropping the runtime would wait for it.
        runtime.shutdown_background();
        result
    });
    let last = match result {
        Ok(complaints) => Said::Done { complaints },
        Err(error) => Said::Failed(format!("{error:#}")),
    };
    // Without a reader there is nobody to report to.
    let _ = say(&last);
    ExitCode::SUCCESS
}

async fn work() -> Result<std::collections::BTreeMap<String, u64>> {
    let (starts, mut started) = mpsc::channel(1);
    let (passing, passes) = mpsc::channel(ORDERS_MAX);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(listen(starts, passing, stop.clone()));
    let plan: Plan = started.recv().await.context("received no plan")?;
    let mut recorder = Recorder::default();
    let log = match &plan.history {
        Some(folder) => Some(Arc::new(Log::create(&folder.join(format!("{}.jsonl", plan.worker)))?)),
        None => None,
    };
    let seed = u64::from(std::process::id());
    let network = Arc::new(Network {
        addresses: plan.addresses.clone(),
        entry: plan.entry.clone(),
        dialer: Dialer::new(plan.ca.as_deref()).context("--ca")?,
        sources: Sources::new(seed),
        run: plan.run.clone(),
        meters: Meters::new(&mut recorder),
        complaints: Complaints::default(),
        is_followed: plan.is_followed,
        is_at_home: plan.is_at_home,
        log: log.clone(),
        final_readers: FinalReaders::default(),
    });
    let (lag, sends) = (recorder.latency("lag"), recorder.counter("sends"));
    let timer = Timer::new().context("no timer")?;
    let mut worker = Worker { plan, network, recorder, stop, passes, timer, lag, sends };
    match worker.plan.work.clone() {
        Work::Scenario(name) => {
            let scenario = scenario::find(&name).with_context(|| format!("unknown scenario {name}"))?;
            scenario.work(&mut worker).await?;
        }
        Work::Baseline(name) => baseline::load(&name, &mut worker).await?,
    }
    if let Some(log) = log {
        log.finish()?;
    }
    Ok(worker.network.complaints.take())
}

/// Passes orders on. The process ends with the coordinator, because nobody else would stop it.
async fn listen(starts: mpsc::Sender<Plan>, passing: mpsc::Sender<Vec<Value>>, stop: CancellationToken) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let taken = match serde_json::from_str(&line) {
            Ok(Order::Start(plan)) => starts.send(*plan).await.is_ok(),
            Ok(Order::Pass(brought)) => passing.send(brought).await.is_ok(),
            Ok(Order::Stop) => {
                stop.cancel();
                true
            }
            Err(_) => false,
        };
        if !taken {
            break;
        }
    }
    std::process::exit(1);
}

fn say(said: &Said) -> Result<()> {
    let mut line = serde_json::to_string(said)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()?;
    Ok(())
}

impl Worker {
    /// Waits until all workers are here, and returns their contributions.
    ///
    /// # Errors
    /// The coordinator has gone.
    pub(crate) async fn meet(&mut self, name: &str, brought: Value) -> Result<Vec<Value>> {
        self.pass(Gate::Meet(name.to_owned()), brought).await
    }

    /// Kills the spawned nodes, and restarts them.
    ///
    /// # Errors
    /// The coordinator has gone.
    pub(crate) async fn restart_nodes(&mut self) -> Result<()> {
        self.pass(Gate::Restart, Value::Null).await.map(drop)
    }

    /// The end of the load. If it is verified, every client asks for everything once more, once no worker sends any
    /// more.
    ///
    /// # Errors
    /// The coordinator has gone.
    pub(crate) async fn see_off(&mut self, crowd: Crowd) -> Result<()> {
        if self.network.log.is_some() {
            crowd.settle().await;
            // For `read` without an answer.
            tokio::time::sleep(FLUSHED_AFTER).await;
            self.meet("all is still", Value::Null).await?;
            crowd.look_back().await;
        }
        crowd.close().await;
        Ok(())
    }

    async fn pass(&mut self, gate: Gate, brought: Value) -> Result<Vec<Value>> {
        pass(&mut self.passes, gate, brought).await
    }

    /// Runs `what` as a phase, which the report shows with its counters and resource use.
    ///
    /// # Errors
    /// Those of `what`.
    pub(crate) async fn phase<T>(
        &mut self,
        name: &str,
        what: impl AsyncFnOnce(&mut PhaseWork<'_>) -> Result<T>,
    ) -> Result<T> {
        // What was counted between phases belongs to none.
        self.recorder.take();
        self.pass(Gate::Begin(name.to_owned()), Value::Null).await?;
        let begun_ns = now_ns();
        let mut second = 0;
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.tick().await;
        let mut phase = PhaseWork {
            begun_ns,
            stop: &self.stop,
            timer: &self.timer,
            lag: &self.lag,
            sends: &self.sends,
            meters: &self.network.meters,
            passes: &mut self.passes,
        };
        let done = {
            let what = what(&mut phase);
            tokio::pin!(what);
            loop {
                tokio::select! {
                    done = &mut what => break done?,
                    _ = ticks.tick() => {
                        say(&Said::Tick { second, sample: self.recorder.take() })?;
                        second += 1;
                    }
                }
            }
        };
        say(&Said::Tick { second, sample: self.recorder.take() })?;
        self.pass(Gate::End(name.to_owned()), Value::Null).await?;
        Ok(done)
    }
}

async fn pass(passes: &mut mpsc::Receiver<Vec<Value>>, gate: Gate, brought: Value) -> Result<Vec<Value>> {
    say(&Said::At { gate, brought })?;
    passes.recv().await.context("the coordinator has exited")
}

/// What the work of a phase can use.
pub(crate) struct PhaseWork<'a> {
    begun_ns: u64,
    stop: &'a CancellationToken,
    timer: &'a Timer,
    lag: &'a LatencyMeter,
    sends: &'a Counter,
    meters: &'a Meters,
    passes: &'a mut mpsc::Receiver<Vec<Value>>,
}

impl PhaseWork<'_> {
    /// Calls `send` at `rate` per second for `duration_s`, with the number and the intended moment of each, however
    /// long a call takes. Returns the number of calls.
    ///
    /// # Errors
    /// The timer's.
    pub(crate) async fn pace(&mut self, rate: f64, duration_s: f64, mut send: impl FnMut(u64, u64)) -> Result<u64> {
        let sends = self.sends;
        let mut turns = self.turns(rate, duration_s);
        let mut count = 0;
        while let Some(intended_ns) = turns.next().await? {
            send(count, intended_ns);
            sends.add(1);
            count += 1;
        }
        Ok(count)
    }

    /// Moments at `rate` per second for `duration_s`; at a rate of zero, one after the other as fast as they are taken.
    pub(crate) fn turns(&mut self, rate: f64, duration_s: f64) -> Turns<'_> {
        let (now_ns, duration_ns) = (now_ns(), seconds_ns(duration_s));
        let pace = (rate > 0.0).then(|| Pace::new(now_ns, rate, duration_ns));
        Turns {
            pace,
            end_ns: now_ns + duration_ns,
            in_a_row: 0,
            stop: self.stop,
            timer: self.timer,
            lag: self.lag,
            meters: self.meters,
        }
    }

    /// The sessions' counters.
    pub(crate) fn meters(&self) -> &Meters {
        self.meters
    }

    /// Like [`Worker::meet`], within a phase.
    ///
    /// # Errors
    /// The coordinator has gone.
    pub(crate) async fn meet(&mut self, name: &str, brought: Value) -> Result<Vec<Value>> {
        pass(self.passes, Gate::Meet(name.to_owned()), brought).await
    }

    /// Kills the first node.
    ///
    /// # Errors
    /// The coordinator has gone, or did not spawn the nodes.
    pub(crate) async fn kill_first_node(&mut self) -> Result<()> {
        pass(self.passes, Gate::Kill, Value::Null).await.map(drop)
    }

    /// The sum of all workers' contributions.
    ///
    /// # Errors
    /// The coordinator has gone.
    pub(crate) async fn sum(&mut self, name: &str, own: u64) -> Result<u64> {
        Ok(self.meet(name, own.into()).await?.iter().filter_map(Value::as_u64).sum())
    }

    /// Adds what all workers have sent in this phase to `said`, and waits until each of this worker's `readers` has
    /// received all of it.
    ///
    /// # Errors
    /// The coordinator has gone.
    pub(crate) async fn heard(&mut self, said: &mut u64, own: u64, readers: u64) -> Result<()> {
        *said += self.sum("said", own).await?;
        let (expected, deliveries) = (*said * readers, self.meters.deliveries.clone());
        self.drain(|| deliveries.total() >= expected).await;
        Ok(())
    }

    /// Whether the load should end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits for `duration_s`, or until the load should end.
    pub(crate) async fn hold(&mut self, duration_s: f64) -> Result<()> {
        tokio::select! {
            waited = self.timer.until(self.begun_ns + seconds_ns(duration_s)) => waited?,
            () = self.stop.cancelled() => {}
        }
        Ok(())
    }

    /// Waits until `is_drained`, within a limit: what is missing then shows in the counters.
    pub(crate) async fn drain(&mut self, is_drained: impl Fn() -> bool) {
        self.drain_within(DRAIN_MAX, is_drained).await;
    }

    /// Like [`PhaseWork::drain`], with another limit.
    pub(crate) async fn drain_within(&mut self, most: Duration, is_drained: impl Fn() -> bool) {
        let until_ns = now_ns() + u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        while !is_drained() && now_ns() < until_ns {
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }

    /// Waits for something that is itself measured: until `is_done`, for at most `most_s`, or until the load should
    /// end.
    pub(crate) async fn until(&mut self, most_s: f64, is_done: impl Fn() -> bool) {
        let until_ns = now_ns() + seconds_ns(most_s);
        while !is_done() && now_ns() < until_ns && !self.is_stopped() {
            tokio::time::sleep(DRAIN_STEP).await;
        }
    }

    /// Waits until what was sent without an `id` is durable: within a second (PROTOCOL §3, "Receipts and unread").
    pub(crate) async fn flushed(&mut self) {
        tokio::time::sleep(FLUSHED_AFTER).await;
    }
}

/// The moments of a schedule.
pub(crate) struct Turns<'a> {
    pace: Option<Pace>,
    end_ns: u64,
    /// The number that were taken without a wait.
    in_a_row: u32,
    stop: &'a CancellationToken,
    timer: &'a Timer,
    lag: &'a LatencyMeter,
    meters: &'a Meters,
}

impl Turns<'_> {
    /// Waits for the next intended moment and returns it; `None` at the end of the schedule, or when the load should
    /// end.
    ///
    /// # Errors
    /// The timer's.
    pub(crate) async fn next(&mut self) -> Result<Option<u64>> {
        self.in_a_row += 1;
        let Some(pace) = &mut self.pace else {
            let now_ns = now_ns();
            tokio::task::yield_now().await;
            return Ok((now_ns < self.end_ns && !self.stop.is_cancelled()).then_some(now_ns));
        };
        if let Some(next_ns) = pace.next_at_ns().filter(|next_ns| *next_ns > now_ns()) {
            self.in_a_row = 0;
            tokio::select! {
                waited = self.timer.until(next_ns) => waited?,
                () = self.stop.cancelled() => {}
            }
        } else if self.in_a_row >= IN_A_ROW_MAX {
            // Lets the sessions' tasks write, even if this one is always late.
            self.in_a_row = 0;
            tokio::task::yield_now().await;
        }
        if self.stop.is_cancelled() {
            return Ok(None);
        }
        let due = pace.due(now_ns());
        if let Some((_, intended_ns)) = due {
            self.lag.record_ns(now_ns() - intended_ns);
        }
        Ok(due.map(|(_, intended_ns)| intended_ns))
    }

    /// The sessions' counters.
    pub(crate) fn meters(&self) -> &Meters {
        self.meters
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "durations are at most an hour")]
fn seconds_ns(seconds: f64) -> u64 {
    (seconds * NS_PER_S as f64) as u64
}
