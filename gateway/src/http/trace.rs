//! Message traces (scope `admin`).

use std::str::FromStr;

use hyper::Method;
use serde::Serialize;
use switchboard_protocol::text::InvalidText;
use switchboard_protocol::{ConversationId, ProtocolError, Seq};
use switchboard_router::{Trace, TraceQuery};
use switchboard_store::ConversationKey;

use super::answer::Answer;
use super::call::Call;
use super::route::{Access, Endpoint, Handling, Route};
use crate::auth::Scope;

/// Recipients in one answer: by default, and at most.
const RECIPIENTS: usize = 20;
const RECIPIENTS_MAX: usize = 100;

pub(super) const ROUTES: &[Route] = &[Route {
    path: "/v1/admin/conversations/{conversation_id}/messages/{seq}/trace",
    endpoints: &[Endpoint::handle(Method::GET, Access::Scoped(Scope::Admin), trace)],
}];

#[derive(Serialize)]
struct Body {
    conversation_id: ConversationId,
    seq: Seq,
    #[serde(flatten)]
    trace: Trace,
}

fn trace(call: Call) -> Handling {
    Box::pin(async move {
        let conversation_id: ConversationId = call.id_of_path("conversation_id")?;
        let seq: Seq = call.id_of_path("seq")?;
        let query = TraceQuery {
            user: text_of_query(&call, "user_id")?,
            after: text_of_query(&call, "after")?,
            limit: call.limit_of_query(RECIPIENTS, RECIPIENTS_MAX)?,
        };
        let conversation =
            ConversationKey { tenant: call.identity()?.user.tenant.clone(), conversation: conversation_id.clone() };
        let trace = call.gateway.router()?.trace(&conversation, seq, &query).await?;
        Ok(Answer::data(&Body { conversation_id, seq, trace }))
    })
}

fn text_of_query<T: FromStr<Err = InvalidText>>(call: &Call, name: &'static str) -> Result<Option<T>, ProtocolError> {
    let parsed = call.of_query(name).map(str::parse).transpose();
    parsed.map_err(|error: InvalidText| ProtocolError::bad_request(name, error.to_string()))
}
