//! One WebSocket connection and its main loop. Signing in is in `sign_in.rs`, unanswered requests in `requests.rs`, the
//! client's frames in `frames.rs`, queued frames in `outbox.rs`, deadlines in `deadlines.rs`.
//!
//! The future is written by hand, so that an idle session holds only what it needs; a test checks its size.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use switchboard_protocol::server::{Frame, Reconnect};
use switchboard_protocol::{CloseCode, FrameId};

use super::close::Ending;
use super::deadlines::{Deadlines, Due};
use super::frames::Conduct;
use super::line::Line;
use super::outbox::{Lent, Mark, Move, Orders, Outbox};
use super::requests::Requests;
use super::sign_in::{Gate, Hello, SignedIn};
use super::wire::Wire;
use crate::admission::Slot;
use crate::gateway::Gateway;
use crate::metrics::{QUEUE_BYTES, SentTally, count_disconnect};

/// Time for a client to receive the last frames and to close its side.
const CLOSE_MS_MAX: u64 = 5_000;
/// Time for a client to move, beyond `after_ms` (PROTOCOL §2).
pub(crate) const MOVE_GRACE_MS: u64 = 2_000;

/// The future that serves a connection until it is closed.
pub(crate) struct Session<S> {
    wire: Wire<S>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) stage: Stage,
    /// While a sign-in or renewal is in progress. No further frame is read meanwhile.
    pub(super) gate: Option<Gate>,
    /// `None` if no request is unanswered.
    pub(super) requests: Option<Box<Requests>>,
    pub(super) deadlines: Deadlines,
    pub(super) conduct: Conduct,
    /// The bytes waiting for this socket.
    waiting: Waiting,
    _slot: Slot,
}

/// The stages of a session.
pub(super) enum Stage {
    /// Not signed in; what the upgrade request said about the device.
    Anonymous(Box<Hello>),
    Open(Box<SignedIn>),
    /// The close frame has been put.
    Closing {
        /// Whether to wait for the client to close too; not if it closed first.
        waits: bool,
    },
}

impl<S: Line> Session<S> {
    /// A session on an upgraded socket. `read_ahead` is what was read beyond the upgrade request.
    pub(crate) fn new(gateway: Arc<Gateway>, socket: S, read_ahead: Bytes, hello: Hello, slot: Slot) -> Self {
        let settings = gateway.settings();
        let limits = &settings.limits;
        let now_ms = gateway.clock.monotonic_ms();
        let mut session = Self {
            wire: Wire::new(socket, read_ahead, limits.frame_bytes),
            outbox: Arc::new(Outbox::new(limits.session_queue_bytes)),
            stage: Stage::Closing { waits: false },
            gate: None,
            requests: None,
            deadlines: Deadlines::new(now_ms, limits.heartbeat_ms, now_ms + limits.auth_timeout_ms),
            conduct: Conduct::default(),
            waiting: Waiting::default(),
            _slot: slot,
            gateway,
        };
        session.begin(hello);
        session
    }

    /// Does everything that can be done now. Returns true if the session has ended.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        let (orders, lent) = self.outbox.begin_turn(cx.waker());
        if let Some(Lent { socket, unsent }) = lent {
            self.wire.take_back(socket, unsent);
        }
        self.obey(orders);
        while !self.is_closing() {
            let mut again = self.poll_gate(cx);
            // Among entries, `sent` takes the place of the client's own message: earlier entries of the log leave before
            // it, and frames delivered after it (behind the mark) leave after it.
            let mark = if self.requests.is_some() { self.outbox.mark() } else { Mark::ALL };
            self.poll_answers(cx);
            self.take_frames(mark);
            again |= self.poll_messages(cx);
            let had_room = self.wire.has_room();
            if again && had_room {
                continue;
            }
            // Repeat if the flush has made room for something that had to wait.
            if self.is_closing() || self.poll_flush(cx).is_pending() || (!again && had_room) {
                break;
            }
        }
        if self.deadlines.take_changed() {
            self.arm();
        }
        let has_ended = self.is_closing() && self.poll_closing(cx);
        self.report_queue();
        self.lend();
        has_ended
    }

    /// Lends the socket, so that others write frames while the session sleeps; not while an answer must leave before
    /// them.
    fn lend(&mut self) {
        if !matches!(self.stage, Stage::Open(_)) || self.requests.is_some() {
            return;
        }
        if let Some(socket) = self.wire.lend() {
            self.outbox.lend(socket);
        }
    }

    /// Returns true if a sign-in or renewal has completed.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(gate) = &mut self.gate else { return false };
        let Poll::Ready(verdict) = gate.poll_unpin(cx) else { return false };
        self.gate = None;
        self.pass(verdict);
        true
    }

    fn poll_answers(&mut self, cx: &mut Context<'_>) {
        let Some(mut requests) = self.requests.take() else { return };
        let mut tally = SentTally::default();
        while self.wire.has_room() {
            let Poll::Ready(answer) = requests.poll_answer(cx) else { break };
            if let Some(position) = answer.position {
                self.take_frames(self.outbox.mark_before(position));
            }
            if !self.wire.has_room() {
                requests.put_back(answer);
                break;
            }
            self.wire.put_text(answer.json.as_bytes());
            tally.add(answer.kind);
        }
        if requests.len() > 0 {
            self.requests = Some(requests);
        }
    }

    fn take_frames(&mut self, mark: Mark) {
        if !matches!(self.stage, Stage::Open(_)) || !self.wire.has_room() {
            return;
        }
        let mut tally = SentTally::default();
        let wire = &mut self.wire;
        self.outbox.take_frames(mark, |delivery| {
            wire.put_text(&delivery.json);
            tally.add(delivery.kind);
            wire.has_room()
        });
    }

    /// Returns true if something was received.
    fn poll_messages(&mut self, cx: &mut Context<'_>) -> bool {
        let mut last = None;
        while self.may_read() {
            match self.wire.poll_message(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(message)) => {
                    // The previous message is dropped only here. It shares the read buffer, which would otherwise be
                    // reused and stay as large as the largest message.
                    self.on_message(last.insert(message));
                }
                Poll::Ready(Err(error)) => {
                    self.on_wire_error(error);
                    return true;
                }
            }
        }
        last.is_some()
    }

    fn may_read(&self) -> bool {
        let may_ask = || match &self.requests {
            Some(requests) => requests.len() < self.gateway.settings().limits.session_requests_max,
            None => true,
        };
        self.gate.is_none() && !self.is_closing() && self.wire.has_room() && may_ask()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wire.poll_flush(cx).map(|result| {
            if let Err(error) = result {
                self.end(Ending::Broken(error.into()));
            }
        })
    }

    /// Returns true if nothing is left to do, or the time for it is over.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> bool {
        let is_over = self.deadlines.due(self.gateway.clock.monotonic_ms()) == Some(Due::Stage);
        let is_done = match self.stage {
            Stage::Closing { waits: false } => self.wire.poll_shutdown(cx).is_ready(),
            _ => self.wire.poll_goodbye(cx).is_ready(),
        };
        is_done || is_over
    }

    fn obey(&mut self, orders: Orders) {
        if let Some(code) = orders.close {
            self.end(Ending::Ordered(code));
        }
        if let Some(order) = orders.reconnect {
            self.on_move(*order);
        }
        if orders.alarm {
            self.on_alarm();
        }
    }

    fn on_move(&mut self, order: Move) {
        let Stage::Open(_) = self.stage else { return };
        let end_ms = self.gateway.clock.monotonic_ms() + order.after_ms + MOVE_GRACE_MS;
        self.deadlines.set_stage_end(Some(end_ms));
        self.put(&Reconnect { after_ms: order.after_ms, url: order.url }, None);
    }

    fn on_alarm(&mut self) {
        while !self.is_closing() {
            if self.gateway.closing.is_cancelled() {
                return self.end(Ending::NodeStops);
            }
            if self.has_expired() {
                return self.end(Ending::Expired);
            }
            match self.deadlines.due(self.gateway.clock.monotonic_ms()) {
                Some(Due::Stage) if matches!(self.stage, Stage::Open(_)) => self.end(Ending::Moved),
                Some(Due::Stage) => self.end(Ending::AuthTimeout),
                Some(Due::Silent) => self.end(Ending::Silent),
                Some(Due::Ping) => self.wire.put_ping(),
                None => return,
            }
        }
    }

    fn has_expired(&self) -> bool {
        let Stage::Open(signed_in) = &self.stage else { return false };
        signed_in.expires_at.unix_ms() <= self.gateway.clock.wall_ms()
    }

    /// Schedules the wake-up for the next deadline.
    fn arm(&mut self) {
        let now_ms = self.gateway.clock.monotonic_ms();
        let expires_ms = match &self.stage {
            Stage::Open(signed_in) => {
                let left_ms = signed_in.expires_at.unix_ms() - self.gateway.clock.wall_ms();
                Some(now_ms + u64::try_from(left_ms).unwrap_or(0))
            }
            Stage::Anonymous(_) | Stage::Closing { .. } => None,
        };
        if let Some(deadline_ms) = self.deadlines.arm_for(now_ms, expires_ms) {
            self.gateway.timers.arm(deadline_ms, &self.outbox);
        }
    }

    /// Puts a frame of the session itself.
    pub(super) fn put<F: Frame>(&mut self, frame: &F, id: Option<&FrameId>) {
        self.put_encoded(F::TYPE, &frame.encode(id));
    }

    pub(super) fn put_encoded(&mut self, kind: &'static str, json: &str) {
        self.wire.put_text(json.as_bytes());
        SentTally::default().add(kind);
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing { .. })
    }

    /// Tells the client why, and begins to close. Frames queued earlier leave first.
    pub(super) fn end(&mut self, ending: Ending) {
        if self.is_closing() {
            return;
        }
        if let Stage::Open(_) = self.stage {
            let wire = &mut self.wire;
            self.outbox.take_frames(Mark::ALL, |delivery| {
                wire.put_text(&delivery.json);
                true
            });
        }
        self.outbox.shut();
        let waits = !matches!(ending, Ending::ByClient(_));
        let farewell = ending.farewell();
        if let Some(error) = farewell.error_frame() {
            self.put_encoded("error", &error);
        }
        // A close by the client is answered with its code (RFC 6455 §5.5.1). `tungstenite` would answer it only when
        // reading on, and nothing more is read.
        if farewell.code != CloseCode::Broken {
            self.wire.put_close(farewell.code);
        }
        count_disconnect(farewell.code);
        self.stage = Stage::Closing { waits };
        if let Some(requests) = self.requests.take() {
            requests.hand_over();
        }
        self.gate = None;
        let wait_ms = if farewell.code == CloseCode::Broken { 0 } else { CLOSE_MS_MAX };
        self.deadlines.set_stage_end(Some(self.gateway.clock.monotonic_ms() + wait_ms));
    }

    /// Updates the metric of bytes that wait for sockets that accept no more.
    fn report_queue(&mut self) {
        let unsent = self.wire.unsent_bytes();
        self.waiting.set(if unsent == 0 { 0 } else { unsent + self.outbox.bytes() });
    }
}

/// A session's share of the metric of waiting bytes; taken back when the session ends.
#[derive(Debug, Default)]
struct Waiting {
    bytes: usize,
}

impl Waiting {
    fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            #[expect(clippy::cast_precision_loss, reason = "a bounded queue's bytes are far below 2^52")]
            QUEUE_BYTES.increment(bytes as f64 - self.bytes as f64);
            self.bytes = bytes;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl<S: Line> Future for Session<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.get_mut().turn(cx) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::Tcp;

    /// A connection's memory, besides 1 KiB of read buffer and its registrations with the router and the kernel's event
    /// queue (ARCHITECTURE.md, "What a connection holds").
    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<Session<Tcp>>() <= 512, "{}", size_of::<Session<Tcp>>());
        assert!(size_of::<Wire<Tcp>>() <= 312, "{}", size_of::<Wire<Tcp>>());
        assert!(size_of::<Outbox>() <= 176, "{}", size_of::<Outbox>());
        assert!(size_of::<SignedIn>() <= 32, "{}", size_of::<SignedIn>());
    }
}
