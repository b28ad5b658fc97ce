//! The HTTPS client of all providers. Requests share connections if the provider speaks HTTP/2. It follows no redirects,
//! and limits the size of answers. Owns the connections and their tasks.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, Request, StatusCode};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as PooledClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use switchboard_clock::Clock;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::task::TaskTracker;

use crate::guard::{Guard, NotPublic};
use crate::provider::SetupError;

/// Maximum size of an answer's body that is read; providers' answers are shorter.
const ANSWER_BYTES_MAX: usize = 16_384;
/// Maximum idle connections to one host.
const IDLE_CONNECTIONS_MAX: usize = 4;
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// HTTP/2 keep-alive: a connection that does not answer a ping is closed, so that requests don't wait on a dead one.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct Client {
    /// HTTP/2 if the server supports it, else HTTP/1.1.
    any: Pooled,
    /// HTTP/2 only: any number of concurrent requests share one connection.
    multiplexed: Pooled,
    guard: Guard,
    timeout: Duration,
    clock: Clock,
}

type Pooled = PooledClient<HttpsConnector<HttpConnector<Guard>>, Full<Bytes>>;

/// The root certificates that are trusted.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Those of this machine, or those in the file named by the environment variable `SSL_CERT_FILE`.
    Machine,
    These(RootCertStore),
}

/// An answer, as far as it is read.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    /// Milliseconds from now, from `Retry-After`.
    pub(crate) retry_after_ms: Option<u64>,
    /// Empty if it was too long.
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("the URL is not https, or its address is not public")]
    Forbidden,
    #[error("no answer in time")]
    TimedOut,
    #[error("the provider can't be reached")]
    Unreachable(#[source] hyper_util::client::legacy::Error),
}

/// Runs the tasks of connections. They end with the pool and the requests that use them.
#[derive(Clone, Debug)]
struct Tasks(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

impl Client {
    /// `timeout` applies to a whole request, including connecting. Connections run as tasks of `tasks`.
    ///
    /// # Errors
    /// The machine's certificates can't be read, or TLS can't be set up.
    pub fn new(
        guard: Guard,
        roots: Roots,
        timeout: Duration,
        clock: Clock,
        tasks: &TaskTracker,
    ) -> Result<Self, SetupError> {
        let tls = tls(roots)?;
        let mut tcp = HttpConnector::new_with_resolver(guard.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let https = || HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_only();
        let any = https().enable_all_versions().wrap_connector(tcp.clone());
        let multiplexed = https().enable_http2().wrap_connector(tcp);
        let pool = |http2_only: bool| {
            let mut pool = PooledClient::builder(Tasks(tasks.clone()));
            pool.http2_only(http2_only)
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .http2_keep_alive_interval(PING_INTERVAL)
                .http2_keep_alive_timeout(PING_TIMEOUT);
            pool
        };
        let (any, multiplexed) = (pool(false).build(any), pool(true).build(multiplexed));
        Ok(Self { any, multiplexed, guard, timeout, clock })
    }

    /// The clock for tokens and for dates in answers.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Sends a request over HTTP/2 or HTTP/1.1, as negotiated with the server.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response, ClientError> {
        self.send_by(&self.any, request).await
    }

    /// Sends a request over HTTP/2 only.
    pub(crate) async fn send_multiplexed(&self, request: Request<Full<Bytes>>) -> Result<Response, ClientError> {
        self.send_by(&self.multiplexed, request).await
    }

    async fn send_by(&self, pool: &Pooled, request: Request<Full<Bytes>>) -> Result<Response, ClientError> {
        if !self.guard.allows_url(request.uri()) {
            return Err(ClientError::Forbidden);
        }
        let answer = async {
            let response = pool.request(request).await.map_err(unreachable)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let retry_after_ms = retry_after_ms(&head.headers, self.clock.wall_ms());
            Ok(Response { status: head.status, retry_after_ms, body })
        };
        tokio::time::timeout(self.timeout, answer).await.unwrap_or(Err(ClientError::TimedOut))
    }
}

fn tls(roots: Roots) -> Result<ClientConfig, SetupError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = match roots {
        Roots::Machine => builder.with_native_roots().map_err(SetupError::Certificates)?,
        Roots::These(roots) => builder.with_root_certificates(roots),
    };
    Ok(builder.with_no_client_auth())
}

/// Distinguishes a forbidden address, which is permanent, from an unreachable server, which may be temporary.
fn unreachable(error: hyper_util::client::legacy::Error) -> ClientError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if inner.is_some_and(|inner| inner.is::<NotPublic>()) {
            return ClientError::Forbidden;
        }
        cause = error.source();
    }
    ClientError::Unreachable(error)
}

/// `Retry-After`, in seconds or as a date (RFC 9110 §10.2.3).
fn retry_after_ms(headers: &HeaderMap, now_ms: i64) -> Option<u64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(seconds.saturating_mul(1_000));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    Some(u64::try_from(date.timestamp().as_millisecond().saturating_sub(now_ms)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now_ms = 784_111_777_000;
        for (value, expected) in [
            ("120", Some(120_000)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10_000)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(retry_after_ms(&headers, now_ms), expected, "{value}");
        }
        assert_eq!(retry_after_ms(&HeaderMap::new(), now_ms), None);
    }
}
