//! Looking far back in the log for a send that may be there already (PROTOCOL §3, `base_seq`): beside the conversation's
//! task, so that only its sender waits, and one at a time.

use super::log::Log;
use super::messages::same_send;
use super::task::Conversation;
use super::{CommandInput, Telling};
use crate::api::{Answer, Command};
use crate::node::{Node, unavailable};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use switchboard_protocol::client::Send;
use switchboard_protocol::server::Sent;
use switchboard_protocol::{ProtocolError, Seq, ServerFrame, UserId};
use switchboard_store::ConversationKey;

/// Entries read at a time.
const PAGE: usize = 1_000;
const PAGE_BYTES: usize = 4 * 1024 * 1024;

type Found = Result<Option<Sent>, ProtocolError>;

/// A send that is looked for, and what must wait for it: others to be looked for, and what their senders said since.
#[derive(Default)]
pub(super) struct Search {
    under_way: Option<(CommandInput, BoxFuture<'static, Found>)>,
    waiting: Vec<CommandInput>,
}

impl Search {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }

    /// How many commands wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Keeps a command that must wait for its user's earlier one; gives back any other.
    pub(super) fn hold(&mut self, input: CommandInput) -> Option<CommandInput> {
        let mut held = self.under_way.iter().map(|(input, _)| input).chain(&self.waiting);
        if held.any(|held| held.actor.user.user == input.actor.user.user) {
            self.waiting.push(input);
            return None;
        }
        Some(input)
    }

    /// What was found; never, if nothing is looked for.
    pub(super) async fn found(&mut self) -> Found {
        match &mut self.under_way {
            Some((_, search)) => search.await,
            None => std::future::pending().await,
        }
    }

    /// All that waits, when the term is over.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = CommandInput> + use<> {
        let first = self.under_way.take().map(|(input, _)| input);
        first.into_iter().chain(std::mem::take(&mut self.waiting))
    }
}

impl Conversation {
    /// Looks for a send first if it may be in the log before what is known of its end; gives back what may be decided.
    pub(super) fn search_first(&mut self, input: CommandInput) -> Option<CommandInput> {
        let (Some(log), Command::Send(send)) = (&self.log, &input.command) else { return Some(input) };
        let Some((after, end)) = range(log, &input, send) else { return Some(input) };
        if self.search.under_way.is_some() {
            self.search.waiting.push(input);
        } else {
            let (user, client_id) = (input.actor.user.user.clone(), send.client_id.clone());
            let (node, key) = (self.node.clone(), self.key.clone());
            let search = async move { search(&node, &key, (&user, &client_id), after, end).await };
            self.search.under_way = Some((input, Box::pin(search)));
        }
        None
    }

    pub(super) async fn on_found(&mut self, found: Found) {
        let Some((mut input, _)) = self.search.under_way.take() else { return };
        // Those whose senders wait again keep their order.
        let waited = std::mem::take(&mut self.search.waiting);
        match found {
            Ok(Some(sent)) => {
                let answer = Answer::Frame(ServerFrame::Sent(sent));
                self.answer_in_order(input.reply, input._room, Ok(Telling::Answer(answer)));
            }
            Ok(None) => {
                input.searched = true;
                self.on_command(input).await;
            }
            Err(error) => input.reply.tell(&self.node, Err(error)),
        }
        for input in waited {
            self.on_command(input).await;
        }
    }
}

/// The entries after the first and up to the second are to be looked at; not for who is no member, who learns nothing of
/// how far the log goes back.
fn range(log: &Log, input: &CommandInput, send: &Send) -> Option<(Seq, Seq)> {
    let user = &input.actor.user.user;
    let is_known = || log.recent.find(user, &send.client_id).is_some() || !log.members.contains_key(user);
    let (base, end) = (send.base_seq?, log.recent.after());
    (base < end && !input.searched && !is_known()).then_some((base, end))
}

async fn search(
    node: &Arc<Node>,
    key: &ConversationKey,
    (user, client_id): (&UserId, &switchboard_protocol::ClientId),
    mut after: Seq,
    end: Seq,
) -> Found {
    if end.get() - after.get() > node.options().resend_search_max {
        return Err(ProtocolError::outcome_unknown());
    }
    while after < end {
        let page = node.store.read(key, after, end, PAGE, PAGE_BYTES).await;
        let page = page.map_err(|error| unavailable(node, &error))?;
        // A hole: what was there has expired.
        if page.first().is_none_or(|first| first.seq != after.next()) {
            return Err(ProtocolError::outcome_unknown());
        }
        for stored in page {
            after = stored.seq;
            if let Some(sent) = same_send(&stored.json, user, client_id) {
                return Ok(Some(sent));
            }
        }
    }
    Ok(None)
}
