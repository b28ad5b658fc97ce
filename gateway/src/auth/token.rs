//! Tokens that this program signs itself: `switchboard token`, and those of development mode.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use switchboard_config::{Config, KeyMaterial};
use switchboard_protocol::{TenantId, UserId};

use super::claims::SignedClaims;
use super::crypto;
use super::dev_key::DevKey;
use crate::dev_file::DevFileError;

/// What a new token says.
pub(crate) struct NewToken {
    pub(crate) user: UserId,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) scopes: Vec<String>,
    pub(crate) ttl_s: i64,
}

/// A key that tokens can be signed with: HS256, with the `kid` it is known by.
pub(crate) struct SigningKey {
    kid: Option<String>,
    key: EncodingKey,
}

impl SigningKey {
    /// A key without a `kid`.
    pub(crate) fn unnamed(secret: &[u8]) -> Self {
        Self { kid: None, key: EncodingKey::from_secret(secret) }
    }
}

/// The configured HS256 key; in development mode the development key, made if need be. `None`: the configured keys
/// only check.
pub(crate) fn signing_key(config: &Config) -> Result<Option<SigningKey>, DevFileError> {
    if config.is_development() {
        return Ok(Some(SigningKey::unnamed(DevKey::load_or_make(&config.store.path)?.expose())));
    }
    if let Some(secret) = &config.auth.hs256_secret {
        return Ok(Some(SigningKey::unnamed(secret.expose())));
    }
    let by_kid = config.auth.keys.iter().find_map(|auth_key| match &auth_key.material {
        KeyMaterial::Hs256(secret) => {
            Some(SigningKey { kid: Some(auth_key.kid.clone()), key: EncodingKey::from_secret(secret.expose()) })
        }
        _ => None,
    });
    Ok(by_kid)
}

/// Signs a token at `now_ms` (Unix milliseconds).
pub(crate) fn sign(token: &NewToken, signing: &SigningKey, now_ms: i64) -> Result<String, jsonwebtoken::errors::Error> {
    crypto::install();
    let iat = now_ms.div_euclid(1_000);
    let claims = SignedClaims {
        sub: &token.user,
        tenant: token.tenant.as_ref(),
        scope: &token.scopes,
        iat,
        exp: iat.saturating_add(token.ttl_s),
    };
    let mut header = Header::new(Algorithm::HS256);
    header.kid.clone_from(&signing.kid);
    jsonwebtoken::encode(&header, &claims, &signing.key)
}
