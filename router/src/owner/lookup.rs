//! Reading the log for receipts about entries that the owner does not remember, such as those of earlier terms. This happens
//! beside the conversation's task, one entry at a time, so that only these receipts wait for the store.

use super::task::Conversation;
use super::{CommandInput, Input, Refused};
use crate::node::{Node, unavailable};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_protocol::{ErrorCode, MessageId, ProtocolError, Seq};
use switchboard_store::{ConversationKey, HistoryRange};

/// The entry that a receipt is about, as far as the receipt needs it.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) seq: Seq,
    /// The number of messages up to it; `None` if it has expired.
    pub(super) messages: Option<u64>,
    /// The newest message up to it, if there is one.
    pub(super) message_id: Option<MessageId>,
}

type Found = Result<Place, ProtocolError>;

/// The read under way, and the receipts that wait.
#[derive(Default)]
pub(super) struct Lookups {
    under_way: Option<UnderWay>,
    /// By the entry that they are about.
    waiting: BTreeMap<Seq, Vec<CommandInput>>,
    /// How many they are.
    len: usize,
}

struct UnderWay {
    seq: Seq,
    read: BoxFuture<'static, Found>,
}

impl Lookups {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_none() && self.waiting.is_empty()
    }

    /// The result of the read under way; pending forever if there is none.
    pub(super) async fn found(&mut self) -> Found {
        match &mut self.under_way {
            Some(under_way) => (&mut under_way.read).await,
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, seq: Seq) -> Vec<CommandInput> {
        let taken = self.waiting.remove(&seq).unwrap_or_default();
        self.len -= taken.len();
        taken
    }

    /// Takes all receipts, when the term is over.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = CommandInput> + use<> {
        std::mem::take(self).waiting.into_values().flatten()
    }
}

impl Conversation {
    /// Holds back a receipt until its entry has been read.
    pub(super) fn look_up(&mut self, seq: Seq, input: CommandInput) {
        if self.lookups.len >= self.node.options().conversation_queue_max {
            return Refused(Input::Command(Box::new(input))).answer(&self.node);
        }
        self.lookups.waiting.entry(seq).or_default().push(input);
        self.lookups.len += 1;
        self.look_up_next();
    }

    fn look_up_next(&mut self) {
        let (Some(log), None) = (&self.log, &self.lookups.under_way) else { return };
        if let Some(seq) = self.lookups.waiting.keys().next().copied() {
            let read = Box::pin(look_up(self.node.clone(), self.key.clone(), seq, log.is_direct()));
            self.lookups.under_way = Some(UnderWay { seq, read });
        }
    }

    pub(super) fn on_looked_up(&mut self, found: Found) {
        let Some(UnderWay { seq, .. }) = self.lookups.under_way.take() else { return };
        match found {
            Ok(place) => self.lookups.take(seq).into_iter().for_each(|input| self.take_receipt(input, place)),
            // The next reads would wait as long. The sessions' nodes repeat receipts that nobody waits for.
            Err(error) if error.code() == ErrorCode::Unavailable => self.refuse_lookups(&error),
            Err(error) => {
                self.lookups.take(seq).into_iter().for_each(|input| input.reply.send(&self.node, Err(error.clone())));
            }
        }
        self.look_up_next();
    }

    pub(super) fn refuse_lookups(&mut self, error: &ProtocolError) {
        self.lookups.take_all().for_each(|input| input.reply.send(&self.node, Err(error.clone())));
    }
}

async fn look_up(node: Arc<Node>, key: ConversationKey, seq: Seq, is_direct: bool) -> Found {
    let before = Seq::new(seq.get().saturating_sub(1));
    let stored = node.store.read(&key, before, seq, 1, usize::MAX).await;
    let stored = stored.map_err(|error| unavailable(&node, &error))?;
    let messages = stored.first().map(|entry| entry.messages);
    // Only receipts in a direct conversation name a message.
    let message_id = if is_direct {
        let page = node.store.history(&key, HistoryRange::Before(seq.next()), seq, 1, usize::MAX).await;
        let page = page.map_err(|error| unavailable(&node, &error))?;
        page.messages.last().and_then(|newest| message_id_of(&newest.json))
    } else {
        None
    };
    Ok(Place { seq, messages, message_id })
}

fn message_id_of(message: &[u8]) -> Option<MessageId> {
    #[derive(serde::Deserialize)]
    struct Named {
        message_id: MessageId,
    }
    serde_json::from_slice::<Named>(message).ok().map(|named| named.message_id)
}
