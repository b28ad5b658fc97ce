//! One session, from `ready` to its end, and if the client follows the log, the sessions after it.
//!
//! A [`Client`] is the handle through which a scenario sends; the [`Session`] is the task that reads, answers pings and
//! writes what was sent. Latencies need no table of sends under way: a send's `client_id` contains the intended moment,
//! and comes back in `sent` and in the other side's `message`.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::sync::oneshot;

use super::catch_up::{catch_up, look_back};
use super::connect;
use super::dial::Socket;
use super::follow::Follow;
use super::network::{Entry, Network, client_id};
use super::reader::{OnFrame, Reader};
use super::wire::{self, Received, Wire};
use crate::meter::now_ns;

/// How long to wait for an answer. The server itself gives up after `limits.send_timeout_ms` (5 s).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause before another attempt to catch up, after an error.
const CATCH_UP_AGAIN_AFTER: Duration = Duration::from_millis(200);

mod come_back;

/// The user of a session, and its node.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) user: String,
    /// Unique in the worker: determines the source address, and is part of each `client_id`.
    pub(crate) number: u64,
    /// The index of the address, modulo their number.
    pub(crate) node: usize,
}

/// Sends on a session. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client(Arc<Shared>);

/// What a client's handle and its task share.
pub(super) struct Shared {
    run: String,
    number: u64,
    user: String,
    /// Set if the client follows the log.
    pub(super) follow: Option<FollowLock>,
    state: Mutex<State>,
}

pub(super) struct FollowLock(Mutex<Follow>);

impl FollowLock {
    pub(super) fn lock(&self) -> MutexGuard<'_, Follow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct State {
    /// Frames that have not been passed to the socket.
    outgoing: Vec<u8>,
    /// The waker of the session's task.
    waker: Option<Waker>,
    is_closing: bool,
    is_over: bool,
    /// There is no socket right now. Frames are lost, except sends, which are repeated.
    is_away: bool,
    /// The client does not want a session for now.
    is_leaving: bool,
    /// It is being brought up to date.
    is_catching_up: bool,
    /// Since when it should be up to date and is not.
    wanted_ns: Option<u64>,
    /// Frames to send at the beginning of each later session, by name.
    kept: BTreeMap<&'static str, String>,
    next_id: u64,
    answers: HashMap<u64, oneshot::Sender<Value>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes a frame with an `id` to the caller that waits for it.
    pub(super) fn answer(&self, id: &str, json: &[u8]) {
        let waiting = id.parse().ok().and_then(|id: u64| self.state().answers.remove(&id));
        if let (Some(waiting), Ok(value)) = (waiting, serde_json::from_slice(json)) {
            // The caller may have given up.
            let _ = waiting.send(value);
        }
    }
}

impl Client {
    pub(super) fn follow(&self) -> Option<&FollowLock> {
        self.0.follow.as_ref()
    }

    pub(crate) fn user(&self) -> &str {
        &self.0.user
    }

    /// Sends a frame that is answered elsewhere or not at all.
    pub(crate) fn say(&self, frame: &str) {
        let mut state = self.0.state();
        if !state.is_away {
            wire::put_text(&mut state.outgoing, frame.as_bytes());
            wake(&mut state);
            drop(state);
            if let Some(follow) = &self.0.follow {
                follow.lock().on_say(frame);
            }
        }
    }

    /// Keeps a frame to send at the beginning of each later session, which does not know what the former one watched or
    /// had open. It replaces the frame kept under this name before.
    pub(crate) fn keep_saying(&self, name: &'static str, frame: String) {
        self.0.state().kept.insert(name, frame);
    }

    /// A `send` with this intended moment; `place` is `"to":"…"` or `"conversation_id":"…"`, `number` distinguishes it
    /// from the others of this client.
    pub(crate) fn send(&self, place: &str, number: u64, intended_ns: u64, text: &str) {
        let client_id = client_id(&self.0.run, self.0.number, number, intended_ns);
        let frame = format!(r#"{{"type":"send",{place},"client_id":"{client_id}","content":{{"text":"{text}"}}}}"#);
        if let Some(follow) = &self.0.follow {
            follow.lock().on_send(&client_id, &frame);
        }
        self.say(&frame);
    }

    /// Sends a request, and waits for the answer.
    ///
    /// # Errors
    /// It is an `error`, or missing.
    pub(crate) async fn ask(&self, mut frame: Value) -> Result<Value> {
        let (answer, answered) = oneshot::channel();
        let kind = frame["type"].as_str().unwrap_or_default().to_owned();
        {
            let mut state = self.0.state();
            if state.is_over || state.is_away {
                bail!("{kind}: there is no session");
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

    /// Asks once more for everything that the server has for this client, for verification. Does nothing if the client
    /// does not follow the log.
    ///
    /// # Errors
    /// An answer is missing, or an error.
    /// An answer does not come, or is a refusal.
    pub(crate) async fn look_back(&self, network: &Arc<Network>) -> Result<()> {
        if self.0.follow.is_none() { Ok(()) } else { look_back(self, network).await }
    }

    /// Ends an absence, if there is one.
    pub(super) fn return_if_away(&self) {
        if self.0.state().is_leaving {
            self.come_back(now_ns());
        }
    }

    /// Whether the client has a session, is up to date, and has an answer to each of its sends. Always true for a
    /// client that does not follow the log; never for one that has given up.
    pub(super) fn is_settled(&self) -> bool {
        let Some(follow) = &self.0.follow else { return true };
        let is_still = {
            let follow = follow.lock();
            !follow.has_work() && follow.is_answered()
        };
        is_still && self.is_here() && !self.0.state().is_catching_up
    }

    /// Whether a send has no answer yet, so that the client should stay.
    pub(crate) fn is_waiting(&self) -> bool {
        let is_open = self.0.follow.as_ref().is_some_and(|follow| !follow.lock().is_answered());
        let state = self.0.state();
        is_open && !state.is_leaving && !state.is_over
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.0.state().is_over
    }

    /// Ends the session, once everything has been sent, until [`Client::come_back`].
    pub(crate) fn leave(&self) {
        let mut state = self.0.state();
        state.is_leaving = true;
        wake(&mut state);
    }

    /// Opens the next session after [`Client::leave`]. The time until the client is up to date counts from
    /// `intended_ns`.
    pub(crate) fn come_back(&self, intended_ns: u64) {
        let mut state = self.0.state();
        state.is_leaving = false;
        state.wanted_ns = Some(intended_ns);
        wake(&mut state);
    }

    /// Runs `sync`, for a client that follows the log; the time counts as in [`Client::come_back`].
    pub(crate) fn sync(&self, intended_ns: u64) {
        if let Some(follow) = &self.0.follow {
            follow.lock().is_sync_due = true;
        }
        self.come_back(intended_ns);
    }

    /// Whether there is a session.
    pub(crate) fn is_here(&self) -> bool {
        let state = self.0.state();
        !state.is_away && !state.is_leaving && !state.is_over
    }

    /// Closes the session once everything has been sent.
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

type CatchUp = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// The task of a session.
pub(crate) struct Session {
    network: Arc<Network>,
    who: Who,
    shared: Arc<Shared>,
    wire: Wire<Socket>,
    reader: Reader,
    /// The catching up that is running.
    catching_up: Option<CatchUp>,
}

/// The end of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client closed it.
    Closed,
    /// The client closed it temporarily.
    Left,
    /// It ended against the client's will.
    Lost(String),
}

impl Session {
    /// Connects and waits for `ready`.
    ///
    /// # Errors
    /// The node can't be reached, or refuses.
    pub(crate) async fn open(network: &Arc<Network>, who: &Who, on_frame: Option<OnFrame>) -> Result<(Client, Self)> {
        let follow = network.is_followed && matches!(network.entry, Entry::SignedIn(_));
        let follow = follow.then(|| FollowLock(Mutex::new(Follow::new(&who.user, network.log.clone()))));
        let (run, user) = (network.run.clone(), who.user.clone());
        let shared = Shared { run, number: who.number, user, follow, state: Mutex::default() };
        let shared = Arc::new(shared);
        let mut session = Self {
            network: network.clone(),
            who: who.clone(),
            shared: shared.clone(),
            wire: connected(network, who).await?,
            reader: Reader { on_frame, ready: None, close: None },
            catching_up: None,
        };
        if matches!(network.entry, Entry::SignedIn(_)) {
            session.sign_in().await?;
        }
        Ok((Client(shared), session))
    }

    /// Waits for `ready`.
    async fn sign_in(&mut self) -> Result<()> {
        let signed_in = poll_fn(|cx| match self.poll(cx) {
            _ if self.reader.ready.is_some() => Poll::Ready(Ok(())),
            Poll::Ready(end) => Poll::Ready(Err(end)),
            Poll::Pending => Poll::Pending,
        });
        let signed_in = tokio::time::timeout(ANSWER_TIMEOUT, signed_in).await.context("no ready frame")?;
        signed_in.map_err(|end| anyhow::anyhow!("no session for {}: {end:?}", self.who.user))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let (is_closing, is_leaving) = self.take_outgoing(cx);
            match self.wire.poll_flush(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(self.ended(is_closing, &error.to_string())),
                // Like a device that loses its network: without a close frame.
                Poll::Ready(Ok(())) if is_leaving => return Poll::Ready(End::Left),
                _ => {}
            }
            match self.read(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(true)) if self.reader.close.is_none() => {}
                Poll::Ready(Ok(_)) => return Poll::Ready(self.ended(is_closing, "the server closed")),
                Poll::Ready(Err(error)) => return Poll::Ready(self.ended(is_closing, &error.to_string())),
            }
        }
        self.poll_catch_up(cx);
        Poll::Pending
    }

    /// Starts catching up if needed, and continues it.
    fn poll_catch_up(&mut self, cx: &mut Context<'_>) {
        let Some(follow) = self.shared.follow.as_ref().filter(|_| self.reader.ready.is_some()) else { return };
        loop {
            if self.catching_up.is_none() {
                if self.shared.state().is_away {
                    return;
                }
                let has_work = follow.lock().has_work();
                self.shared.state().is_catching_up = has_work;
                if !has_work {
                    return self.up_to_date();
                }
                let (client, network) = (Client(self.shared.clone()), self.network.clone());
                self.catching_up = Some(Box::pin(async move { catch_up(&client, &network).await }));
            }
            let Some(catching_up) = &mut self.catching_up else { return };
            let Poll::Ready(done) = catching_up.as_mut().poll(cx) else { return };
            self.catching_up = None;
            if let Err(error) = done {
                self.network.complaints.note(&format!("catching up: {error:#}"));
                let (client, network) = (Client(self.shared.clone()), self.network.clone());
                // From the beginning: it is unknown how far it got.
                follow.lock().is_sync_due = true;
                self.catching_up = Some(Box::pin(async move {
                    tokio::time::sleep(CATCH_UP_AGAIN_AFTER).await;
                    catch_up(&client, &network).await
                }));
            }
        }
    }

    /// The client is up to date.
    fn up_to_date(&self) {
        let wanted_ns = self.shared.state().wanted_ns.take();
        if let Some(wanted_ns) = wanted_ns {
            self.network.meters.resumed.add(1);
            self.network.meters.resume_latency.record_ns(now_ns().saturating_sub(wanted_ns));
        }
    }

    /// Passes outgoing frames to the socket, and makes sure that the next one wakes the task.
    ///
    /// Returns whether the client wants the session to end, and whether only temporarily.
    fn take_outgoing(&mut self, cx: &Context<'_>) -> (bool, bool) {
        let mut state = self.shared.state();
        if !state.outgoing.is_empty() {
            self.wire.put_encoded(&mut state.outgoing);
        }
        if state.is_closing && !state.is_over {
            state.is_over = true;
            self.wire.put_close();
        }
        state.waker = Some(cx.waker().clone());
        (state.is_closing, state.is_leaving)
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
        // One clock reading for all frames that arrived together.
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

/// The connection to the node, as far as this network's clients connect.
async fn connected(network: &Network, who: &Who) -> Result<Wire<Socket>> {
    let any = &network.addresses[who.node % network.addresses.len()];
    let source = Some((network.sources, who.number));
    let token = match &network.entry {
        Entry::SignedIn(tokens) => Some(tokens.token(&network.dialer, any, &who.user).await?),
        Entry::Upgraded | Entry::Connected => None,
    };
    let home = match &token {
        Some(token) if network.is_at_home => {
            Some(connect::home(network.dialer.dial(any, source).await?, any, token).await?)
        }
        _ => None,
    };
    let address = home.as_ref().unwrap_or(any);
    let socket = network.dialer.dial(address, source).await?;
    match &network.entry {
        Entry::Connected => Ok(Wire::new(socket, Vec::new())),
        _ => connect::upgrade(socket, address, token.as_deref(), "load").await,
    }
}
