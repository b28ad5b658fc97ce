//! The log, on stderr. Tokens and contents are never in it: nothing that holds one is given to `tracing`.

use std::io::{self, IsTerminal};

use switchboard_config::{Log, LogFormat};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

/// Starts the log of the process. To be called once.
pub(crate) fn start(log: &Log) {
    let level: LevelFilter = log.level.as_str().parse().unwrap_or(LevelFilter::INFO);
    let is_terminal = io::stderr().is_terminal();
    let is_text = match log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => is_terminal,
    };
    let builder = fmt().with_max_level(level).with_writer(io::stderr).with_target(false);
    if is_text {
        builder.with_ansi(is_terminal).init();
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
}
