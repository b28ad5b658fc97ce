//! `delivered` and `read` that nobody waits for, while their conversation's owner does not answer: they are said again
//! until it has heard them, as they are to become durable all the same (PROTOCOL §3, "Receipts and unread"). Cursors only
//! grow, so that the highest of each is all there is to say.

use crate::api::{Actor, Answer};
use crate::node::{Node, lock};
use futures_util::stream::{self, StreamExt as _};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex};
use switchboard_protocol::client::EntryRef;
use switchboard_protocol::{ClientFrame, ConversationId, ErrorCode, ProtocolError, Seq};
use switchboard_store::{ConversationKey, UserKey};

/// Time between two attempts.
const AGAIN_MS: u64 = 500;

/// Receipts that are said again at once.
const AT_ONCE: usize = 64;

/// Whose, of which conversation, and whether it is read.
type Kind = (UserKey, ConversationId, bool);

/// What has not been heard.
#[derive(Default)]
pub(crate) struct Unheard(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    receipts: BTreeMap<Kind, (Seq, Actor)>,
    /// Whether a task says them again.
    is_said: bool,
}

impl Node {
    /// A receipt at its conversation's owner; one that nobody waits for gets there later, if it can't now.
    pub(crate) async fn receipt_at_owner(
        self: &Arc<Self>,
        actor: Actor,
        key: &ConversationKey,
        (entry, is_read): (EntryRef, bool),
    ) -> Result<Answer, ProtocolError> {
        let seq = entry.seq;
        let frame = if is_read { ClientFrame::Read(entry) } else { ClientFrame::Delivered(entry) };
        let told = self.at_owner(&actor, key, frame).await;
        match &told {
            Err(error) if !actor.awaited && may_pass(error) => {
                self.say_receipt_again((actor.user.clone(), key.conversation.clone(), is_read), seq, actor);
                Ok(Answer::done())
            }
            _ => told,
        }
    }

    /// What the former life of this node had not got through.
    pub(crate) fn say_receipts_of(self: &Arc<Self>, former: &Self) {
        let receipts = std::mem::take(&mut lock(&former.unheard.0).receipts);
        receipts.into_iter().for_each(|(kind, (seq, actor))| self.say_receipt_again(kind, seq, actor));
    }

    fn say_receipt_again(self: &Arc<Self>, kind: Kind, seq: Seq, actor: Actor) {
        let mut waiting = lock(&self.unheard.0);
        let most = self.options().home_dirty_max;
        let count = waiting.receipts.len();
        match waiting.receipts.entry(kind) {
            Entry::Occupied(mut known) if known.get().0 < seq => drop(known.insert((seq, actor))),
            Entry::Occupied(_) => {}
            Entry::Vacant(_) if count >= most => self.figures.receipts_dropped.increment(1),
            Entry::Vacant(place) => drop(place.insert((seq, actor))),
        }
        if !std::mem::replace(&mut waiting.is_said, true) {
            let node = self.clone();
            self.spawn(async move { node.say_receipts_again().await });
        }
    }

    async fn say_receipts_again(self: &Arc<Self>) {
        loop {
            self.clock.sleep_ms(AGAIN_MS).await;
            let receipts = {
                let mut waiting = lock(&self.unheard.0);
                waiting.is_said = !waiting.receipts.is_empty();
                std::mem::take(&mut waiting.receipts)
            };
            if receipts.is_empty() {
                return;
            }
            let again = receipts.into_iter().map(|((user, conversation_id, is_read), (seq, actor))| {
                let key = ConversationKey { tenant: user.tenant, conversation: conversation_id.clone() };
                let entry = EntryRef { conversation_id, seq };
                async move { drop(Box::pin(self.receipt_at_owner(actor, &key, (entry, is_read))).await) }
            });
            stream::iter(again).for_each_concurrent(AT_ONCE, |said| said).await;
        }
    }
}

fn may_pass(error: &ProtocolError) -> bool {
    matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Overloaded)
}
