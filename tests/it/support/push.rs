//! A push service and the browsers that subscribe with it, as the tests of `push/` have them: TLS, HTTP/2, and messages
//! that only the browser can decrypt.

#[path = "../../../push/tests/providers/browser.rs"]
mod browser;
#[expect(dead_code, reason = "the tests of push/ look at more of a request")]
#[path = "../../../push/tests/providers/server.rs"]
mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::cluster::Cluster;
use super::{Config, Server, soon, tokens::token};

pub(crate) use browser::Browser;

/// In place of a status: there is no answer.
pub(crate) const SILENT: u16 = 0;

/// A push service, which answers each path with the status that is set for all.
pub(crate) struct PushService {
    server: server::Server,
    status: Arc<AtomicU16>,
    count: watch::Receiver<usize>,
}

impl PushService {
    pub(crate) async fn start() -> Self {
        let status = Arc::new(AtomicU16::new(201));
        let (counted, count) = watch::channel(0);
        let answer = {
            let status = status.clone();
            move |_| {
                counted.send_modify(|count| *count += 1);
                let status = status.load(Ordering::SeqCst);
                async move {
                    if status == SILENT {
                        std::future::pending::<()>().await;
                    }
                    server::answer(status, "")
                }
            }
        };
        Self { server: server::Server::start(answer).await, status, count }
    }

    /// What requests are answered with from now on.
    pub(crate) fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// The paths of all requests so far, in their order.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.server.seen().into_iter().map(|seen| seen.path).collect()
    }

    /// Waits for so many requests in all.
    pub(crate) async fn asked(&self, times: usize) {
        let mut count = self.count.clone();
        let there = count.wait_for(|count| *count >= times);
        soon("the push service to be asked", there).await.expect("the push service runs");
    }

    /// What the requests for a path told a browser.
    pub(crate) fn told(&self, path: &str, browser: &Browser) -> Vec<Value> {
        let seen = self.server.seen().into_iter().filter(|seen| seen.path == path);
        seen.map(|seen| serde_json::from_slice(&browser.decrypt(&seen.body)).expect("JSON")).collect()
    }
}

/// Nodes of one gateway, the same.
pub(crate) async fn cluster_with_web_push() -> Cluster {
    Cluster::new()
        .await
        .set("push.web_push.vapid_key_file", key("tls-a.key.pem").display())
        .set("push.web_push.subject", "mailto:ops@example.com")
        .set("push.allowed_networks", r#"["127.0.0.0/8", "::1/128"]"#)
        .env("SSL_CERT_FILE", &key("tls-a.cert.pem"))
}

/// With a VAPID key, and where push services of this machine may be asked.
pub(crate) fn with_web_push() -> Config {
    Config::new()
        .set("push.web_push.vapid_key_file", key("tls-a.key.pem").display())
        .set("push.web_push.subject", "mailto:ops@example.com")
        .set("push.allowed_networks", r#"["127.0.0.0/8", "::1/128"]"#)
        .env("SSL_CERT_FILE", &key("tls-a.cert.pem"))
}

fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/keys").join(name)
}

/// Registers a browser as a user's device of the same name as the path.
pub(crate) async fn subscribe(server: &Server, user: &str, browser: &Browser, url: &str) {
    let device = url.rsplit('/').next().expect("a path");
    let body = json!({ "provider": "web_push", "subscription": browser.subscription_json(url) });
    put(server, user, device, &body).await.data(200);
}

pub(crate) async fn put(server: &Server, user: &str, device: &str, body: &Value) -> super::Response {
    let path = format!("/v1/devices/{device}/push");
    server.http().ask(hyper::Method::PUT, &path).json(body).token(&token(user)).send().await
}
