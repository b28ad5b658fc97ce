//! `/v1/conversations`, their members, and `changes`.

use hyper::Method;
use switchboard_protocol::ClientFrame;
use switchboard_protocol::client::MemberRemove;
use switchboard_protocol::http::Write;

use super::call::Call;
use super::route::{Access, Endpoint, Handling, Route};

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/v1/conversations", endpoints: &[Endpoint::write(Method::POST, "conversation_create")] },
    Route {
        path: "/v1/conversations/{conversation_id}",
        endpoints: &[Endpoint::read("conversation_get"), Endpoint::write(Method::PATCH, "conversation_update")],
    },
    Route {
        path: "/v1/conversations/{conversation_id}/members",
        endpoints: &[Endpoint::read("conversation_members"), Endpoint::write(Method::POST, "member_add")],
    },
    Route {
        path: "/v1/conversations/{conversation_id}/members/{user_id}",
        endpoints: &[Endpoint::handle(Method::DELETE, Access::User, remove_member)],
    },
    Route { path: "/v1/conversations/{conversation_id}/changes", endpoints: &[Endpoint::read("changes")] },
    Route { path: "/v1/conversations/{conversation_id}/read", endpoints: &[Endpoint::write(Method::POST, "read")] },
    Route { path: "/v1/sync", endpoints: &[Endpoint::read("sync")] },
];

/// Not a plain write: the frame has a list of users, but the path has one.
fn remove_member(call: Call) -> Handling {
    Box::pin(async move {
        // Parsed as `conversation_get` to check the conversation's id, the body and `as`.
        let Write { on_behalf_of, .. } = call.parse_write("conversation_get")?;
        let user = call.writer(on_behalf_of)?;
        let (conversation_id, user_id) = (call.id_of_path("conversation_id")?, call.id_of_path("user_id")?);
        let frame = ClientFrame::MemberRemove(MemberRemove { conversation_id, user_ids: vec![user_id] });
        call.carry_out(user, frame).await
    })
}
