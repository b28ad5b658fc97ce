//! The commands that print something and exit: `check-config`, `token`, `--help`, `--version`.

use std::io::{self, Write};

use switchboard_clock::Clock;
use switchboard_config::{Config, Mistake, Mistakes, Problem, Sources};

use crate::auth::{NewToken, sign, signing_key};
use crate::capacity::Capacity;
use crate::failure::Failure;
use crate::settings::Settings;

/// Prints the effective configuration with the secrets hidden.
pub(crate) fn check_config(sources: Sources) -> Result<(), Failure> {
    let config = Config::load(sources)?.config;
    // What the start would refuse, on this machine.
    Settings::from_config(&config, Capacity::of_process(), &Clock::system())?;
    print(&config.render())
}

/// Prints a token.
pub(crate) fn token(sources: Sources, token: &NewToken) -> Result<(), Failure> {
    let token = signed(&Config::load(sources)?.config, token)?;
    print(&format!("{token}\n"))
}

/// A token, signed with the configured key.
pub(crate) fn signed(config: &Config, token: &NewToken) -> Result<String, Failure> {
    let key = signing_key(config).map_err(|error| Failure::CantHave(error.to_string()))?.ok_or_else(|| {
        let problem = "not set, and no key of auth.keys is for HS256: there is nothing to sign a token with";
        Mistakes::from(Mistake::new("auth.hs256_secret", Problem::Wrong(problem.to_owned())))
    })?;
    Ok(sign(token, &key, Clock::system().wall_ms()).map_err(anyhow::Error::from)?)
}

/// Prints to stdout; who stops reading has read enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(anyhow::Error::from(error).into()),
        _ => Ok(()),
    }
}
