//! Reading the sources again while the server runs (SIGHUP).

use std::path::Path;

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
    let mut loaded = load(Some(file), &[], &["limits.connections_per_user=7"]).unwrap();

    write(folder.path(), "switchboard.toml", text(20, 200));
    write(folder.path(), "secret", SECRET.to_uppercase());
    assert_eq!(loaded.reload().unwrap(), ["presence.batch_ms"]);
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
    let mut loaded = load(Some(file), &[], &[]).unwrap();

    write(folder.path(), "switchboard.toml", text(&new));
    assert_eq!(loaded.reload().unwrap(), [""; 0]);
    assert_eq!(loaded.config.tls.cert, Some(new));
}

#[test]
fn with_a_mistake_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "switchboard.toml", "limits.frames_per_s = 10");
    let mut loaded = load(Some(file), &[], &[]).unwrap();
    let before = loaded.config.clone();

    write(folder.path(), "switchboard.toml", "limits.frames_per_s = 20\nlimits.frame_bytes = 1");
    assert!(loaded.reload().unwrap_err().to_string().starts_with("limits.frame_bytes: "));
    assert_eq!(loaded.config, before);
}

#[test]
fn a_running_server_does_not_become_a_development_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "switchboard.toml", format!("auth.hs256_secret = '{SECRET}'"));
    let mut loaded = load(Some(file), &[], &[]).unwrap();

    write(folder.path(), "switchboard.toml", "");
    let told = loaded.reload().unwrap_err().to_string();
    assert_eq!(told, "auth: development mode begins and ends only with a restart");
    assert!(!loaded.config.is_development());
}
