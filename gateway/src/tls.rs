//! TLS on the clients' port: the certificate and its key, which SIGHUP reads again.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use switchboard_config::{Mistake, Problem, Tls as TlsConfig};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// See the module.
pub(crate) struct Tls(ArcSwap<ServerConfig>);

impl Tls {
    pub(crate) fn new(server: Arc<ServerConfig>) -> Self {
        Self(ArcSwap::new(server))
    }

    /// Takes another certificate; connections that are open keep what they have.
    pub(crate) fn replace(&self, server: Arc<ServerConfig>) {
        self.0.store(server);
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

/// Reads the certificate and its key. `None`: TLS is not configured.
///
/// # Errors
/// A file can't be read, or its contents can't be used.
pub(crate) fn read(config: &TlsConfig) -> Result<Option<Arc<ServerConfig>>, Mistake> {
    let (Some(cert), Some(key)) = (&config.cert, &config.key) else { return Ok(None) };
    let wrong = |at: &str, problem: String| Mistake::new(at, Problem::Wrong(problem));
    let chain = CertificateDer::pem_slice_iter(&file("node.tls.cert", cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| wrong("node.tls.cert", format!("{} has no certificate in PEM", cert.display())))?;
    let private = PrivateKeyDer::from_pem_slice(&file("node.tls.key", key)?)
        .map_err(|_| wrong("node.tls.key", format!("{} has no private key in PEM", key.display())))?;
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| wrong("node.tls.key", format!("can't be used with the certificate: {error}")))?;
    Ok(Some(Arc::new(server)))
}

fn file(at: &str, path: &Path) -> Result<Vec<u8>, Mistake> {
    fs::read(path).map_err(|source| Mistake::new(at, Problem::Unreadable { path: path.to_owned(), source }))
}
