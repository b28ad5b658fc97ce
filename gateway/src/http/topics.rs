//! Dashboards: publishing batches of events, and reading a topic's windows.

use hyper::{Method, StatusCode};

use super::call::Call;
use super::route::{Access, Endpoint, Handling, Route};

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/v1/topics/{topic}", endpoints: &[Endpoint::read("topic_watch")] },
    Route { path: "/v1/topics/{topic}/events", endpoints: &[Endpoint::handle(Method::POST, Access::User, publish)] },
];

/// 202: watchers get what was counted only with the next update.
fn publish(call: Call) -> Handling {
    Box::pin(async move { Ok(call.write("topic_publish").await?.with_status(StatusCode::ACCEPTED)) })
}
