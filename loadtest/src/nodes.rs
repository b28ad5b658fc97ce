//! The measured processes: nodes of Switchboard that the harness spawns, and the programs of baselines.
//!
//! Each has a temporary folder. However the harness ends, short of kill -9, they end too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::address::Address;
use crate::client::connect::http;
use crate::client::dial::tcp;
use crate::meter::metrics_page::{self, Series};
use crate::meter::process::{ProcessUse, look_at};

/// How long a process may take to become ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// Poll interval while nodes discover each other.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Raises the soft limit of descriptors to the hard one, and returns it.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Without permission, it stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How long a node may take to end after SIGTERM: `drain.timeout_ms` and a margin.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Options of spawned nodes.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    pub(crate) binary: PathBuf,
    /// `key=value`, as for `switchboard --set`; later ones win.
    pub(crate) settings: Vec<String>,
    pub(crate) secret: String,
    pub(crate) redis_url: Option<String>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

/// A measured server.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: Address,
    metrics: Option<Address>,
    process: Option<Process>,
}

/// A server that was spawned here.
struct Process {
    child: Child,
    start: Start,
    /// Its working directory and store.
    folder: TempDir,
    /// CPU time of its earlier lives: a node that was killed and restarted counts as one server.
    former_cpu_us: u64,
}

/// The program to run.
enum Start {
    Node(NodeOptions),
    /// Arguments for this program.
    Baseline(Vec<String>),
}

/// The ready line on a server's standard output (OPERATING, "Output").
#[derive(Deserialize)]
struct Ready {
    listen: std::net::SocketAddr,
    metrics: Option<std::net::SocketAddr>,
}

impl Server {
    /// A server that is running elsewhere.
    pub(crate) fn given(address: Address, metrics: Option<Address>) -> Self {
        Self { name: address.authority(), address, metrics, process: None }
    }

    /// Spawns a node and waits until it is ready.
    ///
    /// # Errors
    /// The binary is missing, or ends instead of becoming ready (having said why on standard error).
    pub(crate) async fn node(name: &str, options: &NodeOptions) -> Result<Self> {
        Self::start(name, Start::Node(options.clone())).await
    }

    /// Spawns a baseline's program.
    ///
    /// # Errors
    /// As [`Server::node`].
    pub(crate) async fn baseline(arguments: Vec<String>) -> Result<Self> {
        let name = arguments.first().cloned().unwrap_or_default();
        Self::start(&name, Start::Baseline(arguments)).await
    }

    async fn start(name: &str, start: Start) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("switchboard-loadtest-").tempdir()?;
        let (child, ready) = launch(name, &start, folder.path(), None).await?;
        let process = Process { child, start, folder, former_cpu_us: 0 };
        Ok(Self {
            name: name.to_owned(),
            address: Address::of_socket(ready.listen),
            metrics: ready.metrics.map(Address::of_socket),
            process: Some(process),
        })
    }

    /// What it has used since its start; `None` if it runs elsewhere, or is dead right now.
    pub(crate) fn look(&self) -> Option<ProcessUse> {
        let process = self.process.as_ref()?;
        let now = look_at(process.child.id()?).ok()?;
        Some(ProcessUse { cpu_us: now.cpu_us + process.former_cpu_us, ..now })
    }

    /// Its own counters; `None` if they are not available.
    pub(crate) async fn counters(&self) -> Option<Series> {
        let metrics = self.metrics.as_ref()?;
        let request =
            Request::get("/metrics").header("host", metrics.authority()).body(Full::new(Bytes::new())).ok()?;
        let (status, page) = http(tcp(metrics, None).await.ok()?, request).await.ok()?;
        status.is_success().then(|| metrics_page::parse(&String::from_utf8_lossy(&page)))
    }

    /// Waits until it knows this many nodes, including itself.
    ///
    /// # Errors
    /// That takes too long.
    pub(crate) async fn meets(&self, nodes: usize) -> Result<()> {
        let known = async {
            loop {
                let counters = self.counters().await.unwrap_or_default();
                if metrics_page::sum(&counters, "switchboard_view_members") >= nodes as f64 {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            }
        };
        let known = tokio::time::timeout(READY_MAX, known).await;
        known.with_context(|| format!("{} did not find the other nodes in time", self.name))
    }

    /// Its exit status, if it was spawned here and has ended unexpectedly.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.child.try_wait().ok()?
    }

    /// kill -9, then a restart on the same store and address.
    ///
    /// # Errors
    /// It was not spawned here, or does not come back.
    pub(crate) async fn kill_and_start(&mut self) -> Result<()> {
        self.former_life();
        let Some(process) = &mut self.process else { bail!("{} was not started here", self.name) };
        process.child.kill().await?;
        self.start_again().await
    }

    /// kill -9 without a restart: from now on it is treated as running elsewhere, without data.
    ///
    /// # Errors
    /// It was not spawned here.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { bail!("{} was not started here", self.name) };
        process.child.kill().await?;
        Ok(())
    }

    /// SIGTERM, then a restart once it has drained.
    ///
    /// # Errors
    /// It does not end, or does not come back.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.former_life();
        if let Some(process) = &mut self.process {
            process.signal(Signal::TERM);
            let ended = tokio::time::timeout(DRAIN_MAX, process.child.wait()).await;
            let status = ended.with_context(|| format!("{} did not exit in time after SIGTERM", self.name))??;
            if !status.success() {
                bail!("{} exited with {status} after SIGTERM", self.name);
            }
        }
        self.start_again().await
    }

    /// SIGSTOP, and SIGCONT after `time`.
    pub(crate) async fn stand_still(&mut self, time: Duration) {
        if let Some(process) = &self.process {
            process.signal(Signal::STOP);
            tokio::time::sleep(time).await;
            process.signal(Signal::CONT);
        }
    }

    /// Records what this life has used, before it ends.
    fn former_life(&mut self) {
        let used = self.look();
        if let (Some(process), Some(used)) = (&mut self.process, used) {
            process.former_cpu_us = used.cpu_us;
        }
    }

    async fn start_again(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let listen = format!("node.listen={}", self.address.authority());
        let (child, ready) = launch(&self.name, &process.start, process.folder.path(), Some(&listen)).await?;
        process.child = child;
        self.metrics = ready.metrics.map(Address::of_socket);
        Ok(())
    }

    /// Ends it. A node is killed: its store is no longer needed, and draining takes time.
    pub(crate) async fn end(mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended already.
            let _ = process.child.kill().await;
        }
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended already.
            let _ = kill_process(pid, signal);
        }
    }
}

/// `setting` comes last, so it wins.
async fn launch(name: &str, start: &Start, folder: &Path, setting: Option<&str>) -> Result<(Child, Ready)> {
    let mut command = match start {
        Start::Node(options) => node_command(name, options, folder, setting),
        Start::Baseline(arguments) => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("baseline").args(arguments).current_dir(folder);
            command
        }
    };
    // A separate process group: Ctrl-C on the terminal goes only to the harness, which ends them in order.
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).kill_on_drop(true);
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("can't start {program}"))?;
    let stdout = child.stdout.take().context("no standard output")?;
    let line = tokio::time::timeout(READY_MAX, BufReader::new(stdout).lines().next_line()).await;
    let Some(line) = line.with_context(|| format!("{name} was not ready in time"))?? else {
        let status = child.wait().await?;
        bail!("{name} exited before it was ready ({status})");
    };
    let ready = serde_json::from_str(&line).with_context(|| format!("{name}: can't parse its ready line: {line}"))?;
    Ok((child, ready))
}

fn node_command(name: &str, options: &NodeOptions, folder: &Path, last: Option<&str>) -> Command {
    let mut command = Command::new(&options.binary);
    // In the environment instead of the arguments, which everyone on the machine can read.
    command.env("SWITCHBOARD__AUTH__HS256_SECRET", &options.secret);
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    if let Some(url) = &options.redis_url {
        command.env("SWITCHBOARD__REDIS__URL", url);
    }
    let own = [
        format!("node.id={name}"),
        "node.listen=127.0.0.1:0".to_owned(),
        "metrics.listen=127.0.0.1:0".to_owned(),
        format!("store.path={}", folder.join("data").display()),
        "log.level=warn".to_owned(),
    ];
    let all = own.iter().chain(&options.settings).map(String::as_str);
    for setting in all.chain(last) {
        command.args(["--set", setting]);
    }
    command
}

/// A random secret for spawned nodes.
///
/// # Errors
/// The system has no random numbers.
pub(crate) fn new_secret() -> Result<String> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok().context("can't get random numbers from the system")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// `switchboard` beside this program.
///
/// # Errors
/// It is missing.
pub(crate) fn binary_beside() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own.parent().context("can't determine the folder of this program")?.join("switchboard");
    if !beside.is_file() {
        bail!("{}: not found; build it, or give its path with --binary", beside.display());
    }
    Ok(beside)
}
