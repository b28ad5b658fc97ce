//! The command line. Only reads it, and names every mistake in it at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use lexopt::prelude::*;

use crate::chaos::Blow;
use crate::client::address::Address;
use crate::control::Load;
use crate::nodes;
use crate::scenario::{self, Scenario};

pub(crate) const HELP: &str = "\
Measures a deployment of Switchboard, or nodes that it starts itself.

Usage:
  switchboard-loadtest list
  switchboard-loadtest SCENARIO (--spawn N | --url URL...) [options]
  switchboard-loadtest compare FILE... --html FILE

Where:
  --spawn N            Start N nodes for this run, each with an empty store, and end them afterwards.
  --binary FILE        Their program. Default: switchboard, beside this one.
  --set key=value      A setting for them, such as limits.heartbeat_ms=5000. May be repeated.
  --url URL            Measure this node, such as ws://10.0.0.7:8080. May be repeated.
  --metrics URL        Where the metrics of each --url are, in the same order, such as http://10.0.0.7:9464.
  --secret-file FILE   The deployment's HS256 secret, to sign tokens with. Default: ask its development door.

How much (list shows each scenario's defaults):
  --connections N      All client processes together.
  --rate R             Sends a second, all together.
  --duration S         Seconds of load that are measured; at most 3600.
  --warm-up S          Seconds of load before that.
  --processes P        Client processes, each with one thread. Default: 1.
  --repeat N           Measure N times, each on fresh nodes; gives medians and the spread. Default: 1.
  --param name=value   A parameter of the scenario's own. May be repeated.
  --params FILE        The same from a TOML file; --param wins.
  --no-baseline        Leave out the baselines.

Whether it is right:
  --verify             Check what each client saw against what was sent and acknowledged. Clients reconnect, and catch up.
  --history FILE       Add what clients said and saw to this file, one operation a line. Needs --verify.
  --chaos BLOW         kill, stop or restart spawned nodes, one each 3 seconds of the load. Needs --verify and --spawn.

What comes out:
  --json FILE          Write everything that was measured.
  --html FILE          Write a page with figures and curves. compare makes one of runs that were written with --json, each
                       beside the first; of one FILE it is the page that the run itself would have written.

Other:
  -h, --help           Print this.
  -V, --version        Print the version.

Ctrl-C ends a run early, with the figures of what was measured so far; once more ends it at once.
Exit codes: 0, 1 when --verify found something wrong or nothing could be measured, 2 for a wrong command line.
";

/// A run lasts at most an hour: nobody is meant to forget one.
const DURATION_MAX_S: f64 = 3_600.0;
/// Connections of one client process, and of one node: `nofile` is 20,000 on the smaller machines.
const CONNECTIONS_PER_PROCESS_MAX: usize = 18_000;
const PROCESSES_MAX: usize = 64;
const SPAWN_MAX: usize = 32;
const REPEAT_MAX: usize = 100;
/// Runs on one page: each has a colour of its own.
const COMPARED_MAX: usize = 6;
const RATE_MAX: f64 = 10_000_000.0;

/// What is to be done.
pub(crate) enum Command {
    Run(Box<Run>),
    /// Makes a page of what several runs have written.
    Compare {
        files: Vec<PathBuf>,
        html: PathBuf,
    },
    List,
    Help,
    Version,
    /// A process of its own; not for people.
    Worker,
    /// Likewise.
    Baseline(Vec<String>),
}

/// A scenario and everything about it.
pub(crate) struct Run {
    pub(crate) scenario: &'static dyn Scenario,
    pub(crate) spawn: usize,
    binary: Option<PathBuf>,
    pub(crate) settings: Vec<String>,
    pub(crate) urls: Vec<Address>,
    pub(crate) metrics: Vec<Address>,
    pub(crate) secret: Option<String>,
    pub(crate) load: Load,
    pub(crate) processes: usize,
    pub(crate) repeat: usize,
    pub(crate) is_without_baseline: bool,
    pub(crate) is_verified: bool,
    pub(crate) history: Option<PathBuf>,
    pub(crate) chaos: Option<Blow>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) html: Option<PathBuf>,
}

impl Run {
    /// The program of nodes that are started.
    ///
    /// # Errors
    /// It was not given, and is not beside this one.
    pub(crate) fn binary(&self) -> Result<PathBuf> {
        self.binary.clone().map_or_else(nodes::binary_beside, Ok)
    }
}

/// Options as they were given, one after the other, each with its text.
#[derive(Default)]
struct Given {
    words: Vec<String>,
    options: Vec<(String, String)>,
}

/// Options that take a value.
const WITH_VALUE: &[&str] = &[
    "spawn",
    "binary",
    "set",
    "url",
    "metrics",
    "secret-file",
    "connections",
    "rate",
    "duration",
    "warm-up",
    "processes",
    "repeat",
    "param",
    "params",
    "json",
    "html",
    "history",
    "chaos",
];
/// Of these, the ones that may be given more than once.
const REPEATABLE: &[&str] = &["set", "url", "metrics", "param"];
const FLAGS: &[&str] = &["no-baseline", "verify"];

/// Reads the arguments after the program's name.
///
/// # Errors
/// Every mistake, one each.
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
        [] => mistakes.push("which scenario? switchboard-loadtest list names them".to_owned()),
        [word] if word == "list" && given.options.is_empty() && mistakes.is_empty() => return Ok(Command::List),
        [word] if word == "list" => mistakes.push("list takes no options".to_owned()),
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
            None => mistakes.push(format!("there is no scenario {word}; switchboard-loadtest list names them")),
        },
        [_, more @ ..] => mistakes.push(format!("one scenario at a time: what is {}?", more.join(" "))),
    }
    Err(mistakes)
}

impl Given {
    /// `None` at the end; a command when it is clear already.
    fn take_next(&mut self, parser: &mut lexopt::Parser) -> Result<Option<Option<Command>>, lexopt::Error> {
        let Some(arg) = parser.next()? else { return Ok(None) };
        match arg {
            Short('h') | Long("help") => return Ok(Some(Some(Command::Help))),
            Short('V') | Long("version") => return Ok(Some(Some(Command::Version))),
            Value(word) => self.words.push(word.string()?),
            Long(name) if FLAGS.contains(&name) => self.options.push((name.to_owned(), String::new())),
            Long(name) if WITH_VALUE.contains(&name) => {
                let name = name.to_owned();
                if !REPEATABLE.contains(&name.as_str()) && self.values(&name).next().is_some() {
                    return Err(format!("--{name} is given twice").into());
                }
                let value = parser.value()?.string()?;
                self.options.push((name, value));
            }
            other => return Err(other.unexpected()),
        }
        Ok(Some(None))
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.options.iter().filter(move |(option, _)| option == name).map(|(_, value)| value.as_str())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.values(name).next().map(PathBuf::from)
    }

    /// A number within bounds, or the default.
    fn number<T: FromStr + PartialOrd + std::fmt::Display + Copy>(
        &self,
        name: &str,
        default: T,
        bounds: (T, T),
        mistakes: &mut Vec<String>,
    ) -> T {
        let Some(text) = self.values(name).next() else { return default };
        match text.parse() {
            Ok(number) if bounds.0 <= number && number <= bounds.1 => number,
            _ => {
                mistakes.push(format!("--{name} {text}: must be a number from {} to {}", bounds.0, bounds.1));
                default
            }
        }
    }

    fn addresses(&self, name: &str, mistakes: &mut Vec<String>) -> Vec<Address> {
        let parsed = self.values(name).map(|text| text.parse().map_err(|mistake| format!("--{name}: {mistake}")));
        kept(parsed, mistakes)
    }

    fn run(&self, scenario: &'static dyn Scenario, mistakes: &mut Vec<String>) -> Run {
        let defaults = scenario.defaults();
        let processes = self.number("processes", 1, (1, PROCESSES_MAX), mistakes);
        let spawn = self.number("spawn", 0, (1, SPAWN_MAX), mistakes);
        let (urls, metrics) = (self.addresses("url", mistakes), self.addresses("metrics", mistakes));
        let connections_max = processes * CONNECTIONS_PER_PROCESS_MAX;
        let load = Load {
            connections: self.number("connections", defaults.connections, (1, connections_max), mistakes),
            rate: self.number("rate", defaults.rate, (0.0, RATE_MAX), mistakes),
            warm_up_s: self.number("warm-up", defaults.warm_up_s, (0.0, DURATION_MAX_S), mistakes),
            duration_s: self.number("duration", defaults.duration_s, (0.1, DURATION_MAX_S), mistakes),
            params: self.params(scenario, mistakes),
        };
        if spawn > 0 && load.connections > spawn * CONNECTIONS_PER_PROCESS_MAX {
            mistakes.push(format!("--connections: a node takes {CONNECTIONS_PER_PROCESS_MAX} at most; see --spawn"));
        }
        if load.connections > connections_max {
            mistakes
                .push(format!("--connections: a process takes {CONNECTIONS_PER_PROCESS_MAX} at most; see --processes"));
        }
        self.check_place(spawn, mistakes);
        Run {
            scenario,
            spawn,
            binary: self.path("binary"),
            settings: self.settings(mistakes),
            urls,
            metrics,
            secret: self.secret(mistakes),
            load,
            processes,
            repeat: self.number("repeat", 1, (1, REPEAT_MAX), mistakes),
            is_without_baseline: self.values("no-baseline").next().is_some(),
            is_verified: self.values("verify").next().is_some(),
            history: self.path("history"),
            chaos: self.chaos(mistakes),
            json: self.path("json"),
            html: self.path("html"),
        }
    }

    fn compare(&self, files: &[String], mistakes: &mut Vec<String>) -> Option<Command> {
        if !(1..=COMPARED_MAX).contains(&files.len()) {
            mistakes.push(format!("compare: takes 1 to {COMPARED_MAX} files that were written with --json"));
        }
        for (name, _) in self.options.iter().filter(|(name, _)| name != "html") {
            mistakes.push(format!("--{name} is not for compare"));
        }
        let html = self.path("html");
        if html.is_none() {
            mistakes.push("compare: give the page's file with --html".to_owned());
        }
        Some(Command::Compare { files: files.iter().map(PathBuf::from).collect(), html: html? })
    }

    /// Load goes where the user says, and nowhere else.
    fn check_place(&self, spawn: usize, mistakes: &mut Vec<String>) {
        let has = |name| self.values(name).next().is_some();
        let (is_spawned, is_given) = (has("spawn"), has("url"));
        if !is_spawned && !is_given {
            mistakes.push("where? give --spawn N, or the --url of each node".to_owned());
        }
        if spawn > 0 && is_given {
            mistakes.push("--spawn and --url: one or the other".to_owned());
        }
        for name in ["binary", "set"] {
            if has(name) && !is_spawned {
                mistakes.push(format!("--{name} is for nodes that are started with --spawn"));
            }
        }
        for name in ["metrics", "secret-file"] {
            if has(name) && !is_given {
                mistakes.push(format!("--{name} is for nodes that are given with --url"));
            }
        }
        if self.values("metrics").count() > self.values("url").count() {
            mistakes.push("--metrics: more than there are of --url".to_owned());
        }
    }

    fn chaos(&self, mistakes: &mut Vec<String>) -> Option<Blow> {
        let has = |name| self.values(name).next().is_some();
        for name in ["history", "chaos"] {
            if has(name) && !has("verify") {
                mistakes.push(format!("--{name} needs --verify"));
            }
        }
        if has("chaos") && !has("spawn") {
            mistakes.push("--chaos is for nodes that are started with --spawn".to_owned());
        }
        let parsed = self.values("chaos").next()?.parse().map_err(|mistake| format!("--chaos {mistake}"));
        parsed.map_err(|mistake| mistakes.push(mistake)).ok()
    }

    fn settings(&self, mistakes: &mut Vec<String>) -> Vec<String> {
        let checked = self.values("set").map(|text| match text.split_once('=') {
            Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("--set {text}: must be key=value")),
        });
        kept(checked, mistakes)
    }

    fn secret(&self, mistakes: &mut Vec<String>) -> Option<String> {
        let path = self.path("secret-file")?;
        match fs::read_to_string(&path) {
            Ok(secret) => Some(secret.trim_end().to_owned()),
            Err(error) => {
                mistakes.push(format!("--secret-file {}: {error}", path.display()));
                None
            }
        }
    }

    /// The scenario's parameters: defaults, then the file, then `--param`.
    fn params(&self, scenario: &dyn Scenario, mistakes: &mut Vec<String>) -> BTreeMap<String, String> {
        let declared = scenario.params();
        let mut params: BTreeMap<String, String> =
            declared.iter().map(|param| (param.name.to_owned(), param.default.to_string())).collect();
        let mut given = self.params_file(mistakes);
        for text in self.values("param") {
            match text.split_once('=') {
                Some((name, value)) => given.push((name.to_owned(), value.to_owned())),
                None => mistakes.push(format!("--param {text}: must be name=value")),
            }
        }
        for (name, value) in given {
            let Some(param) = params.get_mut(&name) else {
                let known: Vec<&str> = declared.iter().map(|param| param.name).collect();
                mistakes.push(format!("{} has no parameter {name}; it has: {}", scenario.name(), known.join(", ")));
                continue;
            };
            if value.parse().is_ok_and(|number: f64| number.is_finite() && number >= 0.0) {
                *param = value;
            } else {
                mistakes.push(format!("{name}={value}: must be a number that is not negative"));
            }
        }
        params
    }

    fn params_file(&self, mistakes: &mut Vec<String>) -> Vec<(String, String)> {
        let Some(path) = self.path("params") else { return Vec::new() };
        let read = fs::read_to_string(&path).map_err(|error| error.to_string());
        let table = read.and_then(|text| text.parse::<toml::Table>().map_err(|error| error.to_string()));
        match table {
            Ok(table) => table.into_iter().map(|(name, value)| (name, value.to_string())).collect(),
            Err(error) => {
                mistakes.push(format!("--params {}: {error}", path.display()));
                Vec::new()
            }
        }
    }
}

/// The good ones; the others are mistakes.
fn kept<T>(results: impl Iterator<Item = Result<T, String>>, mistakes: &mut Vec<String>) -> Vec<T> {
    let mut good = Vec::new();
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    good
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
    fn everything_can_be_said() {
        let run = run("direct --url ws://a:1 --url http://b:2 --metrics http://a:3 --connections 10 --rate 0.5 \
             --duration 3600 --warm-up 0 --processes 2 --repeat 3 --param text_bytes=9 --json x.json --html x.html --no-baseline");
        assert_eq!((run.urls.len(), run.metrics.len(), run.load.connections, run.repeat), (2, 1, 10, 3));
        assert_eq!((run.load.count("text_bytes"), run.is_without_baseline), (9, true));
        assert_eq!((run.json, run.html), (Some(PathBuf::from("x.json")), Some(PathBuf::from("x.html"))));
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
            ("", "which scenario"),
            ("dance --spawn 1", "dance"),
            ("direct", "--spawn"),
            ("direct connect --spawn 1", "connect"),
            ("direct --spawn 0", "--spawn 0"),
            ("direct --spawn 33", "1 to 32"),
            ("direct --spawn", "spawn"),
            ("direct --spawn 1 --spawn 2", "twice"),
            ("direct --spawn 1 --url ws://a:1", "one or the other"),
            ("direct --url localhost:80", "--url"),
            ("direct --url ws://a:1 --set a=b", "--set"),
            ("direct --url ws://a:1 --binary x", "--binary"),
            ("direct --url ws://a:1 --metrics http://a:2 --metrics http://a:3", "more than"),
            ("direct --url ws://a:1 --secret-file /does/not/exist", "--secret-file"),
            ("direct --spawn 1 --secret-file x", "--secret-file"),
            ("direct --spawn 1 --metrics http://a:1", "--metrics"),
            ("direct --spawn 1 --set a", "key=value"),
            ("direct --spawn 1 --set =a", "key=value"),
            ("direct --spawn 1 --connections 0", "--connections 0"),
            ("direct --spawn 1 --connections 18001", "18000"),
            ("direct --spawn 1 --processes 2 --connections 20000", "a node takes"),
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
            ("direct --spawn 1 --chaos kill", "--chaos needs --verify"),
            ("direct --spawn 1 --history x", "--history needs --verify"),
            ("direct --spawn 1 --verify --chaos hit", "kill, stop or restart"),
            ("direct --url ws://a:1 --verify --chaos kill", "--spawn"),
            ("direct --spawn 1 --fast", "--fast"),
            ("list --spawn 1", "list"),
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
        assert_eq!(mistakes.len(), 6, "{mistakes:?}");
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
