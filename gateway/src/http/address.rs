//! The client address of a request, behind trusted proxies.

use std::net::IpAddr;

use hyper::HeaderMap;
use switchboard_config::IpNet;

/// The client's address: the peer's or, if the peer is a trusted proxy, the one from `X-Forwarded-For`. Each proxy
/// appends the address of its own peer, so the last address that is not a trusted proxy's is the client's.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer.to_canonical();
    if !is_trusted(client, trusted) {
        return client;
    }
    let forwarded = headers.get_all("x-forwarded-for");
    let lists = forwarded.iter().filter_map(|list| list.to_str().ok()).collect::<Vec<_>>();
    for address in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
        let Ok(address) = address.trim().parse::<IpAddr>() else { break };
        client = address.to_canonical();
        if !is_trusted(client, trusted) {
            break;
        }
    }
    client
}

/// Whether an address is a trusted proxy's.
pub(super) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let name = hyper::header::HeaderName::from_static("x-forwarded-for");
        let headers = forwarded.iter().map(|list| (name.clone(), list.parse().unwrap())).collect();
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(address("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(address("10.1.1.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(address("::ffff:10.1.1.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(address("10.1.1.1", &[]), "10.1.1.1");
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_believed() {
        assert_eq!(address("10.1.1.1", &["1.1.1.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(address("10.1.1.1", &["1.1.1.1", "198.51.100.7, 10.2.2.2"]), "198.51.100.7");
        assert_eq!(address("10.1.1.1", &["nonsense, 10.2.2.2"]), "10.2.2.2");
    }
}
