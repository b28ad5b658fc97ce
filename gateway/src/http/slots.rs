//! Limits on HTTP connections, in total and per address. Owns nothing: the counts are in `admission.rs`.
//!
//! A connection of a trusted proxy carries requests of many clients, so there each request is counted instead, by the
//! address that it is forwarded for.

use std::net::IpAddr;

use switchboard_protocol::ProtocolError;
use switchboard_router::RETRY_AFTER_MS;

use super::address::is_trusted;
use crate::admission::{Kind, Most, Slot};
use crate::gateway::Gateway;

/// Waits until another connection may be accepted.
pub(super) async fn room(gateway: &Gateway) {
    while gateway.admission.taken(Kind::Http) >= connections_max(gateway) {
        gateway.admission.changed().await;
    }
}

/// A slot for a connection from `peer`.
pub(super) fn of_connection(gateway: &Gateway, peer: IpAddr) -> Option<Slot> {
    let per_address = match is_trusted(peer, &gateway.http.trusted_proxies) {
        true => u32::MAX,
        false => gateway.settings().http_connections_per_address_max(),
    };
    gateway.admission.slot(Kind::Http, peer, Most { in_all: connections_max(gateway), per_address })
}

/// A slot for a request that `peer` forwards for `client`; `None` if `peer` is not a trusted proxy, since its connection
/// has been counted.
///
/// # Errors
/// `overloaded`: the client has too many requests in progress.
pub(super) fn of_request(gateway: &Gateway, peer: IpAddr, client: IpAddr) -> Result<Option<Slot>, ProtocolError> {
    if !is_trusted(peer, &gateway.http.trusted_proxies) {
        return Ok(None);
    }
    // The total is already limited: there are no more requests than connections.
    let most = Most { in_all: usize::MAX, per_address: gateway.settings().http_connections_per_address_max() };
    let slot = gateway.admission.slot(Kind::ForwardedRequest, client, most);
    slot.map(Some).ok_or_else(|| ProtocolError::overloaded(RETRY_AFTER_MS))
}

/// The descriptors that WebSockets leave, up to the configured limit.
fn connections_max(gateway: &Gateway) -> usize {
    let settings = gateway.settings();
    let left = settings.sockets_max.saturating_sub(gateway.admission.taken(Kind::WebSocket));
    settings.limits.http_connections.min(left)
}
