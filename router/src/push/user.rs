//! The push state of one user at home: the arbiter, once its data has been read, and the events that arrived before
//! that.

use crate::push::Ticket;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use switchboard_protocol::{ConversationId, Seq, Timestamp, UserId};
use switchboard_push::{Arbiter, Message, Now, Output, Preferences, Receipt, Rules, Step, Why};
use switchboard_store::{Channel, Cursor, PushJob, UserKey};

/// Events that wait until a user's arbiter is loaded, at most. Loading takes milliseconds, and while the store does not
/// answer there are no new messages.
const WAITING_MAX: usize = 1_024;

/// Messages to one user that are held at once. One more moves all of them into the queue, where they wait.
const HELD_MAX: usize = 1_024;

/// Something that happened to a user.
pub(super) enum Event {
    /// A message. Its announcement is not confirmed as long as the ticket exists.
    Message(NewMessage, Arc<Ticket>),
    Receipt {
        conversation: ConversationId,
        upto: Seq,
        receipt: Receipt,
        source: ReceiptSource,
    },
    Muted {
        conversation: ConversationId,
        until: Option<Timestamp>,
    },
    /// The user is no longer a member, as of this entry.
    Gone {
        conversation: ConversationId,
        seq: Seq,
    },
}

/// How a receipt has reached the home.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ReceiptSource {
    /// Directly: only the store may know the notification that it withdraws.
    AtOnce,
    /// With the log's end: a former home may have missed it, and notified the user of what was read.
    Again,
    /// The same in a large group, most of whose members were not notified of anything.
    AgainByMany,
}

/// A message and its sender.
pub(super) struct NewMessage {
    pub(super) message: Message,
    pub(super) from: UserId,
}

/// The circumstances of a decision.
pub(super) struct Round {
    pub(super) now: Now,
    pub(super) rules: Rules,
    /// Revocations and blocks of the user that the node has been told of.
    pub(super) changes: u64,
    /// Another node decides about the user from now on.
    pub(super) hands_over: bool,
    /// Another node may have queued something that this one does not know about.
    pub(super) is_new_here: bool,
}

/// The input of an arbiter's decisions, read from the store.
pub(super) struct Loaded {
    pub(super) channels: Vec<Channel>,
    pub(super) preferences: Preferences,
    /// The users whom the user blocks.
    pub(super) blocks: BTreeSet<UserId>,
    /// The `changes` of the round that read it.
    pub(super) changes: u64,
    pub(super) outstanding: Vec<PushJob>,
}

/// The state of a conversation in the store, before a notification of it is sent.
pub(super) struct Reached {
    pub(super) conversation: ConversationId,
    /// Its newest held message.
    pub(super) held_up_to: Seq,
    /// The user's cursors, at least.
    pub(super) cursor: Cursor,
    /// The user is no longer a member.
    pub(super) has_gone: bool,
    pub(super) muted_until: Option<Timestamp>,
}

/// What to read from the store for a user.
pub(super) struct Asked {
    pub(super) load: Option<Load>,
    pub(super) held: Vec<(ConversationId, Seq)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    First,
    Again,
}

struct Undecided {
    conversation: ConversationId,
    seq: Seq,
    ticket: Arc<Ticket>,
}

struct Known {
    arbiter: Arbiter,
    blocks: BTreeSet<UserId>,
    changes: u64,
}

/// See the file's comment. A user without held messages can be forgotten, and loaded again from the store.
#[derive(Default)]
pub(super) struct PushUser {
    known: Option<Known>,
    /// Devices or preferences have changed since they were loaded.
    is_stale: bool,
    waiting: Vec<Event>,
    /// Messages that have come and are not decided.
    undecided: Vec<Undecided>,
    /// Tickets of what is decided.
    decided: Vec<Arc<Ticket>>,
    /// Whether the user waits for a turn at the store.
    pub(super) is_queued: bool,
    wakes_ms: Option<u64>,
    touched_ms: u64,
}

impl Event {
    /// Whether the event matters only to an arbiter that is loaded already.
    pub(super) fn is_of_the_past(&self) -> bool {
        matches!(self, Self::Receipt { source: ReceiptSource::AgainByMany, .. } | Self::Gone { .. })
    }
}

impl PushUser {
    /// Handles an event now, or once the arbiter is loaded. Returns it if too many wait for that.
    pub(super) fn take(&mut self, event: Event, round: &Round, out: &mut Vec<Output>) -> Result<(), Event> {
        self.touched_ms = round.now.ms;
        if self.waiting.is_empty() && !self.is_to_load(round) {
            self.decide(event, round, out);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push(event);
        } else {
            return Err(event);
        }
        Ok(())
    }

    /// Devices or preferences have been changed in the store.
    pub(super) fn changed(&mut self) {
        self.is_stale = true;
    }

    fn is_to_load(&self, round: &Round) -> bool {
        self.is_stale || self.known.as_ref().is_none_or(|known| known.changes != round.changes)
    }

    fn decide(&mut self, event: Event, round: &Round, out: &mut Vec<Output>) {
        let Some(Known { arbiter, blocks, .. }) = &mut self.known else { return };
        match event {
            Event::Message(NewMessage { message, from }, ticket) => {
                let (conversation, seq) = (message.conversation.clone(), message.seq);
                if blocks.contains(&from) {
                    out.push(Output::Trace { conversation, seq, step: Step::NotTold(Why::Blocked) });
                } else {
                    arbiter.message(message, round.now, out);
                    self.undecided.push(Undecided { conversation, seq, ticket });
                    if self.undecided.len() > HELD_MAX {
                        arbiter.hand_over(round.now, out);
                    }
                }
            }
            Event::Receipt { conversation, upto, receipt, source } => {
                let before = out.len();
                self.receipt(&conversation, upto, receipt, round, out);
                // The former home may still queue newer notifications than all that this one has seen.
                let withdraws_all =
                    |output: &Output| matches!(output, Output::Withdraw { up_to_seq, .. } if *up_to_seq == upto);
                if source == ReceiptSource::AtOnce && round.is_new_here && !out[before..].iter().any(withdraws_all) {
                    out.push(Output::Withdraw { conversation, up_to_seq: upto, receipt, is_known: false });
                }
            }
            Event::Muted { conversation, until } => arbiter.mute(&conversation, until, round.now, out),
            Event::Gone { conversation, seq } => arbiter.remove_member(&conversation, seq, round.now, out),
        }
        self.settle();
    }

    fn receipt(
        &mut self,
        conversation: &ConversationId,
        upto: Seq,
        receipt: Receipt,
        round: &Round,
        out: &mut Vec<Output>,
    ) {
        let Some(Known { arbiter, .. }) = &mut self.known else { return };
        arbiter.receipt(conversation, upto, receipt, round.now, out);
        let got = self.undecided.extract_if(.., |of| of.conversation == *conversation && of.seq <= upto);
        self.decided.extend(got.map(|of| of.ticket));
    }

    /// Moves the tickets of messages that are decided by now.
    fn settle(&mut self) {
        let arbiter = self.known.as_ref().map(|known| &known.arbiter);
        let is_held = |of: &Undecided| arbiter.is_some_and(|arbiter| arbiter.holds(&of.conversation, of.seq));
        let decided = self.undecided.extract_if(.., |of| !is_held(of));
        self.decided.extend(decided.map(|of| of.ticket));
    }

    /// The tickets of what has been decided since the last call.
    pub(super) fn decided(&mut self) -> Vec<Arc<Ticket>> {
        std::mem::take(&mut self.decided)
    }

    /// Messages that are not decided.
    pub(super) fn undecided(&self) -> usize {
        let waits = |event: &&Event| matches!(event, Event::Message(..));
        self.undecided.len() + self.waiting.iter().filter(waits).count()
    }

    // Turns

    /// Whether something must be read from the store.
    pub(super) fn wants_turn(&self, round: &Round) -> bool {
        let Some(Known { arbiter, .. }) = &self.known else { return true };
        let is_due = arbiter.next_deadline_ms().is_some_and(|at_ms| at_ms <= round.now.ms);
        !self.waiting.is_empty() || self.is_stale || is_due || (round.hands_over && !self.undecided.is_empty())
    }

    /// What must be read from the store.
    pub(super) fn begin_turn(&mut self, round: &Round) -> Asked {
        self.is_queued = false;
        let due_ms = if round.hands_over { u64::MAX } else { round.now.ms };
        let held = self.known.iter().flat_map(|known| known.arbiter.held(due_ms));
        let load = match &self.known {
            None => Some(Load::First),
            Some(_) => self.is_to_load(round).then_some(Load::Again),
        };
        Asked { load, held: held.map(|(conversation, seq)| (conversation.clone(), seq)).collect() }
    }

    /// The user has no device: nothing is held any more.
    pub(super) fn end_without_device(mut self, round: &Round, out: &mut Vec<Output>) {
        if let Some(known) = &mut self.known {
            known.arbiter.set_channels(&[], round.now, out);
            known.arbiter.hand_over(round.now, out);
        }
        for event in self.waiting {
            if let Event::Message(NewMessage { message, .. }, _) = event {
                let Message { conversation, seq, .. } = message;
                out.push(Output::Trace { conversation, seq, step: Step::NotTold(Why::NoDevice) });
            }
        }
    }

    /// Continues with what was read from the store.
    pub(super) fn end_turn(
        &mut self,
        loaded: Option<Loaded>,
        reached: Vec<Reached>,
        round: &Round,
        out: &mut Vec<Output>,
    ) {
        if let Some(loaded) = loaded {
            self.load(loaded, round, out);
        }
        for event in std::mem::take(&mut self.waiting) {
            self.decide(event, round, out);
        }
        for of in reached {
            self.reach(of, round, out);
        }
        if let Some(Known { arbiter, .. }) = &mut self.known {
            arbiter.wake(round.now, out);
            if round.hands_over {
                arbiter.hand_over(round.now, out);
            }
        }
        self.settle();
    }

    fn load(&mut self, loaded: Loaded, round: &Round, out: &mut Vec<Output>) {
        let Loaded { channels, preferences, blocks, changes, outstanding } = loaded;
        self.is_stale = false;
        match &mut self.known {
            Some(known) => {
                known.arbiter.set_channels(&channels, round.now, out);
                known.arbiter.set_preferences(preferences, round.now, out);
                (known.blocks, known.changes) = (blocks, changes);
            }
            None => {
                let mut arbiter = Arbiter::new(round.rules, preferences, &channels);
                outstanding.into_iter().for_each(|job| arbiter.restore(job, round.now));
                self.known = Some(Known { arbiter, blocks, changes });
            }
        }
    }

    /// The owner has receipts that did not come here. Users who left are not notified.
    fn reach(&mut self, of: Reached, round: &Round, out: &mut Vec<Output>) {
        let Reached { conversation, held_up_to, cursor, has_gone, muted_until } = of;
        for (upto, receipt) in [(cursor.delivered_seq, Receipt::Delivered), (cursor.read_seq, Receipt::Read)] {
            self.receipt(&conversation, upto, receipt, round, out);
        }
        if has_gone {
            self.decide(Event::Gone { conversation: conversation.clone(), seq: held_up_to }, round, out);
        }
        self.decide(Event::Muted { conversation, until: muted_until }, round, out);
    }

    // Time

    /// The user's next deadline, if it is earlier than the one that is set.
    pub(super) fn new_deadline_ms(&mut self) -> Option<u64> {
        let deadline_ms = self.known.as_ref()?.arbiter.next_deadline_ms()?;
        let is_new = !self.is_queued && self.wakes_ms.is_none_or(|wakes_ms| deadline_ms < wakes_ms);
        is_new.then(|| *self.wakes_ms.insert(deadline_ms))
    }

    /// The deadline has come.
    pub(super) fn woken(&mut self) {
        self.wakes_ms = None;
    }

    fn can_be_forgotten(&self) -> bool {
        !self.is_queued && self.undecided() == 0 && self.waiting.is_empty()
    }
}

/// Forgets half of the users who can be loaded again, starting with those without events for longest.
pub(super) fn forget_half(users: &mut HashMap<UserKey, PushUser>) {
    let of = |(key, user): (&UserKey, &PushUser)| (user.touched_ms, key.clone());
    let mut idle: Vec<_> = users.iter().filter(|(_, user)| user.can_be_forgotten()).map(of).collect();
    idle.sort();
    for (_, key) in idle.iter().take(idle.len().div_ceil(2)) {
        users.remove(key);
    }
}
