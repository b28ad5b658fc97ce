//! One HTTP connection: its requests, and at its end perhaps the session that it becomes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::Response;
use super::patience::Patience;
use super::respond::respond;
use crate::admission::Place;
use crate::gateway::Gateway;
use crate::ws::{Session, Upgrade};

/// Largest head of a request; a token in it has at most half of that.
const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// Serves a connection until its end. A session gets a task of its own, so that nothing of HTTP stays in memory with it.
pub(super) async fn serve_connection<S>(gateway: Arc<Gateway>, stream: S, peer: SocketAddr, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let upgrade: Arc<Mutex<Option<Upgrade>>> = Arc::default();
    let service = {
        let (gateway, upgrade) = (gateway.clone(), upgrade.clone());
        service_fn(move |request| -> Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>> {
            let (gateway, upgrade) = (gateway.clone(), upgrade.clone());
            Box::pin(async move {
                let outcome = respond(gateway, peer.ip(), request).await;
                *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = outcome.upgrade;
                Ok(outcome.response)
            })
        })
    };
    let (head_timeout, write_timeout) = {
        let settings = gateway.settings();
        let limits = &settings.limits;
        (Duration::from_millis(limits.http_head_timeout_ms), Duration::from_millis(limits.http_body_timeout_ms))
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Patience::new(stream, write_timeout)), service);
    let served = tokio::select! {
        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
        () = gateway.closing.cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection broke");
        return;
    }
    let parts = connection.into_parts();
    let upgrade = upgrade.lock().unwrap_or_else(PoisonError::into_inner).take();
    match upgrade {
        Some(Upgrade { hello, place: seat }) => {
            drop(place);
            let socket = parts.io.into_inner().into_inner();
            gateway.sessions.spawn(Session::new(gateway.clone(), socket, parts.read_buf, hello, seat));
        }
        None => {
            // TLS says goodbye; a client that has gone already does not mind.
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut parts.io.into_inner()).await;
        }
    }
}
