//! Defaults < file < environment < `--set`.

use switchboard_config::{LogLevel, StoreKind};

use crate::{SECRET, load, set, toml, write};

#[test]
fn without_sources_the_defaults_of_the_contract_hold() {
    let config = set(&[]).unwrap().config;
    assert_eq!(config.node.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.metrics.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.store.kind, StoreKind::Embedded);
    assert_eq!(config.store.path.to_str(), Some("./data"));
    assert_eq!(config.cluster.heartbeat_ttl_ms, 3_000);
    assert_eq!(config.drain.timeout_ms, 25_000);
    assert_eq!(config.fanout.push_members_max, 100);
    assert_eq!(config.limits.frame_bytes, 65_536);
    assert!(config.is_development());
}

#[test]
fn each_source_wins_over_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[limits]\nframes_per_s = 1\nhttp_requests_per_s = 1\nconnections_per_user = 1\n";
    let file = write(folder.path(), "switchboard.toml", text);
    let env = [("SWITCHBOARD__LIMITS__HTTP_REQUESTS_PER_S", "2"), ("SWITCHBOARD__LIMITS__CONNECTIONS_PER_USER", "2")];
    let limits = load(Some(file), &env, &["limits.connections_per_user=3"]).unwrap().config.limits;
    assert_eq!((limits.frames_per_s, limits.http_requests_per_s, limits.connections_per_user), (1, 2, 3));
}

#[test]
fn a_later_set_wins_over_an_earlier_one() {
    let config = set(&["changes.max=1", "changes.max=2"]).unwrap().config;
    assert_eq!(config.changes.max, 2);
}

#[test]
fn a_wrong_value_that_a_later_source_replaces_does_not_count() {
    let config = load(None, &[("SWITCHBOARD__LOG__LEVEL", "loud")], &["log.level=debug"]).unwrap().config;
    assert_eq!(config.log.level, LogLevel::Debug);
}

#[test]
fn set_takes_text_as_it_is_and_the_rest_as_toml() {
    let sets = ["node.id=5", "store.path=/a = \"b\"", "http.allowed_origins=[\"https://a.example\", '*']"];
    let config = set(&sets).unwrap().config;
    assert_eq!(config.node.id.as_str(), "5");
    assert_eq!(config.store.path.to_str(), Some("/a = \"b\""));
    assert!(config.http.allowed_origins[0].matches("https://A.example"));
    assert!(!config.http.allowed_origins[0].matches("https://b.example"));
    assert!(config.http.allowed_origins[1].matches("https://b.example"));
}

#[test]
fn the_environment_reaches_sections_within_sections() {
    let folder = tempfile::tempdir().unwrap();
    let pem = write(folder.path(), "tls.pem", "");
    let pem = pem.to_str().unwrap();
    let env = [("SWITCHBOARD__NODE__TLS__CERT", pem), ("SWITCHBOARD__NODE__TLS__KEY", pem), ("SWITCHBOARD_OTHER", "1")];
    let tls = load(None, &env, &[]).unwrap().config.tls;
    assert_eq!(tls.cert.unwrap().to_str(), Some(pem));
}

#[test]
fn a_later_secret_replaces_an_earlier_file_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "secret", format!("{SECRET}-from-file"));
    let file = file.to_str().unwrap();

    let by_set = format!("auth.hs256_secret={SECRET}");
    let config = load(None, &[("SWITCHBOARD__AUTH__HS256_SECRET_FILE", file)], &[&by_set]).unwrap().config;
    assert_eq!(config.auth.hs256_secret.unwrap().expose(), SECRET.as_bytes());

    let by_set = format!("auth.hs256_secret_file={file}");
    let config = load(None, &[("SWITCHBOARD__AUTH__HS256_SECRET", SECRET)], &[&by_set]).unwrap().config;
    assert!(config.auth.hs256_secret.unwrap().expose().ends_with(b"-from-file"));
}

#[test]
fn zero_stands_for_no_limit() {
    let limits = set(&["limits.connections=0", "limits.connections_per_ip=7"]).unwrap().config.limits;
    assert_eq!(limits.connections, None);
    assert_eq!(limits.connections_per_ip.unwrap().get(), 7);
}

#[test]
fn the_websocket_url_is_below_the_advertised_one() {
    for (base, url) in [
        ("ws://a:1", "ws://a:1/v1/ws"),
        ("http://a/", "ws://a/v1/ws"),
        ("HTTPS://a/b/", "wss://a/b/v1/ws"),
        ("wss://[::1]:8443", "wss://[::1]:8443/v1/ws"),
    ] {
        let node = set(&[&format!("node.advertise_url={base}")]).unwrap().config.node;
        assert_eq!(node.advertise_url.unwrap().websocket_url(), url);
    }
}

#[test]
fn a_file_with_every_kind_of_value_loads() {
    let config = toml(
        r#"
        [node]
        id = "n1"
        advertise_url = "https://chat.example:8443/base/"
        [http]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        [log]
        format = "json"
        "#,
    )
    .unwrap()
    .config;
    let proxy = "10.1.2.3".parse().unwrap();
    assert!(config.http.trusted_proxies.iter().any(|network| network.contains::<&std::net::IpAddr>(&proxy)));
    assert_eq!(config.node.advertise_url.unwrap().websocket_url(), "wss://chat.example:8443/base/v1/ws");
}
