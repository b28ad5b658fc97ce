//! A push provider that speaks the protocols of all providers, and devices that are registered with it.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use switchboard_tests::provider::{self, ProviderServer, Seen};
use tokio::sync::watch;

use super::cluster::Cluster;
use super::{Config, SECRET, Server, soon, tokens::token};

pub(crate) use switchboard_tests::provider::Browser;

/// Instead of a status: there is no answer until another one is set.
pub(crate) const SILENT: u16 = 0;

/// The path of FCM's access tokens.
const TOKEN_PATH: &str = "/token";

/// The service account's key.
const RSA_KEY: &[u8] = include_bytes!("../keys/rsa.pkcs8.der");

/// FCM's access token.
pub(crate) const ACCESS_TOKEN: &str = "access-token";

/// A provider, which answers all pushes in the same way. It gives an access token to everyone.
pub(crate) struct PushService {
    server: ProviderServer,
    answer: watch::Sender<(u16, String)>,
    count: watch::Receiver<usize>,
}

impl PushService {
    pub(crate) async fn start() -> Self {
        let (answer, set) = watch::channel((201, String::new()));
        let (counted, count) = watch::channel(0);
        let answers = move |seen: Seen| {
            let is_push = seen.path != TOKEN_PATH;
            if is_push {
                counted.send_modify(|count| *count += 1);
            }
            let mut set = set.clone();
            async move {
                if !is_push {
                    let token = json!({ "access_token": ACCESS_TOKEN, "expires_in": 3_600 });
                    return provider::answer(200, &token.to_string());
                }
                let set = set.wait_for(|(status, _)| *status != SILENT).await;
                let (status, body) = set.map(|set| set.clone()).unwrap_or_default();
                provider::answer(status, &body)
            }
        };
        Self { server: ProviderServer::start(answers).await, answer, count }
    }

    /// Sets the status of further answers.
    pub(crate) fn answers(&self, status: u16) {
        self.answer.send_replace((status, String::new()));
    }

    /// The same, with a body.
    pub(crate) fn answers_with(&self, status: u16, body: &Value) {
        self.answer.send_replace((status, body.to_string()));
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// All pushes so far, in order.
    pub(crate) fn pushes(&self) -> Vec<Seen> {
        self.server.seen().into_iter().filter(|seen| seen.path != TOKEN_PATH).collect()
    }

    /// Their paths.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.pushes().into_iter().map(|seen| seen.path).collect()
    }

    /// The requests for access tokens.
    pub(crate) fn exchanges(&self) -> Vec<Seen> {
        self.server.seen().into_iter().filter(|seen| seen.path == TOKEN_PATH).collect()
    }

    /// Waits until there have been this many pushes in total.
    pub(crate) async fn asked(&self, times: usize) {
        let mut count = self.count.clone();
        let there = count.wait_for(|count| *count >= times);
        soon("the push service to be asked", there).await.expect("the push service runs");
    }

    /// The decrypted content of the requests for a path.
    pub(crate) fn told(&self, path: &str, browser: &Browser) -> Vec<Value> {
        let seen = self.pushes().into_iter().filter(|seen| seen.path == path);
        seen.map(|seen| serde_json::from_slice(&browser.decrypt(&seen.body)).expect("JSON")).collect()
    }

    /// The account of FCM's messages.
    pub(crate) fn service_account(&self) -> Value {
        let key = STANDARD.encode(RSA_KEY);
        json!({
            "type": "service_account", "project_id": "p1", "client_email": "push@p1.example.com", "private_key_id": "k1",
            "private_key": format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
            "token_uri": self.url(TOKEN_PATH),
        })
    }
}

/// A configuration that allows providers on this machine.
fn reaching_this_machine(config: Config) -> Config {
    config
        .set("push.allowed_networks", r#"["127.0.0.0/8", "::1/128"]"#)
        .env("SSL_CERT_FILE", &key("tls-a.cert.pem"))
        .set("push.hold_ms", 100)
        .set("push.collapse_ms", 0)
}

/// With a Firebase project.
pub(crate) fn with_fcm(config: Config, service: &PushService) -> Config {
    reaching_this_machine(config)
        .set("push.fcm.service_account", service.service_account())
        .set("push.fcm.url", service.url(""))
}

/// With an Apple developer's key, in this file.
pub(crate) fn with_apns(config: Config, service: &PushService, key: &Path) -> Config {
    reaching_this_machine(config)
        .set("push.apns.key_file", key.display())
        .set("push.apns.key_id", "ABC123DEFG")
        .set("push.apns.team_id", "DEF123GHIJ")
        .set("push.apns.topic", "com.example.chat")
        .set("push.apns.url", service.url(""))
}

/// With the application's own server.
pub(crate) fn with_webhook(config: Config, service: &PushService) -> Config {
    reaching_this_machine(config).set("push.webhook.url", service.url("/hook")).set("push.webhook.secret", SECRET)
}

/// Nodes of one gateway, configured likewise.
pub(crate) async fn cluster_with_web_push() -> Cluster {
    Cluster::new()
        .await
        .set("push.web_push.vapid_key_file", key("tls-a.key.pem").display())
        .set("push.web_push.subject", "mailto:ops@example.com")
        .set("push.allowed_networks", r#"["127.0.0.0/8", "::1/128"]"#)
        .env("SSL_CERT_FILE", &key("tls-a.cert.pem"))
}

/// With a VAPID key, and push services allowed on this machine.
pub(crate) fn with_web_push() -> Config {
    Config::new()
        .set("push.web_push.vapid_key_file", key("tls-a.key.pem").display())
        .set("push.web_push.subject", "mailto:ops@example.com")
        .set("push.allowed_networks", r#"["127.0.0.0/8", "::1/128"]"#)
        .env("SSL_CERT_FILE", &key("tls-a.cert.pem"))
}

/// The path of a key file.
pub(crate) fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/keys").join(name)
}

/// Registers a browser as a user's device, named like the path.
pub(crate) async fn subscribe(server: &Server, user: &str, browser: &Browser, url: &str) {
    let device = url.rsplit('/').next().expect("a path");
    let body = json!({ "provider": "web_push", "subscription": browser.subscription_json(url) });
    put(server, user, device, &body).await.data(200);
}

pub(crate) async fn put(server: &Server, user: &str, device: &str, body: &Value) -> super::Response {
    let path = format!("/v1/devices/{device}/push");
    server.http().ask(hyper::Method::PUT, &path).json(body).token(&token(user)).send().await
}
