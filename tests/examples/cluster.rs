//! Three nodes, a real redis-server and a real Cassandra on this machine, as one gateway in development mode: what
//! `script/cluster` starts. Everything is in temporary folders, and gone after SIGINT or SIGTERM.
//!
//! Its arguments (`--set key=value` and so on) go to each node, behind its own.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use switchboard_tests::{CassandraServer, RedisServer};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Of each node, on loopback: for clients, and for Prometheus.
const PORTS: [(u16, u16); 3] = [(8080, 9464), (8081, 9465), (8082, 9466)];

/// Longer than a node's drain may take.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// What runs. The nodes go first.
#[derive(Default)]
struct Cluster {
    nodes: Vec<Child>,
    redis: Option<RedisServer>,
    cassandra: Option<CassandraServer>,
    folder: Option<TempDir>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let (mut interrupts, mut terminations) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut cluster = Cluster::default();
    let outcome = tokio::select! {
        ended = cluster.run() => ended,
        _ = interrupts.recv() => Ok(()),
        _ = terminations.recv() => Ok(()),
    };
    cluster.stop().await;
    outcome
}

impl Cluster {
    /// Starts everything, and returns when a node has ended.
    async fn run(&mut self) -> Outcome<()> {
        let binary = env::var_os("SWITCHBOARD_BIN").ok_or("SWITCHBOARD_BIN names no switchboard")?;
        eprintln!("cluster: starting Redis and Cassandra, which takes a while");
        let redis = self.redis.insert(RedisServer::start()?);
        let redis_url = redis.url();
        let cassandra = self.cassandra.insert(spawn_blocking(CassandraServer::start).await??);
        let cassandra = cassandra.address();
        let folder = self.folder.insert(tempfile::tempdir()?);
        for (n, (port, metrics_port)) in PORTS.into_iter().enumerate() {
            let sets = [
                format!("node.id=n{}", n + 1),
                format!("node.listen=127.0.0.1:{port}"),
                format!("metrics.listen=127.0.0.1:{metrics_port}"),
                // Beside it is the key that all three sign tokens with.
                "store.path=development".to_owned(),
                "store.kind=scylla".to_owned(),
                format!("store.scylla.nodes=['{cassandra}']"),
                "store.scylla.replication_factor=1".to_owned(),
                "bus.kind=redis".to_owned(),
                format!("redis.url={redis_url}"),
                "log.level=warn".to_owned(),
            ];
            self.nodes.push(start_node(Path::new(&binary), folder.path(), &sets).await?);
        }
        eprintln!("cluster: one gateway at three addresses; Ctrl-C ends it");
        for (port, _) in PORTS {
            eprintln!("    http://127.0.0.1:{port}");
        }
        let mut ends: Vec<_> = self.nodes.iter_mut().map(|node| Box::pin(node.wait())).collect();
        let ended = futures_util::future::select_all(&mut ends).await.0?;
        Err(format!("a node has ended: {ended}").into())
    }

    /// Drains the nodes, all at once, then stops the rest.
    async fn stop(mut self) {
        eprintln!("cluster: stopping");
        for node in &self.nodes {
            let pid = node.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            // It may have ended by itself.
            pid.map(|pid| kill_process(pid, Signal::TERM));
        }
        let all = async {
            for node in &mut self.nodes {
                drop(node.wait().await);
            }
        };
        if tokio::time::timeout(STOP_PATIENCE, all).await.is_err() {
            eprintln!("cluster: a node does not end, and is killed");
        }
    }
}

/// Starts a node and waits until it is ready.
async fn start_node(binary: &Path, folder: &Path, sets: &[String]) -> Outcome<Child> {
    let mut node = Command::new(binary)
        .args(sets.iter().flat_map(|set| ["--set", set]))
        .args(env::args_os().skip(1))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = node.stdout.take().ok_or("no output")?;
    match BufReader::new(output).lines().next_line().await? {
        Some(_) => Ok(node),
        None => Err(format!("a node did not start: {}", node.wait().await?).into()),
    }
}
