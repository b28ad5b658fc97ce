//! The log, on stderr. It never contains tokens or message contents: nothing that holds one is passed to `tracing`.

use std::io::{self, IsTerminal};

use switchboard_config::{Log, LogFormat};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Client libraries of databases. What fails there is logged by who uses them, once and in the words of the keys; their
/// own accounts are for who looks at details, and never so detailed that a content is in them.
const CLIENTS: [&str; 2] = ["scylla", "fred"];

/// Starts the log of the process. To be called once.
pub(crate) fn start(log: &Log) {
    let level: LevelFilter = log.level.as_str().parse().unwrap_or(LevelFilter::INFO);
    let is_terminal = io::stderr().is_terminal();
    let is_text = match log.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => is_terminal,
    };
    let clients = if level >= LevelFilter::DEBUG { LevelFilter::INFO } else { LevelFilter::OFF };
    let levels = Targets::new().with_default(level).with_targets(CLIENTS.map(|client| (client, clients)));
    let builder = fmt().with_max_level(level).with_writer(io::stderr).with_target(false);
    if is_text {
        builder.with_ansi(is_terminal).finish().with(levels).init();
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish().with(levels).init();
    }
}
