//! One session: what a client has between `ready` and its end.
//!
//! A [`Client`] is the handle with which a scenario says something; the [`Session`] is the task that reads, answers pings,
//! writes what was said, and measures. Latencies need no table of what is under way: a send's `client_id` carries the
//! moment for which it was meant, and comes back in `sent` and in the other side's `message`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::address::{Address, Sources};
use super::token::Tokens;
use super::wire::{self, Received, Wire};
use super::{connect, scan};
use crate::meter::now_ns;
use crate::meter::recorder::{Counter, LatencyMeter, Recorder};

/// How long an answer is waited for. The server itself gives up after `limits.send_timeout_ms` (5 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Different complaints that are kept.
const COMPLAINTS_MAX: usize = 32;

/// What all clients of a worker have in common.
pub(crate) struct Network {
    pub(crate) addresses: Vec<Address>,
    pub(crate) entry: Entry,
    pub(crate) sources: Sources,
    /// Begins every `client_id` of this run, so that no other message is taken for one of ours.
    pub(crate) run: String,
    pub(crate) meters: Meters,
    pub(crate) complaints: Complaints,
}

/// How far a client goes in.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// All the way to `ready`.
    SignedIn(Tokens),
    /// A WebSocket, for baselines that have no users.
    Upgraded,
    /// Only TCP, for a baseline that writes frames and nothing else.
    Connected,
}

/// What every session counts.
#[derive(Clone)]
pub(crate) struct Meters {
    pub(crate) frames: Counter,
    pub(crate) bytes: Counter,
    /// Reads from sockets: about as many as the server's writes.
    pub(crate) reads: Counter,
    pub(crate) sent: Counter,
    pub(crate) send_errors: Counter,
    pub(crate) deliveries: Counter,
    /// Sessions that ended by themselves.
    pub(crate) lost: Counter,
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
            sent_latency: recorder.latency("sent"),
            delivery_latency: recorder.latency("delivery"),
        }
    }
}

/// What went wrong, and how often: for the report.
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

/// Whose session it is, and where.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) user: String,
    /// Unique in the worker: gives the source address.
    pub(crate) number: u64,
    /// Which of the addresses, modulo their number.
    pub(crate) node: usize,
}

/// What a scenario does with a frame: its type, its JSON, and when it was read.
pub(crate) type OnFrame = Box<dyn FnMut(&str, &[u8], u64) + Send>;

/// Says something on a session. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client(Arc<Shared>);

struct Shared {
    run: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Frames that have not been given to the socket.
    outgoing: Vec<u8>,
    /// Of the session's task.
    waker: Option<Waker>,
    is_closing: bool,
    is_over: bool,
    next_id: u64,
    answers: HashMap<u64, oneshot::Sender<Value>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Says something that is answered elsewhere or not at all.
    pub(crate) fn say(&self, frame: &str) {
        let mut state = self.0.state();
        wire::put_text(&mut state.outgoing, frame.as_bytes());
        wake(&mut state);
    }

    /// A `send` that was meant to leave at `intended_ns`; `place` is `"to":"…"` or `"conversation_id":"…"`, `number` tells
    /// it from the others of this client.
    pub(crate) fn send(&self, place: &str, number: u64, intended_ns: u64, text: &str) {
        let mut frame = String::with_capacity(128 + text.len());
        // Writing to a string does not fail.
        let _ = write!(
            frame,
            r#"{{"type":"send",{place},"client_id":"{}.{number:x}.{intended_ns:x}","content":{{"text":"{text}"}}}}"#,
            self.0.run
        );
        self.say(&frame);
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// It is an `error`, or none comes.
    pub(crate) async fn ask(&self, mut frame: Value) -> Result<Value> {
        let (answer, answered) = oneshot::channel();
        let kind = frame["type"].as_str().unwrap_or_default().to_owned();
        {
            let mut state = self.0.state();
            if state.is_over {
                bail!("{kind}: the session is over");
            }
            let id = state.next_id;
            state.next_id += 1;
            state.answers.insert(id, answer);
            frame["id"] = Value::String(format!("{id}"));
            wire::put_text(&mut state.outgoing, frame.to_string().as_bytes());
            wake(&mut state);
        }
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
        let answer = answer.with_context(|| format!("{kind}: no answer"))?;
        let answer = answer.with_context(|| format!("{kind}: the session ended before the answer"))?;
        if answer["type"] == "error" {
            bail!("{kind} was refused: {}: {}", answer["code"], answer["message"]);
        }
        Ok(answer)
    }

    /// Closes the session once everything that was said has left.
    pub(crate) fn close(&self) {
        let mut state = self.0.state();
        state.is_closing = true;
        wake(&mut state);
    }
}

fn wake(state: &mut State) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

/// When a send was meant to leave, from its `client_id`; `None` for those of others.
pub(crate) fn intended_ns(client_id: &str, run: &str) -> Option<u64> {
    let (_, moment) = client_id.strip_prefix(run)?.rsplit_once('.')?;
    u64::from_str_radix(moment, 16).ok()
}

/// The task of a session.
pub(crate) struct Session {
    network: Arc<Network>,
    shared: Arc<Shared>,
    wire: Wire<TcpStream>,
    reader: Reader,
}

/// What a session does with what it reads.
struct Reader {
    on_frame: Option<OnFrame>,
    is_ready: bool,
    close: Option<Option<u16>>,
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client wanted it.
    Closed,
    /// It did not.
    Lost(String),
}

impl Session {
    /// Connects and waits for `ready`.
    ///
    /// # Errors
    /// There is no way to the node, or it refuses.
    pub(crate) async fn open(network: &Arc<Network>, who: &Who, on_frame: Option<OnFrame>) -> Result<(Client, Self)> {
        let address = &network.addresses[who.node % network.addresses.len()];
        let token = match &network.entry {
            Entry::SignedIn(tokens) => Some(tokens.token(address, &who.user).await?),
            Entry::Upgraded | Entry::Connected => None,
        };
        let socket = connect::tcp(address, Some((network.sources, who.number))).await?;
        let wire = match &network.entry {
            Entry::Connected => Wire::new(socket, Vec::new()),
            _ => connect::upgrade(socket, address, token.as_deref(), "load").await?,
        };
        let shared = Shared { run: network.run.clone(), state: Mutex::default() };
        let shared = Arc::new(shared);
        let reader = Reader { on_frame, is_ready: token.is_none(), close: None };
        let mut session = Self { network: network.clone(), shared: shared.clone(), wire, reader };
        if session.reader.is_ready {
            return Ok((Client(shared), session));
        }
        let signed_in = poll_fn(|cx| match session.poll(cx) {
            _ if session.reader.is_ready => Poll::Ready(Ok(())),
            Poll::Ready(end) => Poll::Ready(Err(end)),
            Poll::Pending => Poll::Pending,
        });
        match tokio::time::timeout(ANSWER_TIMEOUT, signed_in).await.context("no ready frame")? {
            Ok(()) => Ok((Client(shared), session)),
            Err(end) => bail!("no session for {}: {end:?}", who.user),
        }
    }

    /// Serves the session to its end.
    pub(crate) async fn run(mut self) -> End {
        let end = poll_fn(|cx| self.poll(cx)).await;
        let mut state = self.shared.state();
        state.is_over = true;
        state.answers.clear();
        if let End::Lost(why) = &end {
            self.network.meters.lost.add(1);
            self.network.complaints.note(&format!("a session was lost: {why}"));
        }
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let is_closing = self.take_outgoing(cx);
        loop {
            if let Poll::Ready(Err(error)) = self.wire.poll_flush(cx) {
                return Poll::Ready(self.ended(is_closing, &error.to_string()));
            }
            match self.read(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(true)) if self.reader.close.is_none() => {}
                Poll::Ready(Ok(_)) => return Poll::Ready(self.ended(is_closing, "the server closed")),
                Poll::Ready(Err(error)) => return Poll::Ready(self.ended(is_closing, &error.to_string())),
            }
        }
        Poll::Pending
    }

    /// Gives what was said to the wire, and sees that the next that is said wakes the task.
    fn take_outgoing(&mut self, cx: &Context<'_>) -> bool {
        let mut state = self.shared.state();
        if !state.outgoing.is_empty() {
            self.wire.put_encoded(&mut state.outgoing);
        }
        if state.is_closing && !state.is_over {
            state.is_over = true;
            self.wire.put_close();
        }
        state.waker = Some(cx.waker().clone());
        state.is_closing
    }

    fn ended(&self, is_closing: bool, why: &str) -> End {
        match self.reader.close {
            _ if is_closing => End::Closed,
            Some(Some(code)) => End::Lost(format!("close code {code}")),
            _ => End::Lost(why.to_owned()),
        }
    }

    /// Reads once, and counts.
    fn read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let (reads, bytes) = (self.wire.reads, self.wire.bytes);
        let mut frames = 0;
        // One look at the clock for all frames that came together.
        let mut at_ns = None;
        let (network, shared, reader) = (&self.network, &self.shared, &mut self.reader);
        let result = self.wire.poll_read(cx, &mut |received| match received {
            Received::Text(json) => {
                frames += 1;
                reader.on_text(network, shared, json, *at_ns.get_or_insert_with(now_ns));
            }
            Received::Close(code) => reader.close = Some(code),
        });
        if self.wire.reads > reads {
            let meters = &self.network.meters;
            meters.frames.add(frames);
            meters.reads.add(self.wire.reads - reads);
            meters.bytes.add(self.wire.bytes - bytes);
        }
        result
    }
}

impl Reader {
    fn on_text(&mut self, network: &Network, shared: &Shared, json: &[u8], at_ns: u64) {
        let Some(kind) = scan::text(json, "type") else {
            network.complaints.note("a frame without a type");
            return;
        };
        let meters = &network.meters;
        let latency_ns = |json| {
            let client_id = scan::text(json, "client_id")?;
            Some(at_ns.saturating_sub(intended_ns(client_id, &network.run)?))
        };
        match kind {
            "message" => {
                if let Some(ns) = latency_ns(json) {
                    meters.deliveries.add(1);
                    meters.delivery_latency.record_ns(ns);
                }
            }
            "sent" => {
                if let Some(ns) = latency_ns(json) {
                    meters.sent.add(1);
                    meters.sent_latency.record_ns(ns);
                }
            }
            "ready" => self.is_ready = true,
            "error" => on_error(network, json),
            _ => {}
        }
        if let Some(id) = scan::text(json, "id") {
            answer(shared, id, json);
        }
        if let Some(on_frame) = &mut self.on_frame {
            on_frame(kind, json, at_ns);
        }
    }
}

fn on_error(network: &Network, json: &[u8]) {
    if scan::text(json, "client_id").is_some() {
        network.meters.send_errors.add(1);
    }
    let code = scan::text(json, "code").unwrap_or("without a code");
    let message = scan::text(json, "message").unwrap_or_default();
    network.complaints.note(&format!("error {code}: {message}"));
}

fn answer(shared: &Shared, id: &str, json: &[u8]) {
    let waiting = id.parse().ok().and_then(|id: u64| shared.state().answers.remove(&id));
    if let (Some(waiting), Ok(value)) = (waiting, serde_json::from_slice(json)) {
        // Who asked may have given up.
        let _ = waiting.send(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_carries_its_moment() {
        assert_eq!(intended_ns("run7.a.ff", "run7"), Some(255));
        assert_eq!(intended_ns("run7.u.3.10", "run7"), Some(16));
        for other in ["run8.a.ff", "run7", "run7.a.", "run7.a.xyz", ""] {
            assert_eq!(intended_ns(other, "run7"), None, "{other}");
        }
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
