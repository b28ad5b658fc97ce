//! A real Apache Cassandra, from the jars that `script/bootstrap` has downloaded to the cache.

mod config;

use crate::{ReservedPort, until_stopped};
use config::ServerAddress;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tempfile::TempDir;

/// On a machine that is too busy one server of a cluster may fail to join.
const CLUSTER_ATTEMPTS: usize = 3;

/// Logged once it accepts connections. (`Starting listening for CQL clients` comes earlier.)
const READY: &str = "Startup complete";

/// Logged, before or after that, once its one user can sign in; only on its first start.
const USER_MADE: &str = "Created default superuser role";

/// Starts java with the given arguments, prints its pid, and kills it when nobody holds this script's standard input
/// any more: so no server outlives the tests, however they end. Only java holds the standard output then, so that ends
/// with it.
const KEEPER: &str = r#"java "$@" 2>&1 & java=$!; echo "pid $java"; exec >/dev/null; cat; kill -9 $java; wait $java"#;

/// Options of a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct CassandraOptions {
    /// Users need a password; there is `cassandra` with the password `cassandra`.
    pub passwords: bool,
    /// Creates tables several times faster, but they are lost after a kill.
    pub schema_in_memory: bool,
}

/// A single node that keeps its data in a temporary folder, and has a row on disk before it confirms it.
pub struct CassandraServer {
    folder: TempDir,
    place: ServerAddress,
    ports: Ports,
    options: CassandraOptions,
    running: Option<Running>,
}

/// Nodes of a cluster, whose replication factor is the same number.
pub const CLUSTER_NODES: u8 = 3;

impl CassandraServer {
    /// Starts a server; it accepts connections when this returns, some seconds later.
    ///
    /// # Errors
    /// If Java or the jars are missing (`script/bootstrap test`), or it does not start.
    pub fn start() -> io::Result<Self> {
        Self::start_with(CassandraOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// See [`CassandraServer::start`].
    pub fn start_with(options: CassandraOptions) -> io::Result<Self> {
        let ports = Ports::reserve()?;
        Self::start_at(ports.alone(), ports, options)
    }

    /// Starts a cluster of [`CLUSTER_NODES`], one after the other, which takes most of a minute. They are at 127.0.0.1
    /// and the addresses after it.
    ///
    /// # Errors
    /// See [`CassandraServer::start`].
    pub fn start_cluster() -> io::Result<Vec<Self>> {
        (1..CLUSTER_ATTEMPTS).find_map(|_| Self::try_start_cluster().ok()).map_or_else(Self::try_start_cluster, Ok)
    }

    fn try_start_cluster() -> io::Result<Vec<Self>> {
        let first = Self::start()?;
        let (seed, ports) = (first.place, first.ports.clone());
        let mut nodes = vec![first];
        for n in 2..=CLUSTER_NODES {
            let place = ServerAddress { address: Ipv4Addr::new(127, 0, 0, n), ..seed };
            nodes.push(Self::start_at(place, ports.clone(), CassandraOptions::default())?);
        }
        Ok(nodes)
    }

    fn start_at(place: ServerAddress, ports: Ports, options: CassandraOptions) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        config::write(folder.path(), place, options)?;
        let awaited = if options.passwords { &[READY, USER_MADE][..] } else { &[READY] };
        let running = Running::start(folder.path(), place, options, awaited)?;
        Ok(Self { folder, place, ports, options, running: Some(running) })
    }

    /// The address of a server that all tests of this process share, each in its own keyspaces. It ends with the
    /// process.
    ///
    /// # Errors
    /// See [`CassandraServer::start`].
    pub fn shared() -> io::Result<SocketAddr> {
        static STARTING: Mutex<()> = Mutex::new(());
        static SHARED: OnceLock<CassandraServer> = OnceLock::new();
        let _only = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        match SHARED.get() {
            Some(server) => Ok(server.address()),
            None => {
                let started = Self::start_with(CassandraOptions { schema_in_memory: true, ..Default::default() })?;
                Ok(SHARED.get_or_init(|| started).address())
            }
        }
    }

    /// The address for CQL.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.place.address, self.place.cql_port))
    }

    /// Kills it with kill -9: only what is on disk survives.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again with what is on disk, on the same port.
    ///
    /// # Errors
    /// See [`CassandraServer::start`].
    pub fn start_again(&mut self) -> io::Result<()> {
        self.running = None;
        self.running = Some(Running::start(self.folder.path(), self.place, self.options, &[READY])?);
        Ok(())
    }

    /// Suspends it (SIGSTOP): connections stay, and nothing is answered once this returns.
    ///
    /// # Errors
    /// If it is not running.
    pub fn pause(&self) -> io::Result<()> {
        let java = self.java()?;
        kill_process(java, Signal::STOP)?;
        until_stopped(java)
    }

    /// Resumes it (SIGCONT).
    ///
    /// # Errors
    /// If it is not running.
    pub fn resume(&self) -> io::Result<()> {
        Ok(kill_process(self.java()?, Signal::CONT)?)
    }

    fn java(&self) -> io::Result<Pid> {
        let running = self.running.as_ref().ok_or_else(|| io::Error::other("Cassandra is not running"))?;
        Ok(running.java)
    }
}

/// The ports of all servers of a cluster.
#[derive(Clone)]
struct Ports {
    cql: Arc<ReservedPort>,
    storage: Arc<ReservedPort>,
}

impl Ports {
    fn reserve() -> io::Result<Self> {
        Ok(Self { cql: Arc::new(ReservedPort::new()?), storage: Arc::new(ReservedPort::new()?) })
    }

    /// The address of a single-node cluster.
    fn alone(&self) -> ServerAddress {
        let address = Ipv4Addr::LOCALHOST;
        let (cql_port, storage_port) = (self.cql.number(), self.storage.number());
        ServerAddress { address, seed: address, cql_port, storage_port }
    }
}

/// A Java process, and its keeper script.
struct Running {
    keeper: Child,
    java: Pid,
}

impl Running {
    /// Starts the server configured in `folder` and waits until it has logged all of `awaited`.
    fn start(folder: &Path, place: ServerAddress, options: CassandraOptions, awaited: &[&str]) -> io::Result<Self> {
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .args(config::java_arguments(folder, &jars()?, place, options))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = keeper.stdout.take().ok_or_else(|| io::Error::other("Cassandra: no output"))?;
        let mut lines = BufReader::new(output).lines();
        let pid = lines.next().transpose()?.unwrap_or_default();
        let java = pid.strip_prefix("pid ").and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        let Some(java) = java else { return Err(io::Error::other(format!("Cassandra: no pid but {pid:?}"))) };
        let running = Self { keeper, java };
        wait_until_logged(lines, awaited)?;
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // Only the kill is left.
        drop(self.keeper.wait());
    }
}

fn wait_until_logged(mut lines: io::Lines<BufReader<ChildStdout>>, awaited: &[&str]) -> io::Result<()> {
    let mut awaited = awaited.to_vec();
    let mut said = String::new();
    for line in lines.by_ref() {
        let line = line?;
        awaited.retain(|awaited| !line.contains(awaited));
        if awaited.is_empty() {
            // Drains the rest of its output, so that it never blocks.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(());
        }
        said.push_str(&line);
        said.push('\n');
    }
    Err(io::Error::other(format!("Cassandra did not start:\n{said}")))
}

/// The folder of jars, created by `script/bootstrap`.
fn jars() -> io::Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).unwrap_or_default();
    let jars = cache.join("switchboard").join(config::VERSION).join("lib");
    if jars.is_dir() {
        return Ok(jars);
    }
    let missing = format!("Cassandra: no {}; `script/bootstrap test` fetches it", jars.display());
    Err(io::Error::new(io::ErrorKind::NotFound, missing))
}
