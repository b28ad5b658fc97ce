//! Tokens of every kind, valid and invalid.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Map, Value, json};

/// The secret of the tests' servers.
pub(crate) const SECRET: &str = "a secret of more than thirty-two bytes";

/// A builder of a token. Valid for an hour by default.
#[derive(Clone)]
pub(crate) struct Token {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

/// Seconds since 1970.
pub(crate) fn now_s() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "tokens have the real time in them")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

impl Token {
    pub(crate) fn of(user: &str) -> Self {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let claims = json!({"sub": user, "iat": now_s().floor(), "exp": now_s().floor() + 3_600.0});
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        Self { header: map(header), claims: map(claims) }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    pub(crate) fn scope(self, scope: &str) -> Self {
        self.claim("scope", json!([scope]))
    }

    pub(crate) fn expires_in(self, seconds: f64) -> Self {
        self.claim("exp", now_s() + seconds)
    }

    /// Signed with [`SECRET`].
    pub(crate) fn sign(self) -> String {
        self.sign_hs256(SECRET.as_bytes())
    }

    pub(crate) fn sign_hs256(self, secret: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        self.sign_with(|message| hmac::sign(&key, message).as_ref().to_vec())
    }

    pub(crate) fn sign_with(self, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
        let part = |map: Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(map).to_string());
        let message = format!("{}.{}", part(self.header), part(self.claims));
        let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

/// A valid token of this user.
pub(crate) fn token(user: &str) -> String {
    Token::of(user).sign()
}
