//! Authentication (PROTOCOL §1, authentication; §8, sessions).

use std::fs;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use serde_json::{Value, json};

use crate::support::{Client, Config, Connect, Server, Token, tokens};

/// The first frame.
async fn first_frame(server: &Server, token: &str) -> (Value, Client) {
    let mut client = Connect::to(server).token(token).open().await;
    let frame = client.recv().await;
    (frame, client)
}

async fn is_refused(server: &Server, token: &str) {
    let (frame, mut client) = first_frame(server, token).await;
    assert_eq!((&frame["type"], &frame["code"]), (&json!("error"), &json!("unauthorized")), "{frame}");
    assert_eq!(client.expect_close().await, Some(4401));
}

async fn is_accepted(server: &Server, token: &str) -> Value {
    let (frame, _) = first_frame(server, token).await;
    assert_eq!(frame["type"], "ready", "{frame}");
    frame
}

#[tokio::test]
async fn a_token_comes_in_the_header_the_query_or_the_first_frame() {
    let server = Config::new().start().await;
    let token = Token::of("alice").sign();
    let header = is_accepted(&server, &token).await;
    assert_eq!(header["user_id"], "alice");
    assert_eq!(header["tenant"], "default");
    assert_eq!(header["node_id"], "n1");
    assert_eq!(header["heartbeat_ms"], 25_000);
    assert_eq!(header["reconnect"], json!({"min_ms": 500, "max_ms": 30_000}));
    assert_eq!(header["limits"], json!({"frame_bytes": 65_536, "content_bytes": 32_768, "frames_per_s": 50}));
    for name in ["session_id", "store_id", "device_id", "expires_at", "server_time"] {
        assert!(header[name].as_str().is_some_and(|text| !text.is_empty()), "{name} in {header}");
    }
    assert!(header.get("id").is_none());

    let mut query = Connect::to(&server)
        .query("token", &token)
        .query("device_id", "phone")
        .query("instance_id", "tab-1")
        .open()
        .await;
    assert_eq!(query.expect("ready").await["device_id"], "phone");

    let mut frame = Connect::to(&server).open().await;
    let ready = frame.ask(json!({"type": "auth", "token": token, "device_id": "laptop"})).await;
    assert_eq!((&ready["type"], &ready["device_id"]), (&json!("ready"), &json!("laptop")));
}

#[tokio::test]
async fn bad_tokens_are_told_on_the_socket() {
    let server = Config::new().start().await;
    for token in [
        Token::of("alice").expires_in(0.0).sign(),
        "nonsense".to_owned(),
        "a.b.c".to_owned(),
        "x".repeat(9_000),
        Token::of("alice").sign_hs256(b"another secret, also of more than 32 bytes"),
        Token::of("alice").header("alg", "none").sign_with(|_| Vec::new()),
        Token::of("alice").header("alg", "HS512").sign(),
        Token::of("alice").header("kid", "unknown").sign(),
        Token::of("alice").without("exp").sign(),
        Token::of("alice").without("sub").sign(),
        Token::of("alice").claim("exp", "tomorrow").sign(),
        Token::of("alice").claim("nbf", tokens::now_s() + 600.0).sign(),
        Token::of("alice").claim("tenant", "not a tenant").sign(),
        Token::of("not a user").sign(),
        Token::of(&"a".repeat(129)).sign(),
    ] {
        is_refused(&server, &token).await;
    }
    let mut empty = Connect::to(&server).query("token", "").open().await;
    assert_eq!(empty.expect_farewell("unauthorized").await, Some(4401));
    is_accepted(&server, &Token::of(&"a".repeat(128)).sign()).await;
    is_accepted(&server, &Token::of("alice").claim("nbf", tokens::now_s()).sign()).await;
}

#[tokio::test]
async fn a_bad_first_frame_is_answered_with_its_id() {
    let server = Config::new().start().await;
    let mut client = Connect::to(&server).open().await;
    let answer = client.ask(json!({"type": "auth", "token": "nonsense"})).await;
    assert_eq!(answer["code"], "unauthorized");
    assert_eq!(client.expect_close().await, Some(4401));
}

#[tokio::test]
async fn who_does_not_sign_in_can_do_nothing() {
    let server = Config::new().set("limits.auth_timeout_ms", 600_000).start().await;
    let mut client = Connect::to(&server).open().await;
    assert_eq!(client.ask_in_vain(json!({"type": "sync"})).await.0, "unauthorized");
    let send = json!({"type": "send", "to": "bob", "client_id": "c1", "content": {"text": "x"}});
    let error = client.ask(send).await;
    assert_eq!((&error["code"], &error["client_id"]), (&json!("unauthorized"), &json!("c1")));
}

#[tokio::test]
async fn who_does_not_sign_in_is_closed() {
    let server = Config::new().set("limits.auth_timeout_ms", 300).start().await;
    let mut client = Connect::to(&server).open().await;
    assert_eq!(client.expect_farewell("unauthorized").await, Some(4401));
}

#[tokio::test]
async fn a_malformed_device_is_named_and_the_socket_stays() {
    let server = Config::new().start().await;
    let token = Token::of("alice").sign();
    let mut client = Connect::to(&server).query("device_id", "a%20b").query("token", &token).open().await;
    assert_eq!(client.expect_error("bad_request").await.as_deref(), Some("device_id"));
    let (code, field) = client.ask_in_vain(json!({"type": "auth", "token": token, "device_id": ""})).await;
    assert_eq!((code.as_str(), field.as_deref()), ("bad_request", Some("device_id")));
    let ready = client.ask(json!({"type": "auth", "token": token})).await;
    assert_eq!(ready["type"], "ready");
}

/// Keys of every algorithm, in files beside the configuration.
struct Keys {
    rsa: RsaKeyPair,
    ecdsa: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

const HS256_BY_KID: &[u8] = b"another secret, chosen by its kid, long";

impl Keys {
    fn make() -> Self {
        let random = SystemRandom::new();
        let ecdsa = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("keys/rsa.pkcs8.der")).unwrap(),
            ecdsa: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ecdsa.as_ref(), &random).unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
        }
    }

    fn sign(&self, token: Token, alg: &str) -> String {
        let token = token.header("alg", alg);
        match alg {
            "RS256" => token.sign_with(|message| {
                let mut signature = vec![0; self.rsa.public().modulus_len()];
                self.rsa
                    .sign(&ring::signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .unwrap();
                signature
            }),
            "ES256" => {
                token.sign_with(|message| self.ecdsa.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
            }
            "EdDSA" => token.sign_with(|message| self.ed25519.sign(message).as_ref().to_vec()),
            _ => token.sign_hs256(HS256_BY_KID),
        }
    }

    /// The public keys as PEM, and the configuration for them.
    fn configuration(&self) -> String {
        // SubjectPublicKeyInfo (RFC 5480, RFC 8410): the bytes before the raw key.
        const P256: &[u8] =
            b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
        const ED25519: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
        let ecdsa = pem(&[P256, self.ecdsa.public_key().as_ref()].concat());
        let ed25519 = pem(&[ED25519, self.ed25519.public_key().as_ref()].concat());
        let rsa = include_str!("keys/rsa.public.pem");
        let mut text = format!(
            "[[auth.keys]]\nkid = \"h\"\nalg = \"HS256\"\nsecret = \"{}\"\n",
            String::from_utf8_lossy(HS256_BY_KID)
        );
        for (kid, alg, key) in [("r", "RS256", rsa), ("e", "ES256", &ecdsa), ("d", "EdDSA", &ed25519)] {
            text += &format!("[[auth.keys]]\nkid = \"{kid}\"\nalg = \"{alg}\"\npublic_key = \"\"\"\n{key}\"\"\"\n");
        }
        text
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

#[tokio::test]
async fn each_key_checks_tokens_of_its_own_algorithm_and_no_other() {
    let keys = Keys::make();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("switchboard.toml");
    fs::write(&path, keys.configuration()).unwrap();
    let server = Config::new().file(&path).start().await;
    let algs = [("h", "HS256"), ("r", "RS256"), ("e", "ES256"), ("d", "EdDSA")];
    for (kid, own) in algs {
        for (_, alg) in algs {
            let token = keys.sign(Token::of("alice").header("kid", kid), alg);
            if alg == own {
                is_accepted(&server, &token).await;
            } else {
                is_refused(&server, &token).await;
            }
        }
    }
    // Algorithm confusion: a public key must not be used as an HMAC secret, whatever the token says.
    let public_key = include_str!("keys/rsa.public.pem");
    is_refused(&server, &Token::of("alice").header("kid", "r").sign_hs256(public_key.as_bytes())).await;
    // A token without a `kid` is verified only with `auth.hs256_secret`.
    is_refused(&server, &keys.sign(Token::of("alice"), "EdDSA")).await;
    is_accepted(&server, &Token::of("alice").sign()).await;
}

#[tokio::test]
async fn the_only_key_checks_tokens_that_name_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("switchboard.toml");
    let key = String::from_utf8_lossy(HS256_BY_KID);
    fs::write(&path, format!("[[auth.keys]]\nkid = \"h\"\nalg = \"HS256\"\nsecret = \"{key}\"\n")).unwrap();
    let server = Config::development().file(&path).start().await;
    is_accepted(&server, &Token::of("alice").sign_hs256(HS256_BY_KID)).await;
    is_refused(&server, &Token::of("alice").header("kid", "other").sign_hs256(HS256_BY_KID)).await;
    is_refused(&server, &Token::of("alice").sign()).await;
}

#[tokio::test]
async fn tenants_are_apart() {
    let server = Config::new().start().await;
    let mut here = Client::sign_in(&server, "alice").await;
    let token = Token::of("alice").claim("tenant", "other").sign();
    let mut there = Connect::to(&server).token(&token).open().await;
    assert_eq!(there.expect("ready").await["tenant"], "other");
    let sent = here.ask(json!({"type": "send", "to": "bob", "client_id": "1", "content": {"text": "x"}})).await;
    let get = json!({"type": "conversation_get", "conversation_id": sent["conversation_id"]});
    assert_eq!(here.ask(get.clone()).await["type"], "conversation");
    assert_eq!(there.ask_in_vain(get).await.0, "not_found");
    there.expect_quiet().await;
}
