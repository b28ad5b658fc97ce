//! How receivers authenticate the sender of a request.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

use super::Seen;

/// The age at which a receiver rejects a webhook, in seconds (docs/protocol.md, "Push").
const REPLAY_WINDOW_S: u64 = 300;

/// The header and the claims of a token, whose signature must be valid.
pub fn verified(token: &str, algorithm: &'static dyn VerificationAlgorithm, public_key: &[u8]) -> (Value, Value) {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(algorithm, public_key).verify(signed.as_bytes(), &signature).unwrap();
    let part = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    (part(header), part(claims))
}

/// Whether the receiver of a webhook, whose clock shows `now_s`, accepts a request.
pub fn webhook_is_genuine(seen: &Seen, secret: &[u8], now_s: i64) -> bool {
    let timestamp = seen.header("switchboard-timestamp");
    let hex = seen.header("switchboard-signature").strip_prefix("v1=").unwrap();
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let signature: Vec<u8> = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    let signed = [timestamp.as_bytes(), b".", &seen.body].concat();
    let is_fresh = now_s.abs_diff(timestamp.parse().unwrap()) <= REPLAY_WINDOW_S;
    is_fresh && hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret), &signed, &signature).is_ok()
}
