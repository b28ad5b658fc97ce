//! Requests to other nodes, and the callers that wait for their replies.
//!
//! A reply without a waiting caller is dropped. A request that is not answered in time, or whose node has died, fails
//! with `unavailable`. The number of waiting requests is bounded (`limits.requests_waiting_max`).

use crate::envelope::{Ask, Envelope, Refusal, Reply};
use crate::node::{Node, lock};
use crate::owner::CommandInput;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use switchboard_protocol::ProtocolError;
use switchboard_store::{ConversationKey, Incarnation, Release};
use tokio::sync::oneshot;

/// The callers that wait.
#[derive(Default)]
pub(crate) struct Requests {
    /// By the order of the requests; they are given up in this order.
    waiting: Mutex<BTreeMap<u64, Waiter>>,
    last: AtomicU64,
}

/// A caller that waits for another node's reply.
struct Waiter {
    node: Incarnation,
    reply: oneshot::Sender<Result<Reply, ProtocolError>>,
}

/// A request that has been sent.
struct Asked {
    request: u64,
    reply: oneshot::Receiver<Result<Reply, ProtocolError>>,
}

impl Requests {
    /// The number for a new request; `None` if `most` wait already.
    fn add(&self, waiter: Waiter, most: usize) -> Option<u64> {
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= most {
            return None;
        }
        let request = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        waiting.insert(request, waiter);
        Some(request)
    }
}

impl Node {
    /// Sends a request to another node, and waits for its reply.
    ///
    /// # Errors
    /// The other node's error, or `unavailable` if it does not answer in time.
    pub(crate) async fn ask(&self, node: &Incarnation, ask: Ask) -> Result<Reply, ProtocolError> {
        let answer = self.ask_within(node, ask, self.options().send_timeout_ms).await;
        answer.unwrap_or_else(|| Err(self.unavailable()))
    }

    /// The same with a time limit; `None` if it expires.
    pub(crate) async fn ask_within(
        &self,
        node: &Incarnation,
        ask: Ask,
        timeout_ms: u64,
    ) -> Option<Result<Reply, ProtocolError>> {
        match self.begin_asking(node, ask) {
            Ok(asked) => self.reply_to(asked, timeout_ms).await,
            Err(error) => Some(Err(error)),
        }
    }

    /// Sends a request to another node. What is sent to that node later arrives after it.
    fn begin_asking(&self, node: &Incarnation, ask: Ask) -> Result<Asked, ProtocolError> {
        let (waiter, reply) = oneshot::channel();
        let most = self.options().requests_waiting_max;
        let Some(request) = self.requests.add(Waiter { node: node.clone(), reply: waiter }, most) else {
            self.figures.overloaded_requests.increment(1);
            return Err(self.overloaded());
        };
        self.links.send(node, Envelope::Request { request, ask });
        Ok(Asked { request, reply })
    }

    /// Waits for the reply for this long; `None` if it has not come by then.
    async fn reply_to(&self, asked: Asked, timeout_ms: u64) -> Option<Result<Reply, ProtocolError>> {
        // The caller may stop waiting at any time; then the request is forgotten.
        let _forget = Forget { requests: &self.requests, request: asked.request };
        tokio::select! {
            biased;
            reply = asked.reply => reply.ok(),
            () = self.clock.sleep_ms(timeout_ms) => None,
        }
    }

    /// A reply has come.
    pub(crate) fn replied(&self, request: u64, reply: Result<Reply, Refusal>) {
        // The caller may have given up.
        if let Some(waiter) = lock(&self.requests.waiting).remove(&request) {
            drop(waiter.reply.send(reply.map_err(Refusal::into_error)));
        }
    }

    /// Gives up requests to dead nodes.
    pub(crate) fn forget_requests(&self, lives: impl Fn(&Incarnation) -> bool) {
        lock(&self.requests.waiting).retain(|_, waiter| lives(&waiter.node));
    }

    /// Passes a command on to the conversation's owner in the current view. The request has been sent when this
    /// returns, so commands arrive in the order in which they are passed on.
    pub(crate) fn pass_on(self: &Arc<Self>, key: &ConversationKey, input: CommandInput) {
        let CommandInput { actor, at, command, reply, .. } = input;
        let owner = self.placement().owner(key).incarnation.clone();
        if at != self.me {
            // Only the session's own node passes a command on: the reply comes to it, and the owner must know the
            // session's node.
            reply.send(self, Err(self.unavailable()));
            return;
        }
        let ask = Ask::Conversation { actor, conversation: key.clone(), command: crate::wire::encoded(&command) };
        let asked = match self.begin_asking(&owner, ask) {
            Ok(asked) => asked,
            Err(error) => return reply.send(self, Err(error)),
        };
        let node = self.clone();
        self.spawn(async move {
            let answer = node.reply_to(asked, node.options().send_timeout_ms).await;
            let answer = answer.unwrap_or_else(|| Err(node.unavailable()));
            reply.send(&node, answer.and_then(crate::wire::decode_reply));
        });
    }

    /// Has the conversation's new owner take it over; whether it has.
    pub(crate) async fn hand_over(&self, key: &ConversationKey, released: Option<Release>) -> bool {
        let owner = self.placement().owner(key).incarnation.clone();
        if owner == self.me {
            return false;
        }
        let ask = Ask::TakeOver { conversation: key.clone(), released };
        matches!(self.ask(&owner, ask).await, Ok(Reply::Done))
    }
}

/// Forgets a request when its caller stops waiting.
struct Forget<'a> {
    requests: &'a Requests,
    request: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.requests.waiting).remove(&self.request);
    }
}
