//! Checks of keys in combination. A key that is wrong by itself is not checked again.

use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use crate::auth_key::{HS256_BYTES_MIN, short_secret};
use crate::choice::{BusKind, StoreKind};
use crate::config::Config;
use crate::mistake::{Mistakes, Problem};
use crate::secret::Secret;
use crate::sections::{Auth, Tls};

/// Checks a whole configuration, and adds the mistakes.
pub(crate) fn check(config: &Config, mistakes: &mut Mistakes) {
    check_tls(&config.tls, mistakes);
    check_auth(&config.auth, mistakes);
    check_cluster(config, mistakes);
    check_push(config, mistakes);
    let session = &config.session;
    check_order(
        ("session.reconnect_min_ms", session.reconnect_min_ms),
        ("session.reconnect_max_ms", session.reconnect_max_ms),
        mistakes,
    );
    // A message that fits into no session's queue would close every reader.
    let limits = &config.limits;
    check_order(
        ("limits.content_bytes", limits.content_bytes),
        ("limits.session_queue_bytes", limits.session_queue_bytes),
        mistakes,
    );
}

fn check_tls(tls: &Tls, mistakes: &mut Mistakes) {
    let (cert, key) = ("node.tls.cert", "node.tls.key");
    match (&tls.cert, &tls.key) {
        (Some(_), None) if !mistakes.concern(key) => mistakes.push(key, missing_beside(cert)),
        (None, Some(_)) if !mistakes.concern(cert) => mistakes.push(cert, missing_beside(key)),
        _ => {}
    }
    for (at, path) in [(cert, &tls.cert), (key, &tls.key)] {
        if let Some(Err(problem)) = path.as_deref().map(check_readable) {
            mistakes.push(at, problem);
        }
    }
}

/// The requirements for several nodes to be one gateway.
fn check_cluster(config: &Config, mistakes: &mut Mistakes) {
    let (store, bus) = (config.store.kind, config.bus.kind);
    if bus == BusKind::Redis {
        if store == StoreKind::Embedded && !mistakes.concern("store.kind") {
            let why = "embedded, which one process has for itself; bus.kind redis needs scylla";
            mistakes.push("store.kind", Problem::Wrong(why.to_owned()));
        }
        if config.redis.url.is_none() && !mistakes.concern("redis.url") && !mistakes.concern("redis.url_file") {
            mistakes.push("redis.url", Problem::Wrong("missing; bus.kind is redis".to_owned()));
        }
        let (listen, advertise_url) = (config.node.listen, "node.advertise_url");
        let is_nowhere = listen.ip().is_unspecified() && config.node.advertise_url.is_none();
        if is_nowhere && !mistakes.concern(advertise_url) {
            let why = format!("missing; node.listen is {listen}, which is no address that clients can be sent to");
            mistakes.push(advertise_url, Problem::Wrong(why));
        }
    }
    let scylla = &config.scylla;
    if store == StoreKind::Scylla && scylla.nodes.is_empty() && !mistakes.concern("store.scylla.nodes") {
        mistakes.push("store.scylla.nodes", Problem::Wrong("missing; store.kind is scylla".to_owned()));
    }
    let (user, password) = ("store.scylla.username", "store.scylla.password");
    match (&scylla.username, &scylla.password) {
        (None, Some(given)) if !mistakes.concern(user) => {
            mistakes.push(user, missing_beside(&given.given_by(password)));
        }
        (Some(_), None) if !mistakes.concern(password) => mistakes.push(password, missing_beside(user)),
        _ => {}
    }
}

/// A provider needs all of its credentials, or none.
fn check_push(config: &Config, mistakes: &mut Mistakes) {
    let mut beside = |given: Option<String>, needed: &[(&str, bool)]| {
        let Some(given) = given else { return };
        for (key, _) in needed.iter().filter(|(_, is_set)| !is_set) {
            if !mistakes.concern(key) {
                mistakes.push(*key, missing_beside(&given));
            }
        }
    };
    let (web_push, apns, webhook) = (&config.web_push, &config.apns, &config.webhook);
    let given = |secret: &Option<Secret>, key: &str| secret.as_ref().map(|secret| secret.given_by(key));
    beside(
        given(&web_push.vapid_key, "push.web_push.vapid_key"),
        &[("push.web_push.subject", web_push.subject.is_some())],
    );
    beside(
        given(&apns.key, "push.apns.key"),
        &[
            ("push.apns.key_id", apns.key_id.is_some()),
            ("push.apns.team_id", apns.team_id.is_some()),
            ("push.apns.topic", apns.topic.is_some()),
        ],
    );
    let url = webhook.url.as_ref().map(|_| "push.webhook.url".to_owned());
    beside(url, &[("push.webhook.secret", webhook.secret.is_some())]);
    if let Some(secret) = &webhook.secret
        && secret.expose().len() < HS256_BYTES_MIN
    {
        mistakes.push(secret.given_by("push.webhook.secret"), short_secret(secret));
    }
    check_order(("push.timeout_ms", config.push.timeout_ms), ("push.lease_ms", config.push.lease_ms), mistakes);
}

fn missing_beside(other: &str) -> Problem {
    Problem::Wrong(format!("missing; {other} is set"))
}

fn check_readable(path: &Path) -> Result<(), Problem> {
    File::open(path).map(drop).map_err(|source| Problem::Unreadable { path: path.to_owned(), source })
}

fn check_auth(auth: &Auth, mistakes: &mut Mistakes) {
    if let Some(secret) = &auth.hs256_secret
        && secret.expose().len() < HS256_BYTES_MIN
    {
        mistakes.push(secret.given_by("auth.hs256_secret"), short_secret(secret));
    }
    for (n, key) in auth.keys.iter().enumerate() {
        if auth.keys.iter().take(n).any(|earlier| earlier.kid == key.kid) {
            mistakes.push(format!("auth.keys[{n}].kid"), Problem::Wrong(format!("{:?} is there twice", key.kid)));
        }
    }
}

/// The first may not be more than the second.
fn check_order<N: PartialOrd + Display + Copy>(low: (&str, N), high: (&str, N), mistakes: &mut Mistakes) {
    if low.1 > high.1 && !mistakes.concern(low.0) && !mistakes.concern(high.0) {
        mistakes.push(low.0, Problem::Wrong(format!("{} is more than {} ({})", low.1, high.0, high.1)));
    }
}
