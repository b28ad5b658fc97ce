//! Nodes, and calls of the harness.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub(crate) const SECRET: &str = "a-secret-of-tests-that-has-32-bytes";

/// `SWITCHBOARD_BIN`, as for all tests against real nodes; otherwise the one beside the harness.
pub(crate) fn node_binary() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_BIN_EXE_switchboard-loadtest")).with_file_name("switchboard");
    let binary = std::env::var_os("SWITCHBOARD_BIN").map_or_else(beside, PathBuf::from);
    assert!(binary.is_file(), "{}: build it: cargo build -p switchboard", binary.display());
    // The tests of a package run in its folder.
    std::path::absolute(binary).unwrap()
}

/// A node that the harness does not start itself.
pub(crate) struct Node {
    /// `host:port`
    pub(crate) listen: String,
    pub(crate) metrics: String,
    _child: Child,
    _folder: TempDir,
}

impl Node {
    /// With settings `key=value`.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(node_binary());
        let own = ["node.listen=127.0.0.1:0", "metrics.listen=127.0.0.1:0", "log.level=warn", "store.path=store"];
        own.iter().chain(settings).for_each(|setting| {
            command.args(["--set", *setting]);
        });
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        let address = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self { listen: address("listen"), metrics: address("metrics"), _child: child, _folder: folder }
    }

    /// A node whose tokens are signed with [`SECRET`].
    pub(crate) async fn with_secret() -> Self {
        Self::start(&[&format!("auth.hs256_secret={SECRET}")]).await
    }
}

/// The harness with arguments, and a folder for its output.
pub(crate) struct Harness {
    pub(crate) folder: TempDir,
    command: Command,
}

impl Harness {
    /// `line` is split at spaces.
    pub(crate) fn new(line: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard-loadtest"));
        command.args(line.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        Self { folder, command }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Against a node that it spawns.
    pub(crate) fn spawning(self) -> Self {
        self.arg("--spawn").arg("1").arg("--binary").arg(node_binary())
    }

    /// Against this many nodes that it spawns, which are one gateway.
    pub(crate) fn across(self, nodes: usize, redis_url: &str, scylla: SocketAddr) -> Self {
        let line = format!("--spawn {nodes} --redis {redis_url} --scylla {scylla}");
        line.split(' ').fold(self, Self::arg).arg("--binary").arg(node_binary())
    }

    /// With nodes none of which is taken for dead, or for unreachable, because it stood still for some seconds.
    pub(crate) fn patient(self) -> Self {
        let settings = [
            "store.scylla.request_timeout_ms=20000",
            "redis.timeout_ms=10000",
            "cluster.heartbeat_ttl_ms=30000",
            "limits.send_timeout_ms=20000",
        ];
        settings.iter().fold(self, |harness, setting| harness.arg("--set").arg(setting))
    }

    /// Against nodes that accept tokens signed with [`SECRET`].
    pub(crate) fn signing(self) -> Self {
        let path = self.folder.path().join("secret");
        std::fs::write(&path, SECRET).unwrap();
        self.arg("--secret-file").arg(path)
    }

    fn with_json(self) -> Self {
        let path = self.json();
        self.arg("--json").arg(path)
    }

    fn json(&self) -> PathBuf {
        self.folder.path().join("report.json")
    }

    pub(crate) fn start(self) -> (Child, TempDir) {
        let mut harness = self.with_json();
        (harness.command.spawn().unwrap(), harness.folder)
    }

    /// What it prints, if it writes no report.
    pub(crate) async fn output(mut self) -> String {
        let output = self.command.output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it until `is_enough` of a line on standard error, and ends it with Ctrl-C.
    pub(crate) async fn run_until(self, mut is_enough: impl FnMut(&str) -> bool) -> Ran {
        let (mut child, folder) = self.start();
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut stderr, mut is_ending) = (String::new(), false);
        while let Some(line) = lines.next_line().await.unwrap() {
            stderr += &format!("{line}\n");
            if !is_ending && is_enough(&line) {
                kill_process(pid, Signal::INT).unwrap();
                is_ending = true;
            }
        }
        let ran = Ran::of(&child.wait_with_output().await.unwrap(), folder.path());
        assert!(is_ending, "{stderr}\n{}", ran.stdout);
        Ran { stderr, ..ran }
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Ran {
        let (child, folder) = self.start();
        Ran::of(&child.wait_with_output().await.unwrap(), folder.path())
    }
}

/// The result of a run.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// `Null` if none was written.
    pub(crate) report: Value,
}

impl Ran {
    pub(crate) fn of(output: &Output, folder: &Path) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let report = std::fs::read(folder.join("report.json")).ok();
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            report: report.map(|json| serde_json::from_slice(&json).unwrap()).unwrap_or_default(),
        }
    }

    /// Everything went well, and no violation was found. Returns the result for further checks.
    #[track_caller]
    pub(crate) fn expect_right(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.stdout);
        if self.verdict().is_object() {
            assert_eq!(self.verdict()["violations"], 0, "{}", self.verdict());
            assert!(self.verdict()["read_back"].as_u64().is_some(), "{}", self.verdict());
        }
        self
    }

    pub(crate) fn verdict(&self) -> &Value {
        &self.report["repeats"][0]["verdict"]
    }

    pub(crate) fn counted_in(&self, phase: &str, counter: &str) -> u64 {
        let phases = self.report["repeats"][0]["round"]["phases"].as_array().unwrap();
        let phase = phases.iter().find(|other| other["name"] == phase).unwrap();
        phase["counters"][counter].as_u64().unwrap_or(0)
    }

    /// In the phase with the load.
    pub(crate) fn counted(&self, counter: &str) -> u64 {
        self.counted_in("load", counter)
    }

    pub(crate) fn figure(&self, name: &str) -> f64 {
        self.summary(name)["value"]["median"].as_f64().unwrap()
    }

    /// The name of a figure's baseline, and its value.
    pub(crate) fn baseline(&self, name: &str) -> &Value {
        &self.summary(name)["baseline"]
    }

    fn summary(&self, name: &str) -> &Value {
        let figures = self.report["figures"].as_array().unwrap();
        let figure = figures.iter().find(|figure| figure["name"] == name);
        figure.unwrap_or_else(|| panic!("there is no {name}"))
    }
}
