//! Connects to an address: TCP, with TLS if the address requires it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::either::Either;

use super::address::{Address, Sources};

/// Attempts fail after this time.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection, boxed if it is large: most don't use TLS.
pub(crate) type Socket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Opens connections. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Dialer {
    /// `None`: no address uses TLS.
    tls: Option<TlsConnector>,
}

impl Dialer {
    /// For addresses some of which use TLS: trusts servers whose certificate is signed by one of `ca_pem`.
    ///
    /// # Errors
    /// It contains no certificate.
    pub(crate) fn new(ca_pem: Option<&str>) -> Result<Self> {
        let Some(pem) = ca_pem else { return Ok(Self::default()) };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.context("can't parse a certificate")?)?;
        }
        ensure!(!roots.is_empty(), "the file contains no certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let mut config =
            config.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth();
        // Users come from everywhere, so no handshake is abbreviated.
        config.resumption = Resumption::disabled();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// A connection to a node; `source` is the source address, as for [`tcp`].
    ///
    /// # Errors
    /// It can't be opened, or the server is not trusted.
    pub(crate) async fn dial(&self, address: &Address, source: Option<(Sources, u64)>) -> Result<Socket> {
        let socket = tcp(address, source).await?;
        if !address.is_tls {
            return Ok(Either::Left(socket));
        }
        let tls = self.tls.as_ref().context("TLS without a certificate authority")?;
        let name = ServerName::try_from(address.host.clone())?;
        let secured = tokio::time::timeout(CONNECT_TIMEOUT, tls.connect(name, socket)).await;
        let secured =
            secured.context("timed out")?.with_context(|| format!("{}: TLS handshake failed", address.authority()))?;
        Ok(Either::Right(Box::new(secured)))
    }
}

/// A TCP socket to an address.
///
/// # Errors
/// The name is unknown, or nobody listens there.
pub(crate) async fn tcp(address: &Address, source: Option<(Sources, u64)>) -> Result<TcpStream> {
    let connect = async {
        let mut found = lookup_host((address.host.as_str(), address.port)).await?;
        let target = found.next().ok_or_else(|| anyhow!("the name has no address"))?;
        let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source.and_then(|(sources, number)| sources.of(number, target.ip())) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(target).await?;
        stream.set_nodelay(true)?;
        Ok::<_, anyhow::Error>(stream)
    };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
    connected.context("timed out").flatten().with_context(|| format!("can't connect to {}", address.authority()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        assert!(Dialer::new(Some("nothing")).is_err());
        assert!(Dialer::new(Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")).is_err());
        assert!(Dialer::new(None).is_ok());
    }
}
