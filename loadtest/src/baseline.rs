//! Baselines: the same work done by a bare program in a process of its own, whose CPU time is counted separately, with
//! the same clients and the same schedule as the real run, directly after it.
//!
//! A baseline has a program (`switchboard-loadtest baseline NAME …`, which prints a ready line like a node, and ends
//! when its standard input does) and a load that workers run against it.

mod accept;
mod append;
mod driver;
mod echo;
mod own_load;
mod send;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::client::network::Entry;
use crate::control::Load;
use crate::worker::Worker;

/// Accepts, upgrades and holds connections.
pub(crate) const ACCEPT: &str = "accept";
/// Sends each message back.
pub(crate) const ECHO: &str = "echo";

/// Writes each frame to many sockets.
pub(crate) const SEND: &str = "send";
/// Appends to the embedded store.
pub(crate) const APPEND: &str = "append";
/// Writes to ScyllaDB or Cassandra.
pub(crate) const DRIVER: &str = "driver";

/// How far clients connect.
pub(crate) fn entry(name: &str) -> Entry {
    if name == SEND { Entry::Connected } else { Entry::Upgraded }
}

/// Runs the load of a baseline.
pub(crate) async fn load(name: &str, worker: &mut Worker) -> Result<()> {
    match name {
        ACCEPT => accept::load(worker).await,
        APPEND | DRIVER => own_load::load(worker).await,
        ECHO => echo::load(worker).await,
        SEND => send::load(worker).await,
        other => bail!("unknown load {other}"),
    }
}

/// The arguments of a baseline's program.
pub(crate) fn arguments(name: &str, load: &Load) -> Vec<String> {
    let numbers = match name {
        APPEND | DRIVER => vec![load.connections, load.count("under_way"), load.count("text_bytes")],
        SEND => vec![load.connections, load.count("frame_bytes"), load.count("frames_per_write")],
        _ => Vec::new(),
    };
    let servers = if name == DRIVER { load.scylla.as_slice() } else { &[] };
    let numbers = numbers.iter().map(usize::to_string);
    std::iter::once(name.to_owned()).chain(numbers).chain(servers.iter().cloned()).collect()
}

/// The process `switchboard-loadtest baseline …`.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    crate::nodes::raise_descriptor_limit();
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baseline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &[String]) -> Result<()> {
    let (name, rest) = arguments.split_first().context("no baseline given")?;
    // Numbers, followed by addresses.
    let (numbers, servers) = rest.split_at(rest.iter().take_while(|word| word.parse::<usize>().is_ok()).count());
    let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<usize>, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let serve = async {
            match (name.as_str(), numbers.as_slice()) {
                (ACCEPT, []) => accept::serve().await,
                (APPEND, &[conversations, batch, text_bytes]) => append::serve(conversations, batch, text_bytes).await,
                (DRIVER, &[conversations, under_way, text_bytes]) => {
                    driver::serve(servers, conversations, under_way, text_bytes).await
                }
                (ECHO, []) => echo::serve().await,
                (SEND, &[readers, frame_bytes, frames]) => send::serve(readers, frame_bytes * frames).await,
                _ => bail!("unknown baseline {name} {numbers:?}"),
            }
        };
        tokio::select! {
            served = serve => served,
            () = end_of_input() => Ok(()),
        }
    });
    // A read of standard input can't be cancelled, and dropping the runtime would wait for it.
    runtime.shutdown_background();
    result
}

/// Returns when the harness has gone, or wants this program to end.
async fn end_of_input() {
    let mut input = tokio::io::stdin();
    // Nothing is ever sent there.
    let _ = tokio::io::copy(&mut input, &mut tokio::io::sink()).await;
}

/// A listener on a free port, announced in the ready line.
async fn listen() -> Result<tokio::net::TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(4_096)?;
    println!("{}", serde_json::json!({"ready": true, "listen": listener.local_addr()?}));
    Ok(listener)
}
