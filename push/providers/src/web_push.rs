//! Web Push: through the browser's push service (RFC 8030), which can't read the content (RFC 8291), and to which the
//! gateway authenticates itself (VAPID, RFC 8292). Owns the signing key and the tokens signed with it.

mod encrypt;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use hyper::{Request, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::json;
use switchboard_push::InvalidField;
use switchboard_store::Priority;

use self::encrypt::{AuthSecret, PublicKey, encrypt};
use crate::client::Client;
use crate::guard::Guard;
use crate::jwt::SigningKey;
use crate::payload::{collapse_key, fit};
use crate::provider::{Body, Outcome, Push, Reason, SetupError};

/// A token's lifetime; RFC 8292 §2 allows 24 hours.
const TOKEN_S: i64 = 12 * 3_600;
/// A token is renewed when less than this is left of its lifetime.
const TOKEN_LEFT_MIN_S: i64 = 3_600;
/// Maximum push services with a cached token. Browsers use a handful of them.
const TOKENS_MAX: usize = 32;
/// Maximum length of an endpoint.
const ENDPOINT_BYTES_MAX: usize = 2_048;

/// A browser's subscription, as returned by `PushSubscription.toJSON()`. Its endpoint and keys are secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    endpoint: String,
    keys: Keys,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Keys {
    p256dh: String,
    auth: String,
}

impl Subscription {
    /// Checks what a client registers.
    ///
    /// # Errors
    /// A field that does not conform to RFC 8291, or an endpoint that the guard does not allow.
    pub fn check(&self, guard: &Guard) -> Result<(), InvalidField> {
        self.url(guard)?;
        self.user_agent_key()?;
        self.auth_secret()?;
        Ok(())
    }

    fn url(&self, guard: &Guard) -> Result<Uri, InvalidField> {
        let url = self.endpoint.parse().ok().filter(|url| guard.allows_url(url));
        let url = url.filter(|_| self.endpoint.len() <= ENDPOINT_BYTES_MAX);
        url.ok_or(InvalidField { field: "subscription.endpoint", expected: "an https URL of a push service" })
    }

    fn user_agent_key(&self) -> Result<PublicKey, InvalidField> {
        let key = decode(&self.keys.p256dh).and_then(PublicKey::new);
        let expected = "a point on P-256, uncompressed, in base64url";
        key.ok_or(InvalidField { field: "subscription.keys.p256dh", expected })
    }

    fn auth_secret(&self) -> Result<AuthSecret, InvalidField> {
        let secret = decode(&self.keys.auth).and_then(|bytes| bytes.try_into().ok()).map(AuthSecret::new);
        secret.ok_or(InvalidField { field: "subscription.keys.auth", expected: "16 bytes in base64url" })
    }
}

/// Without the endpoint's path and the keys.
impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.endpoint.parse::<Uri>().ok();
        write!(f, "Subscription({})", url.as_ref().and_then(Uri::host).unwrap_or("?"))
    }
}

/// Decodes base64url: some browsers pad it, some don't.
fn decode(base64: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(base64.trim_end_matches('=')).ok()
}

/// Sends to browsers.
#[derive(Debug)]
pub struct WebPush {
    client: Client,
    key: SigningKey,
    /// The contact for push services: a `mailto:` or `https:` URL (RFC 8292 §2.1).
    subject: String,
    tokens: Mutex<Vec<Token>>,
}

/// A token that identifies the gateway to one push service.
#[derive(Clone)]
struct Token {
    /// The push service's origin.
    audience: String,
    expires_s: i64,
    /// The `Authorization` header.
    header: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.audience)
    }
}

impl WebPush {
    /// `key` is a private key on P-256, PKCS#8 as PEM.
    ///
    /// # Errors
    /// The key is invalid.
    pub fn new(client: Client, key: &[u8], subject: String) -> Result<Self, SetupError> {
        Ok(Self { client, key: SigningKey::es256(key)?, subject, tokens: Mutex::default() })
    }

    /// The `applicationServerKey` that browsers subscribe with: the public key, in base64url.
    pub fn application_server_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.public())
    }

    /// Sends a push to a subscription.
    pub async fn send(&self, subscription: &Subscription, push: &Push) -> Outcome {
        let request = match self.request(subscription, push) {
            Ok(request) => request,
            Err(outcome) => return outcome,
        };
        match self.client.send(request).await {
            // RFC 8030 §7.3.
            Ok(response) if matches!(response.status, StatusCode::NOT_FOUND | StatusCode::GONE) => Outcome::Gone,
            // The browser subscribed with another key (RFC 8292 §4.2).
            Ok(response) if response.status == StatusCode::FORBIDDEN => {
                Outcome::Refused(Reason::status(response.status, ""))
            }
            Ok(response) => Outcome::of(&response, ""),
            Err(error) => error.into(),
        }
    }

    fn request(&self, subscription: &Subscription, push: &Push) -> Result<Request<Full<Bytes>>, Outcome> {
        let unusable = |error: InvalidField| Outcome::Refused(Reason::new(error.to_string()));
        let url = subscription.url(self.client.guard()).map_err(unusable)?;
        let (key, secret) = (subscription.user_agent_key(), subscription.auth_secret());
        let (key, secret) = (key.map_err(unusable)?, secret.map_err(unusable)?);
        let text = fit(push, encrypt::PLAIN_BYTES_MAX, |data| serde_json::to_string(data).unwrap_or_default());
        let text = text.ok_or_else(|| Outcome::Refused(Reason::new("the payload is too long for Web Push")))?;
        let failed = || Outcome::Failed { reason: Reason::new("can't encrypt"), after_ms: None };
        let body = encrypt(text.as_bytes(), &key, &secret).ok_or_else(failed)?;
        let request = Request::post(&url)
            .header(AUTHORIZATION, self.authorization(&url).ok_or_else(failed)?)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_ENCODING, "aes128gcm")
            .header("ttl", push.ttl_s)
            .header("topic", collapse_key(push))
            .header("urgency", urgency(push))
            .body(Full::from(body));
        request.map_err(|_| Outcome::Refused(Reason::new("can't build a request for the subscription")))
    }

    /// The `Authorization` header for the push service of `url`.
    fn authorization(&self, url: &Uri) -> Option<String> {
        let audience = format!("https://{}", url.authority()?.as_str());
        let now_s = self.client.clock().wall_ms().div_euclid(1_000);
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        // A token that seems to live too long was signed before the clock was set back.
        tokens.retain(|token| (now_s + TOKEN_LEFT_MIN_S..=now_s + TOKEN_S).contains(&token.expires_s));
        if let Some(token) = tokens.iter().find(|token| token.audience == audience) {
            return Some(token.header.clone());
        }
        let expires_s = now_s + TOKEN_S;
        let claims = json!({ "aud": audience, "exp": expires_s, "sub": self.subject });
        let signed = self.key.sign(None, &claims)?;
        let header = format!("vapid t={signed}, k={}", self.application_server_key());
        if tokens.len() >= TOKENS_MAX {
            tokens.remove(0);
        }
        tokens.push(Token { audience, expires_s, header: header.clone() });
        Some(header)
    }
}

/// The `Urgency` (RFC 8030 §5.3). A withdrawal need not wake the device.
fn urgency(push: &Push) -> &'static str {
    match (&push.body, push.priority) {
        (Body::Withdraw, _) | (_, Priority::Low) => "low",
        (_, Priority::Normal) => "normal",
        (_, Priority::High) => "high",
    }
}
