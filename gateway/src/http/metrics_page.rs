//! `GET /metrics`, for Prometheus, on its own listener and without authentication.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{Answer, Response, no_such_method, no_such_path};
use super::listener::accept;

/// Maximum concurrent scrapers.
const CONNECTIONS_MAX: usize = 16;

/// Serves the metrics until `stop`.
pub(crate) async fn serve_metrics(listener: TcpListener, figures: PrometheusHandle, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let scrapers = TaskTracker::new();
    let next = async || {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        (accept(&listener).await, place)
    };
    while let Some(((stream, _), place)) = stop.run_until_cancelled(next()).await {
        let figures = figures.clone();
        let service = service_fn(move |request| {
            let response = Response::from(answer(&figures, &request));
            async { Ok::<_, Infallible>(response) }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        let stop = stop.clone();
        scrapers.spawn(async move {
            // An error of the connection is the scraper's to report.
            let _ = stop.run_until_cancelled(connection).await;
            drop(place);
        });
    }
}

fn answer(figures: &PrometheusHandle, request: &Request<Incoming>) -> Answer {
    if request.uri().path() != "/metrics" {
        return no_such_path();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return no_such_method(HeaderValue::from_static("GET, HEAD"));
    }
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Answer::new(StatusCode::OK, content_type, Bytes::from(figures.render()))
}
