//! SIGHUP (OPERATING, "Signals"): certificates, keys and limits are reloaded, all or nothing.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::tokens::token;
use crate::support::{Client, Config, Connect, SECRET, Server, Token, soon};

/// A server with a configuration file that is rewritten.
struct Reloaded {
    server: Server,
    file: PathBuf,
    times: usize,
    _folder: TempDir,
}

impl Reloaded {
    async fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("switchboard.toml");
        fs::write(&file, text).unwrap();
        Self { server: Config::development().file(&file).start().await, file, times: 0, _folder: folder }
    }

    async fn reload(&mut self, text: &str) {
        fs::write(&self.file, text).unwrap();
        self.server.signal(Signal::HUP);
        self.times += 1;
        self.server.logged("\"configuration reloaded", self.times).await;
    }
}

fn limits(limits: &str) -> String {
    format!("[auth]\nhs256_secret = \"{SECRET}\"\n[limits]\n{limits}\n")
}

#[tokio::test]
async fn sighup_changes_limits_and_keys_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("switchboard.toml");
    let old = "a first secret of more than thirty-two bytes";
    let new = "a second secret of more than thirty-two bytes";
    let write = |text: String| fs::write(&path, text).unwrap();
    write(format!("[auth]\nhs256_secret = \"{old}\"\n"));
    let server = Config::development().file(&path).start().await;
    let signed = |secret: &str| Token::of("alice").sign_hs256(secret.as_bytes());
    let mut client = Connect::to(&server).token(&signed(old)).open().await;
    assert_eq!(client.expect("ready").await["limits"]["frames_per_s"], 50);

    write(format!("[auth]\nhs256_secret = \"{new}\"\n[limits]\nframes_per_s = 7\n[drain]\nspread_ms = 1\n"));
    server.signal(Signal::HUP);
    let ready = soon("the new key", async {
        loop {
            let mut client = Connect::to(&server).token(&signed(new)).open().await;
            let frame = client.recv().await;
            if frame["type"] == "ready" {
                return frame;
            }
        }
    })
    .await;
    assert_eq!(ready["limits"]["frames_per_s"], 7);
    server.http().get("/v1/blocks").token(&signed(old)).send().await.error(401, "unauthorized");
    client.expect_quiet().await;

    // An invalid file changes nothing.
    write("[auth]\nhs256_secret = \"short\"\n".to_owned());
    server.signal(Signal::HUP);
    server.http().get("/v1/blocks").token(&signed(new)).send().await.data(200);
    client.close().await;
    let ended = server.stop().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.log.contains("drain.spread_ms"), "a key that has to wait is named: {}", ended.log);
    for secret in [old, new, &signed(new)] {
        assert!(!ended.log.contains(secret), "a secret is in the log");
    }
}

/// Every `limits.*` of the reference, with another value than its default.
fn every_limit() -> String {
    let reference = include_str!("../../docs/configuration.md");
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `limits."));
    let keys = rows.map(|row| {
        let mut cells = row.split('`');
        let (key, default) = (cells.next().unwrap(), cells.nth(1).unwrap());
        format!("{key} = {}\n", default.parse::<u64>().unwrap() + 1_000)
    });
    let keys: Vec<_> = keys.collect();
    assert!(keys.len() > 20, "{keys:?}");
    keys.concat()
}

#[tokio::test]
async fn no_limit_needs_a_restart() {
    let mut node = Reloaded::start(&limits("")).await;
    node.reload(&limits(&every_limit())).await;
    let (_, ready) = Client::sign_in_as(&node.server, "alice", "phone").await;
    let expected = json!({"frame_bytes": 66_536, "content_bytes": 33_768, "frames_per_s": 1_050});
    assert_eq!((&ready["limits"], &ready["heartbeat_ms"]), (&expected, &json!(26_000)));
    let log = node.server.stop().await.log;
    assert!(!log.contains("restart") && !log.contains("not reloaded"), "{log}");
}

#[tokio::test]
async fn room_for_connections_grows_and_shrinks() {
    let mut node = Reloaded::start(&limits("connections = 1")).await;
    let _first = Connect::to(&node.server).open().await;
    assert_eq!(Connect::to(&node.server).refused().await.status, 503);
    node.reload(&limits("connections = 2\nconnections_per_ip = 2")).await;
    let _second = Connect::to(&node.server).open().await;
    assert_eq!(Connect::to(&node.server).refused().await.status, 503);
    // Connections that came before the limit existed count too.
    node.reload(&limits("connections = 9\nconnections_per_ip = 3")).await;
    let third = Connect::to(&node.server).open().await;
    assert_eq!(Connect::to(&node.server).refused().await.status, 503);
    // Existing connections stay.
    node.reload(&limits("connections = 1")).await;
    third.close().await;
    assert_eq!(Connect::to(&node.server).refused().await.status, 503);
}

#[tokio::test]
async fn the_limits_of_conversations_and_users_change_too() {
    let mut node = Reloaded::start(&limits("connections_per_user = 1\nreactions_per_message_max = 1")).await;
    let mut alice = Client::sign_in(&node.server, "alice").await;
    let sent = alice.ask(json!({"type": "send", "to": "bob", "client_id": "1", "content": {"text": "x"}})).await;
    let react = |emoji: &str| -> Value {
        json!({"type": "react", "conversation_id": sent["conversation_id"], "seq": 1, "emoji": emoji})
    };
    assert_eq!(alice.ask(react("a")).await["type"], "ok");
    alice.ask_in_vain(react("b")).await;
    let second = || Connect::to(&node.server).token(&token("alice")).query("device_id", "second").open();
    assert_eq!(second().await.expect_farewell("overloaded").await, Some(4503));

    node.reload(&limits("connections_per_user = 2\nreactions_per_message_max = 2")).await;
    assert_eq!(alice.ask(react("b")).await["type"], "ok");
    alice.ask_in_vain(react("c")).await;
    Client::sign_in_as(&node.server, "alice", "second").await;
}

#[tokio::test]
async fn every_mistake_is_logged_and_none_changes_anything() {
    let mut node = Reloaded::start(&limits("frames_per_s = 10")).await;
    let wrong_key = concat!(env!("CARGO_MANIFEST_DIR"), "/it/keys/rsa.public.pem");
    let keys = format!("[[auth.keys]]\nkid = \"k\"\nalg = \"ES256\"\npublic_key_file = \"{wrong_key}\"\n");
    fs::write(&node.file, limits("frames_per_s = 20\nconnections = 100000000") + &keys).unwrap();
    node.server.signal(Signal::HUP);
    node.server.logged("configuration not reloaded", 1).await;
    let (_, ready) = Client::sign_in_as(&node.server, "alice", "phone").await;
    assert_eq!(ready["limits"]["frames_per_s"], 10);

    node.reload(&limits("frames_per_s = 20")).await;
    let (_, ready) = Client::sign_in_as(&node.server, "alice", "phone").await;
    assert_eq!(ready["limits"]["frames_per_s"], 20);
    let log = node.server.stop().await.log;
    for at in ["auth.keys[0].public_key: ", "limits.connections: "] {
        assert!(log.contains(at), "{at} in {log}");
    }
}

#[tokio::test]
async fn a_secret_in_a_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let [old, new] = ["an old secret of more than thirty-two bytes", "a new secret of more than thirty-two bytes"];
    fs::write(&secret, old).unwrap();
    let mut node = Reloaded::start(&format!("auth.hs256_secret_file = \"{}\"", secret.display())).await;
    let ask = async |secret: &str| {
        let token = Token::of("alice").sign_hs256(secret.as_bytes());
        node.server.http().get("/v1/blocks").token(&token).send().await.status
    };
    assert_eq!((ask(old).await, ask(new).await), (200, 401));
    fs::write(&secret, new).unwrap();
    let text = fs::read_to_string(&node.file).unwrap();
    node.reload(&text).await;
    let ask = async |secret: &str| {
        let token = Token::of("alice").sign_hs256(secret.as_bytes());
        node.server.http().get("/v1/blocks").token(&token).send().await.status
    };
    assert_eq!((ask(old).await, ask(new).await), (401, 200));
}
