//! Bare accept and upgrade: what any WebSocket server on tokio does before any work of its own. The connection is then
//! held by a task that reads, with a small buffer.

use anyhow::Result;
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio_tungstenite::accept_async_with_config;
use tungstenite::protocol::WebSocketConfig;

use super::listen;
use crate::client::crowd::Crowd;
use crate::client::session::Who;
use crate::worker::Worker;

pub(super) async fn serve() -> Result<()> {
    let listener = listen().await?;
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        connections.spawn(hold(socket));
        while connections.try_join_next().is_some() {}
    }
}

async fn hold(socket: tokio::net::TcpStream) {
    let config = WebSocketConfig::default().read_buffer_size(1_024).write_buffer_size(0);
    // Boxed, so that the task does not reserve space for the handshake.
    let upgraded = Box::pin(accept_async_with_config(socket, Some(config))).await;
    let Ok(mut socket) = upgraded else { return };
    while let Some(Ok(_)) = socket.next().await {}
}

pub(super) async fn load(worker: &mut Worker) -> Result<()> {
    let (load, workers) = (worker.plan.load.clone(), worker.plan.workers);
    let at_once = load.count("at_once");
    let people: Vec<usize> = worker.plan.share(load.connections).collect();
    let mut crowd = Crowd::new(worker.network.clone());
    let connects = worker.recorder.counter("connects");
    let who = |number: usize| Who { user: String::new(), number: (number / workers) as u64, node: 0 };
    worker
        .phase("accept", async |phase| {
            for some in people.chunks(at_once.max(1) * 4) {
                if phase.is_stopped() {
                    break;
                }
                connects
                    .add(crowd.connect(some.iter().map(|number| (who(*number), None)), at_once).await?.len() as u64);
            }
            Ok(())
        })
        .await?;
    worker.phase("settle", async |phase| phase.hold(load.warm_up_s).await).await?;
    crowd.close().await;
    Ok(())
}
