//! Messages: send, read, edit, delete and react.

use hyper::Method;

use super::route::{Endpoint, Route};

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/v1/messages", endpoints: &[Endpoint::write(Method::POST, "send")] },
    Route {
        path: "/v1/conversations/{conversation_id}/messages",
        endpoints: &[Endpoint::read("history"), Endpoint::write(Method::POST, "send")],
    },
    Route {
        path: "/v1/conversations/{conversation_id}/messages/{seq}",
        endpoints: &[Endpoint::write(Method::PATCH, "edit"), Endpoint::write(Method::DELETE, "delete")],
    },
    Route {
        path: "/v1/conversations/{conversation_id}/messages/{seq}/reactions/{emoji}",
        endpoints: &[Endpoint::write(Method::PUT, "react"), Endpoint::write(Method::DELETE, "unreact")],
    },
];
