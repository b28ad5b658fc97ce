//! Firebase Cloud Messaging (FCM), HTTP v1: Android, and other platforms with Firebase. Owns the service account's key
//! and the access token obtained with it (OAuth 2.0, RFC 7523).

use std::fmt;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Request, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;
use switchboard_store::Priority;
use tokio::sync::Mutex;

use crate::client::{Client, Response};
use crate::jwt::SigningKey;
use crate::payload::{Data, PAYLOAD_BYTES_MAX, collapse_key, fit};
use crate::provider::{Body, Outcome, Push, Reason, SetupError};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Lifetime of the assertion that is exchanged for an access token, in seconds.
const ASSERTION_S: i64 = 3_600;
/// An access token is not used in the last minute of its lifetime.
const TOKEN_LEFT_MIN_MS: u64 = 60_000;

/// Sends through FCM.
#[derive(Debug)]
pub struct Fcm {
    client: Client,
    /// The endpoint for messages.
    url: Uri,
    account: Account,
    key: SigningKey,
    /// Locked while a token is fetched, so that all requests that need one wait for the same.
    token: Mutex<Option<AccessToken>>,
}

/// The required fields of a service account's key file.
#[derive(Deserialize)]
struct Account {
    project_id: String,
    client_email: String,
    private_key_id: Option<String>,
    private_key: String,
    token_uri: String,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Account({})", self.client_email)
    }
}

#[derive(Clone)]
struct AccessToken {
    /// The `Authorization` header.
    header: String,
    /// In monotonic milliseconds.
    expires_ms: u64,
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken(until {} ms)", self.expires_ms)
    }
}

/// The token endpoint's answer.
#[derive(Deserialize)]
struct Exchanged {
    access_token: String,
    expires_in: u64,
}

impl Fcm {
    /// `service_account` is the content of its JSON key file; `base` is FCM's URL, such as `https://fcm.googleapis.com`.
    ///
    /// # Errors
    /// The file or its key is invalid, or a URL is not allowed ([`Guard::allows_url`](crate::Guard::allows_url)).
    pub fn new(client: Client, service_account: &[u8], base: &str) -> Result<Self, SetupError> {
        let account: Account = serde_json::from_slice(service_account).map_err(|_| SetupError::ServiceAccount)?;
        let key = SigningKey::rs256(account.private_key.as_bytes())?;
        let url = format!("{}/v1/projects/{}/messages:send", base.trim_end_matches('/'), account.project_id);
        let https = |url: &str| {
            let parsed = url.parse::<Uri>().ok().filter(|url| client.guard().allows_url(url));
            parsed.ok_or_else(|| SetupError::Url(url.to_owned()))
        };
        https(&account.token_uri).map_err(|_| SetupError::ServiceAccount)?;
        let url = https(&url)?;
        Ok(Self { client, url, account, key, token: Mutex::default() })
    }

    /// Sends a push to a registration token.
    pub async fn send(&self, registration: &str, push: &Push) -> Outcome {
        let Some(message) = message(registration, push) else {
            return Outcome::Refused(Reason::new("the payload is too long for FCM"));
        };
        let message = Bytes::from(message);
        let outcome = self.send_as(&message, None).await;
        match outcome {
            // The token was revoked before it expired.
            Err(refused) => self.send_as(&message, Some(&refused)).await.unwrap_or_else(|_| Outcome::Failed {
                reason: Reason::status(StatusCode::UNAUTHORIZED, ""),
                after_ms: None,
            }),
            Ok(outcome) => outcome,
        }
    }

    /// Sends with a token other than `refused`. Returns the token as an error if that is refused too.
    async fn send_as(&self, message: &Bytes, refused: Option<&str>) -> Result<Outcome, String> {
        let header = match self.token(refused).await {
            Ok(header) => header,
            Err(outcome) => return Ok(outcome),
        };
        let request = Request::post(&self.url)
            .header(AUTHORIZATION, &header)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(message.clone()));
        let Ok(request) = request else { return Ok(Outcome::Refused(Reason::new("can't build the request"))) };
        match self.client.send_multiplexed(request).await {
            Ok(response) if response.status == StatusCode::UNAUTHORIZED => Err(header),
            Ok(response) => Ok(outcome(&response)),
            Err(error) => Ok(error.into()),
        }
    }

    /// The `Authorization` header, with the current token if that has time left and is not `refused`, else with a new
    /// one.
    async fn token(&self, refused: Option<&str>) -> Result<String, Outcome> {
        let mut kept = self.token.lock().await;
        let now_ms = self.client.clock().monotonic_ms();
        if let Some(token) = kept.as_ref()
            && token.expires_ms > now_ms + TOKEN_LEFT_MIN_MS
            && refused != Some(&token.header)
        {
            return Ok(token.header.clone());
        }
        let token = self.exchange(now_ms).await?;
        Ok(kept.insert(token).header.clone())
    }

    /// Exchanges an assertion signed with the account's key for an access token (RFC 7523 §2.1).
    async fn exchange(&self, now_ms: u64) -> Result<AccessToken, Outcome> {
        let failed = |reason: &str| Outcome::Failed { reason: Reason::new(reason), after_ms: None };
        let now_s = self.client.clock().wall_ms().div_euclid(1_000);
        let Account { client_email, private_key_id, token_uri, .. } = &self.account;
        let claims = json!({
            "iss": client_email, "scope": SCOPE, "aud": token_uri, "iat": now_s, "exp": now_s + ASSERTION_S,
        });
        let assertion = self.key.sign(private_key_id.as_deref(), &claims).ok_or_else(|| failed("can't sign"))?;
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT_TYPE)
            .append_pair("assertion", &assertion)
            .finish();
        let request = Request::post(token_uri.as_str())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form))
            .map_err(|_| failed("can't build the request"))?;
        let response = self.client.send(request).await?;
        if !response.status.is_success() {
            // Retried, whatever the status: the cause is the account, not this push, and may be fixed.
            let reason = Reason::status(response.status, "from the token endpoint");
            return Err(Outcome::Failed { reason, after_ms: response.retry_after_ms });
        }
        let exchanged: Exchanged =
            serde_json::from_slice(&response.body).map_err(|_| failed("no access token in the endpoint's answer"))?;
        let header = format!("Bearer {}", exchanged.access_token);
        let expires_ms = now_ms.saturating_add(exchanged.expires_in.saturating_mul(1_000));
        Ok(AccessToken { header, expires_ms })
    }
}

/// The request's body; `None` if it exceeds FCM's payload limit even without text.
fn message(registration: &str, push: &Push) -> Option<String> {
    let collapse_key = collapse_key(push);
    let priority = if push.priority == Priority::High && push.body != Body::Withdraw { "HIGH" } else { "NORMAL" };
    let encode = |data: &Data<'_>| {
        let mut message = json!({
            "token": registration,
            // FCM allows only strings here.
            "data": {
                "type": data.kind, "conversation_id": data.conversation_id, "up_to_seq": data.up_to_seq.to_string(),
            },
            "android": { "priority": priority, "ttl": format!("{}s", push.ttl_s), "collapse_key": collapse_key },
        });
        if let Some(count) = data.count {
            message["data"]["count"] = count.to_string().into();
            message["android"]["notification"] = json!({ "tag": collapse_key, "notification_count": count });
            message["notification"] = json!({ "title": data.title, "body": data.text });
        }
        json!({ "message": message }).to_string()
    };
    fit(push, PAYLOAD_BYTES_MAX, encode)
}

/// FCM's name of an error: `error.details[].errorCode`, else `error.status`.
fn error_code(response: &Response) -> String {
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let details = body["error"]["details"].as_array().into_iter().flatten();
    let code = details.filter_map(|detail| detail["errorCode"].as_str()).next();
    code.or_else(|| body["error"]["status"].as_str()).unwrap_or_default().to_owned()
}

fn outcome(response: &Response) -> Outcome {
    let code = error_code(response);
    match code.as_str() {
        "UNREGISTERED" => Outcome::Gone,
        // The token belongs to another project.
        "SENDER_ID_MISMATCH" => Outcome::Refused(Reason::status(response.status, &code)),
        _ => Outcome::of(response, &code),
    }
}
