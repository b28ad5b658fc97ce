//! One conversation of a user: the unread messages, and the notification of them. Owns no timer and decides nothing
//! about the time of day or the rate: the arbiter does.

use switchboard_protocol::{ConversationId, Seq, Timestamp};
use switchboard_store::Priority;

use super::Now;
use super::output::Delay;
use crate::channel::PerChannel;

/// A conversation with waiting messages, or with a notification that has not been withdrawn.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) conversation: ConversationId,
    /// Ordered by `seq`, with dues that never decrease. Those up to `told_up_to` are in a notification.
    runs: Vec<Run>,
    /// The newest message so far: anything not above it is a repeat, and receipts beyond it are cut to it.
    pub(super) came_up_to: Seq,
    pub(super) told_up_to: Seq,
    /// The newest message that a device shows: only reading it withdraws that.
    sent_up_to: Seq,
    pub(super) jobs: PerChannel<Option<Job>>,
    /// The earliest time of the last notification, sent or not: each but the first comes some time after the one
    /// before.
    pub(super) goes_ms: u64,
    /// Whether there was one.
    went: bool,
    pub(super) muted_until: Option<Timestamp>,
    pub(super) changed_ms: u64,
}

/// One message, or several that came at once.
#[derive(Clone, Copy, Debug)]
struct Run {
    seq: Seq,
    count: u32,
    priority: Priority,
    /// When the hold is over.
    due_ms: u64,
}

/// A notification on one channel: in the queue until `at_ms`, with the user after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) at_ms: u64,
    pub(super) up_to: Seq,
    /// As it was last enqueued.
    pub(super) count: u32,
    /// Why it had to wait.
    pub(super) delay: Option<Delay>,
}

impl Record {
    pub(super) fn new(conversation: ConversationId, now_ms: u64) -> Self {
        Self {
            conversation,
            runs: Vec::new(),
            came_up_to: Seq::ZERO,
            told_up_to: Seq::ZERO,
            sent_up_to: Seq::ZERO,
            jobs: PerChannel::default(),
            goes_ms: 0,
            went: false,
            muted_until: None,
            changed_ms: now_ms,
        }
    }

    /// Whether the message is a repeat.
    pub(super) fn knows(&self, seq: Seq) -> bool {
        seq <= self.came_up_to
    }

    /// Holds a message until `due_ms`, which stands for `count` of them.
    pub(super) fn hold(
        &mut self,
        seq: Seq,
        count: u32,
        priority: Priority,
        due_ms: u64,
        now_ms: u64,
        messages_max: usize,
    ) {
        self.came_up_to = seq;
        let run = Run { seq, count, priority, due_ms };
        if self.runs.len() < messages_max {
            self.runs.push(run);
            return;
        }
        // Merge two runs whose holds are over: neither waits longer because of it. If there are none, the newest message
        // is merged with the run before it, which then waits at most one more hold. (All sent runs can be merged into
        // one, and all notified ones, so with three runs the last one is still in its hold in that case.)
        if let Some(at) = (1..self.runs.len()).find(|at| self.may_join(*at, now_ms)) {
            let earlier = self.runs.remove(at - 1);
            self.runs[at - 1].add(earlier);
            self.runs.push(run);
        } else if let Some(last) = self.runs.last_mut() {
            let earlier = std::mem::replace(last, run);
            last.add(earlier);
        }
    }

    /// Whether the run can be merged with the one before it: the holds of both are over, or both were notified; and
    /// either both or neither were notified, and likewise sent.
    fn may_join(&self, at: usize, now_ms: u64) -> bool {
        let (earlier, later) = (&self.runs[at - 1], &self.runs[at]);
        let alike = |up_to: Seq| (earlier.seq <= up_to) == (later.seq <= up_to);
        (later.due_ms <= now_ms || later.seq <= self.told_up_to) && alike(self.told_up_to) && alike(self.sent_up_to)
    }

    /// When the record next has something to notify.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let first = self.runs.iter().find(|run| run.seq > self.told_up_to)?;
        Some(first.due_ms)
    }

    /// Whether anything waits for a receipt, or to be notified.
    pub(super) fn is_held(&self) -> bool {
        self.held_up_to().is_some()
    }

    /// The newest message that waits for a receipt, or to be notified.
    pub(super) fn held_up_to(&self) -> Option<Seq> {
        self.runs.last().map(|run| run.seq).filter(|seq| *seq > self.told_up_to)
    }

    /// Whether this message waits for a receipt, or to be notified; it may be merged with a later one.
    pub(super) fn holds(&self, seq: Seq) -> bool {
        seq > self.told_up_to && self.held_up_to().is_some_and(|newest| seq <= newest)
    }

    /// Whether there is neither an outstanding notification nor a message that waits for one.
    pub(super) fn is_settled(&self) -> bool {
        self.runs.is_empty() && self.jobs.iter().all(|(_, job)| job.is_none())
    }

    /// Whether a notification waits in the queue.
    pub(super) fn is_queued(&self, now_ms: u64) -> bool {
        self.jobs.iter().any(|(_, job)| job.is_some_and(|job| job.at_ms > now_ms))
    }

    /// Adds what is due by `due_ms` to the notification that has not been sent yet, or to a new one, `collapse_ms` after
    /// the last one. Returns the newest `seq` of it; `None` if nothing is due.
    pub(super) fn tell(&mut self, due_ms: u64, now_ms: u64, collapse_ms: u64) -> Option<Seq> {
        if self.due_ms()? > due_ms {
            return None;
        }
        let due = self.runs.iter().take_while(|run| run.seq <= self.told_up_to || run.due_ms <= due_ms);
        let newest = *due.last()?;
        self.told_up_to = newest.seq;
        let still_goes = self.goes_ms > now_ms;
        let from_ms = if !self.went || still_goes { self.goes_ms } else { self.goes_ms.saturating_add(collapse_ms) };
        (self.went, self.goes_ms) = (true, from_ms.max(newest.due_ms).max(now_ms));
        Some(newest.seq)
    }

    /// Records which jobs have left the queue by now.
    pub(super) fn note_sent(&mut self, now_ms: u64) {
        let sent = self.jobs.iter().filter_map(|(_, job)| job.filter(|job| job.at_ms <= now_ms));
        self.sent_up_to = sent.map(|job| job.up_to).fold(self.sent_up_to, Seq::max);
    }

    /// Forgets what a device has received, unless its notification was sent: that stays until it is read. What was held
    /// is passed to `arrived`.
    pub(super) fn delivered(&mut self, up_to: Seq, arrived: impl FnMut(Seq)) {
        let kept_up_to = self.sent_up_to;
        self.forget_runs(up_to, arrived, |run| run.seq <= kept_up_to);
    }

    /// Forgets what was read. What was held is passed to `arrived`. Returns whether a device may show some of it.
    pub(super) fn read(&mut self, up_to: Seq, arrived: impl FnMut(Seq)) -> bool {
        let is_shown = self.runs.first().is_some_and(|run| run.seq <= up_to.min(self.sent_up_to));
        self.forget_runs(up_to, arrived, |_| false);
        if self.sent_up_to <= up_to {
            self.sent_up_to = Seq::ZERO;
        }
        is_shown
    }

    fn forget_runs(&mut self, up_to: Seq, mut arrived: impl FnMut(Seq), stays: impl Fn(&Run) -> bool) {
        let told_up_to = self.told_up_to;
        self.runs.retain(|run| {
            let gone = run.seq <= up_to && !stays(run);
            if gone && run.seq > told_up_to {
                arrived(run.seq);
            }
            !gone
        });
    }

    /// Drops what has not been notified, or not been sent, up to `up_to`.
    pub(super) fn drop_unsent(&mut self, up_to: Seq, mut dropped: impl FnMut(Seq)) {
        let sent_up_to = self.sent_up_to;
        self.runs.retain(|run| {
            let gone = run.seq > sent_up_to && run.seq <= up_to;
            if gone {
                dropped(run.seq);
            }
            !gone
        });
    }

    /// The number of messages that a notification up to `up_to` covers.
    pub(super) fn count(&self, up_to: Seq) -> u32 {
        self.runs.iter().filter(|run| run.seq <= up_to).fold(0, |sum, run| sum.saturating_add(run.count))
    }

    /// The highest priority of what has not been notified yet.
    pub(super) fn priority(&self, up_to: Seq) -> Priority {
        let new = self.runs.iter().filter(|run| run.seq > self.sent_up_to && run.seq <= up_to);
        new.map(|run| run.priority).max().unwrap_or(Priority::Low)
    }

    pub(super) fn is_muted(&self, now: Now) -> bool {
        self.muted_until.is_some_and(|until| now.at < until)
    }

    /// Takes over a notification of `count` messages from a former home.
    pub(super) fn restore(&mut self, up_to: Seq, count: u32, priority: Priority, hold_over_ms: u64) {
        self.came_up_to = self.came_up_to.max(up_to);
        self.goes_ms = self.goes_ms.max(hold_over_ms);
        if up_to <= self.told_up_to {
            return;
        }
        self.told_up_to = up_to;
        self.runs.retain(|run| run.seq > up_to);
        self.runs.insert(0, Run { seq: up_to, count, priority, due_ms: 0 });
    }
}

impl Run {
    /// Merges an earlier one.
    fn add(&mut self, earlier: Self) {
        self.count = self.count.saturating_add(earlier.count);
        self.priority = self.priority.max(earlier.priority);
    }
}
