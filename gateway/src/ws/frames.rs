//! Handles a client's messages: parses frames, applies the rate limit, starts the requests, and answers errors.

use switchboard_protocol::limits::BAD_FRAMES_PER_MINUTE_MAX;
use switchboard_protocol::server::{ErrorFrame, Frame, Pong, ServerFrame};
use switchboard_protocol::{
    ClientFrame, ClientId, CloseCode, FrameId, Incoming, ProtocolError, Rejection, parse_client_frame,
};
use switchboard_router::{Answer, LogPosition, OrderKey, RETRY_AFTER_MS, Router};
use switchboard_store::UserKey;
use tungstenite::Message;
use tungstenite::error::Error as WireError;

use super::close::Ending;
use super::line::Line;
use super::requests::{Encoded, is_large_question, is_quiet};
use super::session::{Session, Stage};
use crate::metrics::{count_refused_send, count_send};
use crate::rate::{Bucket, Rate};

/// A session over its frame rate for longer than this is closed (PROTOCOL §7, 4429).
const OVER_RATE_US_MAX: u64 = 10_000_000;

/// A client's use of its limits.
#[derive(Default)]
pub(super) struct Conduct {
    frames: Bucket,
    /// Since when it has exceeded its frame rate.
    over_rate_since_us: Option<u64>,
    /// The times of the last minute's frames that were not JSON objects.
    bad_frames_ms: Vec<u64>,
}

impl<S: Line> Session<S> {
    pub(super) fn on_message(&mut self, message: &Message) {
        self.deadlines.heard(self.gateway.clock.monotonic_ms());
        match message {
            Message::Text(text) => self.on_text(text),
            Message::Binary(_) => self.end(Ending::Binary),
            Message::Close(frame) => {
                let code = frame.as_ref().and_then(|frame| CloseCode::from_u16(frame.code.into()));
                self.end(Ending::ByClient(code.unwrap_or(CloseCode::Normal)));
            }
            Message::Ping(_) => self.on_ping(),
            Message::Pong(_) | Message::Frame(_) => {}
        }
    }

    /// The pong is already queued (`wire.rs`). A ping counts as a frame: otherwise pings would have no limit.
    fn on_ping(&mut self) {
        let now_us = self.gateway.clock.monotonic_us();
        if self.take_frame(now_us).is_err() {
            self.end_if_over_rate_for_long(now_us);
        }
    }

    fn end_if_over_rate_for_long(&mut self, now_us: u64) {
        let since_us = *self.conduct.over_rate_since_us.get_or_insert(now_us);
        if now_us - since_us > OVER_RATE_US_MAX {
            self.end(Ending::RateLimited(self.conduct.frames.fills_in_us(now_us).div_ceil(1_000)));
        }
    }

    pub(super) fn on_wire_error(&mut self, error: WireError) {
        match error {
            WireError::ConnectionClosed | WireError::AlreadyClosed => self.end(Ending::ByClient(CloseCode::Normal)),
            error => self.end(Ending::Broken(error)),
        }
    }

    fn on_text(&mut self, text: &str) {
        let now_us = self.gateway.clock.monotonic_us();
        let parsed = parse_client_frame(text, &self.gateway.settings().parse_limits());
        if let Err(wait_us) = self.take_frame(now_us) {
            return self.on_frame_over_rate(parsed, wait_us, now_us);
        }
        match parsed {
            Ok(incoming) => self.on_frame(incoming, now_us),
            Err(rejection) => self.on_rejection(rejection),
        }
    }

    fn rate(&self) -> Rate {
        let per_s = self.gateway.settings().limits.frames_per_s;
        // PROTOCOL §8, "frames per second": the bucket holds two seconds' worth.
        Rate::new(per_s, per_s.saturating_mul(2))
    }

    fn take_frame(&mut self, now_us: u64) -> Result<(), u64> {
        let rate = self.rate();
        // A full bucket: the client is within its rate again.
        if self.conduct.frames.fills_in_us(now_us) == 0 {
            self.conduct.over_rate_since_us = None;
        }
        self.conduct.frames.take(rate, now_us)
    }

    fn on_frame_over_rate(&mut self, parsed: Result<Incoming, Rejection>, wait_us: u64, now_us: u64) {
        self.end_if_over_rate_for_long(now_us);
        if self.is_closing() {
            return;
        }
        let error = ProtocolError::rate_limited(wait_us.div_ceil(1_000));
        match parsed {
            Ok(Incoming { id, frame }) => self.refuse(id.as_ref(), &frame, &error),
            Err(rejection) => self.reject(Rejection { error, ..rejection }),
        }
    }

    fn on_rejection(&mut self, rejection: Rejection) {
        let is_bad_frame = rejection.not_an_object;
        self.reject(rejection);
        if is_bad_frame {
            let now_ms = self.gateway.clock.monotonic_ms();
            self.conduct.bad_frames_ms.retain(|at_ms| now_ms - at_ms < 60_000);
            self.conduct.bad_frames_ms.push(now_ms);
            if self.conduct.bad_frames_ms.len() >= BAD_FRAMES_PER_MINUTE_MAX as usize {
                self.end(Ending::NotAnObject);
            }
        }
    }

    /// Answers a frame that is refused, in order.
    fn refuse(&mut self, id: Option<&FrameId>, frame: &ClientFrame, error: &ProtocolError) {
        if matches!(frame, ClientFrame::Send(_)) {
            count_refused_send(error);
        }
        let order = self.order(|router, user| router.order_key(user, frame));
        self.put_in_turn(order, ErrorFrame::new(client_id_of(frame), error).encode(id));
    }

    /// Answers what could not be parsed as a frame, in order.
    fn reject(&mut self, rejection: Rejection) {
        let about = rejection.about.as_deref();
        let order = self.order(|router, user| about.and_then(|target| router.order_key_of_target(user, target)));
        self.put_in_turn(order, rejection.encode());
    }

    /// The key that orders the answer; `None` if no request is outstanding.
    fn order(&self, order: impl FnOnce(&Router, &UserKey) -> OrderKey) -> OrderKey {
        match (&self.requests, &self.stage, self.gateway.session_router()) {
            (Some(_), Stage::Open(signed_in), Some(router)) => order(router, &signed_in.connected.actor(false).user),
            _ => None,
        }
    }

    /// PROTOCOL §1: answers about one conversation are sent in the order of their frames.
    fn put_in_turn(&mut self, order: OrderKey, error: String) {
        match &mut self.requests {
            Some(requests) if requests.holds_up(&order) => {
                requests.push_answer(order, Encoded { kind: ErrorFrame::TYPE, json: error, position: None });
            }
            _ => self.put_encoded(ErrorFrame::TYPE, &error),
        }
    }

    fn on_frame(&mut self, incoming: Incoming, now_us: u64) {
        let Incoming { id, frame } = incoming;
        match (frame, &self.stage) {
            (ClientFrame::Ping, _) => self.put(&Pong {}, id.as_ref()),
            (ClientFrame::Auth(auth), _) => self.on_auth(id, auth),
            (frame, Stage::Open(_)) => self.on_request(id, frame, now_us),
            (frame, _) => self.refuse(id.as_ref(), &frame, &ProtocolError::unauthorized("sign in with auth first")),
        }
    }

    fn on_request(&mut self, id: Option<FrameId>, frame: ClientFrame, now_us: u64) {
        let Stage::Open(signed_in) = &self.stage else { return };
        if let Err(error) = signed_in.scopes.check(&frame) {
            return self.refuse(id.as_ref(), &frame, &error);
        }
        let requests_max = self.gateway.settings().limits.requests_waiting_max;
        let Some(permit) = self.gateway.admission.permit(requests_max) else {
            return self.refuse(id.as_ref(), &frame, &ProtocolError::overloaded(RETRY_AFTER_MS));
        };
        let Some(router) = self.gateway.session_router().cloned() else { return };
        let actor = signed_in.connected.actor(id.is_some());
        let order = router.order_key(&actor.user, &frame);
        let conversation = order.clone();
        let is_large = is_large_question(&frame);
        let clock = self.gateway.clock.clone();
        let request = async move {
            let (is_send, is_quiet) = (matches!(frame, ClientFrame::Send(_)), is_quiet(&frame));
            let client_id = client_id_of(&frame);
            let result = router.call(actor, frame).await;
            drop(permit);
            if is_send {
                count_send(&result, clock.monotonic_us() - now_us);
            }
            match result {
                Ok(Answer::Frame(ServerFrame::Ok(_))) if is_quiet && id.is_none() => None,
                Ok(answer) => {
                    let entry = conversation.zip(answer.seq());
                    let position = entry.map(|(conversation, seq)| LogPosition::new(&conversation, seq));
                    Some(Encoded { kind: answer.type_name(), json: answer.encode(id.as_ref()), position })
                }
                Err(error) => {
                    let json = ErrorFrame::new(client_id, &error).encode(id.as_ref());
                    Some(Encoded { kind: ErrorFrame::TYPE, json, position: None })
                }
            }
        };
        self.requests.get_or_insert_default().push(order, is_large, Box::pin(request));
    }
}

fn client_id_of(frame: &ClientFrame) -> Option<ClientId> {
    match frame {
        ClientFrame::Send(send) => Some(send.client_id.clone()),
        _ => None,
    }
}
