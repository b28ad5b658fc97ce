//! Decides whether, when and how often one user is notified of messages (DESIGN §7), at the user's home. Owns the
//! messages that wait for a receipt, and those that were notified and are not read. The home calls back at
//! [`Arbiter::next_deadline_ms`], and carries the outputs out.
//!
//! A message is held for `push.hold_ms`. If no device of the user has sent `delivered` or `read` for it by then, it
//! joins the user's one notification of the conversation, which says how many messages there are. The notification goes
//! into the durable queue at once, with the time before which it may not be sent: the end of the quiet hours, or when
//! the rate and the last notification of the conversation allow it. Messages that come until then are added to it. A
//! `delivered` removes it from the queue; a `read` also withdraws it from the devices.
//!
//! It does not matter which devices are connected: only a receipt shows that a message has arrived.

pub(crate) mod output;
mod record;

use switchboard_protocol::{ConversationId, Seq, Timestamp};
use switchboard_store::{Channel, Priority, PushJob, PushKey, Receipt};

use self::output::{Delay, Notification, Output, Step, Why};
use self::record::{Job, Record};
use crate::channel::PerChannel;
use crate::preferences::Preferences;
use crate::rate::Rate;

/// The times and limits of an arbiter.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// `push.hold_ms`: how long a message waits for a receipt.
    pub hold_ms: u64,
    /// `push.collapse_ms`: the time between two notifications of one conversation. Messages that come meanwhile are
    /// combined.
    pub collapse_ms: u64,
    /// `push.per_hour`: notifications of one user on one channel in an hour. At least 1.
    pub per_hour: usize,
    /// `push.conversations_max`: tracked conversations per user.
    pub conversations_max: usize,
    /// `push.messages_max`: individually tracked messages of one conversation; beyond that, some count together. At
    /// least 3.
    pub messages_max: usize,
}

/// The time on both clocks: deadlines and rates use the monotonic one, quiet hours and mutes the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic.
    pub ms: u64,
    pub at: Timestamp,
}

impl Now {
    fn ms_at(self, at: Timestamp) -> u64 {
        self.ms.saturating_add_signed(at.unix_ms().saturating_sub(self.at.unix_ms()))
    }

    fn at_ms(self, ms: u64) -> Timestamp {
        let ahead = i64::try_from(ms.saturating_sub(self.ms)).unwrap_or(i64::MAX);
        Timestamp::from_unix_ms(self.at.unix_ms().saturating_add(ahead))
    }
}

/// A message to the user from someone else.
#[derive(Clone, Debug)]
pub struct Message {
    pub conversation: ConversationId,
    pub seq: Seq,
    pub occasion: Occasion,
    /// The number of unread messages including this one, if earlier ones may not have been notified.
    pub unread: Option<u32>,
    /// Until when the user muted the conversation; `None`: as last set by [`Arbiter::mute`].
    pub muted_until: Option<Timestamp>,
}

/// The reason for a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A message in a direct conversation.
    Direct,
    /// A message in a group that mentions the user.
    Mention,
    /// Another message in a group.
    Group,
    /// Anything else that is worth a notification.
    Other,
}

impl From<Occasion> for Priority {
    fn from(occasion: Occasion) -> Self {
        match occasion {
            Occasion::Direct | Occasion::Mention => Self::High,
            Occasion::Group => Self::Normal,
            Occasion::Other => Self::Low,
        }
    }
}

/// Decides about one user's notifications. Bounded by `conversations_max` × `messages_max`.
#[derive(Clone, Debug)]
pub struct Arbiter {
    rules: Rules,
    preferences: Preferences,
    channels: PerChannel<bool>,
    rates: PerChannel<Rate>,
    records: Vec<Record>,
    /// Whether there may be notifications without a record.
    has_forgotten: bool,
}

impl Arbiter {
    /// A user without outstanding notifications, or before [`Arbiter::restore`].
    pub fn new(rules: Rules, preferences: Preferences, channels: &[Channel]) -> Self {
        let (rates, records) = (PerChannel::default(), Vec::new());
        let mut arbiter =
            Self { rules, preferences, channels: PerChannel::default(), rates, records, has_forgotten: false };
        for channel in channels {
            *arbiter.channels.of_mut(*channel) = true;
        }
        arbiter
    }

    /// Takes over an outstanding notification of a former home from the store, before anything else happens: those with
    /// the user first. It counts in the hour's rate.
    pub fn restore(&mut self, outstanding: PushJob, now: Now) {
        let PushJob { key: PushKey { conversation, channel, .. }, up_to_seq, count, priority, not_before } =
            outstanding;
        let Some(count) = count else { return };
        let at_ms = now.ms_at(not_before);
        let Some(at) = self.record_for(&conversation, now) else {
            self.has_forgotten = true;
            return;
        };
        let record = &mut self.records[at];
        record.note_sent(now.ms);
        record.restore(up_to_seq, count, priority, at_ms.min(now.ms.saturating_add(self.rules.hold_ms)));
        *record.jobs.of_mut(channel) = Some(Job { at_ms, up_to: up_to_seq, count, delay: None });
        self.rates.of_mut(channel).take(at_ms);
    }

    /// A message has come. A repeat changes nothing.
    pub fn message(&mut self, message: Message, now: Now, out: &mut Vec<Output>) {
        let Message { conversation, seq, occasion, unread, muted_until } = message;
        let known = self.records.iter().find(|record| record.conversation == conversation);
        let muted_until = muted_until.or(known.and_then(|record| record.muted_until));
        let muted = muted_until.is_some_and(|until| now.at < until).then_some(Why::Muted);
        let no_device = (!self.has_device()).then_some(Why::NoDevice);
        let refusal = self.preferences.refusal(occasion).or(muted).or(no_device);
        let step = match refusal {
            Some(why) => Step::NotTold(why),
            None => match self.record_for(&conversation, now) {
                None => Step::NotTold(Why::Full),
                Some(at) if self.records[at].knows(seq) => return,
                Some(at) => {
                    let due_ms = now.ms.saturating_add(self.rules.hold_ms);
                    let record = &mut self.records[at];
                    record.changed_ms = now.ms;
                    record.muted_until = muted_until;
                    let untold = unread.map_or(1, |unread| unread.saturating_sub(record.count(seq)).max(1));
                    record.hold(seq, untold, occasion.into(), due_ms, now.ms, self.rules.messages_max);
                    Step::Held { until: now.at_ms(due_ms) }
                }
            },
        };
        out.push(Output::Trace { conversation, seq, step });
    }

    /// A device has received, or the user has read, everything in the conversation up to `up_to`. This covers only what
    /// has come by now, because a device may name an entry that does not exist yet (PROTOCOL §3).
    pub fn receipt(
        &mut self,
        conversation: &ConversationId,
        up_to: Seq,
        receipt: Receipt,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        let Some(record) = self.records.iter_mut().find(|record| record.conversation == *conversation) else {
            if self.has_forgotten {
                let (conversation, up_to_seq) = (conversation.clone(), up_to);
                out.push(Output::Withdraw { conversation, up_to_seq, receipt, is_known: false });
            }
            return;
        };
        let up_to = up_to.min(record.came_up_to);
        record.changed_ms = now.ms;
        record.note_sent(now.ms);
        let arrived = |seq| {
            let step = Step::Arrived(receipt);
            out.push(Output::Trace { conversation: conversation.clone(), seq, step });
        };
        let is_shown = match receipt {
            Receipt::Delivered => {
                record.delivered(up_to, arrived);
                false
            }
            Receipt::Read => record.read(up_to, arrived),
        };
        let ends = |job: &Job| job.up_to <= up_to && (receipt == Receipt::Read || job.at_ms > now.ms);
        if Self::end_jobs(record, &mut self.rates, now, ends) || is_shown {
            let (conversation, up_to_seq) = (conversation.clone(), up_to);
            out.push(Output::Withdraw { conversation, up_to_seq, receipt, is_known: true });
        }
        Self::correct_counts(record, now, out);
    }

    /// Notifies of what is due. Called too early it changes nothing.
    pub fn wake(&mut self, now: Now, out: &mut Vec<Output>) {
        for channel in Channel::ALL {
            self.rates.of_mut(channel).forget(now.ms);
        }
        for at in 0..self.records.len() {
            let record = &mut self.records[at];
            record.note_sent(now.ms);
            if let Some(up_to) = record.tell(now.ms, now.ms, self.rules.collapse_ms) {
                self.enqueue(at, up_to, now, out);
            }
        }
        let kept_ms = self.kept_ms();
        self.records.retain(|record| !record.is_settled() || record.changed_ms.saturating_add(kept_ms) > now.ms);
        if self.records.is_empty() {
            self.records = Vec::new();
        }
    }

    /// Somebody else decides from now on: what waits for a receipt goes into the queue, but must not be sent before its
    /// hold is over, so that a receipt can still arrive in time.
    pub fn hand_over(&mut self, now: Now, out: &mut Vec<Output>) {
        for at in 0..self.records.len() {
            let record = &mut self.records[at];
            record.note_sent(now.ms);
            if let Some(up_to) = record.tell(u64::MAX, now.ms, self.rules.collapse_ms) {
                self.enqueue(at, up_to, now, out);
            }
        }
    }

    /// What is held, by conversation up to its newest message, and due by `due_ms`.
    pub fn held(&self, due_ms: u64) -> impl Iterator<Item = (&ConversationId, Seq)> {
        let is_due = move |record: &&Record| record.due_ms().is_some_and(|at_ms| at_ms <= due_ms);
        self.records.iter().filter(is_due).filter_map(|record| Some((&record.conversation, record.held_up_to()?)))
    }

    /// Whether a message is still undecided.
    pub fn holds(&self, conversation: &ConversationId, seq: Seq) -> bool {
        let of = |record: &&Record| record.conversation == *conversation;
        self.records.iter().find(of).is_some_and(|record| record.holds(seq))
    }

    /// When [`Arbiter::wake`] is to be called next; `None` if only something new can make it necessary.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let kept_ms = self.kept_ms();
        let of = |record: &Record| {
            let forgotten_ms = record.is_settled().then(|| record.changed_ms.saturating_add(kept_ms));
            record.due_ms().or(forgotten_ms)
        };
        self.records.iter().filter_map(of).min().or_else(|| {
            let idle_ms = self.rates.iter().filter_map(|(_, rate)| rate.over_ms()).max();
            idle_ms.filter(|_| self.records.is_empty())
        })
    }

    /// Whether it may be dropped and recreated by [`Arbiter::restore`]: nothing waits or counts in a rate.
    pub fn is_idle(&self) -> bool {
        self.records.is_empty() && self.rates.iter().all(|(_, rate)| rate.over_ms().is_none())
    }

    /// The user muted or unmuted a conversation: what has not been notified by then is dropped.
    pub fn mute(
        &mut self,
        conversation: &ConversationId,
        muted_until: Option<Timestamp>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        if let Some(record) = self.records.iter_mut().find(|record| record.conversation == *conversation) {
            record.muted_until = muted_until;
            if record.is_muted(now) {
                Self::drop_unsent(record, &mut self.rates, record.came_up_to, Why::Muted, now, out);
            }
        }
    }

    /// The user is no longer a member, as of the entry `gone`: what has not been notified by then is dropped.
    pub fn remove_member(&mut self, conversation: &ConversationId, gone: Seq, now: Now, out: &mut Vec<Output>) {
        if let Some(record) = self.records.iter_mut().find(|record| record.conversation == *conversation) {
            Self::drop_unsent(record, &mut self.rates, gone, Why::NotAMember, now, out);
        }
    }

    /// The user changed the preferences. Queued notifications are rescheduled, or dropped.
    pub fn set_preferences(&mut self, preferences: Preferences, now: Now, out: &mut Vec<Output>) {
        self.preferences = preferences;
        for at in 0..self.records.len() {
            if !self.preferences.enabled {
                let record = &mut self.records[at];
                Self::drop_unsent(record, &mut self.rates, record.came_up_to, Why::Disabled, now, out);
                continue;
            }
            self.records[at].note_sent(now.ms);
            for channel in Channel::ALL {
                if let Some(job) = self.records[at].jobs.of(channel).filter(|job| job.at_ms > now.ms) {
                    self.rates.of_mut(channel).give_back(job.at_ms);
                    *self.records[at].jobs.of_mut(channel) = None;
                    self.enqueue_on(channel, at, job.up_to, now, out);
                }
            }
        }
    }

    /// Sets the channels of the user's devices. What is queued for another channel is also queued for the new ones;
    /// what is queued for a removed one finds no device there.
    pub fn set_channels(&mut self, channels: &[Channel], now: Now, out: &mut Vec<Output>) {
        for channel in Channel::ALL {
            let (had, has) = (*self.channels.of(channel), channels.contains(&channel));
            *self.channels.of_mut(channel) = has;
            for at in 0..self.records.len() {
                if !had && has && self.records[at].is_queued(now.ms) {
                    let up_to = self.records[at].told_up_to;
                    self.enqueue_on(channel, at, up_to, now, out);
                }
            }
        }
        for record in &mut self.records {
            for channel in Channel::ALL {
                let job = record.jobs.of_mut(channel).take_if(|job| job.at_ms > now.ms && !channels.contains(&channel));
                if let Some(job) = job {
                    self.rates.of_mut(channel).give_back(job.at_ms);
                }
            }
        }
    }

    fn has_device(&self) -> bool {
        self.channels.iter().any(|(_, has)| *has)
    }

    /// How long a conversation with nothing to notify is tracked, so that a repeated message is recognised.
    fn kept_ms(&self) -> u64 {
        self.rules.hold_ms.saturating_mul(2)
    }

    /// The record of a conversation, created if needed. `None` if there is no room for it.
    fn record_for(&mut self, conversation: &ConversationId, now: Now) -> Option<usize> {
        if let Some(at) = self.records.iter().position(|record| record.conversation == *conversation) {
            return Some(at);
        }
        if self.records.len() >= self.rules.conversations_max {
            self.forget_one(now)?;
        }
        self.records.push(Record::new(conversation.clone(), now.ms));
        Some(self.records.len() - 1)
    }

    /// Makes room. What waits for a receipt is not forgotten; what was notified is in the queue or with the user, and a
    /// receipt for it is then passed on without knowing whether there is something to withdraw.
    fn forget_one(&mut self, now: Now) -> Option<()> {
        let cost = |record: &Record| (!record.is_settled(), record.is_queued(now.ms), record.changed_ms);
        let candidates = self.records.iter().enumerate().filter(|(_, record)| !record.is_held());
        let (at, _) = candidates.min_by_key(|(_, record)| cost(record))?;
        let forgotten = self.records.swap_remove(at);
        self.has_forgotten |= !forgotten.is_settled();
        Some(())
    }

    fn enqueue(&mut self, at: usize, up_to: Seq, now: Now, out: &mut Vec<Output>) {
        if !self.has_device() {
            let record = &mut self.records[at];
            Self::drop_unsent(record, &mut self.rates, record.came_up_to, Why::NoDevice, now, out);
        }
        for channel in Channel::ALL {
            if *self.channels.of(channel) {
                self.enqueue_on(channel, at, up_to, now, out);
            }
        }
    }

    /// Enqueues the notification on one channel: replacing one that waits there, or at the next possible time.
    fn enqueue_on(&mut self, channel: Channel, at: usize, up_to: Seq, now: Now, out: &mut Vec<Output>) {
        self.records[at].note_sent(now.ms);
        let from_ms = now.ms.max(self.records[at].goes_ms);
        let waiting = self.records[at].jobs.of(channel).filter(|job| job.at_ms > now.ms);
        let (at_ms, delay) = match waiting {
            Some(job) if job.at_ms >= from_ms => (job.at_ms, job.delay),
            waiting => {
                if let Some(job) = waiting {
                    self.rates.of_mut(channel).give_back(job.at_ms);
                }
                let (at_ms, delay) = self.next_time_ms(channel, from_ms, now);
                self.rates.of_mut(channel).take(at_ms);
                (at_ms, delay)
            }
        };
        let record = &mut self.records[at];
        let job = Job { at_ms, up_to, count: record.count(up_to), delay };
        *record.jobs.of_mut(channel) = Some(job);
        out.push(notification(record, channel, job, now));
    }

    /// The first time, from `from_ms` on, outside of the quiet hours and within the rate, and the last reason for the
    /// delay.
    fn next_time_ms(&self, channel: Channel, from_ms: u64, now: Now) -> (u64, Option<Delay>) {
        let (mut at_ms, mut delay) = (from_ms, None);
        loop {
            // Each iteration moves forward, and after the last notification's hour only the quiet hours remain.
            let free_ms = self.rates.of(channel).earliest_ms(at_ms, self.rules.per_hour);
            if free_ms > at_ms {
                (at_ms, delay) = (free_ms, Some(Delay::Rate));
            }
            let quiet = self.preferences.quiet_hours.as_ref().and_then(|hours| hours.end(now.at_ms(at_ms)));
            match quiet.map(|end| now.ms_at(end)).filter(|end_ms| *end_ms > at_ms) {
                Some(end_ms) => (at_ms, delay) = (end_ms, Some(Delay::QuietHours)),
                None => return (at_ms, delay),
            }
        }
    }

    /// Ends jobs, and returns the rate slots of those that were not sent. Returns whether there was one.
    fn end_jobs(record: &mut Record, rates: &mut PerChannel<Rate>, now: Now, ends: impl Fn(&Job) -> bool) -> bool {
        let mut ended = false;
        for channel in Channel::ALL {
            if let Some(job) = record.jobs.of_mut(channel).take_if(|job| ends(job)) {
                if job.at_ms > now.ms {
                    rates.of_mut(channel).give_back(job.at_ms);
                }
                ended = true;
            }
        }
        ended
    }

    /// Enqueues notifications again that wait in the queue and count too many messages.
    fn correct_counts(record: &mut Record, now: Now, out: &mut Vec<Output>) {
        for channel in Channel::ALL {
            let Some(mut job) = record.jobs.of(channel).filter(|job| job.at_ms > now.ms) else { continue };
            let count = record.count(job.up_to);
            if count != job.count {
                job.count = count;
                *record.jobs.of_mut(channel) = Some(job);
                out.push(notification(record, channel, job, now));
            }
        }
    }

    /// Drops what the user has not been notified of up to some message, in the hold or in the queue.
    fn drop_unsent(
        record: &mut Record,
        rates: &mut PerChannel<Rate>,
        up_to: Seq,
        why: Why,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        record.note_sent(now.ms);
        let conversation = record.conversation.clone();
        let up_to_seq = record.told_up_to.min(up_to);
        record.drop_unsent(up_to, |seq| {
            out.push(Output::Trace { conversation: conversation.clone(), seq, step: Step::NotTold(why) });
        });
        if Self::end_jobs(record, rates, now, |job| job.at_ms > now.ms && job.up_to <= up_to) {
            out.push(Output::Withdraw { conversation, up_to_seq, receipt: Receipt::Delivered, is_known: true });
        }
        Self::correct_counts(record, now, out);
    }
}

fn notification(record: &Record, channel: Channel, job: Job, now: Now) -> Output {
    Output::Enqueue(Notification {
        channel,
        conversation: record.conversation.clone(),
        up_to_seq: job.up_to,
        count: job.count,
        priority: record.priority(job.up_to),
        not_before: now.at_ms(job.at_ms),
        delay: job.delay,
    })
}
