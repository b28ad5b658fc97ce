//! Property test: the output of `check-config` is a configuration file that loads as the same configuration.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::section::Key;
use crate::{Config, Loaded, Sources};

/// Values vary between cases: each integer anywhere in its range, each text one of several.
fn value(key: &Key, folder: &Path) -> BoxedStrategy<String> {
    if let Some(range) = &key.range {
        return range.clone().prop_map(|number| number.to_string()).boxed();
    }
    let pem = folder.join("key.pem").display().to_string();
    let redis = folder.join("redis.url").display().to_string();
    let keys = format!("[{{kid = 'a b', alg = 'ES256', public_key_file = '{pem}'}}]");
    let choices: &[&str] = match key.name.as_str() {
        "node.id" => &["n1", "a-b.c:d@e_F"],
        "node.listen" | "metrics.listen" => &["[::]:0", "0.0.0.0:65535"],
        "node.advertise_url" => &["ws://a", "https://[::1]:8443/b/", "HTTP://A.example"],
        "http.allowed_origins" => &["[]", "['*', 'https://a.example:8443']"],
        "http.trusted_proxies" => &["[]", "['10.0.0.0/8', '::1']"],
        "auth.hs256_secret_file"
        | "store.scylla.password_file"
        | "redis.password_file"
        | "push.web_push.vapid_key_file"
        | "push.fcm.service_account_file"
        | "push.apns.key_file"
        | "push.webhook.secret_file"
        | "node.tls.cert"
        | "node.tls.key" => &[&pem],
        "auth.keys" => &[&keys],
        "store.kind" => &["embedded", "scylla"],
        "store.path" => &["/", "a = \"b\"\n'c'"],
        "store.scylla.nodes" => &["[]", "['db.example:9042', '[::1]:9042']"],
        "store.scylla.keyspace" => &["a", "chat_2"],
        "store.scylla.username" | "redis.username" => &["one of us"],
        "bus.kind" => &["memory", "redis"],
        "redis.url_file" => &[&redis],
        "redis.url" => &["redis://a", "rediss-cluster://u@a:1?node=b:2"],
        "retention.tenants" => &["[]", "['acme=30', 'a:b=0']"],
        "redis.prefix" => &["a", "chat:2"],
        "push.allowed_networks" => &["[]", "['127.0.0.0/8']"],
        "push.web_push.subject" => &["mailto:ops@a.example"],
        "push.fcm.url" | "push.apns.url" | "push.webhook.url" => &["https://a.example"],
        "push.apns.key_id" | "push.apns.team_id" | "push.apns.topic" => &["A1"],
        "log.format" => &["auto", "text", "json"],
        "log.level" => &["off", "error", "warn", "info", "debug", "trace"],
        other => panic!("no values to try for {other}"),
    };
    select(choices.iter().map(|&choice| choice.to_owned()).collect::<Vec<_>>()).boxed()
}

/// Some keys with values, as arguments of `--set`.
fn sets(folder: &Path) -> impl Strategy<Value = Vec<String>> {
    // Secrets given directly are hidden in the output, so they can't be loaded back.
    let hidden = [
        "auth.hs256_secret",
        "store.scylla.password",
        "redis.password",
        "push.web_push.vapid_key",
        "push.fcm.service_account",
        "push.apns.key",
        "push.webhook.secret",
    ];
    let keys: Vec<Key> = Config::sections()
        .into_iter()
        .flat_map(|section| section.keys)
        .filter(|key| !hidden.contains(&key.name.as_str()))
        .collect();
    let folder = folder.to_owned();
    let count = keys.len();
    subsequence(keys, 0..=count).prop_flat_map(move |keys| {
        keys.iter()
            .map(|key| {
                let name = key.name.clone();
                value(key, &folder).prop_map(move |value| format!("{name}={value}"))
            })
            .collect::<Vec<_>>()
    })
}

fn load(file: Option<&Path>, sets: Vec<String>) -> Result<Loaded, crate::Mistakes> {
    Config::load(Sources::new(file.map(Path::to_owned), [], sets))
}

#[test]
fn a_rendered_configuration_loads_back_equal() {
    let folder = tempfile::tempdir().unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", "A".repeat(64));
    std::fs::write(folder.path().join("key.pem"), pem).unwrap();
    std::fs::write(folder.path().join("redis.url"), "redis://:sesame@a").unwrap();
    let file = folder.path().join("rendered.toml");

    let config =
        ProptestConfig { failure_persistence: None, max_global_rejects: 16_384, ..ProptestConfig::with_cases(256) };
    proptest!(config, |(sets in sets(folder.path()))| {
        // Some cases are contradictory, which another test covers.
        let Ok(loaded) = load(None, sets) else { return Err(TestCaseError::reject("contradiction")) };
        std::fs::write(&file, loaded.config.render()).unwrap();
        prop_assert_eq!(loaded.config, load(Some(&file), Vec::new()).unwrap().config);
    });
}

#[test]
fn every_integer_has_a_range_that_holds_its_default() {
    let defaults = Config::default().render().parse::<toml::Table>().unwrap();
    for key in Config::sections().into_iter().flat_map(|section| section.keys) {
        assert_eq!(key.range.is_some(), key.type_name == "integer", "{}", key.name);
        if let Some(range) = key.range {
            let (section, name) = key.name.rsplit_once('.').unwrap();
            let default = section.split('.').fold(&defaults, |table, part| table[part].as_table().unwrap());
            let default = default[name].as_integer().unwrap();
            assert!(range.contains(&default), "{}", key.name);
        }
    }
}

#[test]
fn the_defaults_are_without_mistake() {
    assert_eq!(load(None, Vec::new()).unwrap().config, Config::default());
}
