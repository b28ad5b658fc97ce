//! Web Push in development mode: a generated key, so that the demo page's notifications need no setup.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use switchboard_config::{Config, Secret};

use crate::dev_file::{DevFileError, read_or_make};

/// Shorter is no key.
const PEM_BYTES_MIN: usize = 100;
/// Whom push services may write to about it: nobody.
const SUBJECT: &str = "mailto:development@example.com";
/// Characters in a line of PEM (RFC 7468 §2).
const LINE_CHARS: usize = 64;

/// The configuration with a key for Web Push that is made on first start and kept beside the store. `None`: there is one
/// already, or this is not development mode.
///
/// # Errors
/// It can't be kept.
pub(crate) fn with_dev_key(config: &Config) -> Result<Option<Config>, DevFileError> {
    if !config.is_development() || config.web_push.vapid_key.is_some() {
        return Ok(None);
    }
    let key = read_or_make(&config.store.path, ".dev-vapid-key.pem", PEM_BYTES_MIN, new_key)?;
    let mut config = config.clone();
    config.web_push.vapid_key = Some(Secret::new(key));
    config.web_push.subject.get_or_insert_with(|| SUBJECT.to_owned());
    Ok(Some(config))
}

/// A private key on P-256, PKCS #8 as PEM.
fn new_key() -> io::Result<String> {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
    let der = der.map_err(|_| io::Error::other("the system has no random numbers"))?;
    let text = STANDARD.encode(der.as_ref());
    let lines = text.as_bytes().chunks(LINE_CHARS).map(String::from_utf8_lossy);
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.collect::<Vec<_>>().join("\n")))
}
