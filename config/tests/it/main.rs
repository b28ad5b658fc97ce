//! The configuration as its users see it: sources in, typed values or all mistakes out.

mod mistakes;
mod precedence;
mod reference;
mod reload;
mod secrets;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use switchboard_config::{Config, Loaded, Mistakes, Sources};

/// A secret that is long enough.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Loads only `--set` values.
fn set(sets: &[&str]) -> Result<Loaded, Mistakes> {
    load(None, &[], sets)
}

/// Loads only a configuration file.
fn toml(text: &str) -> Result<Loaded, Mistakes> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let file = write(folder.path(), "switchboard.toml", text);
    load(Some(file), &[], &[])
}

fn load(file: Option<PathBuf>, env: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, Mistakes> {
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::load(Sources::new(file, env, sets.iter().map(|&set| set.to_owned())))
}

/// The lines that an operator sees.
fn lines(loaded: Result<Loaded, Mistakes>) -> Vec<String> {
    loaded.err().map(|mistakes| mistakes.to_string()).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file in that folder");
    path
}
