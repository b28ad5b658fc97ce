//! The port that clients connect to: accepting, TLS, and a task per connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::connection::serve_connection;
use super::slots;
use crate::admission::Slot;
use crate::gateway::Gateway;
use crate::tls::Tls;
use crate::ws::Tcp;

/// The listen backlog: after a restart all clients of a node reconnect at once.
const BACKLOG: i32 = 4_096;
/// Unsent bytes that the kernel queues per socket, besides those in flight (`TCP_NOTSENT_LOWAT`). Otherwise it would
/// queue megabytes for a slow reader before the session's own limit applies.
const UNSENT_BYTES: u32 = 64 * 1_024;
/// Pause after a failed accept, which usually means that the process is out of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 50;

/// A listener and its address.
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    pub(crate) address: SocketAddr,
}

/// Listens on a port; 0 selects a free one.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Listening> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok(Listening { listener, address })
}

/// Accepts connections until `gateway.closing`.
pub(crate) async fn serve(listener: TcpListener, gateway: Arc<Gateway>, tls: Option<Arc<Tls>>) {
    // Accepted sockets inherit these options.
    let socket = SockRef::from(&listener);
    if let Err(error) = socket.set_tcp_nodelay(true).and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_BYTES)) {
        tracing::warn!(%error, "can't set socket options");
    }
    while let Some((stream, peer)) = gateway.closing.run_until_cancelled(next(&listener, &gateway)).await {
        let Some(slot) = slots::of_connection(&gateway, peer.ip()) else {
            tracing::debug!("an address has too many HTTP connections: refused another one");
            continue;
        };
        let connection_gateway = gateway.clone();
        match &tls {
            None => gateway.http_connections.spawn(serve_connection(connection_gateway, Tcp::new(stream), peer, slot)),
            Some(tls) => gateway.http_connections.spawn(serve_tls(connection_gateway, tls.clone(), stream, peer, slot)),
        };
    }
}

async fn serve_tls(gateway: Arc<Gateway>, tls: Arc<Tls>, stream: TcpStream, peer: SocketAddr, slot: Slot) {
    let handshake = tls.acceptor().accept(stream);
    let limit = Duration::from_millis(gateway.settings().limits.http_head_timeout_ms);
    match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(stream)) => Box::pin(serve_connection(gateway, stream, peer, slot)).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => tracing::debug!("TLS handshake took too long"),
    }
}

/// The next connection, once there is room for it. Until then clients wait in the kernel's queue.
async fn next(listener: &TcpListener, gateway: &Gateway) -> (TcpStream, SocketAddr) {
    slots::room(gateway).await;
    accept(listener).await
}

/// The next connection.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}
