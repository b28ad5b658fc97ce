//! The given options, and their meaning for a run. All mistakes are reported, not only the first.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::prelude::*;

use super::{
    COMPARED_MAX, CONNECTIONS_PER_PROCESS_MAX, Command, DURATION_MAX_S, PROCESSES_MAX, RATE_MAX, REPEAT_MAX, Run,
    SPAWN_MAX,
};
use crate::chaos::Blow;
use crate::client::address::Address;
use crate::client::dial::Dialer;
use crate::control::Load;
use crate::scenario::Scenario;

/// The given options in order, each with its text.
#[derive(Default)]
pub(super) struct Given {
    pub(super) words: Vec<String>,
    pub(super) options: Vec<(String, String)>,
}

/// The location of the system's CA certificates on Debian, Alpine and others.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A node's default ports: `node.listen` and `metrics.listen`.
const LISTEN_PORT: u16 = 8080;
const METRICS_PORT: u16 = 9464;

/// Options that take a value.
const WITH_VALUE: &[&str] = &[
    "spawn",
    "binary",
    "set",
    "url",
    "metrics",
    "secret-file",
    "ca",
    "redis",
    "scylla",
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
/// Those of them that may be repeated.
const REPEATABLE: &[&str] = &["set", "url", "metrics", "scylla", "param"];
const FLAGS: &[&str] = &["homes", "no-baseline", "verify"];

impl Given {
    /// `None` at the end; a command if it is determined already.
    pub(super) fn take_next(&mut self, parser: &mut lexopt::Parser) -> Result<Option<Option<Command>>, lexopt::Error> {
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

    /// The running nodes to measure, and their metrics' addresses.
    fn places(&self, mistakes: &mut Vec<String>) -> (Vec<Address>, Vec<Address>) {
        let given = (self.addresses("url", mistakes), self.addresses("metrics", mistakes));
        if self.values("url").chain(self.values("metrics")).chain(self.values("spawn")).next().is_some() {
            return given;
        }
        let here = |port| Address::of_socket((Ipv4Addr::LOCALHOST, port).into());
        (vec![here(LISTEN_PORT)], vec![here(METRICS_PORT)])
    }

    pub(super) fn run(&self, scenario: &'static dyn Scenario, mistakes: &mut Vec<String>) -> Run {
        let defaults = scenario.defaults();
        let spawn = self.number("spawn", 0, (1, SPAWN_MAX), mistakes);
        let (urls, metrics) = self.places(mistakes);
        let connections_max = PROCESSES_MAX * CONNECTIONS_PER_PROCESS_MAX;
        let connections = self.number("connections", defaults.connections, (1, connections_max), mistakes);
        let needed = connections.div_ceil(CONNECTIONS_PER_PROCESS_MAX);
        let processes = self.number("processes", needed, (1, PROCESSES_MAX), mistakes);
        let load = Load {
            connections,
            rate: self.number("rate", defaults.rate, (0.0, RATE_MAX), mistakes),
            warm_up_s: self.number("warm-up", defaults.warm_up_s, (0.0, DURATION_MAX_S), mistakes),
            duration_s: self.number("duration", defaults.duration_s, (0.1, DURATION_MAX_S), mistakes),
            is_tls: false,
            nodes: if spawn > 0 { spawn } else { urls.len() },
            scylla: self.values("scylla").map(str::to_owned).collect(),
            params: self.params(scenario, mistakes),
        };
        if spawn > 0 && load.connections > spawn * CONNECTIONS_PER_PROCESS_MAX {
            mistakes.push(format!("--connections: at most {CONNECTIONS_PER_PROCESS_MAX} per node; see --spawn"));
        }
        if processes < needed {
            mistakes.push(format!("--connections: at most {CONNECTIONS_PER_PROCESS_MAX} per process; see --processes"));
        }
        let settings = self.settings(mistakes);
        let is_tls = urls.iter().any(|url| url.is_tls) || settings.iter().any(|set| set.starts_with("node.tls."));
        if metrics.iter().any(|url| url.is_tls) {
            mistakes.push("--metrics: must be http://, since metrics are served without TLS".to_owned());
        }
        self.check_place(spawn, mistakes);
        self.check_cluster(spawn, mistakes);
        Run {
            scenario,
            spawn,
            binary: self.path("binary"),
            settings,
            redis: self.values("redis").next().map(str::to_owned),
            ca: self.ca(is_tls, mistakes),
            load: Load { is_tls, ..load },
            urls,
            metrics,
            secret: self.secret(mistakes),
            processes,
            repeat: self.number("repeat", 1, (1, REPEAT_MAX), mistakes),
            is_without_baseline: self.values("no-baseline").next().is_some(),
            is_verified: self.values("verify").next().is_some(),
            is_at_home: self.values("homes").next().is_some(),
            history: self.path("history"),
            chaos: self.chaos(mistakes),
            json: self.path("json"),
            html: self.path("html"),
        }
    }

    pub(super) fn compare(&self, files: &[String], mistakes: &mut Vec<String>) -> Option<Command> {
        if !(1..=COMPARED_MAX).contains(&files.len()) {
            mistakes.push(format!("compare: requires 1 to {COMPARED_MAX} files written with --json"));
        }
        for (name, _) in self.options.iter().filter(|(name, _)| name != "html") {
            mistakes.push(format!("--{name} does not apply to compare"));
        }
        let html = self.path("html");
        if html.is_none() {
            mistakes.push("compare: --html, the page to write, is required".to_owned());
        }
        Some(Command::Compare { files: files.iter().map(PathBuf::from).collect(), html: html? })
    }

    /// Checks that it is unambiguous which nodes get the load.
    fn check_place(&self, spawn: usize, mistakes: &mut Vec<String>) {
        let has = |name| self.values(name).next().is_some();
        let (is_spawned, is_given) = (has("spawn"), has("url"));
        if spawn > 0 && is_given {
            mistakes.push("--spawn and --url can't be combined".to_owned());
        }
        for name in ["binary", "set", "redis", "scylla"] {
            if has(name) && !is_spawned {
                mistakes.push(format!("--{name} requires --spawn"));
            }
        }
        if has("secret-file") && is_spawned {
            mistakes.push("--secret-file can't be combined with --spawn".to_owned());
        }
        if self.values("metrics").count() > self.values("url").count() {
            mistakes.push("--metrics: more than --url".to_owned());
        }
    }

    /// Nodes that share nothing are not one gateway, and must not be measured as one.
    fn check_cluster(&self, spawn: usize, mistakes: &mut Vec<String>) {
        let has = |name| self.values(name).next().is_some();
        if spawn > 1 && !(has("redis") && has("scylla")) {
            mistakes.push(
                "--spawn: several nodes form one gateway only with Redis and ScyllaDB or Cassandra; add --redis and \
                 --scylla"
                    .to_owned(),
            );
        } else if has("redis") && !has("scylla") {
            mistakes.push("--redis requires --scylla".to_owned());
        }
        for text in self.values("scylla") {
            if text.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
                mistakes.push(format!("--scylla {text}: must be host:port"));
            }
        }
    }

    /// The trusted certificates, in PEM.
    fn ca(&self, is_tls: bool, mistakes: &mut Vec<String>) -> Option<String> {
        let given = self.path("ca");
        if !is_tls {
            if given.is_some() {
                mistakes.push("--ca requires a wss:// URL, or spawned nodes with node.tls.cert".to_owned());
            }
            return None;
        }
        let path = given.unwrap_or_else(|| PathBuf::from(SYSTEM_CA));
        let read = fs::read_to_string(&path).map_err(anyhow::Error::from);
        let checked = read.and_then(|pem| Dialer::new(Some(&pem)).map(|_| pem));
        checked.map_err(|error| mistakes.push(format!("--ca {}: {error:#}", path.display()))).ok()
    }

    fn chaos(&self, mistakes: &mut Vec<String>) -> Option<Blow> {
        let has = |name| self.values(name).next().is_some();
        for name in ["history", "chaos"] {
            if has(name) && !has("verify") {
                mistakes.push(format!("--{name} requires --verify"));
            }
        }
        if has("chaos") && !has("spawn") {
            mistakes.push("--chaos requires --spawn".to_owned());
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
                let known = known.join(", ");
                mistakes.push(format!("{} has no parameter {name}; its parameters are: {known}", scenario.name()));
                continue;
            };
            if value.parse().is_ok_and(|number: f64| number.is_finite() && number >= 0.0) {
                *param = value;
            } else {
                mistakes.push(format!("{name}={value}: must be a non-negative number"));
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

/// Returns the valid values, and records the other results as mistakes.
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
