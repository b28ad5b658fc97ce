//! A request that may be carried out: the identity behind it, if it needs one, and its parameters.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use switchboard_protocol::http::{Write, parse_read, parse_write};
use switchboard_protocol::text::InvalidText;
use switchboard_protocol::{ClientFrame, ProtocolError, UserId};
use switchboard_router::{Actor, RETRY_AFTER_MS};
use switchboard_store::UserKey;

use super::answer::Answer;
use super::route::Params;
use crate::auth::{Identity, Scope};
use crate::gateway::Gateway;
use crate::metrics::count_send;

/// See the module.
pub(super) struct Call {
    pub(super) gateway: Arc<Gateway>,
    /// `None` if the endpoint needs no token.
    pub(super) identity: Option<Identity>,
    pub(super) path: String,
    pub(super) params: Params,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// The identity behind the request.
    ///
    /// # Errors
    /// `unauthorized` if the endpoint needs no token.
    pub(super) fn identity(&self) -> Result<&Identity, ProtocolError> {
        self.identity.as_ref().ok_or_else(|| ProtocolError::unauthorized("a token is needed"))
    }

    /// The user that the path names, in the caller's tenant.
    pub(super) fn user_of_path(&self) -> Result<UserKey, ProtocolError> {
        Ok(UserKey { tenant: self.identity()?.user.tenant.clone(), user: self.id_of_path("user_id")? })
    }

    /// An id in the path.
    ///
    /// # Errors
    /// `bad_request`, naming the parameter.
    pub(super) fn id_of_path<T: FromStr<Err = InvalidText>>(&self, name: &'static str) -> Result<T, ProtocolError> {
        self.param(name)?.parse().map_err(|error: InvalidText| ProtocolError::bad_request(name, error.to_string()))
    }

    /// A parameter of the path.
    pub(super) fn param(&self, name: &str) -> Result<&str, ProtocolError> {
        let param = self.params.iter().find(|(known, _)| *known == name);
        param.map(|(_, value)| value.as_str()).ok_or_else(ProtocolError::not_found)
    }

    /// A parameter of the query; the last one if it is repeated.
    pub(super) fn of_query(&self, name: &str) -> Option<&str> {
        self.query.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The requested number of items.
    ///
    /// # Errors
    /// `bad_request`, naming the parameter.
    pub(super) fn limit_of_query(&self, default: usize, most: usize) -> Result<usize, ProtocolError> {
        let Some(text) = self.of_query("limit") else { return Ok(default) };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| ProtocolError::bad_request("limit", format!("must be a whole number from 1 to {most}")))
    }

    /// Answers a read, by the type of its frame.
    pub(super) async fn read(self, frame_type: &str) -> Result<Answer, ProtocolError> {
        let query: Vec<_> = self.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let limits = self.gateway.settings().parse_limits();
        let frame = parse_read(frame_type, &borrowed(&self.params), &query, &limits)?;
        let user = self.identity()?.user.clone();
        self.carry_out(user, frame).await
    }

    /// Carries out a write, by the type of its frame.
    pub(super) async fn write(self, frame_type: &str) -> Result<Answer, ProtocolError> {
        let Write { frame, on_behalf_of } = self.parse_write(frame_type)?;
        let user = self.writer(on_behalf_of)?;
        self.carry_out(user, frame).await
    }

    pub(super) fn parse_write(&self, frame_type: &str) -> Result<Write, ProtocolError> {
        let limits = self.gateway.settings().parse_limits();
        parse_write(frame_type, &borrowed(&self.params), &self.body, &limits)
    }

    /// The user for whom a write is done. Acting for another user (`as`) needs the scope `server`.
    pub(super) fn writer(&self, on_behalf_of: Option<UserId>) -> Result<UserKey, ProtocolError> {
        let identity = self.identity()?;
        match on_behalf_of {
            None => Ok(identity.user.clone()),
            Some(user) if identity.scopes.contains(Scope::Server) => {
                Ok(UserKey { tenant: identity.user.tenant.clone(), user })
            }
            Some(_) => Err(ProtocolError::forbidden("as needs the scope server")),
        }
    }

    /// Has the router carry out the frame.
    pub(super) async fn carry_out(self, user: UserKey, frame: ClientFrame) -> Result<Answer, ProtocolError> {
        self.identity()?.scopes.check(&frame)?;
        let requests_max = self.gateway.settings().limits.requests_waiting_max;
        let permit = self.gateway.admission.permit(requests_max);
        let _permit = permit.ok_or_else(|| ProtocolError::overloaded(RETRY_AFTER_MS))?;
        let actor = Actor { user, session: None, awaited: true };
        let (is_send, begun_us) = (matches!(frame, ClientFrame::Send(_)), self.gateway.clock.monotonic_us());
        let result = self.gateway.router()?.call(actor, frame).await;
        if is_send {
            count_send(&result, self.gateway.clock.monotonic_us() - begun_us);
        }
        Ok(Answer::of(&result?))
    }
}

fn borrowed(params: &Params) -> Vec<(&str, &str)> {
    params.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// The answer `{"data":{}}`.
pub(super) fn done() -> Answer {
    Answer::data(&serde_json::Map::new()).with_status(StatusCode::OK)
}
