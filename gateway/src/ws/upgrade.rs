//! The upgrade from HTTP to WebSocket (RFC 6455 §4.2; PROTOCOL §1): which requests are refused, and what a request says
//! about the client.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, StatusCode};
use switchboard_protocol::text::InvalidText;
use switchboard_protocol::{ErrorCode, ProtocolError};
use tungstenite::handshake::derive_accept_key;

use super::sign_in::Hello;
use crate::admission::{Kind, Most, Slot};
use crate::gateway::Gateway;
use crate::http::{Answer, Response, bearer, no_such_method};
use crate::metrics::{ConnectResult, count_connect};

/// The only subprotocol, also used if none is requested.
const JSON_PROTOCOL: &str = "switchboard.v1.json";
/// Length of `Sec-WebSocket-Key`: 16 bytes in base64.
const KEY_CHARS: usize = 24;
/// After this time a client should retry that was refused for lack of room.
const NO_ROOM_RETRY_MS: u64 = 5_000;

/// A connection that may become a session.
pub(crate) struct Upgrade {
    pub(crate) hello: Hello,
    pub(crate) slot: Slot,
}

/// Answers a request for a WebSocket from `address`.
///
/// # Errors
/// The answer that refuses it: 400, 403, 405 or 503.
pub(crate) fn upgrade(
    gateway: &Arc<Gateway>,
    address: IpAddr,
    request: &Request<Incoming>,
) -> Result<(Response, Upgrade), Box<Answer>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(refused(ConnectResult::BadRequest, no_such_method(HeaderValue::from_static("GET, HEAD"))));
    }
    let headers = request.headers();
    let accept = accept_key(request).ok_or_else(|| {
        let error =
            ProtocolError::new(ErrorCode::BadRequest, "this path takes WebSocket upgrades only (RFC 6455, version 13)");
        refused(
            ConnectResult::BadRequest,
            Answer::from(error).with(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        )
    })?;
    if !is_allowed_origin(gateway, headers) {
        let error = ProtocolError::forbidden("pages of this origin may not connect (http.allowed_origins)");
        return Err(refused(ConnectResult::Forbidden, error.into()));
    }
    gateway.router().map_err(|error| refused(ConnectResult::Unready, error.into()))?;
    let settings = gateway.settings();
    let most = Most { in_all: settings.connections_max, per_address: settings.connections_per_address_max() };
    let slot = gateway
        .admission
        .slot(Kind::WebSocket, address, most)
        .ok_or_else(|| refused(ConnectResult::NoRoom, ProtocolError::overloaded(NO_ROOM_RETRY_MS).into()))?;
    let answer = Answer::switching_protocols(accept).with_all(chosen_protocol(headers));
    Ok((answer.into(), Upgrade { hello: hello(request), slot }))
}

fn refused(result: ConnectResult, answer: Answer) -> Box<Answer> {
    count_connect(result);
    Box::new(answer)
}

/// The value of `Sec-WebSocket-Accept`; `None` if the request is not a WebSocket upgrade.
fn accept_key(request: &Request<Incoming>) -> Option<HeaderValue> {
    let headers = request.headers();
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    let is_upgrade = request.method() == Method::GET
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13")
        && key.len() == KEY_CHARS;
    if !is_upgrade {
        return None;
    }
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

/// Whether a list in a header contains a token, ignoring case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// The first known entry of a list; `None` if none is known (RFC 6455 §4.2.2).
fn chosen_protocol(headers: &HeaderMap) -> Option<(HeaderName, HeaderValue)> {
    list(headers, &SEC_WEBSOCKET_PROTOCOL)
        .any(|protocol| protocol == JSON_PROTOCOL)
        .then(|| (SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(JSON_PROTOCOL)))
}

/// A request without an `Origin` header does not come from a web page, and is allowed.
fn is_allowed_origin(gateway: &Gateway, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let allowed = &gateway.http.allowed_origins;
    if !allowed.is_empty() {
        return allowed.iter().any(|allowed| allowed.matches(origin));
    }
    let Some((_, authority)) = origin.split_once("://") else { return false };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
        || (gateway.dev_key.is_some() && is_loopback(authority))
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn hello(request: &Request<Incoming>) -> Hello {
    let mut hello = Hello { token: bearer(request.headers()).map(str::to_owned), ..Hello::default() };
    for (name, value) in form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "token" if hello.token.is_none() => hello.token = Some(value.into_owned()),
            "device_id" => hello.device = parsed("device_id", &value, &mut hello.fault),
            "instance_id" => hello.instance = parsed("instance_id", &value, &mut hello.fault),
            _ => {}
        }
    }
    hello
}

fn parsed<T: std::str::FromStr<Err = InvalidText>>(
    name: &'static str,
    value: &str,
    fault: &mut Option<ProtocolError>,
) -> Option<T> {
    value.parse().map_err(|error: InvalidText| *fault = Some(ProtocolError::bad_request(name, error.to_string()))).ok()
}

impl Answer {
    /// 101 (RFC 6455 §4.2.2).
    fn switching_protocols(accept: HeaderValue) -> Self {
        Self::empty(StatusCode::SWITCHING_PROTOCOLS).with_all([
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_ACCEPT, accept),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_first_known_subprotocol_is_chosen() {
        let chosen = |offered: &[&'static str]| {
            chosen_protocol(&headers(&SEC_WEBSOCKET_PROTOCOL, offered)).map(|(_, value)| value)
        };
        assert_eq!(chosen(&["graphql-ws, switchboard.v1.json"]).unwrap(), JSON_PROTOCOL);
        assert_eq!(chosen(&["graphql-ws", "switchboard.v1.json"]).unwrap(), JSON_PROTOCOL);
        assert_eq!(chosen(&["graphql-ws"]), None);
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn loopback_has_many_names() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:3000", "127.8.0.1", "[::1]", "[::1]:8080"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1", "", "[::2]:1", "127.0.0.1.example.com"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
