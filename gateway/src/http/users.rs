//! Requests about users: presence, blocks, and the node to connect to.

use hyper::Method;
use switchboard_protocol::http::{Blocks, Connect};

use super::answer::Answer;
use super::call::Call;
use super::route::{Access, Endpoint, Handling, Route};

/// How long a client may use the address returned by `/v1/connect`.
const PLACE_TTL_S: u32 = 60;

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/v1/connect", endpoints: &[Endpoint::handle(Method::GET, Access::User, connect)] },
    Route { path: "/v1/blocks", endpoints: &[Endpoint::handle(Method::GET, Access::User, blocks)] },
    Route { path: "/v1/users/{user_id}/presence", endpoints: &[Endpoint::handle(Method::GET, Access::User, presence)] },
];

fn connect(call: Call) -> Handling {
    Box::pin(async move {
        let home = call.gateway.router()?.home_of(&call.identity()?.user);
        Ok(Answer::data(&Connect { url: home.url.as_ref().to_owned(), node_id: home.node_id, ttl_s: PLACE_TTL_S }))
    })
}

fn blocks(call: Call) -> Handling {
    Box::pin(async move {
        let blocks = call.gateway.router()?.blocks(&call.identity()?.user).await?;
        Ok(Answer::data(&Blocks { user_ids: blocks.into_iter().map(|block| block.user_id).collect() }))
    })
}

fn presence(call: Call) -> Handling {
    Box::pin(async move {
        let viewer = &call.identity()?.user;
        let user = call.id_of_path("user_id")?;
        Ok(Answer::data(&call.gateway.router()?.presence_of(viewer, &user).await?))
    })
}
