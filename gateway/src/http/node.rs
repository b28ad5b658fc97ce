//! Liveness and readiness of the process (PROTOCOL §6).

use std::collections::BTreeMap;

use hyper::{Method, StatusCode};
use serde_json::json;

use super::answer::Answer;
use super::call::Call;
use super::route::{Access, Endpoint, Handling, Route};

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/healthz", endpoints: &[Endpoint::handle(Method::GET, Access::Anyone, healthz)] },
    Route { path: "/readyz", endpoints: &[Endpoint::handle(Method::GET, Access::Anyone, readyz)] },
];

fn healthz(_: Call) -> Handling {
    Box::pin(async { Ok(Answer::data(&json!({ "status": "ok" }))) })
}

/// The dependencies are reported, but do not change the status: otherwise the failure of a shared one would take every
/// node out of service at once.
fn readyz(call: Call) -> Handling {
    Box::pin(async move {
        let (status, state) = match call.gateway.router() {
            Ok(_) => (StatusCode::OK, "ready"),
            Err(_) if call.gateway.draining.is_cancelled() => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        };
        let dependencies: BTreeMap<&str, &str> = call.gateway.dependencies().await.into_iter().collect();
        Ok(Answer::data(&json!({ "status": state, "dependencies": dependencies })).with_status(status))
    })
}
