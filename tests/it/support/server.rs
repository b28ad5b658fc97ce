//! A server process in its own folder.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::watch;

use super::{Http, SECRET, SEND_TIMEOUT, START_PATIENCE, soon, within};

/// The mount point of a server's own disk, in its folder.
const DISK: &str = "disk";

/// Runs the following command where it may mount.
const UNSHARE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--mount"];

/// The binary: `SWITCHBOARD_BIN`, or the one that cargo builds now.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("SWITCHBOARD_BIN") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = std::process::Command::new(cargo)
            .args(["build", "--quiet", "--package", "switchboard", "--message-format", "json"])
            .output()
            .expect("cargo runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let messages = String::from_utf8_lossy(&built.stdout);
        let executable = messages.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let is_ours = message["target"]["name"] == "switchboard";
            message["executable"].as_str().filter(|_| is_ours).map(PathBuf::from)
        });
        executable.expect("cargo says where the binary is")
    })
}

/// The binary with arguments, without the configuration in this process's environment.
pub(crate) fn command(folder: &Path) -> Command {
    prepared(Command::new(binary()), folder)
}

/// As [`command`], with a separate disk at [`DISK`] that disappears with the process.
fn command_with_disk(folder: &Path, mebibytes: u32) -> Command {
    std::fs::create_dir(folder.join(DISK)).expect("a folder");
    let mut command = Command::new(UNSHARE[0]);
    let mount = format!("mount -t tmpfs -o size={mebibytes}m tmpfs {DISK} && exec \"$0\" \"$@\"");
    command.args(&UNSHARE[1..]).args(["sh", "-c", &mount]).arg(binary());
    prepared(command, folder)
}

/// Whether this machine allows creating a disk.
pub(crate) fn may_mount() -> bool {
    let mut command = std::process::Command::new(UNSHARE[0]);
    let tried = command.args(&UNSHARE[1..]).args(["sh", "-c", "mount -t tmpfs tmpfs /mnt"]).output();
    tried.is_ok_and(|output| output.status.success())
}

fn prepared(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs the binary to its end.
pub(crate) async fn run(folder: &Path, args: &[&str]) -> Output {
    soon("the command's end", command(folder).args(args).output()).await.expect("the binary runs")
}

/// The configuration of a server.
#[derive(Clone, Default)]
pub(crate) struct Config {
    file: Option<PathBuf>,
    sets: Vec<String>,
    env: Vec<(&'static str, PathBuf)>,
    development: bool,
    disk_mebibytes: Option<u32>,
}

impl Config {
    /// With a configured key ([`SECRET`]).
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Without any key.
    pub(crate) fn development() -> Self {
        Self { development: true, ..Self::default() }
    }

    /// `--set key=value`
    pub(crate) fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.sets.push(format!("{key}={value}"));
        self
    }

    /// `--config path`
    pub(crate) fn file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, name: &'static str, value: &Path) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    /// Puts the store on a separate disk of this size, which disappears with the process.
    pub(crate) fn store_on_disk(mut self, mebibytes: u32) -> Self {
        self.disk_mebibytes = Some(mebibytes);
        self.set("store.path", format!("{DISK}/store"))
    }

    fn args(&self) -> Vec<String> {
        let mut sets = vec![
            "node.id=n1".to_owned(),
            "node.listen=127.0.0.1:0".to_owned(),
            "metrics.listen=127.0.0.1:0".to_owned(),
            "log.level=debug".to_owned(),
            "store.path=store".to_owned(),
            format!("limits.send_timeout_ms={}", SEND_TIMEOUT.as_millis()),
            // A test may do other things before it signs in.
            "limits.auth_timeout_ms=600000".to_owned(),
        ];
        if !self.development {
            sets.push(format!("auth.hs256_secret={SECRET}"));
        }
        sets.extend(self.sets.iter().cloned());
        let file = self.file.iter().flat_map(|path| ["--config".to_owned(), path.display().to_string()]);
        file.chain(sets.into_iter().flat_map(|set| ["--set".to_owned(), set])).collect()
    }

    /// Runs it until it ends by itself; returns the exit code and its last line on stderr.
    pub(crate) async fn refused(self) -> (Option<i32>, String) {
        let folder = TempDir::new().expect("a folder");
        let output = command(folder.path()).args(self.args()).output();
        let output = within(START_PATIENCE, "the end", output).await.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
        (output.status.code(), said)
    }

    /// Starts a server in a folder, without waiting until it is ready.
    pub(crate) fn start_in(self, folder: TempDir) -> Starting {
        let mut command = match self.disk_mebibytes {
            Some(mebibytes) => command_with_disk(folder.path(), mebibytes),
            None => command(folder.path()),
        };
        command.envs(self.env.iter().cloned());
        let mut child = command.args(self.args()).spawn().expect("the binary starts");
        let log = read_log(child.stderr.take().expect("stderr is piped"));
        Starting { folder, config: self, child, log }
    }

    pub(crate) async fn start(self) -> Server {
        Server::start_in(TempDir::new().expect("a folder"), self).await
    }
}

/// A server that is ready.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) listen: String,
    pub(crate) metrics: String,
    /// The ready line.
    pub(crate) ready: Value,
    config: Config,
    child: Child,
    stdout: tokio::io::Lines<BufReader<ChildStdout>>,
    log: watch::Receiver<String>,
}

impl Server {
    /// Starts a server on the store in `folder`.
    pub(crate) async fn start_in(folder: TempDir, config: Config) -> Self {
        config.start_in(folder).ready().await
    }

    pub(crate) fn http(&self) -> Http {
        Http::new(&self.listen)
    }

    pub(crate) fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// Its own disk, as seen by this process.
    pub(crate) fn disk(&self) -> PathBuf {
        let folder = self.folder.path().join(DISK);
        Path::new(&format!("/proc/{}/root", self.pid().as_raw_nonzero()))
            .join(folder.strip_prefix("/").expect("absolute"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process can be signalled");
    }

    /// Waits for the end; returns the exit code, the rest of stdout, and the log.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = soon("the server's end", self.child.wait()).await.expect("the server can be waited for");
        let mut stdout = Vec::new();
        while let Ok(Some(line)) = self.stdout.next_line().await {
            stdout.push(line);
        }
        Ended { code: status.code(), stdout, log: whole(self.log).await, folder: self.folder }
    }

    /// Waits until the log contains this text this many times.
    pub(crate) async fn logged(&self, text: &str, times: usize) {
        let mut log = self.log.clone();
        let there = log.wait_for(|log| log.matches(text).count() >= times);
        soon(text, there).await.unwrap_or_else(|_| panic!("the server ended without {text}"));
    }

    /// SIGTERM, and the end.
    pub(crate) async fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Kills the process with SIGKILL and starts another one on the same store.
    pub(crate) async fn kill_and_restart(self) -> Self {
        let config = self.config.clone();
        // It may have died already.
        let _ = kill_process(self.pid(), Signal::KILL);
        let ended = self.ended().await;
        Self::start_in(ended.folder, config).await
    }

    /// The value of a metric; for one with labels, the sum over those that contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = Http::new(&self.metrics).get("/metrics").send().await;
        let is_it = |line: &&str| {
            let head = line.split(' ').next().unwrap_or_default();
            let (found, found_labels) = head.split_once('{').unwrap_or((head, ""));
            found == name && found_labels.contains(labels)
        };
        page.body.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// A server that may still be waiting for something.
pub(crate) struct Starting {
    folder: TempDir,
    config: Config,
    child: Child,
    log: watch::Receiver<String>,
}

impl Starting {
    /// Waits until it is ready.
    pub(crate) async fn ready(self) -> Server {
        let Self { folder, config, mut child, log } = self;
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let Ok(Some(line)) = within(START_PATIENCE, "the ready line", stdout.next_line()).await else {
            panic!("no ready line: {}", whole(log).await);
        };
        let ready: Value = serde_json::from_str(&line).expect("the ready line is JSON");
        let address = |name: &str| ready[name].as_str().expect("an address").to_owned();
        Server { folder, listen: address("listen"), metrics: address("metrics"), ready, config, child, stdout, log }
    }

    /// Waits until the log contains this text.
    pub(crate) async fn logged(&mut self, text: &str) {
        let there = self.log.wait_for(|log| log.contains(text));
        within(START_PATIENCE, text, there).await.unwrap_or_else(|_| panic!("the server ended without {text}"));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid_of(&self.child), signal).expect("the process can be signalled");
    }

    /// Waits for the end; returns the exit code.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        soon("the server's end", self.child.wait()).await.expect("the server can be waited for").code()
    }
}

fn pid_of(child: &Child) -> Pid {
    let id = child.id().expect("the process runs");
    Pid::from_raw(i32::try_from(id).expect("a pid")).expect("a pid")
}

/// A server that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) log: String,
    pub(crate) folder: TempDir,
}

/// The log as it grows. The sender is dropped at its end.
fn read_log(stderr: ChildStderr) -> watch::Receiver<String> {
    let (log, reader) = watch::channel(String::new());
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            log.send_modify(|log| *log += &format!("{line}\n"));
        }
    });
    reader
}

async fn whole(mut log: watch::Receiver<String>) -> String {
    while log.changed().await.is_ok() {}
    log.borrow().clone()
}
