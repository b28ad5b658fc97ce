//! The application's own server, to which spawned nodes send their notifications (docs/protocol.md, "Push"). It refuses
//! what the contract requires a receiver to refuse, and passes on the rest. It knows nothing of scenarios.
//!
//! The coordinator reserves the port, which nodes must know when they start ([`Reserved`]); then all workers listen on
//! it ([`Provider`]), and the kernel assigns each connection to one of them.

use std::ffi::OsString;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ring::hmac;
use serde::{Deserialize, Serialize};
use switchboard_clock::Clock;
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::meter::now_ns;
use crate::nodes;

/// For this machine's names; trusted only by the nodes of a run.
const CERT: &[u8] = include_bytes!("../../tests/it/keys/tls-a.cert.pem");
const KEY: &[u8] = include_bytes!("../../tests/it/keys/tls-a.key.pem");

/// Larger than any notification (docs/protocol.md, "Push").
const BODY_BYTES_MAX: usize = 8 * 1_024;
/// Older requests are refused.
const AGE_MAX_S: u64 = 300;
const CONNECTIONS_WAITING_MAX: u32 = 128;

/// Its address, and the secret that signs requests.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Site {
    port: u16,
    secret: String,
}

/// A reserved port, and the configuration that nodes need for it.
pub(crate) struct Reserved {
    pub(crate) site: Site,
    trusted: NamedTempFile,
    /// It does not listen, so connections go to a worker.
    _socket: TcpSocket,
}

impl Reserved {
    /// # Errors
    /// No free port, or no disk space for a file.
    pub(crate) fn new() -> Result<Self> {
        let socket = bound(0)?;
        let site = Site { port: socket.local_addr()?.port(), secret: nodes::new_secret()? };
        let mut trusted = NamedTempFile::new()?;
        trusted.write_all(CERT)?;
        Ok(Self { site, trusted, _socket: socket })
    }

    /// As arguments of `switchboard --set`.
    pub(crate) fn settings(&self) -> Vec<String> {
        vec![
            format!("push.webhook.url=https://localhost:{}/", self.site.port),
            r#"push.allowed_networks=["127.0.0.0/8","::1/128"]"#.to_owned(),
        ]
    }

    /// The environment of the nodes.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("SWITCHBOARD__PUSH__WEBHOOK__SECRET", self.site.secret.clone().into()),
            ("SSL_CERT_FILE", self.trusted.path().into()),
        ]
    }
}

/// A socket that shares its port with those of the same user's other processes that also share it.
fn bound(port: u16) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

/// A notification of a conversation to a user's device.
#[derive(Debug, Deserialize)]
pub(crate) struct Notification {
    #[serde(rename = "type")]
    kind: String,
    pub(crate) user_id: String,
    pub(crate) conversation_id: String,
    pub(crate) up_to_seq: u64,
    pub(crate) text: Option<String>,
}

/// Called for each notification, with its `Switchboard-Id` and the time of arrival.
pub(crate) type OnNotification = Box<dyn Fn(&Notification, &str, u64) + Send + Sync>;

/// A worker's part of the provider. Dropping it ends it.
pub(crate) struct Provider {
    _tasks: JoinSet<()>,
}

impl Provider {
    /// # Errors
    /// The port is not available.
    pub(crate) fn start(site: &Site, on_notification: OnNotification) -> Result<Self> {
        let listener =
            bound(site.port)?.listen(CONNECTIONS_WAITING_MAX).context("can't open the push service's port")?;
        let receiver = Receiver { key: hmac::Key::new(hmac::HMAC_SHA256, site.secret.as_bytes()), on_notification };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, acceptor()?, Arc::new(receiver)));
        Ok(Self { _tasks: tasks })
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, receiver: Arc<Receiver>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, receiver) = (tls.clone(), receiver.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request| {
                let receiver = receiver.clone();
                async move {
                    let mut response = Response::new(Empty::<Bytes>::new());
                    *response.status_mut() = receiver.receive(request).await;
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            // A killed node breaks its connection off.
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn acceptor() -> Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from_pem_slice(CERT)?], PrivateKeyDer::from_pem_slice(KEY)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

struct Receiver {
    key: hmac::Key,
    on_notification: OnNotification,
}

impl Receiver {
    async fn receive(&self, request: Request<Incoming>) -> StatusCode {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else { return StatusCode::PAYLOAD_TOO_LARGE };
        self.answer(&head.headers, &body.to_bytes(), Clock::system().wall_ms().div_euclid(1_000))
    }

    fn answer(&self, headers: &HeaderMap, body: &[u8], now_s: i64) -> StatusCode {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let timestamp = header("switchboard-timestamp");
        let is_fresh = timestamp.parse::<i64>().is_ok_and(|sent_s| sent_s.abs_diff(now_s) <= AGE_MAX_S);
        if !is_fresh || !self.is_signed(timestamp, body, header("switchboard-signature")) {
            return StatusCode::UNAUTHORIZED;
        }
        let Ok(notification) = serde_json::from_slice::<Notification>(body) else { return StatusCode::BAD_REQUEST };
        if notification.kind == "notification" {
            (self.on_notification)(&notification, header("switchboard-id"), now_ns());
        }
        StatusCode::NO_CONTENT
    }

    fn is_signed(&self, timestamp: &str, body: &[u8], signature: &str) -> bool {
        let signed = [timestamp.as_bytes(), b".", body].concat();
        let expected = hmac::sign(&self.key, &signed);
        let hex = expected.as_ref().iter().map(|byte| format!("{byte:02x}"));
        signature.strip_prefix("v1=") == Some(hex.collect::<String>().as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const NOTIFICATION: &[u8] =
        br#"{"type":"notification","tenant":"t","user_id":"u","device_id":"d","conversation_id":"d:1","up_to_seq":3}"#;

    /// The receiver's answer, and the ids that it passed on.
    fn answers(body: &[u8], signed_with: &str, age_s: i64) -> (StatusCode, Vec<String>) {
        let ids: Arc<Mutex<Vec<String>>> = Arc::default();
        let handed = ids.clone();
        let on_notification: OnNotification = Box::new(move |_, id, _| handed.lock().unwrap().push(id.to_owned()));
        let receiver = Receiver { key: hmac::Key::new(hmac::HMAC_SHA256, b"secret"), on_notification };
        let key = hmac::Key::new(hmac::HMAC_SHA256, signed_with.as_bytes());
        let signature = hmac::sign(&key, &[b"1000.", body].concat());
        let signature: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut headers = HeaderMap::new();
        headers.insert("switchboard-timestamp", "1000".parse().unwrap());
        headers.insert("switchboard-id", "i".parse().unwrap());
        headers.insert("switchboard-signature", format!("v1={signature}").parse().unwrap());
        let status = receiver.answer(&headers, body, 1_000 + age_s);
        (status, std::mem::take(&mut ids.lock().unwrap()))
    }

    #[test]
    fn only_what_is_signed_and_fresh_is_handed_on() {
        assert_eq!(answers(NOTIFICATION, "secret", 300), (StatusCode::NO_CONTENT, vec!["i".to_owned()]));
        assert_eq!(answers(NOTIFICATION, "secret", 301), (StatusCode::UNAUTHORIZED, Vec::new()));
        assert_eq!(answers(NOTIFICATION, "another", 0), (StatusCode::UNAUTHORIZED, Vec::new()));
        assert_eq!(answers(b"{}", "secret", 0), (StatusCode::BAD_REQUEST, Vec::new()));
    }

    #[test]
    fn a_withdrawal_is_no_notification() {
        let withdrawal = br#"{"type":"withdrawal","user_id":"u","conversation_id":"d:1","up_to_seq":3}"#;
        assert_eq!(answers(withdrawal, "secret", 0), (StatusCode::NO_CONTENT, Vec::new()));
    }
}
