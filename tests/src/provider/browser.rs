//! A browser: it subscribes, and decrypts messages with another implementation of the curve than the gateway's.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::{PublicKey, SecretKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac::{HMAC_SHA256, Key, sign};
use serde_json::{Value, json};

/// See the module.
pub struct Browser {
    key: SecretKey,
    auth: [u8; 16],
}

impl Browser {
    /// Different seeds give different keys.
    pub fn new(seed: u8) -> Self {
        Self { key: SecretKey::from_slice(&[seed; 32]).unwrap(), auth: [seed; 16] }
    }

    /// The result of `PushSubscription.toJSON()`.
    pub fn subscription_json(&self, endpoint: &str) -> Value {
        let keys =
            json!({ "p256dh": URL_SAFE_NO_PAD.encode(self.public()), "auth": URL_SAFE_NO_PAD.encode(self.auth) });
        json!({ "endpoint": endpoint, "expirationTime": null, "keys": keys })
    }

    fn public(&self) -> Vec<u8> {
        self.key.public_key().to_sec1_bytes().to_vec()
    }

    /// RFC 8291 §4 and RFC 8188, from the receiver's side.
    pub fn decrypt(&self, message: &[u8]) -> Vec<u8> {
        let (salt, rest) = message.split_at(16);
        let (record_size, rest) = rest.split_at(4);
        let record_size = u32::from_be_bytes(record_size.try_into().unwrap()) as usize;
        let (sender, record) = rest[1..].split_at(rest[0].into());
        assert!(record.len() <= record_size && message.len() <= 4_096, "more than a push service takes");
        let shared = self.key.diffie_hellman(&PublicKey::from_sec1_bytes(sender).unwrap());
        let info = [b"WebPush: info\0", self.public().as_slice(), sender].concat();
        let input = hkdf(&self.auth, shared.raw_secret_bytes(), &info);
        let key = hkdf(salt, &input, b"Content-Encoding: aes128gcm\0");
        let nonce = hkdf(salt, &input, b"Content-Encoding: nonce\0");
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).unwrap());
        let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).unwrap();
        let mut record = record.to_vec();
        let text = key.open_in_place(nonce, Aad::empty(), &mut record).unwrap();
        let (delimiter, text) = text.split_last().unwrap();
        assert_eq!(*delimiter, 2, "the last record");
        text.to_vec()
    }
}

/// HKDF with SHA-256 for up to 32 bytes, as in RFC 5869.
fn hkdf(salt: &[u8], input: &[u8], info: &[u8]) -> Vec<u8> {
    let mac = |key: &[u8], data: &[u8]| sign(&Key::new(HMAC_SHA256, key), data).as_ref().to_vec();
    mac(&mac(salt, input), &[info, &[1]].concat())
}

/// RFC 8291, appendix A.
#[test]
fn decrypts_the_example_of_the_rfc() {
    let bytes = |base64| URL_SAFE_NO_PAD.decode(base64).unwrap();
    let browser = Browser {
        key: SecretKey::from_slice(&bytes("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")).unwrap(),
        auth: bytes("BTBZMqHH6r4Tts7J_aSIgg").try_into().unwrap(),
    };
    let message = concat!(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3",
        "jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
    );
    assert_eq!(browser.decrypt(&bytes(message)), b"When I grow up, I want to be a watermelon");
}
