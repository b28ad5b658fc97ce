//! Push: a user's devices and preferences, and the dead letters (scope `admin`).

use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};
use switchboard_protocol::http::{DeadLetter as DeadLetterInfo, DeadLetters};
use switchboard_protocol::{DeviceId, ErrorCode, ProtocolError, Timestamp, UserId};
use switchboard_push::{InvalidField, Preferences};
use switchboard_push_providers::Target;
use switchboard_store::{Channel, DeadLetter, PushDevice, StoreError, UserKey};

use super::answer::Answer;
use super::call::{Call, done};
use super::route::{Access, Endpoint, Handling, Route};
use crate::auth::Scope;

const ADMIN: Access = Access::Scoped(Scope::Admin);

/// Maximum dead letters in one answer.
const LETTERS_MAX: usize = 100;

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/v1/devices/{device_id}/push",
        endpoints: &[
            Endpoint::handle(Method::PUT, Access::User, register),
            Endpoint::handle(Method::DELETE, Access::User, unregister),
        ],
    },
    Route {
        path: "/v1/notification-preferences",
        endpoints: &[
            Endpoint::handle(Method::GET, Access::User, preferences),
            Endpoint::handle(Method::PUT, Access::User, set_preferences),
        ],
    },
    Route { path: "/v1/push/web-push-key", endpoints: &[Endpoint::handle(Method::GET, Access::User, web_push_key)] },
    Route { path: "/v1/admin/push/dead-letters", endpoints: &[Endpoint::handle(Method::GET, ADMIN, dead_letters)] },
    Route {
        path: "/v1/admin/push/dead-letters/{id}/retry",
        endpoints: &[Endpoint::handle(Method::POST, ADMIN, retry)],
    },
];

fn register(call: Call) -> Handling {
    Box::pin(async move {
        let (user, body) = writer(&call)?;
        let device: DeviceId = call.id_of_path("device_id")?;
        let providers = call.gateway.settings().providers.clone();
        let channel = channel(&body)?;
        if !providers.has(channel) {
            return Err(ProtocolError::bad_request("provider", format!("{channel} is not set up at this server")));
        }
        let target = Target::parse(channel, &body, providers.guard()).map_err(refusal)?;
        let registered = PushDevice { channel, target: target.to_stored(), registered_at: now(&call) };
        call.gateway.router()?.put_push_device(&user, device, registered).await?;
        Ok(done())
    })
}

/// 200 even if the device was not registered: unregistering is idempotent.
fn unregister(call: Call) -> Handling {
    Box::pin(async move {
        let (user, _) = writer(&call)?;
        let device: DeviceId = call.id_of_path("device_id")?;
        call.gateway.router()?.remove_push_device(&user, &device, None).await?;
        Ok(done())
    })
}

fn preferences(call: Call) -> Handling {
    Box::pin(async move {
        let stored = call.gateway.router()?.notification_preferences(&call.identity()?.user).await?;
        let preferences = stored.and_then(|json| serde_json::from_str::<Preferences>(&json).ok());
        Ok(Answer::data(&preferences.unwrap_or_default()))
    })
}

fn set_preferences(call: Call) -> Handling {
    Box::pin(async move {
        let (user, body) = writer(&call)?;
        let preferences = Preferences::parse(&body).map_err(refusal)?;
        let json = serde_json::to_string(&preferences).map_err(|_| ProtocolError::internal())?;
        call.gateway.router()?.set_notification_preferences(&user, json).await?;
        Ok(Answer::data(&preferences))
    })
}

fn web_push_key(call: Call) -> Handling {
    Box::pin(async move {
        let key = call.gateway.settings().providers.application_server_key();
        Ok(Answer::data(&json!({ "key": key })))
    })
}

fn dead_letters(call: Call) -> Handling {
    Box::pin(async move {
        let after = call.of_query("after").map_or(Ok(0), |text| text.parse().map_err(|_| no_number("after")))?;
        let limit = call.limit_of_query(LETTERS_MAX, LETTERS_MAX)?;
        let tenant = &call.identity()?.user.tenant;
        let found = call.gateway.store()?.dead_letters(tenant, after, limit + 1).await;
        let mut found = found.map_err(|error| unavailable(&error))?;
        let more = found.len() > limit;
        found.truncate(limit);
        Ok(Answer::data(&DeadLetters { dead_letters: found.into_iter().map(shown).collect(), more }))
    })
}

fn retry(call: Call) -> Handling {
    Box::pin(async move {
        let id = call.param("id")?.parse().map_err(|_| no_number("id"))?;
        let tenant = &call.identity()?.user.tenant;
        let was_there = call.gateway.store()?.retry_dead_letter(tenant, id, now(&call)).await;
        if !was_there.map_err(|error| unavailable(&error))? {
            return Err(ProtocolError::not_found());
        }
        call.gateway.router()?.push_nudges().notify_one();
        Ok(done().with_status(StatusCode::ACCEPTED))
    })
}

fn shown(letter: DeadLetter) -> DeadLetterInfo {
    let DeadLetter { id, job, attempts, reason, died_at } = letter;
    DeadLetterInfo {
        id: id.to_string(),
        user_id: job.key.user.user,
        conversation_id: job.key.conversation,
        provider: job.key.channel.as_str().to_owned(),
        up_to_seq: job.up_to_seq,
        count: job.count.unwrap_or(0),
        attempts,
        reason,
        died_at,
    }
}

/// The user whose device or preferences are written, and the body.
fn writer(call: &Call) -> Result<(UserKey, Map<String, Value>), ProtocolError> {
    let body = match call.body.is_empty() {
        true => Map::new(),
        false => serde_json::from_slice(&call.body)
            .map_err(|_| ProtocolError::new(ErrorCode::BadRequest, "the body must be one JSON object"))?,
    };
    let on_behalf_of = body.get("as").map(|user| {
        let user: Option<UserId> = user.as_str().and_then(|user| user.parse().ok());
        user.ok_or_else(|| ProtocolError::bad_request("as", "must be a user id"))
    });
    Ok((call.writer(on_behalf_of.transpose()?)?, body))
}

fn channel(body: &Map<String, Value>) -> Result<Channel, ProtocolError> {
    let named = body.get("provider").and_then(Value::as_str);
    let known = Channel::ALL.into_iter().find(|channel| named == Some(channel.as_str()));
    known.ok_or_else(|| {
        let names = Channel::ALL.map(Channel::as_str).join(", ");
        ProtocolError::bad_request("provider", format!("must be one of {names}"))
    })
}

fn refusal(invalid: InvalidField) -> ProtocolError {
    ProtocolError::bad_request(invalid.field, format!("must be {}", invalid.expected))
}

fn no_number(name: &'static str) -> ProtocolError {
    ProtocolError::bad_request(name, "must be a number")
}

fn unavailable(error: &StoreError) -> ProtocolError {
    tracing::debug!(%error, "a push operation failed in the store");
    ProtocolError::unavailable(switchboard_router::RETRY_AFTER_MS)
}

fn now(call: &Call) -> Timestamp {
    Timestamp::from_unix_ms(call.gateway.clock.wall_ms())
}
