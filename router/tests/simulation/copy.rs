//! A client's copy of one conversation, kept by the rule of PROTOCOL §3: entries in the order of `seq`, known ones
//! ignored, `changes` after a gap, `history` after a `reset`.

use crate::truth::{MessageNow, Messages, Truth, apply};
use std::collections::BTreeMap;
use switchboard_protocol::server::{Changes, History, HistoryMessage};
use switchboard_protocol::{EntryFrame, Seq, UserId};

#[derive(Debug, Default)]
pub(crate) struct Copy {
    /// Entries up to here came as `history`, not one by one.
    pub(crate) base: u64,
    pub(crate) entries: BTreeMap<u64, EntryFrame>,
    pub(crate) messages: Messages,
    /// Messages that came as `history`, in their state after this entry.
    as_of: BTreeMap<u64, u64>,
    /// Everything up to here has been applied.
    pub(crate) applied: u64,
    /// Entries up to here are known to exist.
    pub(crate) heard: u64,
}

impl Copy {
    pub(crate) fn is_behind(&self) -> bool {
        self.heard > self.applied
    }

    pub(crate) fn hear(&mut self, seq: Seq) {
        self.heard = self.heard.max(seq.get());
    }

    /// Takes an entry that came live, as an answer, or in `changes`.
    pub(crate) fn take(&mut self, entry: EntryFrame, me: &UserId) {
        let seq = entry.seq().get();
        self.hear(entry.seq());
        if seq != self.applied + 1 {
            return;
        }
        let target = match &entry {
            EntryFrame::MessageUpdated(update) => update.target_seq.get(),
            EntryFrame::Reaction(reaction) => reaction.target_seq.get(),
            _ => 0,
        };
        if self.as_of.get(&target).is_none_or(|as_of| *as_of < seq) {
            apply(&mut self.messages, &entry, me);
        }
        self.entries.insert(seq, entry);
        self.applied = seq;
    }

    /// Returns whether there is nothing more to ask for now.
    pub(crate) fn take_changes(&mut self, changes: Changes, me: &UserId) -> bool {
        self.hear(changes.last_seq);
        let before = self.applied;
        for entry in changes.entries {
            self.take(entry, me);
        }
        // Without progress, an immediate retry is pointless.
        !changes.more || self.applied == before
    }

    /// `reset`: starts over with the newest page.
    pub(crate) fn begin_history(&mut self, page: &History) {
        *self = Self { heard: self.heard, ..Self::default() };
        self.base = page.last_seq.get();
        self.applied = self.base;
        self.hear(page.last_seq);
    }

    pub(crate) fn take_history(&mut self, page: History) {
        for message in page.messages {
            let seq = message.seq.get();
            self.as_of.insert(seq, page.last_seq.get());
            self.messages.insert(seq, now(message));
        }
    }

    /// How this copy differs from the log; `None` if it does not. Users who are no longer members need not be at the
    /// end.
    pub(crate) fn differs(&self, truth: &Truth, me: &UserId) -> Option<String> {
        if truth.members().contains_key(me) && self.applied != truth.end().get() {
            return Some(format!("has {} of {} (heard of {})", self.applied, truth.end(), self.heard));
        }
        for (seq, entry) in &self.entries {
            if truth.entry(Seq::new(*seq)) != Some(entry) {
                return Some(format!("has {entry:?}, the log {:?}", truth.entry(Seq::new(*seq))));
            }
        }
        if self.applied == truth.end().get() {
            let messages = truth.messages(me);
            for seq in messages.keys().chain(self.messages.keys()) {
                let (mine, there) = (self.messages.get(seq), messages.get(seq));
                if mine != there {
                    return Some(format!("shows message {seq} as {mine:?}, it is {there:?} (base {})", self.base));
                }
            }
        }
        None
    }
}

pub(crate) fn now(message: HistoryMessage) -> MessageNow {
    let reactions = message.reactions.into_iter();
    MessageNow {
        from: message.from,
        content: message.content.map(|content| content.as_str().to_owned()),
        reactions: reactions.map(|each| (each.emoji.as_str().to_owned(), (each.count, each.me))).collect(),
    }
}
