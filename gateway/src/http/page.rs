//! The pages served from the binary: the dashboard, the trace, and in development mode the demo chat. Signing in to the
//! chat needs `/v1/dev/token`; without it, the other pages ask for a token. The files themselves are not secret.

use bytes::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, StatusCode};
use switchboard_protocol::ProtocolError;

use super::answer::Answer;
use super::call::Call;
use super::route::{Access, Endpoint, Handling, Route};

/// A file of `web/`. The list is generated at build time.
struct File {
    /// The URL's path.
    path: &'static str,
    content_type: &'static str,
    etag: &'static str,
    body: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/page_files.rs"));

const GET_FILE: &[Endpoint] = &[Endpoint::handle(Method::GET, Access::Anyone, file)];

pub(super) const ROUTES: &[Route] = &[
    Route { path: "/", endpoints: GET_FILE },
    Route { path: "/dashboard", endpoints: GET_FILE },
    Route { path: "/trace", endpoints: GET_FILE },
    Route { path: "/style.css", endpoints: GET_FILE },
    Route { path: "/operator.css", endpoints: GET_FILE },
    Route { path: "/dashboard.css", endpoints: GET_FILE },
    Route { path: "/trace.css", endpoints: GET_FILE },
    Route { path: "/favicon.svg", endpoints: GET_FILE },
    // At the root, because a service worker's scope is the folder it is served from.
    Route { path: "/push-worker.js", endpoints: GET_FILE },
    Route { path: "/js/{*}", endpoints: GET_FILE },
    Route { path: "/vendor/{*}", endpoints: GET_FILE },
];

const CHAT: &str = "/";

/// Scripts and styles from this origin only, nothing inline, no framing. Sockets to any node, since `reconnect` may name
/// another one.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

fn file(call: Call) -> Handling {
    Box::pin(async move {
        let is_shown = call.path != CHAT || call.gateway.dev_key.is_some();
        let file = FILES.iter().find(|file| is_shown && file.path == call.path);
        let file = file.ok_or_else(ProtocolError::not_found)?;
        let known = call.headers.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let is_known = known.is_some_and(|known| known.split(',').any(|etag| etag.trim() == file.etag));
        let (status, body) = if is_known { (StatusCode::NOT_MODIFIED, &b""[..]) } else { (StatusCode::OK, file.body) };
        let content_type = HeaderValue::from_static(file.content_type);
        Ok(Answer::new(status, content_type, Bytes::from_static(body)).with_all([
            (ETAG, HeaderValue::from_static(file.etag)),
            (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        ]))
    })
}
