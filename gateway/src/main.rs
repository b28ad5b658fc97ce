//! The binary `switchboard`: parses the command line and runs the command (OPERATING, "Binary").

mod admission;
mod auth;
mod backends;
mod capacity;
mod cli;
mod commands;
mod demo;
mod dev_file;
mod failure;
mod gateway;
mod http;
mod logs;
mod metrics;
mod node_topic;
mod push;
mod rate;
mod reload;
mod server;
mod settings;
mod signals;
mod tls;
mod trace_command;
mod ws;

use std::env;
use std::process::ExitCode;

use cli::Command;
use failure::Failure;

/// A message is some dozens of small allocations, made by one thread and freed by another: with the system's allocator a
/// quarter of the processor time of durable sends (docs/performance.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let command = cli::parse(env::args_os().skip(1), env::vars_os());
    match command.map_err(Failure::from).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(sources, demo) => server::run(sources, demo),
        Command::CheckConfig(sources) => commands::check_config(sources),
        Command::Token(sources, token) => commands::token(sources, &token),
        Command::Trace(sources, asked) => trace_command::run(sources, &asked),
        Command::Help => commands::print(cli::HELP),
        Command::Version => commands::print(concat!("switchboard ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}
