//! A user's device that gets notifications while the user has no session (docs/protocol.md, "Push").

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;

use super::connect::http;
use super::network::{Entry, Network};
use super::session::Who;
use crate::verify::What;

/// Registers a device with the application's own server.
///
/// # Errors
/// It was refused; the error has the status.
pub(crate) async fn register(network: &Network, who: &Who) -> Result<()> {
    let address = &network.addresses[who.node % network.addresses.len()];
    let Entry::SignedIn(tokens) = &network.entry else { bail!("only users have devices") };
    let token = tokens.token(&network.dialer, address, &who.user).await?;
    let request = Request::put(format!("{}/v1/devices/load/push", address.prefix))
        .header("host", address.authority())
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(br#"{"provider":"webhook"}"#)))?;
    let socket = network.dialer.dial(address, Some((network.sources, who.number))).await?;
    let (status, body) = http(socket, request).await.context("can't register a device")?;
    if !status.is_success() {
        bail!("a device was refused: {status}: {}", String::from_utf8_lossy(&body));
    }
    if let Some(log) = &network.log {
        log.note(&who.user, What::Device);
    }
    Ok(())
}
