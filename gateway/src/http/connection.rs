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
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Response;
use super::respond::respond;
use crate::gateway::Gateway;
use crate::ws::{Session, Upgrade};

/// Time that a client has to send a request's head, or to think of another request.
const HEAD_MS_MAX: u64 = 10_000;
/// Largest head of a request; a token in it has at most half of that.
const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// Serves a connection until its end. A session gets a task of its own, so that nothing of HTTP stays in memory with it.
pub(super) async fn serve_connection<S>(gateway: Arc<Gateway>, stream: S, peer: SocketAddr, place: OwnedSemaphorePermit)
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
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEAD_MS_MAX))
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
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
            let session = Session::new(gateway.clone(), parts.io.into_inner(), parts.read_buf, hello, (seat, place));
            gateway.sessions.spawn(session);
        }
        None => {
            // TLS says goodbye; a client that has gone already does not mind.
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut parts.io.into_inner()).await;
        }
    }
}
