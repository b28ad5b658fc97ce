//! The binary `switchboard-loadtest`: measures a deployment of Switchboard (OPERATING, "Harness").

mod baseline;
mod client;
mod command_line;
mod control;
mod meter;
mod nodes;
mod report;
mod round;
mod run;
mod scenario;
mod worker;

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result};
use command_line::Command;

fn main() -> ExitCode {
    match command_line::parse(env::args_os().skip(1)) {
        Ok(Command::Worker) => worker::run(),
        Ok(Command::Baseline(arguments)) => baseline::run(&arguments),
        Ok(command) => finish(coordinate(command)),
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| eprintln!("{mistake}"));
            eprintln!("switchboard-loadtest --help shows what there is");
            ExitCode::from(2)
        }
    }
}

fn coordinate(command: Command) -> Result<()> {
    match command {
        Command::Run(run) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
            runtime.block_on(run::run(&run))
        }
        Command::List => {
            print!("{}", command_line::list());
            Ok(())
        }
        Command::Help => {
            print!("{}", command_line::HELP);
            Ok(())
        }
        Command::Version => {
            println!("switchboard-loadtest {} ({})", env!("CARGO_PKG_VERSION"), env!("SWITCHBOARD_COMMIT"));
            Ok(())
        }
        Command::Worker | Command::Baseline(_) => Ok(()),
    }
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
