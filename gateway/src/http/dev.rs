//! Development mode's token endpoint: a token for any user name. Absent once a key is configured.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use switchboard_protocol::{ErrorCode, ProtocolError, UserId};

use super::answer::Answer;
use super::call::Call;
use super::route::{Access, Endpoint, Handling, Route};
use crate::auth::{NewToken, sign};

/// How long a token is valid.
const TTL_S: i64 = 24 * 3_600;

pub(super) const ROUTES: &[Route] =
    &[Route { path: "/v1/dev/token", endpoints: &[Endpoint::handle(Method::POST, Access::Anyone, token)] }];

#[derive(Deserialize)]
struct Ask {
    name: String,
    /// The token's scopes, an array of strings; none by default.
    scope: Option<Value>,
}

fn token(call: Call) -> Handling {
    Box::pin(async move {
        let key = call.gateway.dev_key.as_ref().ok_or_else(ProtocolError::not_found)?;
        let ask: Ask = serde_json::from_slice(&call.body)
            .map_err(|_| ProtocolError::bad_request("name", "must be a string in a JSON object"))?;
        let scopes = ask.scope.map_or(Ok(Vec::new()), serde_json::from_value);
        let scopes = scopes.map_err(|_| ProtocolError::bad_request("scope", "must be an array of strings"))?;
        let user: UserId = ask.name.parse().map_err(|error: switchboard_protocol::text::InvalidText| {
            ProtocolError::bad_request("name", error.to_string())
        })?;
        let new = NewToken { user: user.clone(), tenant: None, scopes, ttl_s: TTL_S };
        let token = sign(&new, key, call.gateway.clock.wall_ms())
            .map_err(|_| ProtocolError::new(ErrorCode::Internal, "the token could not be signed"))?;
        Ok(Answer::data(&json!({ "token": token, "user_id": user })))
    })
}
