//! The application's own server, which gets each push as a signed request. Owns the secret.
//!
//! The receiver should check `switchboard-signature`: `v1=` and the HMAC-SHA-256, in hexadecimal, of
//! `switchboard-timestamp`, a full stop and the body. It should refuse a timestamp (Unix seconds) that differs from its
//! own clock by more than [`REPLAY_WINDOW_S`], and an id (`switchboard-id`) that it has already received within that
//! window: a retry has the same id.

use std::fmt::Write;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Uri};
use ring::{digest, hmac};
use serde::Serialize;
use switchboard_protocol::{DeviceId, TenantId, UserId};

use crate::client::Client;
use crate::payload::{Data, PAYLOAD_BYTES_MAX, fit};
use crate::provider::{Outcome, Push, Reason, SetupError};

/// The age, in seconds, beyond which a receiver should refuse a request.
pub const REPLAY_WINDOW_S: u64 = 300;

/// Sends to the application's server.
#[derive(Debug)]
pub struct Webhook {
    client: Client,
    url: Uri,
    key: hmac::Key,
}

#[derive(Serialize)]
struct Payload<'a> {
    tenant: &'a TenantId,
    user_id: &'a UserId,
    device_id: &'a DeviceId,
    #[serde(flatten)]
    data: &'a Data<'a>,
}

impl Webhook {
    /// # Errors
    /// The URL is not allowed ([`Guard::allows_url`](crate::Guard::allows_url)).
    pub fn new(client: Client, url: &str, secret: &[u8]) -> Result<Self, SetupError> {
        let parsed = url.parse().ok().filter(|url| client.guard().allows_url(url));
        let url = parsed.ok_or_else(|| SetupError::Url(url.to_owned()))?;
        Ok(Self { client, url, key: hmac::Key::new(hmac::HMAC_SHA256, secret) })
    }

    /// Sends a push. No answer means that a device is gone: the application itself unregisters it.
    pub async fn send(&self, push: &Push) -> Outcome {
        let Some(request) = self.request(push) else {
            return Outcome::Refused(Reason::new("can't build the request"));
        };
        match self.client.send(request).await {
            Ok(response) => Outcome::of(&response, ""),
            Err(error) => error.into(),
        }
    }

    fn request(&self, push: &Push) -> Option<Request<Full<Bytes>>> {
        let body = fit(push, PAYLOAD_BYTES_MAX, |data| {
            let (tenant, user_id, device_id) = (&push.tenant, &push.user, &push.device);
            serde_json::to_string(&Payload { tenant, user_id, device_id, data }).unwrap_or_default()
        })?;
        let timestamp = self.client.clock().wall_ms().div_euclid(1_000).to_string();
        let mut context = hmac::Context::with_key(&self.key);
        for part in [timestamp.as_bytes(), b".", body.as_bytes()] {
            context.update(part);
        }
        let id = digest::digest(&digest::SHA256, body.as_bytes());
        let request = Request::post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .header("switchboard-id", hex(&id.as_ref()[..16]))
            .header("switchboard-timestamp", &timestamp)
            .header("switchboard-signature", format!("v1={}", hex(context.sign().as_ref())));
        request.body(Full::from(body)).ok()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
