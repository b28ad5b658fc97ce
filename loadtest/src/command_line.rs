//! Parses the command line, and reports all mistakes in it at once.

mod given;

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;

use crate::chaos::Blow;
use crate::client::address::Address;
use crate::control::Load;
use crate::nodes;
use crate::scenario::{self, Scenario};
use given::Given;

pub(crate) const HELP: &str = "\
Measures a deployment of Switchboard, or nodes that it spawns itself.

Usage:
  switchboard-loadtest list
  switchboard-loadtest SCENARIO (--spawn N | --url URL...) [options]
  switchboard-loadtest compare FILE... --html FILE
  switchboard-loadtest markdown FILE...

Where:
  --spawn N            Spawn N nodes for this run, on an empty store, and stop them afterwards.
  --binary FILE        The binary of spawned nodes. Default: switchboard, beside this one.
  --set key=value      A setting of spawned nodes, such as limits.heartbeat_ms=5000. May be repeated.
  --redis URL          Makes several spawned nodes one gateway, together with --scylla.
  --scylla HOST:PORT   A server of a ScyllaDB or Cassandra. May be repeated; may be given alone for a single node. Each
                       repeat of the run has its own Redis prefix and keyspace, whose names begin with loadtest_; they are
                       left behind.
  --url URL            Measure this node, such as ws://10.0.0.7:8080 or wss://chat.example.com. May be repeated.
  --metrics URL        The metrics of each --url, in the same order, such as http://10.0.0.7:9464.
                       Without --url and --spawn: ws://127.0.0.1:8080 and http://127.0.0.1:9464, the defaults of a local node.
  --homes              Clients ask GET /v1/connect for their home node and connect there, instead of to all nodes in turn.
  --ca FILE            Certificates (PEM) to verify nodes with wss://. Default: the system's. Spawned nodes use TLS if
                       node.tls.cert and node.tls.key are set with --set.
  --secret-file FILE   The deployment's HS256 secret, to sign tokens. Default: use its development token endpoint.

How much (list shows the defaults of each scenario):
  --connections N      In total, over all client processes.
  --rate R             Sends per second, in total.
  --duration S         Seconds of measured load; at most 3600.
  --warm-up S          Seconds of load before that.
  --processes P        Client processes, each with one thread. Default: as many as the connections require, at 18,000 each.
  --repeat N           Measure N times, each on fresh nodes; reports medians and the spread. Default: 1.
  --param name=value   A parameter of the scenario. May be repeated.
  --params FILE        The same from a TOML file; --param wins.
  --no-baseline        Leave out the baselines.

Correctness:
  --verify             Check what each client saw against what was sent and acknowledged. Clients reconnect, and catch up.
  --history FILE       Append the clients' operations to this file, one per line. Needs --verify.
  --chaos BLOW         kill, stop or restart spawned nodes, or all of these in turn: one node after the other, 3 seconds
                       after the one before is back. Stops alternate: a short one, and one of cluster.heartbeat_ttl_ms
                       and 2 seconds, so that others take over. Needs --verify and --spawn.

Output:
  --json FILE          Write everything that was measured.
  --html FILE          Write a page with figures and curves. compare makes one from --json files, comparing each run with the
                       first; from a single FILE it makes the same page as the run itself. markdown prints every figure of
                       such files as a row of a table.

Other:
  -h, --help           Print this.
  -V, --version        Print the version.

Ctrl-C ends a run early, with the figures measured so far; a second one ends it at once.
Exit codes: 0, 1 if --verify found a violation or nothing could be measured, 2 for a wrong command line.
";

/// A run lasts at most an hour, in case somebody forgets it.
const DURATION_MAX_S: f64 = 3_600.0;
/// Connections per client process, and per node: `nofile` is 20,000 on smaller machines.
pub(crate) const CONNECTIONS_PER_PROCESS_MAX: usize = 18_000;
const PROCESSES_MAX: usize = 64;
const SPAWN_MAX: usize = 32;
const REPEAT_MAX: usize = 100;
/// Runs on one page, each with its own colour.
const COMPARED_MAX: usize = 6;
const RATE_MAX: f64 = 10_000_000.0;

/// What to do.
pub(crate) enum Command {
    Run(Box<Run>),
    /// Makes a page from the reports of several runs.
    Compare {
        files: Vec<PathBuf>,
        html: PathBuf,
    },
    /// Prints a table from the reports of several runs.
    Markdown {
        files: Vec<PathBuf>,
    },
    List,
    Help,
    Version,
    /// A worker process; internal.
    Worker,
    /// A baseline's process; internal.
    Baseline(Vec<String>),
}

/// A scenario and all its parameters.
pub(crate) struct Run {
    pub(crate) scenario: &'static dyn Scenario,
    pub(crate) spawn: usize,
    binary: Option<PathBuf>,
    pub(crate) settings: Vec<String>,
    pub(crate) redis: Option<String>,
    pub(crate) ca: Option<String>,
    pub(crate) urls: Vec<Address>,
    pub(crate) metrics: Vec<Address>,
    pub(crate) secret: Option<String>,
    pub(crate) load: Load,
    pub(crate) processes: usize,
    pub(crate) repeat: usize,
    pub(crate) is_without_baseline: bool,
    pub(crate) is_verified: bool,
    /// Clients connect to their home nodes.
    pub(crate) is_at_home: bool,
    pub(crate) history: Option<PathBuf>,
    pub(crate) chaos: Option<Blow>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
}

impl Run {
    /// The binary of spawned nodes.
    ///
    /// # Errors
    /// It was not given, and is not in the folder of this program.
    pub(crate) fn binary(&self) -> Result<PathBuf> {
        self.binary.clone().map_or_else(nodes::binary_beside, Ok)
    }
}

/// Parses the arguments after the program's name.
///
/// # Errors
/// All mistakes.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Vec<String>> {
    let mut args = args.into_iter().peekable();
    match args.peek().and_then(|word| word.to_str()) {
        Some("worker") => return Ok(Command::Worker),
        Some("baseline") => {
            return Ok(Command::Baseline(args.skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect()));
        }
        _ => {}
    }
    let mut parser = lexopt::Parser::from_args(args);
    let mut given = Given::default();
    let mut mistakes = Vec::new();
    loop {
        match given.take_next(&mut parser) {
            Ok(None) => break,
            Ok(Some(None)) => {}
            Ok(Some(Some(command))) => return Ok(command),
            Err(mistake) => mistakes.push(mistake.to_string()),
        }
    }
    match given.words.as_slice() {
        [] => mistakes.push("no scenario given; switchboard-loadtest list shows them".to_owned()),
        [word] if word == "list" && given.options.is_empty() && mistakes.is_empty() => return Ok(Command::List),
        [word] if word == "list" => mistakes.push("list takes no options".to_owned()),
        [word, files @ ..] if word == "markdown" => {
            if files.is_empty() || !given.options.is_empty() {
                mistakes.push("markdown: requires files written with --json, and takes no options".to_owned());
            } else if mistakes.is_empty() {
                return Ok(Command::Markdown { files: files.iter().map(PathBuf::from).collect() });
            }
        }
        [word, files @ ..] if word == "compare" => {
            if let Some(command) = given.compare(files, &mut mistakes).filter(|_| mistakes.is_empty()) {
                return Ok(command);
            }
        }
        [word] => match scenario::find(word) {
            Some(scenario) => {
                let run = given.run(scenario, &mut mistakes);
                if mistakes.is_empty() {
                    return Ok(Command::Run(Box::new(run)));
                }
            }
            None => mistakes.push(format!("unknown scenario {word}; switchboard-loadtest list shows all")),
        },
        [_, more @ ..] => mistakes.push(format!("unexpected argument: {}", more.join(" "))),
    }
    Err(mistakes)
}

/// The scenarios, with their defaults and parameters.
pub(crate) fn list() -> String {
    let mut text = String::new();
    for scenario in scenario::all() {
        let defaults = scenario.defaults();
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}: {}", scenario.name(), scenario.about());
        let _ = writeln!(
            text,
            "    --connections {} --rate {} --warm-up {} --duration {}",
            defaults.connections, defaults.rate, defaults.warm_up_s, defaults.duration_s
        );
        for param in scenario.params() {
            let _ = writeln!(text, "    --param {}={}: {}", param.name, param.default, param.about);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn parsed(line: &str) -> Result<Command, Vec<String>> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn run(line: &str) -> Box<Run> {
        match parsed(line) {
            Ok(Command::Run(run)) => run,
            Ok(_) => panic!("{line} is no run"),
            Err(mistakes) => panic!("{line}: {mistakes:?}"),
        }
    }

    #[test]
    fn a_run_has_the_scenarios_defaults() {
        let run = run("direct --spawn 1");
        let defaults = run.scenario.defaults();
        assert_eq!((run.spawn, run.load.connections, run.processes), (1, defaults.connections, 1));
        assert_eq!(run.load.count("text_bytes"), 64);
    }

    #[test]
    fn a_node_on_this_machine_is_where_it_goes_without_being_told() {
        let run = run("direct --homes");
        assert_eq!((run.spawn, run.urls.len(), run.metrics.len()), (0, 1, 1));
        assert_eq!((run.urls[0].authority(), run.metrics[0].port), ("127.0.0.1:8080".to_owned(), 9464));
        assert!(run.is_at_home);
    }

    #[test]
    fn there_are_as_many_processes_as_connections_need() {
        let nodes = "--spawn 3 --redis redis://a --scylla b:1";
        for (connections, processes) in [(1, 1), (18_000, 1), (18_001, 2), (54_000, 3)] {
            assert_eq!(run(&format!("connect {nodes} --connections {connections}")).processes, processes);
        }
        assert_eq!(run(&format!("connect {nodes} --connections 9 --processes 2")).processes, 2);
    }

    #[test]
    fn everything_can_be_said() {
        let run = run("direct --url ws://a:1 --url http://b:2 --metrics http://a:3 --connections 10 --rate 0.5 \
             --duration 3600 --warm-up 0 --processes 2 --repeat 3 --param text_bytes=9 --json x.json --html x.html --no-baseline");
        assert_eq!((run.urls.len(), run.metrics.len(), run.load.connections, run.repeat), (2, 1, 10, 3));
        assert_eq!((run.load.count("text_bytes"), run.is_without_baseline), (9, true));
        assert_eq!((run.json, run.html), (Some(PathBuf::from("x.json")), Some(PathBuf::from("x.html"))));
    }

    #[test]
    fn nodes_may_be_many_and_have_tls() {
        let many = run("direct --spawn 3 --redis redis://a --scylla b:9042 --scylla c:9042");
        assert_eq!((many.load.nodes, many.redis.as_deref(), many.load.scylla.len()), (3, Some("redis://a"), 2));
        assert_eq!(run("direct --spawn 1 --scylla b:9042").redis, None);
        let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/it/keys/tls-a.cert.pem");
        let given = run(&format!("direct --url wss://a:1 --ca {ca}"));
        assert!(given.load.is_tls && given.urls[0].is_tls && given.ca.is_some());
        let spawned = run(&format!("direct --spawn 1 --set node.tls.cert=x --set node.tls.key=y --ca {ca}"));
        assert!(spawned.load.is_tls);
        assert!(!run("direct --spawn 1").load.is_tls);
    }

    #[test]
    fn parameters_may_be_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("params.toml");
        fs::write(&path, "text_bytes = 100\n").unwrap();
        assert_eq!(run(&format!("direct --spawn 1 --params {}", path.display())).load.count("text_bytes"), 100);
        let both = format!("direct --spawn 1 --params {} --param text_bytes=7", path.display());
        assert_eq!(run(&both).load.count("text_bytes"), 7);
        fs::write(&path, "text_bites = 100\nbroken").unwrap();
        assert!(parsed(&both).is_err());
    }

    #[test]
    fn every_mistake_is_named() {
        for (line, named) in [
            ("", "no scenario"),
            ("dance --spawn 1", "dance"),
            ("direct connect --spawn 1", "connect"),
            ("direct --spawn 0", "--spawn 0"),
            ("direct --spawn 33", "1 to 32"),
            ("direct --spawn", "spawn"),
            ("direct --spawn 1 --spawn 2", "twice"),
            ("direct --spawn 1 --url ws://a:1", "can't be combined"),
            ("direct --url localhost:80", "--url"),
            ("direct --url ws://a:1 --set a=b", "--set"),
            ("direct --url ws://a:1 --binary x", "--binary"),
            ("direct --url ws://a:1 --metrics http://a:2 --metrics http://a:3", "more than"),
            ("direct --url ws://a:1 --secret-file /does/not/exist", "--secret-file"),
            ("direct --spawn 1 --secret-file x", "--secret-file"),
            ("direct --spawn 1 --metrics http://a:1", "--metrics"),
            ("direct --metrics http://a:1", "--metrics"),
            ("direct --spawn 1 --set a", "key=value"),
            ("direct --spawn 1 --set =a", "key=value"),
            ("direct --spawn 1 --connections 0", "--connections 0"),
            ("direct --spawn 1 --processes 1 --connections 18001", "18000"),
            ("direct --spawn 1 --processes 2 --connections 20000", "per node"),
            ("direct --spawn 3", "--redis and --scylla"),
            ("direct --spawn 3 --redis redis://a", "--scylla"),
            ("direct --spawn 1 --redis redis://a", "--scylla"),
            ("direct --spawn 1 --scylla a", "host:port"),
            ("direct --url ws://a:1 --scylla a:1", "--spawn"),
            ("direct --url ws://a:1 --ca x", "wss://"),
            ("direct --url wss://a:1 --ca /does/not/exist", "--ca"),
            ("direct --url ws://a:1 --metrics https://a:2", "without TLS"),
            ("direct --spawn 1 --rate -1", "--rate -1"),
            ("direct --spawn 1 --rate NaN", "--rate NaN"),
            ("direct --spawn 1 --duration 3601", "3600"),
            ("direct --spawn 1 --duration 0", "--duration 0"),
            ("direct --spawn 1 --warm-up x", "--warm-up x"),
            ("direct --spawn 1 --processes 65", "64"),
            ("direct --spawn 1 --repeat 0", "--repeat 0"),
            ("direct --spawn 1 --param text_bytes", "name=value"),
            ("direct --spawn 1 --param text_bytes=many", "text_bytes=many"),
            ("direct --spawn 1 --param text_bytes=-1", "negative"),
            ("direct --spawn 1 --param colour=1", "text_bytes"),
            ("direct --spawn 1 --params /does/not/exist", "--params"),
            ("direct --spawn 1 --no-baseline=x", "no-baseline"),
            ("direct --spawn 1 --chaos kill", "--chaos requires --verify"),
            ("direct --spawn 1 --history x", "--history requires --verify"),
            ("direct --spawn 1 --verify --chaos hit", "kill, stop, restart or all"),
            ("direct --url ws://a:1 --verify --chaos kill", "--spawn"),
            ("direct --spawn 1 --fast", "--fast"),
            ("list --spawn 1", "list"),
            ("markdown", "--json"),
            ("markdown a.json --html x", "no options"),
            ("compare a.json", "--html"),
            ("compare --html x", "1 to 6 files"),
            ("compare 1 2 3 4 5 6 7 --html x", "1 to 6 files"),
            ("compare a.json --html x --spawn 1", "--spawn"),
        ] {
            let mistakes = parsed(line).err().unwrap_or_else(|| panic!("{line}: no mistake")).join("\n");
            assert!(mistakes.contains(named), "{line}: {mistakes}");
        }
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let mistakes = parsed("direct --rate x --fast --duration y --set z").err().unwrap();
        assert_eq!(mistakes.len(), 5, "{mistakes:?}");
    }

    #[test]
    fn runs_are_compared() {
        let Ok(Command::Compare { files, html }) = parsed("compare a.json b.json --html c.html") else { panic!() };
        assert_eq!((files, html), (vec!["a.json".into(), "b.json".into()], "c.html".into()));
    }

    #[test]
    fn help_version_and_list() {
        assert!(matches!(parsed("direct --help"), Ok(Command::Help)));
        assert!(matches!(parsed("-V"), Ok(Command::Version)));
        assert!(matches!(parsed("list"), Ok(Command::List)));
        assert!(list().contains("direct"));
    }
}
