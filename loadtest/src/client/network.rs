//! What all clients of a worker share: addresses, how far they connect, and counters.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::address::{Address, Sources};
use super::dial::Dialer;
use super::token::Tokens;
use crate::meter::recorder::{Counter, LatencyMeter, Recorder};
use crate::verify::Log;

/// Different complaints that are kept.
const COMPLAINTS_MAX: usize = 32;

/// Shared by all sessions of a worker.
pub(crate) struct Network {
    pub(crate) addresses: Vec<Address>,
    pub(crate) entry: Entry,
    pub(crate) dialer: Dialer,
    pub(crate) sources: Sources,
    /// The prefix of every `client_id` of this run, to recognise its messages.
    pub(crate) run: String,
    pub(crate) meters: Meters,
    pub(crate) complaints: Complaints,
    /// Clients follow the rule of PROTOCOL §3 and reconnect when their session is lost.
    pub(crate) is_followed: bool,
    /// Clients ask for their home, and connect there.
    pub(crate) is_at_home: bool,
    /// The file for their histories.
    pub(crate) log: Option<Arc<Log>>,
    pub(crate) final_readers: FinalReaders,
}

/// Who reads which conversation from beginning to end when a verified run is over: not all members, because reading a
/// large group would take hours.
#[derive(Default)]
pub(crate) struct FinalReaders(Mutex<HashMap<String, Vec<String>>>);

/// Readers per conversation and worker: so their views can be compared.
const FINAL_READERS: usize = 2;

impl FinalReaders {
    /// Whether this user is one of its readers.
    pub(crate) fn claim(&self, conversation_id: &str, user: &str) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let readers = all.entry(conversation_id.to_owned()).or_default();
        if readers.len() < FINAL_READERS && !readers.iter().any(|reader| reader == user) {
            readers.push(user.to_owned());
        }
        readers.iter().any(|reader| reader == user)
    }
}

/// How far a client connects.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// All the way to `ready`.
    SignedIn(Tokens),
    /// A WebSocket, for baselines that have no users.
    Upgraded,
    /// Only TCP, for a baseline that only writes frames.
    Connected,
}

/// The counters of all sessions.
#[derive(Clone)]
pub(crate) struct Meters {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    /// Reads from sockets: about as many as the server's writes.
    pub(crate) reads: Counter,
    pub(crate) sent: Counter,
    /// Sends that were rejected for good.
    pub(crate) send_errors: Counter,
    pub(crate) deliveries: Counter,
    /// Sessions that ended unexpectedly.
    pub(crate) lost: Counter,
    /// Sessions that were resumed.
    pub(crate) reconnects: Counter,
    /// Clients that were brought up to date after an interruption.
    pub(crate) resumed: Counter,
    /// From the moment at which a session was wanted until the client is up to date.
    pub(crate) resume_latency: LatencyMeter,
    /// From the intended moment of a send to `sent`.
    pub(crate) sent_latency: LatencyMeter,
    /// From the intended moment of a send to the `message` at another session.
    pub(crate) delivery_latency: LatencyMeter,
}

impl Meters {
    pub(crate) fn new(recorder: &mut Recorder) -> Self {
        Self {
            frames: recorder.counter("frames"),
            bytes: recorder.counter("bytes"),
            reads: recorder.counter("reads"),
            sent: recorder.counter("sent"),
            send_errors: recorder.counter("send_errors"),
            deliveries: recorder.counter("deliveries"),
            lost: recorder.counter("sessions_lost"),
            reconnects: recorder.counter("reconnects"),
            resumed: recorder.counter("resumed"),
            resume_latency: recorder.latency("resume"),
            sent_latency: recorder.latency("sent"),
            delivery_latency: recorder.latency("delivery"),
        }
    }

    /// `sent` of one of this run's sends.
    pub(crate) fn on_sent(&self, client_id: &str, run: &str, at_ns: u64) {
        if let Some(intended_ns) = intended_ns(client_id, run) {
            self.sent.add(1);
            self.sent_latency.record_ns(at_ns.saturating_sub(intended_ns));
        }
    }

    /// The message of one of this run's sends.
    pub(crate) fn on_delivery(&self, client_id: &str, run: &str, at_ns: u64) {
        if let Some(intended_ns) = intended_ns(client_id, run) {
            self.deliveries.add(1);
            self.delivery_latency.record_ns(at_ns.saturating_sub(intended_ns));
        }
    }
}

/// The `client_id` of a send: it contains the intended moment. `client` and `number` make it unique.
pub(crate) fn client_id(run: &str, client: u64, number: u64, intended_ns: u64) -> String {
    format!("{run}.{client:x}.{number:x}.{intended_ns:x}")
}

/// The intended moment of a send, from its `client_id`; `None` for other runs' sends.
pub(crate) fn intended_ns(client_id: &str, run: &str) -> Option<u64> {
    let (_, moment) = client_id.strip_prefix(run)?.strip_prefix('.')?.rsplit_once('.')?;
    u64::from_str_radix(moment, 16).ok()
}

/// Problems and their counts, for the report.
#[derive(Default)]
pub(crate) struct Complaints(Mutex<BTreeMap<String, u64>>);

impl Complaints {
    pub(crate) fn note(&self, text: &str) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = noted.get_mut(text) {
            *count += 1;
        } else if noted.len() < COMPLAINTS_MAX {
            noted.insert(text.to_owned(), 1);
        }
    }

    pub(crate) fn take(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_carries_its_moment() {
        assert_eq!(intended_ns(&client_id("run7", 1, 2, 255), "run7"), Some(255));
        assert_ne!(client_id("run7", 1, 2, 255), client_id("run7", 2, 1, 255));
        for other in ["run8.a.0.ff", "run78.a.0.ff", "run7", "run7.a.", "run7.a.xyz", ""] {
            assert_eq!(intended_ns(other, "run7"), None, "{other}");
        }
    }

    #[test]
    fn a_conversation_has_two_final_readers() {
        let readers = FinalReaders::default();
        assert!(readers.claim("g", "a") && readers.claim("g", "b") && !readers.claim("g", "c"));
        // A reader that starts over stays a reader.
        assert!(readers.claim("g", "a") && readers.claim("h", "c"));
    }

    #[test]
    fn complaints_are_counted_and_bounded() {
        let complaints = Complaints::default();
        complaints.note("a");
        complaints.note("a");
        (0..100).for_each(|n| complaints.note(&format!("{n}")));
        let taken = complaints.take();
        assert_eq!((taken["a"], taken.len()), (2, COMPLAINTS_MAX));
    }
}
