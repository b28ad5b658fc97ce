//! Administration: other users' sessions (scope `admin`), and the node itself (scope `operator`).

use hyper::Method;
use switchboard_protocol::http::{SessionInfo, Sessions};

use super::answer::Answer;
use super::call::{Call, done};
use super::route::{Access, Endpoint, Handling, Route};
use crate::auth::Scope;

const ADMIN: Access = Access::Scoped(Scope::Admin);

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/v1/admin/users/{user_id}/disconnect",
        endpoints: &[Endpoint::handle(Method::POST, ADMIN, disconnect)],
    },
    Route { path: "/v1/admin/users/{user_id}/revoke", endpoints: &[Endpoint::handle(Method::POST, ADMIN, revoke)] },
    Route { path: "/v1/admin/users/{user_id}/sessions", endpoints: &[Endpoint::handle(Method::GET, ADMIN, sessions)] },
    Route {
        path: "/v1/admin/drain",
        endpoints: &[Endpoint::handle(Method::POST, Access::Scoped(Scope::Operator), drain)],
    },
];

fn disconnect(call: Call) -> Handling {
    Box::pin(async move {
        call.gateway.router()?.disconnect_user(&call.user_of_path()?).await?;
        Ok(done())
    })
}

fn revoke(call: Call) -> Handling {
    Box::pin(async move {
        call.gateway.router()?.revoke(&call.user_of_path()?).await?;
        Ok(done())
    })
}

fn sessions(call: Call) -> Handling {
    Box::pin(async move {
        let sessions = call.gateway.router()?.sessions(&call.user_of_path()?).await?;
        let sessions = sessions.into_iter().map(|session| SessionInfo {
            session_id: session.session_id,
            device_id: session.device_id,
            instance_id: session.instance_id,
            node_id: session.node_id,
            connected_at: session.connected_at,
        });
        Ok(Answer::data(&Sessions { sessions: sessions.collect() }))
    })
}

/// Drains the node, like SIGTERM.
fn drain(call: Call) -> Handling {
    Box::pin(async move {
        tracing::info!("an operator asked for a drain");
        call.gateway.draining.cancel();
        Ok(done())
    })
}
