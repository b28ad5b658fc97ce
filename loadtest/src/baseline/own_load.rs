//! Baselines that generate their own load: only the harness connects, and asks how many messages are durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::listen;
use crate::client::dial;
use crate::worker::{PhaseWork, Worker};

/// How often the harness asks for the first durable message, if that is late.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Writers that run until they are stopped, and the number of messages that they have made durable.
#[derive(Default)]
pub(super) struct Writers {
    pub(super) tasks: JoinSet<Result<()>>,
    pub(super) durable: Arc<AtomicU64>,
}

/// The program: writes from the moment a connection comes until it is closed, and sends the number on it for each byte.
pub(super) async fn serve(begin: impl AsyncFnOnce(&mut Writers) -> Result<()>) -> Result<()> {
    let listener = listen().await?;
    let (mut socket, _) = listener.accept().await?;
    let mut writers = Writers::default();
    begin(&mut writers).await?;
    tokio::select! {
        told = tell(&mut socket, &writers.durable) => told,
        failed = writers.tasks.join_next() => failed.context("nothing to write")??,
    }
}

async fn tell(socket: &mut TcpStream, durable: &AtomicU64) -> Result<()> {
    // The harness closes the connection when it is done.
    while socket.read_u8().await.is_ok() {
        socket.write_u64(durable.load(Ordering::Relaxed)).await?;
    }
    Ok(())
}

/// The load: only watches.
pub(super) async fn load(worker: &mut Worker) -> Result<()> {
    let load = worker.plan.load.clone();
    let address = worker.network.addresses.first().context("no address")?;
    // The first worker watches; the others have nothing to do.
    let mut socket = if worker.plan.worker == 0 { Some(dial::tcp(address, None).await?) } else { None };
    worker.phase("warm-up", async |phase| watch(&mut socket, phase, load.warm_up_s).await).await?;
    worker.phase("load", async |phase| watch(&mut socket, phase, load.duration_s).await).await?;
    Ok(())
}

/// Counts what becomes durable like the real load counts answers: for `duration_s`, and until there is anything, as
/// nothing makes no rate.
async fn watch(socket: &mut Option<TcpStream>, phase: &mut PhaseWork<'_>, duration_s: f64) -> Result<()> {
    let Some(socket) = socket else { return Ok(()) };
    let first = ask(socket).await?;
    let mut before = first;
    {
        let mut turns = phase.turns(10.0, duration_s);
        loop {
            let more = turns.next().await?.is_some();
            let now = ask(socket).await?;
            turns.meters().sent.add(now - before);
            before = now;
            if !more {
                break;
            }
        }
    }
    while before == first && !phase.is_stopped() {
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        let now = ask(socket).await?;
        phase.meters().sent.add(now - before);
        before = now;
    }
    Ok(())
}

async fn ask(socket: &mut TcpStream) -> Result<u64> {
    socket.write_u8(0).await?;
    Ok(socket.read_u64().await?)
}
