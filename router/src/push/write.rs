//! Writes push decisions to the store: one task per node, in the order of the decisions.

use crate::node::{Node, lock};
use crate::push::Ticket;
use crate::push::turn::ASK_STORE_AGAIN_MS;
use futures_util::stream::{self, StreamExt as _};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use switchboard_protocol::{ConversationId, Seq};
use switchboard_push::{Output, Receipt};
use switchboard_store::{PushJob, StoreError, UserKey};
use tokio::sync::Notify;

/// Decisions that wait to be written, at most. At the limit, no arbiter notifies, and withdrawals are dropped.
const WRITES_MAX: usize = 16_384;

/// Decisions that are written together.
const WRITES_AT_ONCE: usize = 256;

/// Withdrawals that run at the same time.
const WITHDRAWALS_AT_ONCE: usize = 16;

/// The decisions about a user at one time.
pub(super) struct Write {
    pub(super) user: UserKey,
    pub(super) outputs: Vec<Output>,
    /// The tickets of the messages that it decides: dropped when it is in the store.
    pub(super) tickets: Vec<Arc<Ticket>>,
}

/// See the file's comment.
#[derive(Default)]
pub(super) struct Writes {
    waiting: Mutex<VecDeque<Write>>,
    under_way: AtomicUsize,
    came: Notify,
}

/// A withdrawal of a notification.
struct Withdrawal {
    user: UserKey,
    conversation: ConversationId,
    up_to_seq: Seq,
    receipt: Receipt,
}

/// What can be written at the same time: first these jobs together, then the withdrawals concurrently.
#[derive(Default)]
struct Part {
    jobs: Vec<PushJob>,
    withdrawals: Vec<Withdrawal>,
}

impl Writes {
    /// Returns whether there was room. A write that enqueues always has room.
    pub(super) fn push(&self, write: Write) -> bool {
        let mut waiting = lock(&self.waiting);
        let enqueues = write.outputs.iter().any(|output| matches!(output, Output::Enqueue(_)));
        if waiting.len() >= WRITES_MAX && !enqueues {
            return false;
        }
        waiting.push_back(write);
        drop(waiting);
        self.came.notify_one();
        true
    }

    /// Whether nothing more may be enqueued for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= WRITES_MAX
    }

    pub(super) fn waiting(&self) -> usize {
        lock(&self.waiting).len()
    }

    pub(super) fn is_empty(&self) -> bool {
        let waiting = lock(&self.waiting);
        waiting.is_empty() && self.under_way.load(Ordering::SeqCst) == 0
    }

    async fn next(&self) -> Vec<Write> {
        loop {
            {
                let mut waiting = lock(&self.waiting);
                let many = waiting.len().min(WRITES_AT_ONCE);
                if many > 0 {
                    // Set under the lock, so that a write is always either waiting or under way.
                    self.under_way.store(many, Ordering::SeqCst);
                    return waiting.drain(..many).collect();
                }
            }
            self.came.notified().await;
        }
    }
}

impl Node {
    /// Writes the decisions, until the store has them.
    pub(crate) async fn write_pushes(self: Arc<Self>) {
        loop {
            let writes = self.pushes.writes.next().await;
            let (parts, tickets) = in_parts(writes);
            for part in parts {
                self.write_push_part(part).await;
            }
            drop(tickets);
            self.pushes.writes.under_way.store(0, Ordering::SeqCst);
            self.push_nudges.notify_one();
        }
    }

    /// Each operation is repeated on its own, so that none is done again after a later one.
    async fn write_push_part(&self, Part { jobs, withdrawals }: Part) {
        while !jobs.is_empty()
            && let Err(error) = self.store.enqueue_pushes(jobs.clone()).await
        {
            self.pause_push_writes(&error).await;
        }
        stream::iter(withdrawals).for_each_concurrent(WITHDRAWALS_AT_ONCE, |of| self.withdraw_push(of)).await;
    }

    async fn withdraw_push(&self, of: Withdrawal) {
        let Withdrawal { user, conversation, up_to_seq, receipt } = of;
        let at = self.now();
        while let Err(error) = self.store.withdraw_pushes(&user, &conversation, up_to_seq, receipt, at).await {
            self.pause_push_writes(&error).await;
        }
    }

    async fn pause_push_writes(&self, error: &StoreError) {
        tracing::debug!(%error, "can't write what push has decided; writing it again");
        self.clock.sleep_ms(ASK_STORE_AGAIN_MS).await;
    }
}

/// Splits the writes. The order of each user's decisions is kept.
fn in_parts(writes: Vec<Write>) -> (Vec<Part>, Vec<Arc<Ticket>>) {
    let (mut parts, mut tickets) = (vec![Part::default()], Vec::new());
    let mut withdrawn_of = BTreeSet::new();
    for Write { user, outputs, tickets: decided } in writes {
        tickets.extend(decided);
        for output in outputs {
            if matches!(output, Output::Enqueue(_)) && withdrawn_of.contains(&user) {
                parts.push(Part::default());
                withdrawn_of.clear();
            }
            let Some(part) = parts.last_mut() else { continue };
            match output {
                Output::Enqueue(notification) => part.jobs.push(notification.into_job(user.clone())),
                Output::Withdraw { conversation, up_to_seq, receipt, .. } => {
                    part.withdrawals.push(Withdrawal { user: user.clone(), conversation, up_to_seq, receipt });
                    withdrawn_of.insert(user.clone());
                }
                Output::Trace { .. } => {}
            }
        }
    }
    (parts, tickets)
}
