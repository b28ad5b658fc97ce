//! A node's address, and the source address of clients that connect to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use hyper::Uri;
use serde::{Deserialize, Serialize};

/// A node's address, as `ws://host:port` or `http://host:port`, or `wss:` or `https:` for TLS; with or without the path
/// of the WebSocket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Before `/v1/…`; empty or with a leading slash.
    pub(crate) prefix: String,
    pub(crate) is_tls: bool,
}

impl Address {
    pub(crate) fn of_socket(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port(), prefix: String::new(), is_tls: false }
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub(crate) fn authority(&self) -> String {
        let brackets = self.host.contains(':');
        if brackets { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{text} is not a URL: {error}"))?;
        let (port, is_tls) = match uri.scheme_str() {
            Some("ws" | "http") => (80, false),
            Some("wss" | "https") => (443, true),
            _ => return Err(format!("{text} must begin with ws://, wss://, http:// or https://")),
        };
        let host = uri.host().ok_or_else(|| format!("{text} has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path().trim_end_matches('/');
        let prefix = path.strip_suffix("/v1/ws").unwrap_or(path).to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(port), prefix, is_tls })
    }
}

/// Connections per source address, of the 28,232 ephemeral ports that exist by default: so few that the first port that
/// the kernel tries is free, although those of closed connections stay in use for a minute.
const PER_SOURCE_MAX: u64 = 256;

/// Gives connections different source addresses, so that ports last. Only loopback has that many addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources {
    first: u32,
}

impl Sources {
    /// `seed` distinguishes runs and workers, because the ports of one run are still in use when the next begins.
    pub(crate) fn new(seed: u64) -> Self {
        // 127.1.0.0 to 127.254.255.255, which excludes addresses that others may listen on.
        let span = 253 << 16;
        Self { first: 0x7f01_0000 + u32::try_from(seed.wrapping_mul(0x9e37_79b9) % span).unwrap_or(0) }
    }

    /// The source address of connection `number` to `target`; `None`: the system chooses.
    pub(crate) fn of(self, number: u64, target: IpAddr) -> Option<IpAddr> {
        let IpAddr::V4(target) = target else { return None };
        let offset = u32::try_from(number / PER_SOURCE_MAX).unwrap_or(0);
        target.is_loopback().then(|| Ipv4Addr::from_bits(self.first + offset).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_both_kinds_are_addresses() {
        let parsed = |text: &str| text.parse::<Address>().map(|address| (address.authority(), address.prefix));
        let is = |authority: &str, prefix: &str| Ok((authority.to_owned(), prefix.to_owned()));
        assert_eq!(parsed("ws://127.0.0.1:8080/v1/ws"), is("127.0.0.1:8080", ""));
        assert_eq!(parsed("http://chat.example.com"), is("chat.example.com:80", ""));
        assert_eq!(parsed("ws://a:1/chat/v1/ws"), is("a:1", "/chat"));
        assert_eq!(parsed("http://[::1]:9/"), is("[::1]:9", ""));
        assert_eq!(parsed("wss://chat.example.com/v1/ws"), is("chat.example.com:443", ""));
        for wrong in ["", "localhost:8080", "ftp://x", "ws://"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn loopback_has_many_sources() {
        let sources = Sources::new(7);
        let of = |number| sources.of(number, "127.0.0.1".parse().unwrap()).unwrap();
        assert!(of(0).is_loopback());
        assert_eq!(of(0), of(PER_SOURCE_MAX - 1));
        assert_ne!(of(0), of(PER_SOURCE_MAX));
        assert_eq!(sources.of(0, "10.0.0.1".parse().unwrap()), None);
        assert_eq!(sources.of(0, "::1".parse().unwrap()), None);
    }
}
