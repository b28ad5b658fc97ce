//! What always holds of push: nobody is told of what has arrived, nor twice; what is to be told in the end is judged by
//! `pushes.rs`. Owns what was received and told.

use super::Oracle;
use std::collections::{BTreeMap, BTreeSet};
use switchboard_protocol::UserId;
use switchboard_store::{ConversationKey, PushJob, UserKey};

/// More than a home takes from asking the store to having it write, while that is well.
const TURN_MS_MAX: u64 = 2_500;

/// How the store is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoreState {
    pub(crate) away: bool,
    pub(crate) vague: bool,
}

/// See the file's comment.
#[derive(Default)]
pub(super) struct Push {
    /// The furthest that anyone tried to say, whatever came of it, that it has arrived.
    arrived: BTreeMap<(ConversationKey, UserId), u64>,
    /// Receipts of either kind that were answered, each with the time of its answer, ascending.
    received: BTreeMap<(ConversationKey, UserId), Vec<(u64, u64)>>,
    /// Up to where a provider was asked to tell somebody.
    told: BTreeMap<(ConversationKey, UserId), u64>,
    /// Of that, what the queue said that it knows.
    notified: BTreeMap<(ConversationKey, UserId), u64>,
    /// Who has tried to block whom.
    blocked: BTreeSet<(UserKey, UserId)>,
    store: StoreState,
    /// When the store was not well for the last time.
    store_ill_ms: u64,
}

impl Oracle {
    /// A receipt, `read` or `delivered`, is said; its answer may never come.
    pub(crate) fn arrived(&self, key: &ConversationKey, user: &UserId, seq: u64) {
        let mut inner = self.inner();
        let arrived = inner.push.arrived.entry((key.clone(), user.clone())).or_default();
        *arrived = (*arrived).max(seq);
    }

    pub(crate) fn arrived_up_to(&self, key: &ConversationKey, user: &UserId) -> u64 {
        self.inner().push.arrived.get(&(key.clone(), user.clone())).copied().unwrap_or(0)
    }

    /// A receipt was answered.
    pub(crate) fn received(&self, key: &ConversationKey, user: &UserId, seq: u64) {
        let now_ms = self.now_ms();
        let mut inner = self.inner();
        inner.counts.received += 1;
        let received = inner.push.received.entry((key.clone(), user.clone())).or_default();
        if received.last().is_none_or(|(_, last)| *last < seq) {
            received.push((now_ms, seq));
        }
    }

    /// Up to where a user's receipts have been answered.
    pub(crate) fn received_by_now(&self, key: &ConversationKey, user: &UserId) -> u64 {
        let inner = self.inner();
        inner.push.received.get(&(key.clone(), user.clone())).and_then(|all| all.last()).map_or(0, |(_, seq)| *seq)
    }

    pub(crate) fn tried_to_block(&self, user: &UserKey, other: &UserId) {
        self.inner().push.blocked.insert((user.clone(), other.clone()));
    }

    pub(crate) fn has_blocked(&self, user: &UserKey, other: &UserId) -> bool {
        self.inner().push.blocked.contains(&(user.clone(), other.clone()))
    }

    /// The store gets worse or better.
    pub(crate) fn store_is(&self, change: impl FnOnce(&mut StoreState)) {
        let now_ms = self.now_ms();
        let mut inner = self.inner();
        let before = inner.push.store;
        change(&mut inner.push.store);
        if before != StoreState::default() || inner.push.store != StoreState::default() {
            inner.push.store_ill_ms = now_ms;
        }
    }

    /// A home has somebody told: by then it has asked the store what has arrived, and so knows of every receipt that was
    /// answered well before, however many packets of it were lost.
    pub(crate) fn enqueued(&self, jobs: &[PushJob]) {
        let now_ms = self.now_ms();
        let mut late = Vec::new();
        {
            let mut inner = self.inner();
            for job in jobs.iter().filter(|job| job.count.is_some()) {
                inner.counts.enqueued += 1;
                let is_well = inner.push.store == StoreState::default();
                let since_ms = inner.push.store_ill_ms;
                let received = inner.push.received.get(&place(job)).into_iter().flatten();
                let mut received = received.filter(|(at_ms, _)| *at_ms + TURN_MS_MAX < now_ms && *at_ms > since_ms);
                if is_well && received.any(|(_, seq)| *seq >= job.up_to_seq.get()) {
                    late.push(job.clone());
                }
                inner.counts.enqueued_well += u64::from(is_well);
            }
        }
        late.iter().for_each(|job| self.violated(format!("{job:?} is to be told, which had arrived")));
    }

    /// A provider is asked to tell of a job; up to where receipts had been answered when the store was asked about it.
    pub(crate) fn notified(&self, job: &PushJob, received: u64) {
        let before = {
            let mut inner = self.inner();
            let is_alert = job.count.is_some();
            inner.counts.notified += u64::from(is_alert);
            inner.counts.withdrawn += u64::from(!is_alert);
            if is_alert {
                let told = inner.push.told.entry(place(job)).or_default();
                *told = (*told).max(job.up_to_seq.get());
            }
            inner.push.notified.get(&place(job)).copied().unwrap_or(0)
        };
        let up_to = job.up_to_seq.get();
        if job.count.is_some() && up_to <= received {
            self.violated(format!("{job:?} is told, and {received} had arrived"));
        }
        if job.count.is_some() && up_to <= before {
            self.violated(format!("{job:?} is told a second time"));
        }
    }

    /// The queue knows that it was told.
    pub(crate) fn has_notified(&self, job: &PushJob) {
        if job.count.is_some() {
            let mut inner = self.inner();
            let told = inner.push.notified.entry(place(job)).or_default();
            *told = (*told).max(job.up_to_seq.get());
        }
    }

    /// Up to where a provider was asked to tell him, whatever came of it.
    pub(crate) fn notified_up_to(&self, key: &ConversationKey, user: &UserId) -> u64 {
        self.inner().push.told.get(&(key.clone(), user.clone())).copied().unwrap_or(0)
    }
}

/// Of whom and of which conversation a job tells.
fn place(job: &PushJob) -> (ConversationKey, UserId) {
    let (user, conversation) = (&job.key.user, job.key.conversation.clone());
    (ConversationKey { tenant: user.tenant.clone(), conversation }, user.user.clone())
}
