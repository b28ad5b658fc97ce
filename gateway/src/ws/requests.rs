//! The unanswered requests of a session.
//!
//! Requests run concurrently. Answers about the same conversation leave in the order of their frames (PROTOCOL §1), so
//! an answer may wait here for an earlier one. Requests with large answers run one at a time, so that a client that
//! requests much and reads slowly costs the memory of one large answer. The session limits the number of requests
//! (`limits.session_requests_max`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use switchboard_protocol::ClientFrame;
use switchboard_router::{LogPosition, OrderKey};
use tokio::task::coop;

/// A running request; it yields `None` if it has no answer.
pub(super) type Request = Pin<Box<dyn Future<Output = Option<Encoded>> + Send>>;

/// An answer, ready to be sent.
pub(super) struct Encoded {
    /// Its `type`.
    pub(super) kind: &'static str,
    pub(super) json: String,
    /// The position of the entry that it represents for the client, such as the message of a `sent`.
    pub(super) position: Option<LogPosition>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Requests {
    running: FuturesUnordered<Numbered>,
    /// In the order of the frames.
    slots: VecDeque<Slot>,
    next_number: u64,
    /// A request with a large answer is running, or its answer is waiting.
    is_asking: bool,
    /// An answer that was returned by [`Requests::poll_answer`] but could not leave yet.
    put_back: Option<Encoded>,
}

struct Slot {
    number: u64,
    order: OrderKey,
    is_large: bool,
    state: State,
}

enum State {
    /// Waits for an earlier request with a large answer.
    Parked(Request),
    Running,
    Done(Option<Encoded>),
}

impl Requests {
    /// The number of unanswered requests.
    pub(super) fn len(&self) -> usize {
        self.slots.len() + usize::from(self.put_back.is_some())
    }

    /// Adds a request. It starts at the next [`Requests::poll_answer`], or, with a large answer, after the earlier ones.
    pub(super) fn push(&mut self, order: OrderKey, is_large: bool, request: Request) {
        let number = self.next_number;
        self.next_number += 1;
        let state = if is_large && self.is_asking {
            State::Parked(request)
        } else {
            self.is_asking |= is_large;
            self.running.push(Numbered { number, request });
            State::Running
        };
        self.slots.push_back(Slot { number, order, is_large, state });
    }

    /// Whether an answer with this key has to wait for an earlier one.
    pub(super) fn holds_up(&self, order: &OrderKey) -> bool {
        order.is_some() && (self.put_back.is_some() || self.slots.iter().any(|slot| slot.order == *order))
    }

    /// Adds an answer that is already known.
    pub(super) fn push_answer(&mut self, order: OrderKey, answer: Encoded) {
        let number = self.next_number;
        self.next_number += 1;
        self.slots.push_back(Slot { number, order, is_large: false, state: State::Done(Some(answer)) });
    }

    /// Takes back an answer that can't leave yet. It will be returned next.
    pub(super) fn put_back(&mut self, answer: Encoded) {
        self.put_back = Some(answer);
    }

    /// The next answer that may leave now. Pending if there is no request.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Encoded> {
        if let Some(answer) = self.put_back.take() {
            return Poll::Ready(answer);
        }
        loop {
            while let Some(at) = self.first_due() {
                if let Some(answer) = self.take(at) {
                    return Poll::Ready(answer);
                }
            }
            // Without the task's cooperative budget, which may be used up: a completed answer must leave before frames
            // that were queued after it.
            match coop::unconstrained(self.running.next()).poll_unpin(cx) {
                Poll::Ready(Some((number, answer))) => self.finish(number, answer),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Starts the requests that have not been polled yet, for a session that ends, so that frames received just before
    /// its end take effect. Another task completes a started request. Reads that wait for an earlier large answer are
    /// dropped.
    pub(super) fn hand_over(mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        while self.poll_answer(&mut nobody).is_ready() {}
    }

    fn finish(&mut self, number: u64, answer: Option<Encoded>) {
        if let Ok(at) = self.slots.binary_search_by_key(&number, |slot| slot.number) {
            self.slots[at].state = State::Done(answer);
        }
    }

    /// The first completed request without an earlier unanswered one about the same conversation.
    fn first_due(&self) -> Option<usize> {
        (0..self.slots.len()).find(|&at| {
            let slot = &self.slots[at];
            let is_held = || slot.order.is_some() && self.slots.range(..at).any(|before| before.order == slot.order);
            matches!(slot.state, State::Done(_)) && !is_held()
        })
    }

    fn take(&mut self, at: usize) -> Option<Encoded> {
        let slot = self.slots.remove(at)?;
        if slot.is_large {
            self.ask_next();
        }
        match slot.state {
            State::Done(answer) => answer,
            State::Parked(_) | State::Running => None,
        }
    }

    fn ask_next(&mut self) {
        let parked = self.slots.iter_mut().find(|slot| matches!(slot.state, State::Parked(_)));
        self.is_asking = parked.is_some();
        if let Some(slot) = parked
            && let State::Parked(request) = std::mem::replace(&mut slot.state, State::Running)
        {
            self.running.push(Numbered { number: slot.number, request });
        }
    }
}

/// Whether the answer to the frame may be large: up to 1 MiB, compared to a few hundred bytes for others.
pub(super) fn is_large_question(frame: &ClientFrame) -> bool {
    matches!(
        frame,
        ClientFrame::History(_)
            | ClientFrame::Changes(_)
            | ClientFrame::Sync(_)
            | ClientFrame::ConversationMembers(_)
            | ClientFrame::TopicWatch(_)
    )
}

/// Whether the frame is answered, with `ok`, only if it has an `id`: PROTOCOL §1 defines no other answer for it.
pub(super) fn is_quiet(frame: &ClientFrame) -> bool {
    matches!(
        frame,
        ClientFrame::ConversationClose(_)
            | ClientFrame::Delivered(_)
            | ClientFrame::Read(_)
            | ClientFrame::TypingStart(_)
            | ClientFrame::TypingStop(_)
            | ClientFrame::Signal(_)
            | ClientFrame::PresenceSet(_)
            | ClientFrame::PresenceUnwatch(_)
            | ClientFrame::TopicUnwatch(_)
    )
}

struct Numbered {
    number: u64,
    request: Request,
}

impl Future for Numbered {
    type Output = (u64, Option<Encoded>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let number = self.number;
        self.request.as_mut().poll(cx).map(|answer| (number, answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;
    use tokio::sync::oneshot;

    struct Asked {
        answer: oneshot::Sender<Option<String>>,
        begun: Arc<AtomicUsize>,
    }

    fn ask(requests: &mut Requests, order: Option<&str>, is_large: bool) -> Asked {
        let (answer, answered) = oneshot::channel::<Option<String>>();
        let begun = Arc::new(AtomicUsize::new(0));
        let has_begun = begun.clone();
        let request = Box::pin(async move {
            has_begun.fetch_add(1, Ordering::Relaxed);
            answered.await.unwrap().map(encoded)
        });
        requests.push(order.map(|id| id.parse().unwrap()), is_large, request);
        Asked { answer, begun }
    }

    fn encoded(json: String) -> Encoded {
        Encoded { kind: "ok", json, position: None }
    }

    fn answers(requests: &mut Requests) -> Vec<String> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut answers = Vec::new();
        while let Poll::Ready(answer) = requests.poll_answer(&mut cx) {
            answers.push(answer.json);
        }
        answers
    }

    #[test]
    fn answers_about_one_conversation_leave_in_the_order_of_their_frames() {
        let mut requests = Requests::default();
        let asked = [Some("a"), Some("b"), Some("a"), None, Some("a")].map(|order| ask(&mut requests, order, false));
        let [a1, b1, a2, other, a3] = asked;
        a3.answer.send(Some("a3".to_owned())).unwrap();
        a2.answer.send(Some("a2".to_owned())).unwrap();
        b1.answer.send(Some("b1".to_owned())).unwrap();
        assert_eq!(answers(&mut requests), ["b1"]);
        a1.answer.send(None).unwrap();
        assert_eq!(answers(&mut requests), ["a2", "a3"], "a request without an answer delays no others");
        assert_eq!(requests.len(), 1);
        other.answer.send(Some("other".to_owned())).unwrap();
        assert_eq!(answers(&mut requests), ["other"]);
        assert_eq!(requests.len(), 0);
    }

    #[tokio::test]
    async fn an_answer_that_is_there_is_found_though_the_tasks_budget_is_used_up() {
        let mut requests = Requests::default();
        let asked = ask(&mut requests, None, false);
        asked.answer.send(Some("1".to_owned())).unwrap();
        let found = std::future::poll_fn(|cx| {
            while let Poll::Ready(budget) = coop::poll_proceed(cx) {
                budget.made_progress();
            }
            Poll::Ready(requests.poll_answer(cx).map(|answer| answer.json))
        });
        assert_eq!(found.await, Poll::Ready("1".to_owned()));
    }

    #[test]
    fn an_answer_that_is_there_at_once_waits_for_those_before_it() {
        let mut requests = Requests::default();
        let first = ask(&mut requests, Some("a"), false);
        let order = |id: &str| Some(id.parse().unwrap());
        assert!(requests.holds_up(&order("a")) && !requests.holds_up(&order("b")) && !requests.holds_up(&None));
        requests.push_answer(order("a"), encoded("refused".to_owned()));
        assert!(answers(&mut requests).is_empty());
        first.answer.send(Some("1".to_owned())).unwrap();
        assert_eq!(answers(&mut requests), ["1", "refused"]);
    }

    #[test]
    fn an_answer_that_is_put_back_is_the_next() {
        let mut requests = Requests::default();
        let first = ask(&mut requests, Some("a"), false);
        let second = ask(&mut requests, Some("a"), false);
        first.answer.send(Some("1".to_owned())).unwrap();
        second.answer.send(Some("2".to_owned())).unwrap();
        let Poll::Ready(answer) = requests.poll_answer(&mut Context::from_waker(Waker::noop())) else { panic!() };
        requests.put_back(answer);
        assert_eq!(requests.len(), 2);
        assert_eq!(answers(&mut requests), ["1", "2"]);
        assert_eq!(requests.len(), 0);
    }

    #[test]
    fn large_answers_are_asked_for_one_at_a_time() {
        let mut requests = Requests::default();
        let first = ask(&mut requests, Some("a"), true);
        let small = ask(&mut requests, Some("c"), false);
        let second = ask(&mut requests, Some("b"), true);
        let third = ask(&mut requests, Some("a"), true);
        let begun = || [&first, &small, &second, &third].map(|asked| asked.begun.load(Ordering::Relaxed));
        assert!(answers(&mut requests).is_empty());
        assert_eq!(begun(), [1, 1, 0, 0]);
        first.answer.send(Some("1".to_owned())).unwrap();
        assert_eq!(answers(&mut requests), ["1"]);
        assert_eq!([&small, &second, &third].map(|asked| asked.begun.load(Ordering::Relaxed)), [1, 1, 0]);
        second.answer.send(Some("2".to_owned())).unwrap();
        third.answer.send(Some("3".to_owned())).unwrap();
        assert_eq!(answers(&mut requests), ["2", "3"]);
    }
}
