//! The sessions of a worker: connects them, owns their tasks, and closes them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use super::catch_up::{SETTLED_WITHIN, settle};
use super::network::Network;
use super::reader::OnFrame;
use super::session::{Client, End, Session, Who};

/// How long sessions may take to close.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// Concurrent requests.
const ASKED_AT_ONCE: usize = 32;

/// Runs futures of many clients, some at a time; the results are in order.
///
/// # Errors
/// The first one.
pub(crate) async fn some_at_once<T>(all: impl IntoIterator<Item = impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
    stream::iter(all).buffered(ASKED_AT_ONCE).try_collect().await
}

/// Sessions and their tasks. Dropping it aborts them.
pub(crate) struct Crowd {
    network: Arc<Network>,
    sessions: JoinSet<End>,
    clients: Vec<Client>,
}

impl Crowd {
    pub(crate) fn new(network: Arc<Network>) -> Self {
        Self { network, sessions: JoinSet::new(), clients: Vec::new() }
    }

    /// Connects everyone, `at_once` at a time, and returns the clients in the order of `people`.
    ///
    /// # Errors
    /// One of them could not connect: without it, the measurement would be a different one.
    pub(crate) async fn connect(
        &mut self,
        people: impl IntoIterator<Item = (Who, Option<OnFrame>)>,
        at_once: usize,
    ) -> Result<Vec<Client>> {
        let mut people = people.into_iter().enumerate();
        let mut opening = JoinSet::new();
        let mut clients: Vec<(usize, Client)> = Vec::new();
        loop {
            while opening.len() < at_once.max(1) {
                let Some((place, (who, on_frame))) = people.next() else { break };
                let network = self.network.clone();
                // Boxed: an open socket would otherwise carry the future of its handshake.
                opening.spawn(async move {
                    let opened = Box::pin(Session::open(&network, &who, on_frame)).await;
                    (place, opened.with_context(|| format!("client {} can't connect", who.user)))
                });
            }
            let Some(opened) = opening.join_next().await else { break };
            let (place, opened) = opened?;
            let (client, session) = opened?;
            self.sessions.spawn(session.run());
            clients.push((place, client));
        }
        clients.sort_by_key(|(place, _)| *place);
        let clients: Vec<Client> = clients.into_iter().map(|(_, client)| client).collect();
        self.clients.extend_from_slice(&clients);
        Ok(clients)
    }

    /// Closes all sessions, and waits a little for them.
    pub(crate) async fn close(mut self) {
        self.clients.iter().for_each(Client::close);
        let all = async { while self.sessions.join_next().await.is_some() {} };
        // Sessions that do not close in time are aborted.
        let _ = tokio::time::timeout(GOODBYE_MAX, all).await;
    }

    /// Brings everyone back, and waits for the answers to all sends, within a limit.
    pub(crate) async fn settle(&self) {
        self.clients.iter().for_each(Client::return_if_away);
        let all = async {
            for client in &self.clients {
                // Clients that do not settle are found by the final read.
                let _ = settle(client).await;
            }
        };
        let _ = tokio::time::timeout(SETTLED_WITHIN, all).await;
    }

    /// Every client asks for everything once more.
    pub(crate) async fn look_back(&self) {
        let looked = self.clients.iter().map(async |client| {
            if let Err(error) = client.look_back(&self.network).await {
                self.network.complaints.note(&format!("looking back: {error:#}"));
            }
            Ok(())
        });
        // None of them fails.
        let _ = some_at_once(looked).await;
    }
}
