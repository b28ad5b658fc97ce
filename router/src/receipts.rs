//! Repeats `delivered` and `read` frames that have no `id` until the conversation's owner has taken them: nobody waits
//! for their answer, but they must become durable (PROTOCOL §3, "Receipts and unread"). Cursors only grow, so only the
//! highest of each is kept.

use crate::api::{Actor, Answer};
use crate::node::{Node, lock};
use futures_util::stream::{self, StreamExt as _};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex};
use switchboard_protocol::client::EntryRef;
use switchboard_protocol::{ClientFrame, ConversationId, ErrorCode, ProtocolError, Seq};
use switchboard_push::Receipt;
use switchboard_store::{ConversationKey, UserKey};
use tokio::sync::Notify;

/// Time between two attempts.
const AGAIN_MS: u64 = 500;

/// Receipts that are repeated at the same time.
const AT_ONCE: usize = 64;

/// A receipt from a client.
#[derive(Clone)]
pub(crate) struct SaidReceipt {
    pub(crate) actor: Actor,
    pub(crate) conversation: ConversationId,
    pub(crate) receipt: Receipt,
    pub(crate) upto: Seq,
}

/// Among receipts with the same key, the highest replaces the others.
type Kind = (UserKey, ConversationId, Receipt);

impl SaidReceipt {
    fn kind(&self) -> Kind {
        (self.actor.user.clone(), self.conversation.clone(), self.receipt)
    }

    fn key(&self) -> ConversationKey {
        ConversationKey { tenant: self.actor.user.tenant.clone(), conversation: self.conversation.clone() }
    }

    fn frame(&self) -> ClientFrame {
        let entry = EntryRef { conversation_id: self.conversation.clone(), seq: self.upto };
        match self.receipt {
            Receipt::Read => ClientFrame::Read(entry),
            Receipt::Delivered => ClientFrame::Delivered(entry),
        }
    }
}

/// Receipts that no owner has taken yet. All lives of a node share them, so that none is lost between two.
#[derive(Default)]
pub(crate) struct Unheard {
    receipts: Mutex<BTreeMap<Kind, SaidReceipt>>,
    /// Notified when there is another.
    news: Notify,
}

impl Unheard {
    /// Keeps a receipt until an owner has taken it; `false` if `most` are kept already.
    fn keep(&self, said: &SaidReceipt, most: usize) -> bool {
        let mut receipts = lock(&self.receipts);
        let is_full = receipts.len() >= most;
        match receipts.entry(said.kind()) {
            Entry::Occupied(known) if known.get().upto >= said.upto => {}
            Entry::Occupied(mut known) => drop(known.insert(said.clone())),
            Entry::Vacant(_) if is_full => return false,
            Entry::Vacant(place) => drop(place.insert(said.clone())),
        }
        self.news.notify_one();
        true
    }

    /// An owner has taken a receipt, and with it all lower ones.
    fn heard(&self, said: &SaidReceipt) {
        if let Entry::Occupied(known) = lock(&self.receipts).entry(said.kind())
            && known.get().upto <= said.upto
        {
            known.remove();
        }
    }

    fn all(&self) -> Vec<SaidReceipt> {
        lock(&self.receipts).values().cloned().collect()
    }
}

/// A receipt on its way to the owner, whose answer nobody waits for. It is kept if its sending ends without an answer,
/// with its session or with this life of the node.
struct OnItsWay<'a> {
    node: &'a Node,
    said: SaidReceipt,
    is_heard: bool,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        if !self.is_heard && !self.node.unheard.keep(&self.said, self.node.options().home_dirty_max) {
            self.node.figures.receipts_dropped.increment(1);
        }
    }
}

impl Node {
    /// Sends a receipt to the conversation's owner. One without an `id` gets there later if that is not possible now.
    pub(crate) async fn receipt_at_owner(self: &Arc<Self>, said: SaidReceipt) -> Result<Answer, ProtocolError> {
        if said.actor.awaited {
            return self.at_owner(&said.actor, &said.key(), said.frame()).await;
        }
        let mut on_its_way = OnItsWay { node: self, said, is_heard: false };
        let told = self.say_receipt(&on_its_way.said).await;
        on_its_way.is_heard = told.is_some();
        told.unwrap_or_else(|| Ok(Answer::done()))
    }

    /// The owner's answer; `None` if another attempt may end differently.
    async fn say_receipt(self: &Arc<Self>, said: &SaidReceipt) -> Option<Result<Answer, ProtocolError>> {
        let told = self.at_owner(&said.actor, &said.key(), said.frame()).await;
        let may_pass = |error: &ProtocolError| matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Overloaded);
        Some(told).filter(|told| !told.as_ref().is_err_and(may_pass))
    }

    /// Repeats receipts that no owner has taken, those of former lives included.
    pub(crate) async fn keep_receipts_heard(self: Arc<Self>) {
        loop {
            let unheard = self.unheard.all();
            if unheard.is_empty() {
                self.unheard.news.notified().await;
            }
            let again = unheard.into_iter().map(|said| {
                let node = self.clone();
                async move {
                    if Box::pin(node.say_receipt(&said)).await.is_some() {
                        node.unheard.heard(&said);
                    }
                }
            });
            stream::iter(again).for_each_concurrent(AT_ONCE, |said| said).await;
            self.clock.sleep_ms(AGAIN_MS).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(upto: u64, receipt: Receipt) -> SaidReceipt {
        let user = UserKey { tenant: "t".parse().unwrap(), user: "bob".parse().unwrap() };
        let actor = Actor { user, session: None, awaited: false };
        SaidReceipt { actor, conversation: "c".parse().unwrap(), receipt, upto: Seq::new(upto) }
    }

    #[test]
    fn the_highest_of_each_is_kept_until_it_is_heard() {
        let unheard = Unheard::default();
        let kept = || -> Vec<u64> { unheard.all().iter().map(|said| said.upto.get()).collect() };
        assert!(unheard.keep(&said(5, Receipt::Delivered), 2));
        assert!(unheard.keep(&said(3, Receipt::Delivered), 2));
        assert!(unheard.keep(&said(4, Receipt::Read), 2));
        assert_eq!(kept(), [5, 4]);
        // Another one came while it was being sent.
        assert!(unheard.keep(&said(7, Receipt::Delivered), 2));
        unheard.heard(&said(5, Receipt::Delivered));
        assert_eq!(kept(), [7, 4]);
        unheard.heard(&said(7, Receipt::Delivered));
        assert_eq!(kept(), [4]);
    }

    #[test]
    fn beyond_the_bound_a_receipt_is_not_kept() {
        let unheard = Unheard::default();
        assert!(unheard.keep(&said(1, Receipt::Delivered), 1));
        assert!(!unheard.keep(&said(1, Receipt::Read), 1));
        assert!(unheard.keep(&said(2, Receipt::Delivered), 1), "it takes no more room");
    }
}
