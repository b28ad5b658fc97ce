//! Reading the sources again while the server runs (SIGHUP).

use std::path::Path;

use switchboard_config::Reload;

use crate::{SECRET, load, write};

#[test]
fn limits_and_keys_change_and_the_rest_waits() {
    let folder = tempfile::tempdir().unwrap();
    let secret = write(folder.path(), "secret", SECRET);
    let text = |frames: u32, batch: u32| {
        let secret = secret.display();
        format!("auth.hs256_secret_file = '{secret}'\nlimits.frames_per_s = {frames}\npresence.batch_ms = {batch}")
    };
    let file = write(folder.path(), "switchboard.toml", text(10, 100));
    let loaded = load(Some(file), &[], &["limits.connections_per_user=7"]).unwrap();

    write(folder.path(), "switchboard.toml", text(20, 200));
    write(folder.path(), "secret", SECRET.to_uppercase());
    let Ok(Reload { loaded, waiting }) = loaded.reload() else { panic!("no mistake is there") };
    assert_eq!(waiting, ["presence.batch_ms"]);
    let config = &loaded.config;
    assert_eq!((config.limits.frames_per_s, config.presence.batch_ms), (20, 100));
    assert_eq!(config.limits.connections_per_user, 7, "`--set` still wins");
    assert_eq!(config.auth.hs256_secret.as_ref().unwrap().expose(), SECRET.to_uppercase().as_bytes());
}

#[test]
fn the_certificate_may_move() {
    let folder = tempfile::tempdir().unwrap();
    let [old, new] = ["old.pem", "new.pem"].map(|name| write(folder.path(), name, ""));
    let text = |pem: &Path| format!("node.tls.cert = '{0}'\nnode.tls.key = '{0}'", pem.display());
    let file = write(folder.path(), "switchboard.toml", text(&old));
    let loaded = load(Some(file), &[], &[]).unwrap();

    write(folder.path(), "switchboard.toml", text(&new));
    let Ok(Reload { loaded, waiting }) = loaded.reload() else { panic!("no mistake is there") };
    assert_eq!((waiting, &loaded.config.tls.cert), (vec![], &Some(new)));

    // TLS is not switched off for connected clients.
    write(folder.path(), "switchboard.toml", "");
    let Ok(Reload { loaded: same, waiting }) = loaded.reload() else { panic!("no mistake is there") };
    assert_eq!((waiting, &same.config), (vec!["node.tls.cert".to_owned(), "node.tls.key".to_owned()], &loaded.config));
}

#[test]
fn with_a_mistake_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "switchboard.toml", "limits.frames_per_s = 10");
    let loaded = load(Some(file), &[], &[]).unwrap();

    write(folder.path(), "switchboard.toml", "limits.frames_per_s = 20\nlimits.frame_bytes = 1");
    let mistakes = loaded.reload().err().unwrap();
    assert!(mistakes.to_string().starts_with("limits.frame_bytes: "), "{mistakes}");
}

#[test]
fn a_running_server_does_not_become_a_development_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "switchboard.toml", format!("auth.hs256_secret = '{SECRET}'"));
    let loaded = load(Some(file), &[], &[]).unwrap();

    write(folder.path(), "switchboard.toml", "");
    let told = loaded.reload().err().unwrap().to_string();
    assert_eq!(told, "auth: development mode begins and ends only with a restart");
}

#[test]
fn a_provider_s_credentials_change_and_push_s_own_keys_wait() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "switchboard.toml", "push.hold_ms = 1");
    let loaded = load(Some(file), &[], &[]).unwrap();

    let text = format!("push.hold_ms = 2\npush.webhook = {{url = 'https://a.example', secret = '{SECRET}'}}");
    write(folder.path(), "switchboard.toml", text);
    let Ok(Reload { loaded, waiting }) = loaded.reload() else { panic!("no mistake is there") };
    assert_eq!(waiting, ["push.hold_ms"]);
    assert_eq!(loaded.config.webhook.url.as_deref(), Some("https://a.example"));
}
