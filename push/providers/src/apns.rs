//! Apple Push Notification service (APNs): HTTP/2 with token authentication. Owns the signing key and the provider
//! token.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use serde_json::{Value, json};
use switchboard_store::Priority;

use crate::client::{Client, Response};
use crate::jwt::SigningKey;
use crate::payload::{Data, PAYLOAD_BYTES_MAX, collapse_key, fit};
use crate::provider::{Body, Outcome, Push, Reason, SetupError};

/// A token is renewed after this time: APNs accepts it for an hour, and a new one at most every 20 minutes.
const TOKEN_S: i64 = 2_400;

/// The application, and the credentials to send to it.
#[derive(Clone, Debug)]
pub struct ApnsOptions {
    /// The URL of APNs: `https://api.push.apple.com`, or the sandbox's.
    pub url: String,
    /// The application's bundle id.
    pub topic: String,
    /// The signing key's id, 10 characters.
    pub key_id: String,
    /// The developer's team, 10 characters.
    pub team_id: String,
}

/// Sends to Apple's devices.
#[derive(Debug)]
pub struct Apns {
    client: Client,
    options: ApnsOptions,
    key: SigningKey,
    token: Mutex<Option<Token>>,
}

#[derive(Clone, PartialEq, Eq)]
struct Token {
    issued_s: i64,
    /// The `authorization` header.
    header: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.issued_s)
    }
}

impl Apns {
    /// `key` is the `.p8` file: a private key on P-256, PKCS#8 as PEM.
    ///
    /// # Errors
    /// The key is invalid, the URL is not allowed ([`Guard::allows_url`](crate::Guard::allows_url)), or the topic is not
    /// a valid header value.
    pub fn new(client: Client, key: &[u8], options: ApnsOptions) -> Result<Self, SetupError> {
        let url = options.url.parse::<Uri>().ok().filter(|url| client.guard().allows_url(url));
        if url.is_none() {
            return Err(SetupError::Url(options.url));
        }
        HeaderValue::from_str(&options.topic).map_err(|_| SetupError::Header { field: "topic" })?;
        Ok(Self { client, key: SigningKey::es256(key)?, options, token: Mutex::default() })
    }

    /// Sends a push to a device token, in hexadecimal.
    pub async fn send(&self, device: &str, push: &Push) -> Outcome {
        let Some(payload) = fit(push, PAYLOAD_BYTES_MAX, |data| payload(data).to_string()) else {
            return Outcome::Refused(Reason::new("the payload is too long for APNs"));
        };
        let payload = Bytes::from(payload);
        match self.send_as(device, push, &payload, None).await {
            // Its clock differs from ours, or the token was revoked.
            Err(expired) => self.send_as(device, push, &payload, Some(&expired)).await.unwrap_or_else(|_| {
                let reason = Reason::status(StatusCode::FORBIDDEN, "ExpiredProviderToken");
                Outcome::Failed { reason, after_ms: None }
            }),
            Ok(outcome) => outcome,
        }
    }

    /// Sends with a token other than `expired`. Returns the token as an error if APNs says that it has expired too.
    async fn send_as(
        &self,
        device: &str,
        push: &Push,
        payload: &Bytes,
        expired: Option<&Token>,
    ) -> Result<Outcome, Token> {
        let refused = |reason| Ok(Outcome::Refused(Reason::new(reason)));
        let Some(token) = self.token(expired) else { return refused("can't sign") };
        let Some(request) = self.request(device, push, payload, &token) else { return refused("not a device token") };
        match self.client.send_multiplexed(request).await {
            Ok(response) if reason(&response) == "ExpiredProviderToken" => Err(token),
            Ok(response) => Ok(outcome(&response)),
            Err(error) => Ok(error.into()),
        }
    }

    fn request(&self, device: &str, push: &Push, payload: &Bytes, token: &Token) -> Option<Request<Full<Bytes>>> {
        if device.is_empty() || !device.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let now_s = self.client.clock().wall_ms().div_euclid(1_000);
        let (kind, priority) = match (&push.body, push.priority) {
            // APNs rejects priority 10 for background pushes.
            (Body::Withdraw, _) => ("background", 5),
            (_, Priority::High) => ("alert", 10),
            (_, Priority::Normal) => ("alert", 5),
            (_, Priority::Low) => ("alert", 1),
        };
        let url = format!("{}/3/device/{device}", self.options.url.trim_end_matches('/'));
        let request = Request::post(url)
            .header(AUTHORIZATION, &token.header)
            .header("apns-topic", &self.options.topic)
            .header("apns-push-type", kind)
            .header("apns-priority", priority)
            .header("apns-expiration", now_s.saturating_add(i64::from(push.ttl_s)))
            .header("apns-collapse-id", collapse_key(push));
        request.body(Full::from(payload.clone())).ok()
    }

    /// The current token, or a new one if that is too old or `expired`.
    fn token(&self, expired: Option<&Token>) -> Option<Token> {
        let now_s = self.client.clock().wall_ms().div_euclid(1_000);
        let mut kept = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = kept.as_ref().filter(|token| (0..TOKEN_S).contains(&(now_s - token.issued_s)));
        if let Some(token) = usable.filter(|token| expired != Some(token)) {
            return Some(token.clone());
        }
        let claims = json!({ "iss": self.options.team_id, "iat": now_s });
        let header = format!("bearer {}", self.key.sign(Some(&self.options.key_id), &claims)?);
        Some(kept.insert(Token { issued_s: now_s, header }).clone())
    }
}

fn payload(data: &Data<'_>) -> Value {
    let mut payload = json!({
        "type": data.kind, "conversation_id": data.conversation_id, "up_to_seq": data.up_to_seq,
    });
    match data.count {
        Some(count) => {
            payload["count"] = count.into();
            payload["aps"] = json!({
                "alert": { "title": data.title, "body": data.text },
                "thread-id": data.conversation_id,
                "sound": "default",
            });
        }
        None => payload["aps"] = json!({ "content-available": 1 }),
    }
    payload
}

/// APNs's name of an error.
fn reason(response: &Response) -> String {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    body["reason"].as_str().unwrap_or_default().to_owned()
}

fn outcome(response: &Response) -> Outcome {
    let reason = reason(response);
    match reason.as_str() {
        "Unregistered" | "ExpiredToken" | "BadDeviceToken" => Outcome::Gone,
        _ if response.status == StatusCode::GONE => Outcome::Gone,
        _ => Outcome::of(response, &reason),
    }
}
