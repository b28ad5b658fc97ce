//! The binary from the outside: commands, exit codes and messages (OPERATING, "Binary", "Output").

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::server::{binary, command, run};
use serde_json::json;

use crate::support::{Client, Config, Connect, SECRET, soon};

/// Exit code, stdout, stderr.
async fn outcome(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = run(folder, args).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn help_and_version() {
    let folder = tempfile::tempdir().unwrap();
    let (code, help, _) = outcome(folder.path(), &["--help"]).await;
    assert_eq!(code, Some(0));
    for word in [
        "serve",
        "check-config",
        "token",
        "trace",
        "--url",
        "--config",
        "--set",
        "--user",
        "--tenant",
        "--scope",
        "--ttl",
    ] {
        assert!(help.contains(word), "{word}");
    }
    let (code, version, _) = outcome(folder.path(), &["--version"]).await;
    assert_eq!((code, version.as_str()), (Some(0), concat!("switchboard ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[tokio::test]
async fn a_wrong_command_line_is_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["sing"][..], &["--user", "a"], &["token"], &["serve", "--port", "1"]] {
        let (code, stdout, stderr) = outcome(folder.path(), args).await;
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(stderr.contains("--help"), "{stderr}");
    }
}

#[tokio::test]
async fn the_demo_is_for_development_mode() {
    let folder = tempfile::tempdir().unwrap();
    let secret = format!("auth.hs256_secret={SECRET}");
    let (code, stdout, stderr) = outcome(folder.path(), &["--demo", "--set", &secret]).await;
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("development mode"), "{stderr}");
}

#[tokio::test]
async fn check_config_shows_what_counts_and_hides_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let secret = format!("auth.hs256_secret={SECRET}");
    let args = ["check-config", "--set", &secret, "--set", "limits.frames_per_s=7"];
    let (code, stdout, stderr) = outcome(folder.path(), &args).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("frames_per_s = 7") && stdout.contains("heartbeat_ms = 25000"), "{stdout}");
    assert!(!stdout.contains(SECRET));
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "it leaves nothing behind");
}

#[tokio::test]
async fn every_mistake_is_named_on_a_line_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    fs::write(&file, "[limits]\nframes_per_sec = 1\nheartbeat_ms = \"soon\"\n").unwrap();
    let file = file.to_str().unwrap();
    for verb in ["check-config", "serve"] {
        let output = command(folder.path())
            .args([verb, "--config", file, "--set", "node.listen=nowhere"])
            .env("SWITCHBOARD__LIMITS__FRAME_BYTES", "1")
            .output();
        let output = soon("the end", output).await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert_eq!(stderr.lines().count(), 4, "{stderr}");
        for key in ["limits.frames_per_sec: ", "limits.heartbeat_ms: ", "node.listen: ", "limits.frame_bytes: "] {
            assert!(stderr.lines().any(|line| line.starts_with(key)), "{key} in {stderr}");
        }
        assert!(stderr.contains("limits.frames_per_s?"), "{stderr}");
    }
}

#[tokio::test]
async fn files_that_are_not_there_are_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, stderr) = outcome(folder.path(), &["--config", "missing.toml"]).await;
    assert_eq!(code, Some(2));
    assert!(stderr.contains("missing.toml"), "{stderr}");
    let sets = ["--set", "node.tls.cert=none.pem", "--set", "node.tls.key=none.pem"];
    for verb in ["check-config", "serve"] {
        let (code, _, stderr) = outcome(folder.path(), &[&[verb][..], &sets].concat()).await;
        assert_eq!(code, Some(2));
        assert!(stderr.contains("node.tls.cert: can't read none.pem"), "{stderr}");
    }
}

#[tokio::test]
async fn keys_that_are_none_are_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    let key = include_str!("keys/rsa.public.pem");
    let text = format!("[[auth.keys]]\nkid = \"a\"\nalg = \"EdDSA\"\npublic_key = \"\"\"\n{key}\"\"\"\n");
    fs::write(&file, text).unwrap();
    for verb in ["check-config", "serve"] {
        let (code, _, stderr) = outcome(folder.path(), &[verb, "--config", file.to_str().unwrap()]).await;
        assert_eq!(code, Some(2));
        assert!(stderr.starts_with("auth.keys[0]"), "{stderr}");
    }
}

#[tokio::test]
async fn an_impossible_promise_is_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for verb in ["check-config", "serve"] {
        let (code, _, stderr) = outcome(folder.path(), &[verb, "--set", "limits.connections=100000000"]).await;
        assert_eq!(code, Some(2), "{verb}");
        assert!(stderr.lines().any(|line| line.starts_with("limits.connections: ")), "{stderr}");
    }
}

#[tokio::test]
async fn a_promise_is_held_against_the_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"ulimit -n 200 && exec "$0" --set limits.connections=151"#;
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(script).arg(binary()).current_dir(folder.path());
    let output = soon("the refusal", command.output()).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("nofile allows 200") && stderr.contains("promise at most 150"), "{stderr}");

    // A limit that can be kept is logged.
    let server = Config::new().set("limits.connections", 50).start().await;
    server.logged("\"connections_max\":50", 1).await;
}

#[tokio::test]
async fn a_taken_port_is_code_3() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for key in ["node.listen", "metrics.listen"] {
        let other = if key == "node.listen" { "metrics.listen=127.0.0.1:0" } else { "node.listen=127.0.0.1:0" };
        let args = ["--set", &format!("{key}={address}"), "--set", other, "--set", "log.level=off"];
        let (code, stdout, stderr) = outcome(folder.path(), &args).await;
        assert_eq!((code, stdout.as_str()), (Some(3), ""));
        assert!(stderr.starts_with(key) && stderr.contains("in use") && stderr.contains("set another"), "{stderr}");
    }
}

#[tokio::test]
async fn a_folder_that_another_server_has_is_code_3() {
    let server = Config::new().start().await;
    let args = ["--set", "node.listen=127.0.0.1:0", "--set", "metrics.listen=127.0.0.1:0", "--set", "store.path=store"];
    let (code, stdout, stderr) = outcome(server.folder.path(), &args).await;
    assert_eq!((code, stdout.as_str()), (Some(3), ""));
    assert!(stderr.contains("store.path: store is in use by another process"), "{stderr}");
    Connect::to(&server).open().await;
}

#[tokio::test]
async fn a_folder_that_is_no_folder_of_a_store_is_code_3() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "mine").unwrap();
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/letter.txt"), "dear").unwrap();
    for path in ["file", "mine", "/proc/store"] {
        let set = format!("store.path={path}");
        let secret = format!("auth.hs256_secret={SECRET}");
        let free = ["--set", "node.listen=127.0.0.1:0", "--set", "metrics.listen=127.0.0.1:0"];
        let args = [&free[..], &["--set", &set, "--set", &secret]].concat();
        let (code, stdout, stderr) = outcome(folder.path(), &args).await;
        assert_eq!((code, stdout.as_str()), (Some(3), ""), "{path}: {stderr}");
        assert!(stderr.contains(path), "{stderr}");
    }
    assert_eq!(fs::read_to_string(folder.path().join("mine/letter.txt")).unwrap(), "dear");
}

#[tokio::test]
async fn the_token_command_makes_tokens_that_the_server_takes() {
    let server = Config::new().start().await;
    let secret = format!("auth.hs256_secret={SECRET}");
    let args = ["token", "--user", "alice", "--tenant", "t1", "--scope", "admin", "--ttl", "1m", "--set", &secret];
    let (code, token, _) = outcome(server.folder.path(), &args).await;
    assert_eq!(code, Some(0));
    let mut client = Connect::to(&server).token(token.trim_end()).open().await;
    let ready = client.expect("ready").await;
    assert_eq!((ready["user_id"].as_str(), ready["tenant"].as_str()), (Some("alice"), Some("t1")));
    let sessions = server.http().get("/v1/admin/users/alice/sessions").token(token.trim_end()).send().await;
    assert_eq!(sessions.data(200)["sessions"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn the_trace_command_tells_what_became_of_a_message() {
    let server = Config::new().start().await;
    let mut alice = Client::sign_in(&server, "alice").await;
    let (mut bob, ready) = Client::sign_in_as(&server, "bob", "phone").await;
    let send = json!({"type": "send", "to": "bob", "client_id": "c1", "content": {"text": "Hello"}});
    let conversation = alice.ask(send).await["conversation_id"].as_str().unwrap().to_owned();
    bob.until("message").await;
    bob.ask(json!({"type": "read", "conversation_id": conversation, "seq": 1})).await;

    let secret = format!("auth.hs256_secret={SECRET}");
    let listen = format!("node.listen={}", server.listen);
    let args = ["trace", &conversation, "1", "--set", &secret, "--set", &listen];
    let (code, story, stderr) = outcome(server.folder.path(), &args).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let expected = [
        "from alice, stored at",
        "announced to n1, the home of 2",
        "bob: has read it",
        &format!("given to session {} of phone", ready["session_id"].as_str().unwrap()),
        "read, up to 1",
    ];
    let mut rest = story.as_str();
    for said in expected {
        let at = rest.find(said).unwrap_or_else(|| panic!("{said} in {story}"));
        rest = &rest[at..];
    }
    let url = format!("http://{}", server.listen);
    let (code, _, stderr) =
        outcome(server.folder.path(), &["trace", &conversation, "2", "--set", &secret, "--url", &url]).await;
    assert_eq!((code, stderr.starts_with("404: ")), (Some(1), true), "{stderr}");
    let nobody = ["trace", &conversation, "1", "--set", &secret, "--url", "http://127.0.0.1:1"];
    let (code, _, stderr) = outcome(server.folder.path(), &nobody).await;
    assert_eq!((code, stderr.as_str()), (Some(3), "no node answers at http://127.0.0.1:1\n"));
}

#[tokio::test]
async fn in_development_mode_the_token_command_uses_the_key_beside_the_store() {
    let server = Config::development().start().await;
    let (code, token, _) = outcome(server.folder.path(), &["token", "--user", "a", "--set", "store.path=store"]).await;
    assert_eq!(code, Some(0));
    Connect::to(&server).token(token.trim_end()).open().await.expect("ready").await;
    let key = server.folder.path().join("store.dev-key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_token_needs_a_key_that_signs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    let key = include_str!("keys/rsa.public.pem");
    fs::write(&file, format!("[[auth.keys]]\nkid = \"a\"\nalg = \"RS256\"\npublic_key = \"\"\"\n{key}\"\"\"\n"))
        .unwrap();
    let (code, _, stderr) = outcome(folder.path(), &["token", "--user", "a", "--config", file.to_str().unwrap()]).await;
    assert_eq!(code, Some(2));
    assert!(stderr.starts_with("auth.hs256_secret: "), "{stderr}");
}
