//! The binary `switchboard-loadtest`: measures a deployment of Switchboard (OPERATING, "Harness").

mod baseline;
mod chaos;
mod client;
mod command_line;
mod control;
mod meter;
mod nodes;
mod provider;
mod report;
mod round;
mod run;
mod scenario;
mod verify;
mod worker;

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result};
use command_line::Command;

/// The same as the node's: baselines should differ from it in what they do, not in how memory is allocated.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match command_line::parse(env::args_os().skip(1)) {
        Ok(Command::Worker) => worker::run(),
        Ok(Command::Baseline(arguments)) => baseline::run(&arguments),
        Ok(command) => match coordinate(command) {
            Ok(true) => ExitCode::SUCCESS,
            // The problem has been reported.
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        },
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
            eprintln!("see switchboard-loadtest --help");
            ExitCode::from(2)
        }
    }
}

/// Returns whether everything is right.
fn coordinate(command: Command) -> Result<bool> {
    match command {
        Command::Run(run) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
            return runtime.block_on(run::run(&run));
        }
        Command::Compare { files, html } => report::html::compare(&files, &html)?,
        Command::Markdown { files } => print!("{}", report::markdown::table(&files)?),
        Command::List => print!("{}", command_line::list()),
        Command::Help => print!("{}", command_line::HELP),
        Command::Version => {
            println!("switchboard-loadtest {} ({})", env!("CARGO_PKG_VERSION"), env!("SWITCHBOARD_COMMIT"));
        }
        Command::Worker | Command::Baseline(_) => {}
    }
    Ok(true)
}
