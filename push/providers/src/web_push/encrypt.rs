//! Encryption of a message for one browser (RFC 8291), as a single record of `aes128gcm` (RFC 8188).

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::payload::PAYLOAD_BYTES_MAX;

/// The size of an uncompressed point on P-256.
const POINT_BYTES: usize = 65;
const SALT_BYTES: usize = 16;
/// The salt, the record size, the key's length and the key (RFC 8188 §2.1).
const HEADER_BYTES: usize = SALT_BYTES + 4 + 1 + POINT_BYTES;
const TAG_BYTES: usize = 16;
/// Follows the text in the last record (RFC 8188 §2).
const DELIMITER: u8 = 2;
/// Maximum text: what remains of the payload that every push service must accept (RFC 8030 §7.2).
pub(super) const PLAIN_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - HEADER_BYTES - TAG_BYTES - 1;

/// A browser's public key.
pub(super) struct PublicKey([u8; POINT_BYTES]);

impl PublicKey {
    pub(super) fn new(point: Vec<u8>) -> Option<Self> {
        // The key agreement checks that the point is on the curve.
        let point: [u8; POINT_BYTES] = point.try_into().ok()?;
        (point[0] == 4).then_some(Self(point))
    }
}

/// The authentication secret that the browser shares with the application (RFC 8291 §3.2).
pub(super) struct AuthSecret([u8; 16]);

impl AuthSecret {
    pub(super) fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }
}

/// Encrypts for a browser, with a new key for each message. `None` if the browser's key is not a point on the curve, or
/// for lack of randomness.
pub(super) fn encrypt(text: &[u8], key: &PublicKey, secret: &AuthSecret) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random).ok()?;
    let own_public: [u8; POINT_BYTES] = own.compute_public_key().ok()?.as_ref().try_into().ok()?;
    let mut salt = [0; SALT_BYTES];
    random.fill(&mut salt).ok()?;
    let browsers = UnparsedPublicKey::new(&ECDH_P256, key.0);
    agree_ephemeral(own, &browsers, |shared| seal(text, key, secret, &own_public, shared, salt)).ok()?
}

/// The encrypted message, given the shared secret of the key agreement.
fn seal(
    text: &[u8],
    key: &PublicKey,
    secret: &AuthSecret,
    own_public: &[u8; POINT_BYTES],
    shared: &[u8],
    salt: [u8; SALT_BYTES],
) -> Option<Vec<u8>> {
    let mut input = [0; 32];
    derive(&secret.0, shared, &[b"WebPush: info\0", &key.0, own_public], &mut input)?;
    let (mut content_key, mut nonce) = ([0; 16], [0; 12]);
    derive(&salt, &input, &[b"Content-Encoding: aes128gcm\0"], &mut content_key)?;
    derive(&salt, &input, &[b"Content-Encoding: nonce\0"], &mut nonce)?;

    let mut sealed = text.to_vec();
    sealed.push(DELIMITER);
    let content_key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &content_key).ok()?);
    // The nonce of the first and only record. The key is used for this message only.
    let nonce = Nonce::assume_unique_for_key(nonce);
    content_key.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).ok()?;

    let mut message = Vec::with_capacity(HEADER_BYTES + sealed.len());
    message.extend_from_slice(&salt);
    message.extend_from_slice(&u32::try_from(PAYLOAD_BYTES_MAX).ok()?.to_be_bytes());
    message.push(u8::try_from(POINT_BYTES).ok()?);
    message.extend_from_slice(own_public);
    message.append(&mut sealed);
    Some(message)
}

/// HKDF (RFC 5869) with SHA-256.
fn derive(salt: &[u8], input: &[u8], info: &[&[u8]], output: &mut [u8]) -> Option<()> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let key = Salt::new(HKDF_SHA256, salt).extract(input);
    key.expand(info, Length(output.len())).ok()?.fill(output).ok()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn bytes<const N: usize>(base64: &str) -> [u8; N] {
        URL_SAFE_NO_PAD.decode(base64).unwrap().try_into().unwrap()
    }

    /// RFC 8291, appendix A.
    #[test]
    fn the_example_of_the_rfc() {
        let browser = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let own = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";
        let shared: [u8; 32] = bytes("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs");
        let message = seal(
            b"When I grow up, I want to be a watermelon",
            &PublicKey(bytes(browser)),
            &AuthSecret(bytes("BTBZMqHH6r4Tts7J_aSIgg")),
            &bytes(own),
            &shared,
            bytes("DGv6ra1nlYgDCS1FRnbzlw"),
        );
        let expected = concat!(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3",
            "jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        assert_eq!(URL_SAFE_NO_PAD.encode(message.unwrap()), expected);
    }

    #[test]
    fn the_longest_text_makes_the_largest_payload() {
        let browser = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let text = [b'a'; PLAIN_BYTES_MAX];
        let message = encrypt(&text, &PublicKey(bytes(browser)), &AuthSecret([1; 16])).unwrap();
        assert_eq!((text.len(), message.len()), (3_993, 4_096));
    }

    #[test]
    fn a_key_that_is_no_point_is_refused() {
        assert!(PublicKey::new(vec![4; 64]).is_none() && PublicKey::new(vec![2; 65]).is_none());
        assert!(encrypt(b"", &PublicKey([4; 65]), &AuthSecret([1; 16])).is_none());
    }
}
