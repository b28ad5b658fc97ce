//! Searching the log for an earlier copy of a send, when its `base_seq` lies before the part of the log that the owner
//! remembers (PROTOCOL §3, `base_seq`). The search runs beside the conversation's task, one at a time, so that only the
//! sender waits for it.

use super::log::Log;
use super::messages::same_send;
use super::task::Conversation;
use super::{CommandInput, LocalReply};
use crate::api::{Answer, Command};
use crate::node::{Node, unavailable};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use switchboard_protocol::client::Send;
use switchboard_protocol::server::Sent;
use switchboard_protocol::{ClientId, ProtocolError, Seq, ServerFrame, UserId};
use switchboard_store::ConversationKey;

/// Entries read at a time.
const PAGE: usize = 1_000;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

type Found = Result<Option<Sent>, ProtocolError>;

/// The search under way, and the commands that wait for it: other sends to search for, and later commands of their senders.
#[derive(Default)]
pub(super) struct Search {
    under_way: Option<UnderWay>,
    waiting: Vec<CommandInput>,
}

struct UnderWay {
    input: CommandInput,
    search: BoxFuture<'static, Found>,
}

/// The send that is searched for, and the entries that are read: those after `after`, up to `end`.
struct Wanted {
    user: UserId,
    client_id: ClientId,
    after: Seq,
    end: Seq,
}

impl Search {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }

    /// How many commands wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Holds back a command if an earlier one of its user waits; returns any other.
    pub(super) fn hold(&mut self, input: CommandInput) -> Option<CommandInput> {
        let mut held = self.under_way.iter().map(|under_way| &under_way.input).chain(&self.waiting);
        if held.any(|held| held.actor.user.user == input.actor.user.user) {
            self.waiting.push(input);
            return None;
        }
        Some(input)
    }

    /// The result of the search under way; pending forever if there is none.
    pub(super) async fn found(&mut self) -> Found {
        match &mut self.under_way {
            Some(under_way) => (&mut under_way.search).await,
            None => std::future::pending().await,
        }
    }

    /// Takes all commands, when the term is over.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = CommandInput> + use<> {
        let first = self.under_way.take().map(|under_way| under_way.input);
        first.into_iter().chain(std::mem::take(&mut self.waiting))
    }
}

impl Conversation {
    /// Starts a search for a send that may be in the unremembered part of the log; returns a command that needs none.
    pub(super) fn search_first(&mut self, input: CommandInput) -> Option<CommandInput> {
        let (Some(log), Command::Send(send)) = (&self.log, &input.command) else { return Some(input) };
        let Some(wanted) = wanted(log, &input, send) else { return Some(input) };
        if self.search.under_way.is_some() {
            self.search.waiting.push(input);
        } else {
            let search = Box::pin(search(self.node.clone(), self.key.clone(), wanted));
            self.search.under_way = Some(UnderWay { input, search });
        }
        None
    }

    pub(super) async fn on_found(&mut self, found: Found) {
        let Some(UnderWay { mut input, .. }) = self.search.under_way.take() else { return };
        // Commands whose senders have to wait again keep their order.
        let waited = std::mem::take(&mut self.search.waiting);
        match found {
            Ok(Some(sent)) => {
                let answer = Answer::Frame(ServerFrame::Sent(sent));
                self.answer_in_order(input.reply, input._room, Ok(LocalReply::Answer(answer)));
            }
            Ok(None) => {
                input.searched = true;
                self.on_command(input).await;
            }
            Err(error) => input.reply.send(&self.node, Err(error)),
        }
        for input in waited {
            self.on_command(input).await;
        }
    }
}

/// What to search for. Nothing for a non-member, who must not learn how far back the log goes.
fn wanted(log: &Log, input: &CommandInput, send: &Send) -> Option<Wanted> {
    let user = &input.actor.user.user;
    let is_known = || log.recent.find(user, &send.client_id).is_some() || !log.members.contains_key(user);
    let (after, end) = (send.base_seq?, log.recent.after());
    let is_wanted = after < end && !input.searched && !is_known();
    is_wanted.then(|| Wanted { user: user.clone(), client_id: send.client_id.clone(), after, end })
}

async fn search(node: Arc<Node>, key: ConversationKey, wanted: Wanted) -> Found {
    let Wanted { user, client_id, mut after, end } = wanted;
    if end.get() - after.get() > node.options().resend_search_max {
        return Err(ProtocolError::outcome_unknown());
    }
    while after < end {
        let page = node.store.read(&key, after, end, PAGE, PAGE_BYTES).await;
        let page = page.map_err(|error| unavailable(&node, &error))?;
        // A gap: the entries before it have expired.
        if page.first().is_none_or(|first| first.seq != after.next()) {
            return Err(ProtocolError::outcome_unknown());
        }
        for stored in page {
            after = stored.seq;
            if let Some(sent) = same_send(&stored.json, &user, &client_id) {
                return Ok(Some(sent));
            }
        }
    }
    Ok(None)
}
