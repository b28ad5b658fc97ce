//! A naive model of the queue and the devices, and of what they may show: computed from the whole history, message by
//! message, without holds, records or slots.

use std::collections::BTreeMap;

use switchboard_protocol::{ConversationId, Seq};
use switchboard_push::{Notification, Now, Output, Receipt, Rules};
use switchboard_store::Channel;

pub(crate) const HOUR_MS: u64 = 3_600_000;

/// An attempt to send a notification.
pub(crate) struct Attempt {
    pub(crate) channel: Channel,
    pub(crate) at_ms: u64,
}

/// The state of one message.
#[derive(Clone, Debug)]
struct Known {
    arrived_ms: u64,
    /// The user may be notified of it: it is wanted, and no receipt has come in time.
    alive: bool,
    /// It was in a notification that was due, on any channel.
    sent: bool,
    /// The browser showed it.
    shows: bool,
    /// The browser must show it in the end. It may show everything that is alive.
    expected: bool,
    receipt_ms: Option<u64>,
}

/// A conversation's notification on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) up_to: u64,
    pub(crate) count: u32,
}

struct Job {
    notification: Notification,
    at_ms: u64,
    was_tried: bool,
}

type Key = (Channel, ConversationId);

pub(crate) struct World {
    rules: Rules,
    /// The counts must be exact: no messages are merged.
    counts_exactly: bool,
    messages: BTreeMap<ConversationId, BTreeMap<u64, Known>>,
    queue: BTreeMap<Key, Job>,
    pub(crate) shown: BTreeMap<Key, Shown>,
    pub(crate) attempts: Vec<Attempt>,
    /// The providers fail, and jobs wait this long for the next attempt.
    pub(crate) fails_for_ms: Option<u64>,
}

impl World {
    pub(crate) fn new(rules: Rules, counts_exactly: bool) -> Self {
        let (messages, queue, shown) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { rules, counts_exactly, messages, queue, shown, attempts: Vec::new(), fails_for_ms: None }
    }

    /// A message that the arbiter takes (`wanted`), or refuses.
    pub(crate) fn message(&mut self, conversation: &ConversationId, seq: u64, wanted: bool, now: Now) {
        let known =
            Known { arrived_ms: now.ms, alive: wanted, sent: false, shows: false, expected: wanted, receipt_ms: None };
        self.messages.entry(conversation.clone()).or_default().insert(seq, known);
    }

    pub(crate) fn receipt(&mut self, conversation: &ConversationId, up_to: u64, receipt: Receipt, now: Now) {
        for (_, known) in self.messages.entry(conversation.clone()).or_default().range_mut(..=up_to) {
            known.receipt_ms.get_or_insert(now.ms);
            known.alive &= receipt == Receipt::Delivered && known.sent;
            known.expected &= receipt == Receipt::Delivered && known.shows;
        }
    }

    /// Unsent messages must not be notified any more: those of one conversation, or all.
    pub(crate) fn give_up(&mut self, conversation: Option<&ConversationId>) {
        for (of, messages) in &mut self.messages {
            if conversation.is_none_or(|conversation| of == conversation) {
                for known in messages.values_mut() {
                    known.alive &= known.sent;
                    known.expected &= known.shows;
                }
            }
        }
    }

    /// The user's devices of a channel are removed, with what they show.
    pub(crate) fn unregister(&mut self, channel: Channel) {
        self.queue.retain(|(of, _), _| *of != channel);
        self.shown.retain(|(of, _), _| *of != channel);
    }

    /// Executes the outputs, and checks each notification against the model.
    pub(crate) fn take(&mut self, outputs: Vec<Output>, now: Now) {
        for output in outputs {
            match output {
                Output::Enqueue(notification) => {
                    self.check(&notification, now);
                    let key = (notification.channel, notification.conversation.clone());
                    let at_ms = time_ms(&notification, now);
                    self.queue.insert(key, Job { notification, at_ms, was_tried: false });
                }
                Output::Withdraw { conversation, up_to_seq, receipt, .. } => {
                    let concerns = |key: &Key, up_to: u64| key.1 == conversation && up_to <= up_to_seq.get();
                    self.queue.retain(|key, job| !concerns(key, job.notification.up_to_seq.get()));
                    if receipt == Receipt::Read {
                        self.shown.retain(|key, shown| !concerns(key, shown.up_to));
                    }
                }
                Output::Trace { .. } => {}
            }
        }
    }

    fn check(&self, job: &Notification, now: Now) {
        let messages = &self.messages[&job.conversation];
        let newest = &messages[&job.up_to_seq.get()];
        let hold_over_ms = newest.arrived_ms + self.rules.hold_ms;
        assert!(newest.alive, "nothing to notify: {job:?}");
        assert!(time_ms(job, now) >= hold_over_ms, "before the hold was over: {job:?}");
        assert!(newest.receipt_ms.is_none_or(|at_ms| at_ms >= hold_over_ms), "in spite of a receipt: {job:?}");
        self.check_count(job);
    }

    /// Checks the count of a notification: when it is enqueued, and when it is sent.
    fn check_count(&self, job: &Notification) {
        let messages = self.messages[&job.conversation].range(..=job.up_to_seq.get());
        let told = messages.filter(|(_, known)| known.alive).count();
        assert!(job.count as usize >= told, "{job:?} of {told}");
        assert!(!self.counts_exactly || job.count as usize == told, "{job:?} of {told}");
    }

    /// When the queue next has something to do.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.queue.values().map(|job| job.at_ms).min()
    }

    /// Attempts to send what is due.
    pub(crate) fn work(&mut self, now: Now) {
        let due = self.queue.iter().filter(|(_, job)| job.at_ms <= now.ms).map(|(key, _)| key.clone());
        for key in due.collect::<Vec<_>>() {
            if !self.queue[&key].was_tried {
                self.check_count(&self.queue[&key].notification);
            }
            let job = self.queue.get_mut(&key).unwrap();
            let shown = Shown { up_to: job.notification.up_to_seq.get(), count: job.notification.count };
            if !std::mem::replace(&mut job.was_tried, true) {
                self.attempts.push(Attempt { channel: key.0, at_ms: now.ms });
                // It counts as sent from now on, whether or not the provider accepts it.
                let messages = self.messages.get_mut(&key.1).unwrap().range_mut(..=shown.up_to);
                messages.filter(|(_, known)| known.alive).for_each(|(_, known)| known.sent = true);
            }
            if let Some(fails_for_ms) = self.fails_for_ms {
                job.at_ms = now.ms + fails_for_ms;
            } else {
                self.queue.remove(&key);
                let messages = self.messages.get_mut(&key.1).unwrap().range_mut(..=shown.up_to);
                messages.for_each(|(_, known)| known.shows |= key.0 == Channel::WebPush);
                self.shown.insert(key, shown);
            }
        }
    }

    /// What the browser, which is registered all the time, must show at least in the end.
    pub(crate) fn expected(&self) -> BTreeMap<ConversationId, Shown> {
        let shown = |messages: &BTreeMap<u64, Known>| {
            let mut expected = messages.iter().filter(|(_, known)| known.expected);
            let count = u32::try_from(expected.clone().count()).unwrap();
            expected.next_back().map(|(seq, _)| Shown { up_to: *seq, count })
        };
        self.messages.iter().filter_map(|(of, messages)| Some((of.clone(), shown(messages)?))).collect()
    }

    /// Whether a notification may show this message as its newest.
    pub(crate) fn may_show(&self, conversation: &ConversationId, seq: u64) -> bool {
        self.messages[conversation][&seq].alive
    }

    /// The maximum number of attempts on a channel in any hour.
    pub(crate) fn most_in_an_hour(&self, channel: Channel) -> usize {
        let times: Vec<u64> = self.attempts.iter().filter(|of| of.channel == channel).map(|of| of.at_ms).collect();
        let within = |from: &u64| times.iter().filter(|at| **at >= *from && **at < from + HOUR_MS).count();
        times.iter().map(within).max().unwrap_or(0)
    }
}

/// The time from which a job may be sent.
fn time_ms(job: &Notification, now: Now) -> u64 {
    now.ms + u64::try_from(job.not_before.unix_ms() - now.at.unix_ms()).unwrap()
}

pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number)
}
