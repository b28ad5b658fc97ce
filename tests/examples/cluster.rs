//! Three nodes, a real redis-server and a real Cassandra on this machine, as one gateway in development mode: started
//! by `script/cluster`. Everything is in temporary folders, and removed after SIGINT or SIGTERM. A node that ends, or
//! is killed by somebody who wants to watch the others, is restarted after a while.
//!
//! Its arguments (`--set key=value` and so on) are passed to each node, after its own.

use std::error::Error;
use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, io};

use rustix::process::{Pid, Signal, kill_process};
use switchboard_tests::{CassandraServer, RedisServer};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Each node's ports on loopback: for clients, and for Prometheus.
const PORTS: [(u16, u16); 3] = [(8080, 9464), (8081, 9465), (8082, 9466)];

/// Longer than a node's drain may take.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// Longer than the others take to detect a dead node (`cluster.heartbeat_ttl_ms`), and to take over.
const START_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The running processes. The nodes are dropped first.
#[derive(Default)]
struct Cluster {
    nodes: Vec<Node>,
    redis: Option<RedisServer>,
    cassandra: Option<CassandraServer>,
    folder: Option<TempDir>,
}

struct Node {
    name: String,
    port: u16,
    metrics_port: u16,
    binary: PathBuf,
    folder: PathBuf,
    arguments: Vec<OsString>,
    child: Child,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut cluster = Cluster::default();
    let outcome = tokio::select! {
        failed = cluster.run() => failed,
        signalled = signalled() => signalled,
    };
    cluster.stop().await;
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for a signal to end.
async fn signalled() -> Outcome<()> {
    let (mut interrupts, mut terminations) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupts.recv() => {}
        _ = terminations.recv() => {}
    }
    Ok(())
}

impl Cluster {
    /// Starts everything, and restarts each node that has ended. Returns when that fails.
    async fn run(&mut self) -> Outcome<()> {
        let binary = env::var_os("SWITCHBOARD_BIN").ok_or("SWITCHBOARD_BIN names no switchboard")?;
        for port in PORTS.into_iter().flat_map(|(port, metrics_port)| [port, metrics_port]) {
            is_free(port)?;
        }
        eprintln!("cluster: starting Redis and Cassandra, which takes a while");
        let redis_url = self.redis.insert(RedisServer::start()?).url();
        let cassandra = self.cassandra.insert(spawn_blocking(CassandraServer::start).await??).address();
        let folder = self.folder.insert(tempfile::tempdir()?).path().to_owned();
        for (n, (port, metrics_port)) in (1..).zip(PORTS) {
            let name = format!("n{n}");
            let sets = [
                format!("node.id={name}"),
                format!("node.listen=127.0.0.1:{port}"),
                format!("metrics.listen=127.0.0.1:{metrics_port}"),
                // The key with which all three sign tokens is beside it.
                "store.path=development".to_owned(),
                "store.kind=scylla".to_owned(),
                format!("store.scylla.nodes=['{cassandra}']"),
                "store.scylla.replication_factor=1".to_owned(),
                "bus.kind=redis".to_owned(),
                format!("redis.url={redis_url}"),
                "log.level=warn".to_owned(),
            ];
            let own = sets.into_iter().flat_map(|set| ["--set".into(), set.into()]);
            let arguments: Vec<OsString> = own.chain(env::args_os().skip(1)).collect();
            let (binary, folder) = (PathBuf::from(&binary), folder.clone());
            let child = start(&binary, &folder, &arguments).await?;
            self.nodes.push(Node { name, port, metrics_port, binary, folder, arguments, child });
        }
        eprintln!("cluster: one gateway at three addresses, each with /dashboard and /trace");
        self.nodes.iter().for_each(Node::show);
        eprintln!("cluster: kill -9 one of them to see the others go on; Ctrl-C ends all");
        loop {
            let mut ends: Vec<_> = self.nodes.iter_mut().map(|node| Box::pin(node.ended())).collect();
            let (ended, place, _) = futures_util::future::select_all(&mut ends).await;
            drop(ends);
            let node = &mut self.nodes[place];
            let (name, wait_s) = (&node.name, START_AGAIN_AFTER.as_secs());
            eprintln!("cluster: {name} has ended ({}); the others go on, and it starts again in {wait_s} s", ended?);
            tokio::time::sleep(START_AGAIN_AFTER).await;
            node.child = start(&node.binary, &node.folder, &node.arguments).await?;
            node.show();
        }
    }

    /// Drains the nodes, all at once, then stops the rest.
    async fn stop(mut self) {
        eprintln!("cluster: stopping");
        for node in &self.nodes {
            let pid = node.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            // It may have ended already.
            pid.map(|pid| kill_process(pid, Signal::TERM));
        }
        let all = async {
            for node in &mut self.nodes {
                drop(node.ended().await);
            }
        };
        if tokio::time::timeout(STOP_PATIENCE, all).await.is_err() {
            eprintln!("cluster: a node does not end, and is killed");
        }
    }
}

impl Node {
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    fn show(&self) {
        let (name, port, metrics_port) = (&self.name, self.port, self.metrics_port);
        let pid = self.child.id().unwrap_or_default();
        eprintln!("    {name}  http://127.0.0.1:{port}  metrics: http://127.0.0.1:{metrics_port}/metrics  pid {pid}");
    }
}

/// Checked before anything is started that takes a while.
fn is_free(port: u16) -> Outcome<()> {
    let found = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    found.map(drop).map_err(|error| format!("127.0.0.1:{port}, where a node is to listen: {error}").into())
}

/// Starts a node and waits until it is ready.
async fn start(binary: &Path, folder: &Path, arguments: &[OsString]) -> Outcome<Child> {
    let mut node = Command::new(binary)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    let output = node.stdout.take().ok_or("no output")?;
    match BufReader::new(output).lines().next_line().await? {
        Some(_) => Ok(node),
        None => Err(format!("a node did not start: {}", node.wait().await?).into()),
    }
}
