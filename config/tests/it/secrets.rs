//! `auth.*`: secrets and keys, their files, and that they are never shown.

use switchboard_config::KeyMaterial;

use crate::{SECRET, lines, set, toml, write};

const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQ==\n-----END PUBLIC KEY-----\n";

#[test]
fn any_key_ends_development_mode() {
    assert!(!set(&[&format!("auth.hs256_secret={SECRET}")]).unwrap().config.is_development());
    let keys = format!("auth.keys=[{{kid='a', alg='HS256', secret='{SECRET}'}}]");
    assert!(!set(&[&keys]).unwrap().config.is_development());
    assert_eq!(lines(set(&["auth.keys=[]"])), ["auth.keys: empty; leave it out for development mode"]);
}

#[test]
fn a_secret_needs_32_bytes() {
    let told = ["auth.hs256_secret: has 31 bytes; HS256 needs at least 32"];
    assert_eq!(lines(set(&[&format!("auth.hs256_secret={}", &SECRET[1..])])), told);
    assert_eq!(lines(set(&["auth.hs256_secret="])), ["auth.hs256_secret: has 0 bytes; HS256 needs at least 32"]);
    assert_eq!(lines(set(&[&format!("auth.hs256_secret={SECRET}")])), [""; 0]);
}

#[test]
fn a_secret_in_a_file_is_taken_without_its_last_line_break() {
    let folder = tempfile::tempdir().unwrap();
    for end in ["", "\n", "\r\n"] {
        let file = write(folder.path(), "secret", format!("{SECRET}{end}"));
        let config = set(&[&format!("auth.hs256_secret_file={}", file.display())]).unwrap().config;
        assert_eq!(config.auth.hs256_secret.unwrap().expose(), SECRET.as_bytes());
    }
    let file = write(folder.path(), "secret", format!("{}\n\n", &SECRET[2..]));
    let told = lines(set(&[&format!("auth.hs256_secret_file={}", file.display())]));
    assert_eq!(told, ["auth.hs256_secret_file: has 31 bytes; HS256 needs at least 32"]);
}

#[test]
fn an_address_of_redis_may_be_in_a_file_as_it_may_hold_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let url = "redis-sentinel://:sesame@a:1?node=b:2&sentinelPassword=open&sentinelServiceName=z";
    let file = write(folder.path(), "url", format!("{url}\n"));
    let config = set(&[&format!("redis.url_file={}", file.display())]).unwrap().config;
    assert_eq!(config.redis.url.as_ref().unwrap().expose(), url);
    let shown = config.render();
    assert!(shown.contains(&format!("url_file = \"{}\"", file.display())), "{shown}");
    assert!(!shown.contains("sesame") && !shown.contains("open"), "{shown}");

    let file = write(folder.path(), "url", "sesame");
    let told = lines(set(&[&format!("redis.url_file={}", file.display()), "bus.kind=redis", "store.kind=scylla"]));
    assert!(told[0].starts_with("redis.url_file: not an address of Redis") && !told[0].contains("sesame"), "{told:?}");
    assert_eq!(told.len(), 2, "that there is none is not said too: {told:?}");
}

#[test]
fn a_secret_and_its_file_exclude_each_other() {
    let told = lines(set(&[&format!("auth.hs256_secret={SECRET}"), "auth.hs256_secret_file=/dev/null"]));
    assert_eq!(told, ["auth.hs256_secret: set together with auth.hs256_secret_file; only one may be"]);
}

#[test]
fn every_algorithm_has_its_kind_of_key() {
    let folder = tempfile::tempdir().unwrap();
    let secret = write(folder.path(), "secret", SECRET);
    let pem = write(folder.path(), "key.pem", PEM);
    let text = format!(
        r#"
        [[auth.keys]]
        kid = "1"
        alg = "HS256"
        secret_file = "{}"
        [[auth.keys]]
        kid = "2"
        alg = "RS256"
        public_key_file = "{}"
        [[auth.keys]]
        kid = "3"
        alg = "ES256"
        public_key = """{PEM}"""
        [[auth.keys]]
        kid = "4"
        alg = "EdDSA"
        public_key = """{PEM}"""
        "#,
        secret.display(),
        pem.display(),
    );
    let keys = toml(&text).unwrap().config.auth.keys;
    let algs: Vec<_> = keys.iter().map(|key| (key.kid.as_str(), key.material.alg())).collect();
    assert_eq!(algs, [("1", "HS256"), ("2", "RS256"), ("3", "ES256"), ("4", "EdDSA")]);
    assert!(matches!(&keys[0].material, KeyMaterial::Hs256(secret) if secret.expose() == SECRET.as_bytes()));
    assert!(matches!(&keys[1].material, KeyMaterial::Rs256(key) if key.pem() == PEM));
}

#[test]
fn keys_with_the_wrong_fields() {
    for (fields, told) in [
        ("", vec!["kid: missing", "alg: missing"]),
        ("kid='', alg='HS512'", vec!["kid: empty", r#"alg: "HS512" is not one of HS256, RS256, ES256, EdDSA"#]),
        ("kid=1, alg='HS256'", vec!["kid: is integer, expected text", "secret: missing; set it or secret_file"]),
        ("kid='a', alg='HS256', secret='short'", vec!["secret: has 5 bytes; HS256 needs at least 32"]),
        ("kid='a', alg='ES256'", vec!["public_key: missing; set it or public_key_file"]),
        (
            "kid='a', alg='ES256', public_key='x', public_key_file='y'",
            vec!["public_key: set together with public_key_file; only one may be"],
        ),
        ("kid='a', alg='ES256', public_key='-----BEGIN PUBLIC KEY-----', secret='x'", vec!["secret: not for ES256"]),
        (
            "kid='a', alg='HS256', public_key_file='x', secret='0123456789abcdef0123456789abcdef'",
            vec!["public_key_file: not for HS256"],
        ),
        (
            "kid='a', alg='RS256', public_key='-----BEGIN RSA PRIVATE KEY-----'",
            vec!["public_key: a private key; only the public one belongs here"],
        ),
        (
            "kid='a', alg='RS256', public_key='AAAA'",
            vec!["public_key: not a public key in PEM (-----BEGIN PUBLIC KEY-----)"],
        ),
        (
            "kid='a', alg='HS256', secrt='x'",
            vec!["secrt: unknown key; did you mean secret?", "secret: missing; set it or secret_file"],
        ),
    ] {
        let told: Vec<String> = told.iter().map(|line| format!("auth.keys[0].{line}")).collect();
        assert_eq!(lines(set(&[&format!("auth.keys=[{{{fields}}}]")])), told, "{fields}");
    }
    assert_eq!(lines(set(&["auth.keys=['a']"])), ["auth.keys[0]: is string, expected table"]);
    assert_eq!(lines(set(&["auth.keys='a'"])), ["auth.keys: is string, expected list of tables"]);
}

#[test]
fn a_kid_is_there_once() {
    let key = format!("{{kid='a', alg='HS256', secret='{SECRET}'}}");
    assert_eq!(lines(set(&[&format!("auth.keys=[{key}, {key}]")])), [r#"auth.keys[1].kid: "a" is there twice"#]);
}

#[test]
fn nothing_shows_a_secret() {
    let key = format!("auth.keys=[{{kid='a', alg='HS256', secret='{SECRET}'}}]");
    let config = set(&[&key, &format!("auth.hs256_secret={SECRET}")]).unwrap().config;
    let secret = config.auth.hs256_secret.clone().unwrap();
    for shown in [config.render(), format!("{config:?}"), format!("{secret:?} {secret}")] {
        assert!(shown.contains("(hidden)") && !shown.contains(SECRET), "{shown}");
    }
    for wrong in [format!("auth.keys=[{{secret='{SECRET}'"), format!("auth.keys='{SECRET}'")] {
        let told = lines(set(&[&wrong]));
        assert!(told.len() == 1 && !told[0].contains(SECRET), "{told:?}");
    }
}
