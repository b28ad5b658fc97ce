//! The keys that tokens are verified with, and the verification.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use switchboard_config::{Auth, AuthKey, KeyMaterial, Mistake, Mistakes, Problem};
use switchboard_protocol::ProtocolError;

use super::claims::{Claims, Identity};
use super::crypto;

/// Longest token that is looked at, in bytes; RS256 with many claims takes about a quarter of it.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Shortest RSA modulus that RS256 may have, in bytes (RFC 7518 §3.3).
const RSA_BYTES_MIN: usize = 256;

/// The keys of one configuration.
pub(crate) struct Keys {
    /// Of the tokens that name no `kid`.
    unnamed: Option<Key>,
    by_kid: HashMap<String, Key>,
}

/// A key and the only algorithm that it is used with.
struct Key {
    key: DecodingKey,
    validation: Validation,
}

/// Why a token is not accepted. What is shown tells nothing about the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenFault {
    #[error("the token is not a JWT of at most {TOKEN_BYTES_MAX} bytes")]
    Malformed,
    #[error("no key of this server has the token's kid")]
    UnknownKey,
    #[error("the token's algorithm or signature is not that of its key")]
    BadSignature,
    #[error("the token lacks a claim, or has a malformed one")]
    BadClaims,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
}

impl From<TokenFault> for ProtocolError {
    fn from(fault: TokenFault) -> Self {
        Self::unauthorized(fault.to_string())
    }
}

impl Keys {
    /// # Errors
    /// Every key that is none of its algorithm.
    pub(crate) fn from_config(auth: &Auth) -> Result<Self, Mistakes> {
        crypto::install();
        let unnamed = auth.hs256_secret.as_ref().map(|secret| Key::hs256(secret.expose()));
        let mut by_kid = HashMap::new();
        let mut mistakes = Mistakes::default();
        for (n, auth_key) in auth.keys.iter().enumerate() {
            match Key::from_config(auth_key) {
                Ok(key) => {
                    by_kid.insert(auth_key.kid.clone(), key);
                }
                Err(problem) => mistakes.add(Mistake::new(format!("auth.keys[{n}].public_key"), problem)),
            }
        }
        if mistakes.is_empty() { Ok(Self { unnamed, by_kid }) } else { Err(mistakes) }
    }

    /// The key of development mode alone.
    pub(crate) fn development(secret: &[u8]) -> Self {
        crypto::install();
        Self { unnamed: Some(Key::hs256(secret)), by_kid: HashMap::new() }
    }

    /// The key that `kid` names; without one, that of the tokens that name none, or the only one that there is.
    fn key(&self, kid: Option<&str>) -> Option<&Key> {
        let only = || self.by_kid.values().next().filter(|_| self.by_kid.len() == 1);
        match kid {
            Some(kid) => self.by_kid.get(kid),
            None => self.unnamed.as_ref().or_else(only),
        }
    }

    /// Whom the token speaks for at `now_ms` (Unix milliseconds). There is no leeway (PROTOCOL §1).
    pub(crate) fn verify(&self, token: &str, now_ms: i64) -> Result<Identity, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenFault::Malformed)?;
        let claims = self.key(header.kid.as_deref()).ok_or(TokenFault::UnknownKey)?.verify(token)?;
        if claims.expires_at().unix_ms() <= now_ms {
            return Err(TokenFault::Expired);
        }
        if claims.not_before().is_some_and(|not_before| not_before.unix_ms() > now_ms) {
            return Err(TokenFault::NotYetValid);
        }
        Ok(claims.into_identity())
    }
}

impl Key {
    fn hs256(secret: &[u8]) -> Self {
        Self::new(Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    fn from_config(auth_key: &AuthKey) -> Result<Self, Problem> {
        let (algorithm, key) = match &auth_key.material {
            KeyMaterial::Hs256(secret) => return Ok(Self::hs256(secret.expose())),
            KeyMaterial::Rs256(key) => (Algorithm::RS256, DecodingKey::from_rsa_pem(key.pem().as_bytes())),
            KeyMaterial::Es256(key) => (Algorithm::ES256, DecodingKey::from_ec_pem(key.pem().as_bytes())),
            KeyMaterial::EdDsa(key) => (Algorithm::EdDSA, DecodingKey::from_ed_pem(key.pem().as_bytes())),
        };
        let key = key.map_err(|_| Problem::Wrong(format!("not a public key for {algorithm:?}")))?;
        let is_short = key.try_get_as_bytes().is_ok_and(|der| der.len() < RSA_BYTES_MIN);
        if algorithm == Algorithm::RS256 && is_short {
            return Err(Problem::Wrong("shorter than the 2048 bits that RS256 needs".to_owned()));
        }
        Ok(Self::new(algorithm, key))
    }

    fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        let mut validation = Validation::new(algorithm);
        // Times are judged by the injected clock, to the millisecond and without leeway; `aud` is not in the contract.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        Self { key, validation }
    }

    fn verify(&self, token: &str) -> Result<Claims, TokenFault> {
        use jsonwebtoken::errors::ErrorKind;
        jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).map(|data| data.claims).map_err(|error| {
            match error.kind() {
                ErrorKind::Json(_) | ErrorKind::InvalidClaimFormat(_) => TokenFault::BadClaims,
                ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => TokenFault::Malformed,
                _ => TokenFault::BadSignature,
            }
        })
    }
}
