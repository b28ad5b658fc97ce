//! A push provider as a server that speaks its protocol: TLS, HTTP/2 or HTTP/1.1 by ALPN, with answers given by a test.
//! Also the checks with which receivers decrypt a message and authenticate its sender.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod browser;
mod proof;

pub use browser::Browser;
pub use proof::{verified, webhook_is_genuine};

use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, Version};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The certificate that its clients must trust.
pub const CERT: &[u8] = include_bytes!("../it/keys/tls-a.cert.pem");
/// A P-256 key, as VAPID and APNs need.
pub const KEY: &[u8] = include_bytes!("../it/keys/tls-a.key.pem");

/// A received request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    /// Empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// The answer to a request.
pub type Answer = Response<Full<Bytes>>;

/// An answer without headers.
pub fn answer(status: u16, body: &str) -> Answer {
    Response::builder().status(status).body(Full::from(body.to_owned())).unwrap()
}

/// See the module. Stopped when it is dropped.
pub struct ProviderServer {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl ProviderServer {
    /// Listens on a free port.
    pub async fn start<A: Future<Output = Answer> + Send + 'static>(
        answers: impl Fn(Seen) -> A + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, connections) = (Arc::default(), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, answers, Arc::clone(&seen), Arc::clone(&connections)));
        Self { port, seen, connections, _tasks: tasks }
    }

    /// One of its URLs.
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// All requests so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The newest request.
    pub fn last(&self) -> Seen {
        self.seen().pop().unwrap()
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn accept<A: Future<Output = Answer> + Send + 'static>(
    listener: TcpListener,
    answers: impl Fn(Seen) -> A + Clone + Send + Sync + 'static,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
) {
    let tls = acceptor();
    let mut tasks = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        let (tls, answers, seen) = (tls.clone(), answers.clone(), Arc::clone(&seen));
        tasks.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(move |request: Request<Incoming>| {
                let (answers, seen) = (answers.clone(), Arc::clone(&seen));
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let path = head.uri.path().to_owned();
                    let request = Seen { path, version: head.version, headers: head.headers, body };
                    seen.lock().unwrap().push(request.clone());
                    Ok::<_, Infallible>(answers(request).await)
                }
            });
            let io = TokioIo::new(stream);
            // A client that goes away does not matter to the test.
            if is_http2 {
                let executor = hyper_util::rt::TokioExecutor::new();
                let _ = hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service).await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            }
        });
    }
}

fn acceptor() -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(CERT).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
