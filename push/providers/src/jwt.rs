//! The JWTs that authenticate the gateway to providers (RFC 7515, 7518), signed with `ring`, which TLS needs anyway.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::Value;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use crate::provider::SetupError;

/// A private key that signs tokens.
pub(crate) enum SigningKey {
    Es256(Box<EcdsaKeyPair>),
    Rs256(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Parses a P-256 key, PKCS#8 as PEM.
    pub(crate) fn es256(pem: &[u8]) -> Result<Self, SetupError> {
        let wrong = || SetupError::Key { algorithm: "ES256" };
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| wrong())?;
        let der = der.secret_pkcs8_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
        pair.map(|pair| Self::Es256(Box::new(pair))).map_err(|_| wrong())
    }

    /// Parses an RSA key, PKCS#8 as PEM.
    pub(crate) fn rs256(pem: &[u8]) -> Result<Self, SetupError> {
        let wrong = || SetupError::Key { algorithm: "RS256" };
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| wrong())?;
        let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der());
        pair.map(|pair| Self::Rs256(Box::new(pair))).map_err(|_| wrong())
    }

    /// The public key: for P-256 its uncompressed point, for RSA as in PKCS#1.
    pub(crate) fn public(&self) -> &[u8] {
        match self {
            Self::Es256(pair) => pair.public_key().as_ref(),
            Self::Rs256(pair) => pair.public_key().as_ref(),
        }
    }

    /// A token with these claims; `kid` names the key. `None` if signing fails, for lack of randomness.
    pub(crate) fn sign(&self, kid: Option<&str>, claims: &Value) -> Option<String> {
        let alg = match self {
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        };
        let mut header = serde_json::json!({ "alg": alg, "typ": "JWT" });
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let encode = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let mut token = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.signature(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Some(token)
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Es256(pair) => pair.sign(&random, message).ok().map(|signature| signature.as_ref().to_vec()),
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).ok()?;
                Some(signature)
            }
        }
    }
}

/// Without the key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Es256(_) => "SigningKey(ES256)",
            Self::Rs256(_) => "SigningKey(RS256)",
        })
    }
}
