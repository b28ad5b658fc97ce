//! From a request to its answer: route, authentication, rate limit, then scope. Requests are refused in this order.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use switchboard_protocol::limits::BODY_BYTES_MAX;
use switchboard_protocol::{ErrorCode, ProtocolError};

use super::address::client_address;
use super::answer::{Answer, Response, no_such_method, no_such_path};
use super::call::Call;
use super::route::{self, Access, Action, Endpoint};
use super::slots;
use crate::auth::Identity;
use crate::gateway::Gateway;
use crate::ws::{Upgrade, upgrade};

/// The path of WebSocket sessions (PROTOCOL §1).
const WS_PATH: &str = "/v1/ws";

/// The result of a request.
pub(super) struct Outcome {
    pub(super) response: Response,
    /// The session that the connection becomes.
    pub(super) upgrade: Option<Upgrade>,
}

/// Answers a request from `peer`.
pub(super) async fn respond(gateway: Arc<Gateway>, peer: IpAddr, request: Request<Incoming>) -> Outcome {
    let client = client_address(peer, request.headers(), &gateway.http.trusted_proxies);
    if request.uri().path() == WS_PATH {
        return match upgrade(&gateway, client, &request) {
            Ok((response, upgrade)) => Outcome { response, upgrade: Some(upgrade) },
            Err(answer) => Outcome { response: (*answer).into(), upgrade: None },
        };
    }
    let mut answer = match slots::of_request(&gateway, peer, client) {
        Ok(_slot) => answer(&gateway, request).await,
        Err(error) => error.into(),
    };
    if gateway.draining.is_cancelled() {
        answer = answer.with(CONNECTION, HeaderValue::from_static("close"));
    }
    Outcome { response: answer.into(), upgrade: None }
}

async fn answer(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Answer {
    let Some((route, params)) = route::find(request.uri().path()) else { return no_such_path() };
    let Some(endpoint) = route.endpoint(request.method()) else {
        return no_such_method(HeaderValue::from_str(&route.allowed()).unwrap_or(HeaderValue::from_static("")));
    };
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let call = Call {
        gateway: gateway.clone(),
        identity: None,
        path: head.uri.path().to_owned(),
        params,
        query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        headers: head.headers,
        body: Bytes::new(),
    };
    match endpoint.access {
        Access::Anyone => carry_out(call, body, endpoint).await,
        Access::User | Access::Scoped(_) => authenticated(call, body, endpoint).await,
    }
}

async fn authenticated(mut call: Call, body: Incoming, endpoint: &'static Endpoint) -> Answer {
    let identity = match identify(&call) {
        Ok(identity) => identity,
        Err(error) => return error.into(),
    };
    let per_s = call.gateway.settings().limits.http_requests_per_s;
    let now_us = call.gateway.clock.monotonic_us();
    let (rate_headers, taken) = call.gateway.user_rates.take(&identity.user, per_s, now_us);
    let answer = match taken {
        Ok(()) => match admit(&call.gateway, &identity, endpoint.access).await {
            Ok(()) => {
                call.identity = Some(identity);
                carry_out(call, body, endpoint).await
            }
            Err(error) => error.into(),
        },
        Err(error) => error.into(),
    };
    answer.with_all(rate_headers.pairs())
}

/// The identity of the request's token.
fn identify(call: &Call) -> Result<Identity, ProtocolError> {
    let in_query = || call.query.iter().find(|(name, _)| name == "token").map(|(_, token)| token.as_str());
    let token = bearer(&call.headers).or_else(in_query);
    call.gateway.verify(token.ok_or_else(|| ProtocolError::unauthorized("a token is needed"))?)
}

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

async fn admit(gateway: &Gateway, identity: &Identity, access: Access) -> Result<(), ProtocolError> {
    gateway.router()?.admit(&identity.user, identity.issued_at, identity.name.clone()).await?;
    match access {
        Access::Scoped(scope) if !identity.scopes.contains(scope) => {
            Err(ProtocolError::forbidden("the token lacks the scope for this"))
        }
        _ => Ok(()),
    }
}

async fn carry_out(mut call: Call, body: Incoming, endpoint: &'static Endpoint) -> Answer {
    call.body = match read_body(&call, body).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let result = match endpoint.action {
        Action::Read(frame_type) => call.read(frame_type).await,
        Action::Write(frame_type) => call.write(frame_type).await,
        Action::Handle(handler) => handler(call).await,
    };
    result.unwrap_or_else(Answer::from)
}

async fn read_body(call: &Call, body: Incoming) -> Result<Bytes, Box<Answer>> {
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    let limit = Duration::from_millis(call.gateway.settings().limits.http_body_timeout_ms);
    let body = match tokio::time::timeout(limit, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
            return Err(Box::new(ProtocolError::new(ErrorCode::TooLarge, message).into()));
        }
        Ok(Err(_)) | Err(_) => {
            let error = ProtocolError::new(ErrorCode::BadRequest, "the body was incomplete, or did not arrive in time");
            return Err(Box::new(error.into()));
        }
    };
    if !body.is_empty() && !is_json(&call.headers) {
        let error = ProtocolError::new(ErrorCode::BadRequest, "the body must be application/json");
        return Err(Box::new(Answer::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error)));
    }
    Ok(body)
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    })
}
