//! Answers to HTTP requests, and the conversion of errors to answers. The text of an internal error is never sent.

use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use switchboard_protocol::{ErrorCode, ProtocolError, http};

pub(crate) type Response = hyper::Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer, before it is converted to hyper's [`Response`].
pub(crate) struct Answer {
    status: StatusCode,
    body: Bytes,
    headers: HeaderMap,
}

impl Answer {
    /// A body that is not JSON.
    pub(super) fn new(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Self {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type)]);
        Self { status, body, headers }
    }

    /// An answer without a body.
    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, body: Bytes::new(), headers: HeaderMap::new() }
    }

    /// `{"data":…}`
    pub(super) fn data<T: Serialize>(data: &T) -> Self {
        Self::new(StatusCode::OK, JSON, http::data_body(data).into())
    }

    /// `{"data":…}` with the content of the router's frame.
    pub(super) fn of(answer: &switchboard_router::Answer) -> Self {
        let is_created = matches!(answer, switchboard_router::Answer::Created(_));
        let status = if is_created { StatusCode::CREATED } else { StatusCode::OK };
        Self::new(status, JSON, data_of(answer.type_name(), &answer.encode(None)).into())
    }

    /// An error with the given status instead of that of its code.
    pub(super) fn error(status: StatusCode, error: &ProtocolError) -> Self {
        let mut answer = Self::new(status, JSON, http::error_body(error).into());
        if let Some(retry_after_ms) = error.retry_after_ms() {
            answer = answer.with(RETRY_AFTER, retry_after_ms.div_ceil(1_000).max(1).into());
        }
        if status == StatusCode::UNAUTHORIZED {
            answer = answer.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    pub(crate) fn with_all(mut self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Self {
        self.headers.extend(headers);
        self
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<ProtocolError> for Answer {
    fn from(error: ProtocolError) -> Self {
        let status = StatusCode::from_u16(error.code().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::error(status, &error)
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(Full::new(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }
}

/// `{"data":…}` with the frame's fields except `type`, which is always the first.
fn data_of(type_name: &str, encoded: &str) -> String {
    let head = format!("{{\"type\":\"{type_name}\"");
    let fields = encoded.strip_prefix(&head).unwrap_or(encoded);
    format!("{{\"data\":{{{}}}", fields.strip_prefix(',').unwrap_or(fields))
}

/// 405: the path does not have this method.
pub(crate) fn no_such_method(allowed: HeaderValue) -> Answer {
    let error = ProtocolError::new(ErrorCode::BadRequest, "this path does not support this method");
    Answer::error(StatusCode::METHOD_NOT_ALLOWED, &error).with(ALLOW, allowed)
}

/// 404: there is no such path.
pub(super) fn no_such_path() -> Answer {
    ProtocolError::new(ErrorCode::NotFound, "there is nothing at this path").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::server::{Cursor, OkFrame, ServerFrame};

    #[test]
    fn data_has_the_fields_of_the_frame() {
        let data = |frame: ServerFrame| data_of(frame.type_name(), &frame.encode(None));
        assert_eq!(data(OkFrame::default().into()), r#"{"data":{}}"#);
        let seq = Some(switchboard_protocol::Seq::new(7));
        assert_eq!(data(OkFrame { seq, ..OkFrame::default() }.into()), r#"{"data":{"seq":7}}"#);
        assert_eq!(data(Cursor { cursor: "a,b".to_owned() }.into()), r#"{"data":{"cursor":"a,b"}}"#);
    }
}
