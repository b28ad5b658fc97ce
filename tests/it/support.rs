//! Test support: a server process, WebSocket and HTTP clients, and tokens.

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod http;
pub(crate) mod push;
pub(crate) mod server;
pub(crate) mod tokens;

pub(crate) use client::{Client, Connect};
pub(crate) use http::{Http, Response};
pub(crate) use server::{Config, Server};
pub(crate) use tokens::{SECRET, Token};

use std::time::Duration;

/// Longest wait for anything that is expected to happen: time for several requests that are answered only after
/// [`SEND_TIMEOUT`].
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// `limits.send_timeout_ms` of a server whose test does not set it. On a machine that is busy with other tests a write may
/// take longer than a client would wait.
pub(crate) const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// The result of [`Client::ask_in_vain`] for a field that is malformed or out of its limits.
pub(crate) fn bad_request(field: &str) -> (String, Option<String>) {
    ("bad_request".to_owned(), Some(field.to_owned()))
}

/// Longest wait for a node to be ready: on an empty Cassandra it creates the tables, each one a change of the schema, on a
/// machine that may be busy.
pub(crate) const START_PATIENCE: Duration = Duration::from_mins(2);

/// The result of the future, within [`PATIENCE`].
pub(crate) fn soon<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    within(PATIENCE, what, future)
}

/// The result of the future, within `patience`.
pub(crate) async fn within<T>(patience: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(patience, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
