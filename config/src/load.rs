//! Loading: defaults < file < environment < `--set`, and all mistakes at once (OPERATING, "Binary").
//!
//! Owns nothing but the sources, which it keeps so that SIGHUP can read them again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::check::check;
use crate::config::Config;
use crate::file;
use crate::given::{Given, Layer};
use crate::mistake::{Mistake, Mistakes, Problem};

/// The prefix of environment variables that are keys.
const ENV_PREFIX: &str = "SWITCHBOARD__";

/// The sources of the configuration.
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    env: Vec<(String, OsString)>,
    sets: Vec<String>,
}

impl Sources {
    /// The configuration file (TOML), if there is one; the environment, of which only `SWITCHBOARD__…` is used; and
    /// each `key=value` of `--set`, of which a later one wins.
    pub fn new(
        file: Option<PathBuf>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        sets: impl IntoIterator<Item = String>,
    ) -> Self {
        let env = env.into_iter().filter_map(|(name, value)| Some((key_of_variable(name.to_str()?)?, value))).collect();
        Self { file, env, sets: sets.into_iter().collect() }
    }
}

/// The key of a variable: `SWITCHBOARD__NODE__TLS__CERT` is `node.tls.cert`.
fn key_of_variable(name: &str) -> Option<String> {
    name.strip_prefix(ENV_PREFIX).map(|rest| rest.to_ascii_lowercase().replace("__", "."))
}

/// A configuration and its sources.
pub struct Loaded {
    /// The effective configuration.
    pub config: Config,
    sources: Sources,
}

impl Config {
    /// Reads the sources.
    ///
    /// # Errors
    /// All mistakes in them, not only the first.
    pub fn load(sources: Sources) -> Result<Loaded, Mistakes> {
        let config = read(&sources)?;
        Ok(Loaded { config, sources })
    }
}

/// The result of a SIGHUP, which is applied as a whole or not at all.
pub struct Reload {
    /// The configuration that is now in force.
    pub loaded: Loaded,
    /// The changed keys that take effect only after a restart.
    pub waiting: Vec<String>,
}

impl Loaded {
    /// Reads the sources again (SIGHUP). Only the sections that a running server can change are applied: `auth`,
    /// `limits`, the providers of push, and `node.tls`, the last only if that switches TLS neither on nor off.
    ///
    /// # Errors
    /// All mistakes in the sources. Entering or leaving development mode is a mistake here: a running server must not
    /// open itself to everyone.
    pub fn reload(&self) -> Result<Reload, Mistakes> {
        let new = read(&self.sources)?;
        if new.is_development() != self.config.is_development() {
            let problem = Problem::Wrong("development mode begins and ends only with a restart".to_owned());
            return Err(Mistake::new("auth", problem).into());
        }
        let mut config = self.config.clone();
        config.take_reloadable(&new);
        let waiting = config.keys_that_differ(&new);
        Ok(Reload { loaded: Self { config, sources: self.sources.clone() }, waiting })
    }
}

fn read(sources: &Sources) -> Result<Config, Mistakes> {
    let mut given = Given::new(Config::sections());
    if let Some(path) = &sources.file {
        match read_file(path) {
            Ok(table) => given.add_table(&table),
            Err(mistake) => given.mistakes.add(mistake),
        }
    }
    for (key, value) in &sources.env {
        match value.to_str() {
            Some(text) => given.add_text(Layer::Environment, key, text),
            None => given.mistakes.push(key, Problem::Wrong("the variable's value is not UTF-8".to_owned())),
        }
    }
    for set in &sources.sets {
        match set.split_once('=') {
            Some((key, text)) => given.add_text(Layer::Set, key, text),
            None => given.mistakes.push("--set", Problem::Wrong("takes key=value".to_owned())),
        }
    }
    let config = Config::read(&mut given);
    let mut mistakes = given.mistakes;
    check(&config, &mut mistakes);
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

fn read_file(path: &Path) -> Result<toml::Table, Mistake> {
    let bytes = file::read(path, file::CONFIG_BYTES_MAX).map_err(|problem| Mistake::new("--config", problem))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Mistake::new(path.display().to_string(), Problem::Syntax("the file is not UTF-8".to_owned())))?;
    text.parse::<toml::Table>().map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        // Only the message: the error's full text quotes the line, which may contain a secret.
        Mistake::new(format!("{}:{line}", path.display()), Problem::Syntax(error.message().to_owned()))
    })
}
