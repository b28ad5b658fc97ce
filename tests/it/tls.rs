//! TLS on the clients' port, and its reload (OPERATING, "Signals").

use std::fs;
use std::sync::Arc;

use futures_util::StreamExt;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::client_async;

use crate::support::tokens::token;
use crate::support::{Config, Server, soon};

const CERTS: [&str; 2] = [include_str!("keys/tls-a.cert.pem"), include_str!("keys/tls-b.cert.pem")];
const KEYS: [&str; 2] = [include_str!("keys/tls-a.key.pem"), include_str!("keys/tls-b.key.pem")];

/// A connection that trusts only the certificate with this number.
async fn connect(server: &Server, certificate: usize) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTS[certificate].as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(&server.listen).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    soon("the handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

#[tokio::test]
async fn sessions_run_over_tls_and_sighup_brings_the_new_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let write = |n: usize| {
        fs::write(&cert, CERTS[n]).unwrap();
        fs::write(&key, KEYS[n]).unwrap();
    };
    write(0);
    let config = Config::new().set("node.tls.cert", cert.display()).set("node.tls.key", key.display());
    let server = config.start().await;

    let url = format!("wss://{}/v1/ws?token={}", server.listen, token("alice"));
    let (mut socket, _) = client_async(url, connect(&server, 0).await.unwrap()).await.unwrap();
    let ready = soon("ready", socket.next()).await.unwrap().unwrap();
    assert!(ready.to_text().unwrap().contains("\"ready\""));
    assert!(connect(&server, 1).await.is_err());

    write(1);
    server.signal(Signal::HUP);
    soon("the new certificate", async { while connect(&server, 1).await.is_err() {} }).await;
    assert!(connect(&server, 0).await.is_err());

    // Unusable files leave the current certificate in place.
    fs::write(&key, KEYS[0]).unwrap();
    server.signal(Signal::HUP);
    connect(&server, 1).await.unwrap();
    socket.close(None).await.unwrap();
    let log = server.stop().await.log;
    assert!(log.contains("node.tls.key"), "{log}");
}

#[tokio::test]
async fn whoever_does_not_speak_tls_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, CERTS[0]).unwrap();
    fs::write(&key, KEYS[0]).unwrap();
    let server = Config::new().set("node.tls.cert", cert.display()).set("node.tls.key", key.display()).start().await;
    let plain = TcpStream::connect(&server.listen).await.unwrap();
    assert!(client_async(format!("ws://{}/v1/ws", server.listen), plain).await.is_err());
    connect(&server, 0).await.unwrap();
}
