//! Every kind of mistake: its line, the key first, and all of them at once.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use switchboard_config::{Config, Sources};

use crate::{SECRET, lines, load, set, toml, write};

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    for (unknown, nearest) in [
        ("limits.frame_byts", "limits.frame_bytes"),
        ("limit.frame_bytes", "limits.frame_bytes"),
        ("listen", "node.listen"),
        ("reconnect_min", "session.reconnect_min_ms"),
        ("node.advertised_url", "node.advertise_url"),
        ("node.tls.certificate", "node.tls.cert"),
        ("auth.hs256_secrets", "auth.hs256_secret"),
        ("auth.hs256_secret_fil", "auth.hs256_secret_file"),
        ("log.levle", "log.level"),
    ] {
        let told = lines(set(&[&format!("{unknown}=1")]));
        assert_eq!(told, [format!("{unknown}: unknown key; did you mean {nearest}?")]);
    }
}

#[test]
fn an_unknown_key_is_found_in_every_source() {
    let expected = ["log.levle: unknown key; did you mean log.level?"];
    assert_eq!(lines(toml("[log]\nlevle = 'info'")), expected);
    assert_eq!(lines(load(None, &[("SWITCHBOARD__LOG__LEVLE", "info")], &[])), expected);
    assert_eq!(lines(set(&["log.levle=info"])), expected);
}

#[test]
fn a_section_is_no_key_and_a_key_no_section() {
    assert_eq!(lines(toml("log = 'info'")), ["log: is a section, not a key"]);
    assert_eq!(lines(set(&["log=info"])), ["log: is a section, not a key"]);
    assert_eq!(
        lines(toml("[log.level]\nx = 1")),
        ["log.level: is table, expected one of off, error, warn, info, debug, trace"]
    );
}

#[test]
fn text_of_another_form() {
    for (set_to, told) in [
        ("node.listen=abc", r#"node.listen: "abc" is not an address (ip:port)"#),
        ("node.listen=127.0.0.1:65536", r#"node.listen: "127.0.0.1:65536" is not an address (ip:port)"#),
        ("node.id=", r#"node.id: "" is not a name (1 to 128 bytes of A-Z a-z 0-9 _ - . : @)"#),
        ("node.id=a b", r#"node.id: "a b" is not a name (1 to 128 bytes of A-Z a-z 0-9 _ - . : @)"#),
        ("store.path=", r#"store.path: "" is not a path"#),
        (
            r#"retention.tenants=["acme=30", "acme"]"#,
            r#"retention.tenants[1]: "acme" is not tenant=days (an id of A-Z a-z 0-9 _ - . : @, and 0 to 7300)"#,
        ),
        ("store.kind=mysql", r#"store.kind: "mysql" is not one of embedded, scylla"#),
        ("bus.kind=kafka", r#"bus.kind: "kafka" is not one of memory, redis"#),
        ("log.level=loud", r#"log.level: "loud" is not one of off, error, warn, info, debug, trace"#),
        (
            r#"http.trusted_proxies=["::1", "10.0.0.0/33"]"#,
            r#"http.trusted_proxies[1]: "10.0.0.0/33" is not an IP address or network (such as 10.0.0.0/8)"#,
        ),
    ] {
        assert_eq!(lines(set(&[set_to])), [told]);
    }
    assert_eq!(lines(set(&[&format!("node.id={}", "a".repeat(128))])), [""; 0]);
    assert_eq!(lines(set(&[&format!("node.id={}", "a".repeat(129))])).len(), 1);
}

#[test]
fn urls_and_origins_of_another_form() {
    for url in ["ftp://a", "a.example", "ws://", "ws://a/?q", "ws://a/#f", "ws://user:password@a", "http://:80"] {
        let told = lines(set(&[&format!("node.advertise_url={url}")]));
        let base = "a base URL (ws, wss, http or https, with a host, without a query)";
        assert_eq!(told, [format!("node.advertise_url: {url:?} is not {base}")]);
    }
    for origin in ["a.example", "https://a.example/", "https://a.example/b", "ws://a.example", "", "null"] {
        let told = lines(set(&[&format!("http.allowed_origins=['{origin}']")]));
        let form = "an origin (scheme://host or scheme://host:port, or *)";
        assert_eq!(told, [format!("http.allowed_origins[0]: {origin:?} is not {form}")]);
    }
}

#[test]
fn servers_and_keyspaces_of_another_form() {
    for server in ["db", "db:", ":9042", "user@db:9042", "db:99999", "cql://db:9042", ""] {
        let told = lines(set(&[&format!("store.scylla.nodes=['{server}']")]));
        assert_eq!(told, [format!("store.scylla.nodes[0]: {server:?} is not a server (host:port)")]);
    }
    for keyspace in ["", "1a", "_a", "Chat", "a-b", "a b", &"a".repeat(49)] {
        let told = lines(set(&[&format!("store.scylla.keyspace={keyspace}")]));
        let form = "a keyspace (1 to 48 of a-z, 0-9 and _, the first a letter)";
        assert_eq!(told, [format!("store.scylla.keyspace: {keyspace:?} is not {form}")]);
    }
}

#[test]
fn addresses_and_prefixes_of_redis_of_another_form() {
    for url in ["redis", "http://a", "redis://", "redis://:6379", "redis://sesame@:1", "unix:///tmp/redis", ""] {
        let told = lines(set(&[&format!("redis.url={url}")]));
        let form = "redis, redis-cluster or redis-sentinel, with an s (rediss) for TLS, then ://host:port";
        assert_eq!(told, [format!("redis.url: not an address of Redis ({form})")], "{url}");
    }
    for prefix in ["", "a b", "{a}", &"a".repeat(65)] {
        let told = lines(set(&[&format!("redis.prefix={prefix}")]));
        assert_eq!(
            told,
            [format!("redis.prefix: {prefix:?} is not a prefix (1 to 64 bytes of A-Z a-z 0-9 _ - . : @)")]
        );
    }
}

#[test]
fn what_several_nodes_need() {
    let url = "redis.url=redis://127.0.0.1";
    let embedded = "store.kind: embedded, which one process has for itself; bus.kind redis needs scylla";
    assert_eq!(lines(set(&["bus.kind=redis", url])), [embedded]);
    assert_eq!(
        lines(set(&["bus.kind=redis", "store.kind=scylla"])),
        ["redis.url: missing; bus.kind is redis", "store.scylla.nodes: missing; store.kind is scylla"]
    );
    let scylla = ["store.kind=scylla", "store.scylla.nodes=['127.0.0.1:9042']"];
    assert_eq!(lines(set(&scylla)), [""; 0], "one node may be alone with it");
    assert_eq!(lines(set(&[&scylla[..], &["bus.kind=redis", url]].concat())), [""; 0]);
    let everywhere = [&scylla[..], &["bus.kind=redis", url, "node.listen=0.0.0.0:8080"]].concat();
    let nowhere =
        "node.advertise_url: missing; node.listen is 0.0.0.0:8080, which is no address that clients can be sent to";
    assert_eq!(lines(set(&everywhere)), [nowhere]);
    assert_eq!(lines(set(&[&everywhere[..], &["node.advertise_url=ws://n1.example"]].concat())), [""; 0]);
    assert_eq!(lines(set(&["node.listen=0.0.0.0:8080"])), [""; 0], "alone it sends nobody elsewhere");
    assert_eq!(
        lines(set(&["store.scylla.username=us"])),
        ["store.scylla.password: missing; store.scylla.username is set"]
    );
    assert_eq!(
        lines(set(&["store.scylla.password=sesame"])),
        ["store.scylla.username: missing; store.scylla.password is set"]
    );
    assert_eq!(lines(set(&["redis.password=sesame"])), [""; 0], "Redis has a user without a name");
}

#[test]
fn a_provider_needs_all_of_its_credentials() {
    assert_eq!(
        lines(set(&["push.web_push.vapid_key=k", "push.apns.key=k", "push.apns.team_id=t"])),
        [
            "push.web_push.subject: missing; push.web_push.vapid_key is set",
            "push.apns.key_id: missing; push.apns.key is set",
            "push.apns.topic: missing; push.apns.key is set",
        ]
    );
    assert_eq!(
        lines(set(&["push.webhook.url=https://a.example"])),
        ["push.webhook.secret: missing; push.webhook.url is set"]
    );
    assert_eq!(
        lines(set(&["push.webhook.secret=short"])),
        ["push.webhook.secret: has 5 bytes; HS256 needs at least 32"]
    );
    let secret = format!("push.webhook.secret={SECRET}");
    assert_eq!(lines(set(&["push.webhook.url=https://a.example", &secret])), [""; 0]);
    assert_eq!(
        lines(set(&["push.timeout_ms=2000", "push.lease_ms=1000"])),
        ["push.timeout_ms: 2000 is more than push.lease_ms (1000)"]
    );
}

#[test]
fn values_of_another_type() {
    assert_eq!(lines(toml("node.id = 5")), ["node.id: is integer, expected name"]);
    assert_eq!(lines(toml("changes.max = '5'")), ["changes.max: is string, expected integer"]);
    assert_eq!(lines(toml("changes.max = 5.0")), ["changes.max: is float, expected integer"]);
    assert_eq!(lines(set(&["changes.max=five"])), [r#"changes.max: "five" is not TOML of type integer"#]);
    assert_eq!(
        lines(set(&["http.allowed_origins=https://a.example"])),
        [r#"http.allowed_origins: "https://a.example" is not TOML of type list of origins"#]
    );
    assert_eq!(lines(set(&["http.allowed_origins=[1]"])), ["http.allowed_origins[0]: is integer, expected origin"]);
    assert_eq!(lines(set(&["http.allowed_origins=1"])), ["http.allowed_origins: is integer, expected list of origins"]);
}

#[test]
fn a_number_at_its_bounds_and_one_past() {
    for (allowed, refused) in [(256, 255), (16_777_216, 16_777_217)] {
        let content = "limits.content_bytes=16";
        assert_eq!(lines(set(&[content, &format!("limits.frame_bytes={allowed}")])), [""; 0]);
        assert_eq!(
            lines(set(&[content, &format!("limits.frame_bytes={refused}")])),
            [format!("limits.frame_bytes: {refused} is out of range; allowed is 256 to 16777216")]
        );
    }
    assert_eq!(
        lines(set(&["limits.connections_per_ip=-1"])),
        ["limits.connections_per_ip: -1 is out of range; allowed is 0 to 100000000"]
    );
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let shown = missing.display();
    let told = |at: &str| [format!("{at}: can't read {shown}: No such file or directory (os error 2)")];

    assert_eq!(lines(load(Some(missing.clone()), &[], &[])), told("--config"));
    assert_eq!(lines(set(&[&format!("auth.hs256_secret_file={shown}")])), told("auth.hs256_secret_file"));
    let present = write(folder.path(), "cert.pem", "");
    let cert = format!("node.tls.cert={}", present.display());
    assert_eq!(lines(set(&[&cert, &format!("node.tls.key={shown}")])), told("node.tls.key"));

    let long = write(folder.path(), "long", vec![b'#'; 1_048_577]);
    let told = lines(load(Some(long), &[], &[]));
    assert!(told[0].ends_with("longer than 1048576 bytes"), "{told:?}");
}

#[test]
fn text_that_is_no_toml_is_named_by_its_line_and_not_quoted() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "switchboard.toml", format!("[auth]\nhs256_secret = '{SECRET}\n"));
    let told = lines(load(Some(file.clone()), &[], &[]));
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with(&format!("{}:2: not valid TOML: ", file.display())), "{told:?}");
    assert!(!told[0].contains(SECRET));

    let file = write(folder.path(), "binary.toml", [b'a', 0xff]);
    assert_eq!(
        lines(load(Some(file.clone()), &[], &[])),
        [format!("{}: not valid TOML: the file is not UTF-8", file.display())]
    );
}

#[test]
fn a_set_without_a_value_and_a_variable_that_is_no_text() {
    assert_eq!(lines(set(&["log.level"])), ["--set: takes key=value"]);
    assert_eq!(lines(set(&["log.\nlevel=info"])), ["log. level: unknown key; did you mean log.level?"]);
    let variable = (OsString::from("SWITCHBOARD__LOG__LEVEL"), OsString::from_vec(vec![0xff]));
    let told = lines(Config::load(Sources::new(None, [variable], [])));
    assert_eq!(told, ["log.level: the variable's value is not UTF-8"]);
}

#[test]
fn keys_that_contradict_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let pem = write(folder.path(), "tls.pem", "");
    let pem = pem.display();
    for (sets, told) in [
        (vec![format!("node.tls.cert={pem}")], "node.tls.key: missing; node.tls.cert is set"),
        (vec![format!("node.tls.key={pem}")], "node.tls.cert: missing; node.tls.key is set"),
        (
            vec!["session.reconnect_min_ms=30001".to_owned()],
            "session.reconnect_min_ms: 30001 is more than session.reconnect_max_ms (30000)",
        ),
        (
            vec!["limits.session_queue_bytes=32767".to_owned()],
            "limits.content_bytes: 32768 is more than limits.session_queue_bytes (32767)",
        ),
    ] {
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        assert_eq!(lines(set(&sets)), [told]);
    }
    // Not a contradiction: a content that does not fit into a frame never arrives.
    assert_eq!(lines(set(&["limits.frame_bytes=1024"])), [""; 0]);
}

#[test]
fn a_key_that_is_wrong_by_itself_is_told_once() {
    assert_eq!(lines(set(&["session.reconnect_min_ms=many", "session.reconnect_max_ms=100"])).len(), 1);
    assert_eq!(lines(set(&["session.reconnect_max_ms=many", "session.reconnect_min_ms=40000"])).len(), 1);
    assert_eq!(lines(set(&["node.tls.cert=", "node.tls.key=/dev/null"])), [r#"node.tls.cert: "" is not a path"#]);
}

#[test]
fn all_mistakes_of_all_sources_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "switchboard.toml", "[node]\nlisten = 'abc'\nlisten_on = 1\n");
    let told = lines(load(Some(file), &[("SWITCHBOARD__LOG__LEVEL", "loud")], &["changes.max=0", "port=1"]));
    let keys: Vec<&str> = told.iter().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(keys, ["node.listen_on", "port", "node.listen", "changes.max", "log.level"]);
}
