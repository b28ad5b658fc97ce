//! One HTTP connection: its requests, and the upgrade to a session if there is one.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::answer::Response;
use super::patience::Patience;
use super::respond::respond;
use crate::admission::Slot;
use crate::gateway::Gateway;
use crate::ws::{Line, Session, Upgrade};

/// Maximum size of a request's head; a token in it has at most half of that.
const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// Maximum bytes that are discarded after the last answer, so that the client gets to read the answer.
const FORGOTTEN_BYTES_MAX: u64 = 16 * 1_024 * 1_024;

/// What remains of a connection after its last answer.
struct Left<S> {
    stream: S,
    /// Bytes read beyond the last request.
    read_ahead: Bytes,
    /// The session that the connection becomes.
    upgrade: Option<Upgrade>,
}

/// Serves a connection until its end. A session gets its own task, so that no HTTP state stays in memory with it.
pub(super) async fn serve_connection<S>(gateway: Arc<Gateway>, stream: S, peer: SocketAddr, slot: Slot)
where
    S: Line + 'static,
{
    match serve_requests(&gateway, stream, peer.ip()).await {
        Ok(Left { stream, read_ahead, upgrade: Some(Upgrade { hello, slot: seat }) }) => {
            drop(slot);
            gateway.sessions.spawn(Session::new(gateway.clone(), stream, read_ahead, hello, seat));
        }
        Ok(Left { stream, upgrade: None, .. }) => {
            let patience_ms = gateway.settings().limits.http_head_timeout_ms;
            tokio::select! {
                () = say_goodbye(stream) => {}
                () = gateway.clock.sleep_ms(patience_ms) => {}
                () = gateway.closing.cancelled() => {}
            }
        }
        Err(error) => tracing::debug!(%error, "an HTTP connection broke"),
    }
}

/// Closes, and discards what the client still sends: closing a socket with unread data resets it, and the client might
/// not get to read the answer (RFC 9112 §9.6).
async fn say_goodbye<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if stream.shutdown().await.is_ok() {
        // Errors do not matter any more.
        let _ = tokio::io::copy(&mut stream.take(FORGOTTEN_BYTES_MAX), &mut tokio::io::sink()).await;
    }
}

/// Answers requests until there are no more, or the connection is upgraded.
async fn serve_requests<S>(gateway: &Arc<Gateway>, stream: S, peer: IpAddr) -> hyper::Result<Left<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrade: Arc<Mutex<Option<Upgrade>>> = Arc::default();
    let service = service_fn(|request| -> Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>> {
        let (gateway, upgrade) = (gateway.clone(), upgrade.clone());
        Box::pin(async move {
            let outcome = respond(gateway, peer, request).await;
            *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = outcome.upgrade;
            Ok(outcome.response)
        })
    });
    let (head_timeout, write_timeout) = timeouts(gateway);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patience::new(stream, write_timeout)), service);
    tokio::select! {
        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served?,
        () = gateway.closing.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await?;
        }
    }
    let parts = connection.into_parts();
    let upgrade = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(Left { stream: parts.io.into_inner().into_inner(), read_ahead: parts.read_buf, upgrade })
}

fn timeouts(gateway: &Gateway) -> (Duration, Duration) {
    let settings = gateway.settings();
    let limits = &settings.limits;
    (Duration::from_millis(limits.http_head_timeout_ms), Duration::from_millis(limits.http_body_timeout_ms))
}
