//! Tests of the providers against servers that speak the real protocols and check them: TLS, HTTP/2, the tokens'
//! signatures, and decryption as in a browser.

#![expect(clippy::unwrap_used, reason = "this is all test code")]

mod apns;
mod fcm;
mod web_push;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use switchboard_clock::Clock;
use switchboard_protocol::Seq;
use switchboard_push_providers::{Body, Client, Guard, Outcome, Push, Roots};
use switchboard_store::Priority;
use switchboard_tests::provider::CERT;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_util::task::TaskTracker;

const NOW_S: i64 = 1_767_323_045;

/// A clock, and its wall time in milliseconds, which stands still unless it is set.
fn clock() -> (Clock, Arc<AtomicI64>) {
    let wall_ms = Arc::new(AtomicI64::new(NOW_S * 1_000));
    (Clock::set_by(wall_ms.clone()), wall_ms)
}

/// A client that trusts the tests' certificate, and may connect to this machine.
fn client(clock: &Clock) -> Client {
    client_within(clock, Duration::from_secs(30))
}

fn client_within(clock: &Clock, timeout: Duration) -> Client {
    let allowed = Guard::new(&["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    guarded_client(clock, allowed, timeout)
}

fn guarded_client(clock: &Clock, guard: Guard, timeout: Duration) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERT).unwrap()).unwrap();
    Client::new(guard, Roots::These(roots), timeout, clock.clone(), &TaskTracker::new()).unwrap()
}

fn alert() -> Push {
    Push {
        tenant: "t".parse().unwrap(),
        user: "alice".parse().unwrap(),
        device: "phone".parse().unwrap(),
        conversation: "c1".parse().unwrap(),
        up_to_seq: Seq::new(7),
        priority: Priority::High,
        ttl_s: 3_600,
        body: Body::Alert { count: 3, title: "Bob".to_owned(), text: Some("hi".to_owned()) },
    }
}

fn withdrawal() -> Push {
    Push { body: Body::Withdraw, ..alert() }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der))
}

/// The kind of an outcome, and the milliseconds that a provider asked for.
fn summary(outcome: &Outcome) -> (&'static str, Option<u64>) {
    match outcome {
        Outcome::Sent => ("sent", None),
        Outcome::Gone => ("gone", None),
        Outcome::Failed { after_ms, .. } => ("failed", *after_ms),
        Outcome::Refused(_) => ("refused", None),
    }
}
