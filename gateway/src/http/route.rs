//! The routing table: the frame or function for each path and method, and who may call it.

use std::pin::Pin;

use hyper::Method;
use switchboard_protocol::ProtocolError;

use super::answer::Answer;
use super::call::Call;
use super::{admin, conversations, dev, messages, node, page, push, topics, trace, users};
use crate::auth::Scope;

/// The function behind a route.
pub(super) type Handler = fn(Call) -> Handling;
pub(super) type Handling = Pin<Box<dyn Future<Output = Result<Answer, ProtocolError>> + Send>>;

/// A path and its methods.
pub(super) struct Route {
    /// Segments in braces are parameters, named like the frame's fields; a final `{*}` matches any rest.
    pub(super) path: &'static str,
    pub(super) endpoints: &'static [Endpoint],
}

/// One method of a path.
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) access: Access,
    pub(super) action: Action,
}

/// Who may call an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Anyone,
    /// Anyone with a valid token.
    User,
    /// Anyone whose token has this scope.
    Scoped(Scope),
}

/// What a request does.
pub(super) enum Action {
    /// The read with this frame type; its fields are in the path and the query.
    Read(&'static str),
    /// The write with this frame type; its fields are in the path and the body.
    Write(&'static str),
    /// A function, for everything that is not simply a frame.
    Handle(Handler),
}

impl Endpoint {
    pub(super) const fn read(frame_type: &'static str) -> Self {
        Self { method: Method::GET, access: Access::User, action: Action::Read(frame_type) }
    }

    pub(super) const fn write(method: Method, frame_type: &'static str) -> Self {
        Self { method, access: Access::User, action: Action::Write(frame_type) }
    }

    pub(super) const fn handle(method: Method, access: Access, handler: Handler) -> Self {
        Self { method, access, action: Action::Handle(handler) }
    }
}

/// Parameters of a path, percent-decoded.
pub(super) type Params = Vec<(&'static str, String)>;

/// The route of a path.
pub(super) fn find(path: &str) -> Option<(&'static Route, Params)> {
    let groups = [
        node::ROUTES,
        messages::ROUTES,
        conversations::ROUTES,
        users::ROUTES,
        topics::ROUTES,
        push::ROUTES,
        admin::ROUTES,
        trace::ROUTES,
        dev::ROUTES,
        page::ROUTES,
    ];
    groups.into_iter().flatten().find_map(|route| Some((route, params_of(route.path, path)?)))
}

impl Route {
    /// The endpoint of a method; `HEAD` uses that of `GET` (hyper omits the body).
    pub(super) fn endpoint(&'static self, method: &Method) -> Option<&'static Endpoint> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.endpoints.iter().find(|endpoint| endpoint.method == *method)
    }

    /// The value of `Allow`.
    pub(super) fn allowed(&self) -> String {
        let mut methods: Vec<&str> = self.endpoints.iter().map(|endpoint| endpoint.method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.join(", ")
    }
}

fn params_of(pattern: &'static str, path: &str) -> Option<Params> {
    let mut params = Params::new();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        if expected == "{*}" {
            return Some(params);
        }
        let segment = segments.next()?;
        match expected.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => params.push((name, percent_encoding::percent_decode_str(segment).decode_utf8().ok()?.into())),
            None if expected == segment => {}
            None => return None,
        }
    }
    segments.next().is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_parameters() {
        let pattern = "/v1/conversations/{conversation_id}/messages/{seq}";
        let params = params_of(pattern, "/v1/conversations/g:1%3A2/messages/7").unwrap();
        assert_eq!(params, [("conversation_id", "g:1:2".to_owned()), ("seq", "7".to_owned())]);
        for other in
            ["/v1/conversations/g:1/messages", "/v1/conversations/g:1/messages/7/", "/v2/conversations/g:1/messages/7"]
        {
            assert_eq!(params_of(pattern, other), None, "{other}");
        }
        assert_eq!(params_of("/js/{*}", "/js/views/a.js"), Some(vec![]));
        assert_eq!(params_of("/", "/"), Some(vec![]));
    }

    #[test]
    fn head_is_allowed_where_get_is() {
        let (route, _) = find("/v1/conversations/g:1").unwrap();
        assert_eq!(route.allowed(), "GET, PATCH, HEAD");
        assert!(route.endpoint(&Method::HEAD).is_some() && route.endpoint(&Method::DELETE).is_none());
    }
}
