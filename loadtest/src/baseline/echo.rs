//! A bare echo on tokio-tungstenite: the round trip without any work in between. The frames are those of the real load.

use std::sync::Arc;

use anyhow::Result;
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;
use tokio_tungstenite::accept_async;

use super::listen;
use crate::client::crowd::Crowd;
use crate::client::network::Network;
use crate::client::reader::OnFrame;
use crate::client::scan;
use crate::client::session::Who;
use crate::scenario::direct::Talk;
use crate::worker::Worker;

pub(super) async fn serve() -> Result<()> {
    let listener = listen().await?;
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        connections.spawn(echo(socket));
        while connections.try_join_next().is_some() {}
    }
}

async fn echo(socket: tokio::net::TcpStream) {
    let Ok(mut socket) = accept_async(socket).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

pub(super) async fn load(worker: &mut Worker) -> Result<()> {
    let (load, workers) = (worker.plan.load.clone(), worker.plan.workers);
    let people = worker.plan.share(load.connections).map(|number| {
        let who = Who { user: String::new(), number: (number / workers) as u64, node: 0 };
        (who, Some(on_echo(&worker.network)))
    });
    let mut crowd = Crowd::new(worker.network.clone());
    let clients = crowd.connect(people, 32).await?;
    // As long as a user's id.
    let places = vec![format!(r#""to":"{}-0000-0""#, worker.plan.run); clients.len()];
    let (text, rate) = ("x".repeat(load.count("text_bytes")), worker.plan.rate_share());
    let mut talk = Talk::new(clients, places, text, false, &worker.network.meters);
    worker.phase("warm-up", async |phase| talk.run(phase, rate, load.warm_up_s).await).await?;
    worker.phase("load", async |phase| talk.run(phase, rate, load.duration_s).await).await?;
    crowd.close().await;
    Ok(())
}

/// What comes back counts as the answer.
fn on_echo(network: &Arc<Network>) -> OnFrame {
    let (meters, run) = (network.meters.clone(), network.run.clone());
    Box::new(move |_, json, at_ns| {
        if let Some(client_id) = scan::text(json, "client_id") {
            meters.on_sent(client_id, &run, at_ns);
        }
    })
}
