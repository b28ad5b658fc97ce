//! How clients get their tokens (PROTOCOL §1): signed here with the server's HS256 secret, or requested from the token
//! endpoint of a server in development mode.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use ring::hmac;
use serde::{Deserialize, Serialize};
use switchboard_clock::Clock;

use super::address::Address;
use super::connect::http;
use super::dial::Dialer;

/// A run lasts an hour at most, and its set-up some minutes.
const TOKEN_TTL_S: i64 = 3 * 3_600;

/// The source of tokens.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Tokens {
    /// The server's `auth.hs256_secret`.
    Secret(String),
    /// `POST /v1/dev/token`.
    Development,
}

impl Tokens {
    /// A token for `user`.
    ///
    /// # Errors
    /// There is no such endpoint, or the server can't be reached.
    pub(crate) async fn token(&self, dialer: &Dialer, address: &Address, user: &str) -> Result<String> {
        match self {
            Self::Secret(secret) => {
                let now_s = Clock::system().wall_ms() / 1_000;
                let claims = serde_json::json!({
                    "sub": user, "iat": now_s, "exp": now_s + TOKEN_TTL_S, "scope": "topics:publish"
                });
                Ok(signed(secret, &claims))
            }
            Self::Development => development(dialer, address, user).await,
        }
    }
}

fn signed(secret: &str, claims: &serde_json::Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

async fn development(dialer: &Dialer, address: &Address, user: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        token: String,
    }
    let body = serde_json::json!({"name": user}).to_string();
    let request = Request::post(format!("{}/v1/dev/token", address.prefix))
        .header("host", address.authority())
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let (status, body) = http(dialer.dial(address, None).await?, request).await?;
    if !status.is_success() {
        bail!(
            "{} issues no development tokens ({status}): give its HS256 secret with --secret-file",
            address.authority()
        );
    }
    let answer: Answer = serde_json::from_slice(&body).context("can't parse the answer to /v1/dev/token")?;
    Ok(answer.data.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_signed_as_rfc_7515_says() {
        // Computed with `printf … | openssl dgst -sha256 -hmac …`.
        let token = signed("0123456789abcdef0123456789abcdef", &serde_json::json!({"sub": "alice"}));
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[1]).unwrap(), br#"{"sub":"alice"}"#);
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        assert!(hmac::verify(&key, format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature).is_ok());
    }
}
