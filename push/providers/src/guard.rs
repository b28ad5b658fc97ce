//! Where requests may be sent to: `https` on public addresses only, so that nobody can make the gateway connect to
//! internal services (SSRF). Checked when the connection resolves the name, so the name can't point to another address
//! afterwards (DNS rebinding).

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;
use tower_service::Service;

/// Maximum addresses of a name; further ones are ignored.
const ADDRESSES_MAX: usize = 16;

/// Allows public addresses, and these networks (`push.allowed_networks`).
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allowed: Arc<[IpNet]>,
}

/// Requests to this address are forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address that is not public")]
pub(crate) struct NotPublic;

impl Guard {
    pub fn new(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.into() }
    }

    /// Whether a URL is `https`, and has a host, no user info and no forbidden address. The addresses of a name are
    /// checked when connecting.
    pub fn allows_url(&self, url: &Uri) -> bool {
        let Some(authority) = url.authority() else { return false };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_allowed = host.parse().map_or(true, |address| self.allows(address));
        url.scheme_str() == Some("https") && !authority.as_str().contains('@') && !host.is_empty() && is_allowed
    }

    fn allows(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.iter().any(|network| network.contains(&address))
    }
}

impl Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> = found.filter(|address| guard.allows(address.ip())).take(ADDRESSES_MAX).collect();
            if allowed.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, NotPublic));
            }
            Ok(allowed.into_iter())
        })
    }
}

/// Whether an address is on the public internet: not loopback, link-local or private, and not in another block of the
/// IANA special-purpose address registries.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        // "This network"; multicast, reserved and broadcast.
        || a == 0
        || a >= 224
        // Carrier-grade NAT, IETF protocol assignments, 6to4 relays, benchmarking.
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b));
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [first, second, ..] = segments;
    // An embedded IPv4 address is checked as the address that it reaches: mapped, translated (RFC 6052), 6to4.
    let embedded = |high: u16, low: u16| is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Global unicast is 2000::/3, except for Teredo, ORCHID and other IETF assignments, and documentation.
        _ => (first & 0xe000) == 0x2000 && !(first == 0x2001 && (second < 0x200 || second == 0xdb8)) && first != 0x3fff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(guard: &Guard, url: &str) -> bool {
        guard.allows_url(&url.parse().unwrap())
    }

    #[test]
    fn only_https_to_a_host() {
        let guard = Guard::default();
        assert!(allows(&guard, "https://push.example.com/x"));
        assert!(allows(&guard, "https://push.example.com:8443/x"));
        for url in ["http://push.example.com/x", "https://user@push.example.com/x", "/x", "push.example.com:443"] {
            assert!(!allows(&guard, url), "{url}");
        }
    }

    #[test]
    fn special_addresses_are_not_public_in_any_dress() {
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.63.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn literal_addresses_are_judged_at_once_and_may_be_allowed() {
        let (none, some) = (Guard::default(), Guard::new(&["127.0.0.0/8".parse().unwrap()]));
        for url in ["https://127.0.0.1/x", "https://[::1]/x", "https://[::ffff:127.0.0.1]:443/x"] {
            assert!(!allows(&none, url), "{url}");
        }
        assert!(allows(&some, "https://127.0.0.1/x"));
        assert!(!allows(&some, "https://[::1]/x"));
    }

    #[tokio::test]
    async fn a_name_is_judged_by_what_it_resolves_to() {
        let name: Name = "localhost".parse().unwrap();
        let error = Guard::default().call(name.clone()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let loopback = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        assert!(Guard::new(&loopback).call(name).await.unwrap().next().is_some());
    }
}
