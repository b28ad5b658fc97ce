//! What this node has noted: the newest of it, in the order in which it happened, within `trace.bytes` and for
//! `trace.kept_s`. Noting costs a lock and a push; looking goes through all of it, which only who administers does.

use super::{TraceEvent, TraceStep};
use crate::delivery::EntryRun;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Mutex;
use switchboard_protocol::{DeviceId, NodeId, Seq, SessionId, Timestamp, UserId};
use switchboard_store::ConversationKey;

use crate::node::lock;
use crate::session::Session;

/// How much is kept, and of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// 0: nothing.
    pub(crate) bytes: usize,
    pub(crate) kept_ms: i64,
    /// Sessions of one delivery that are told apart.
    pub(crate) sessions_max: usize,
}

/// See the file's comment.
#[derive(Default)]
pub(crate) struct Traces(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    records: VecDeque<Record>,
    bytes: usize,
}

/// One thing that happened to entries of a conversation.
struct Record {
    at: Timestamp,
    conversation: ConversationKey,
    entries: EntryRun,
    what: What,
}

enum What {
    Announced(SmallVec<[(NodeId, u32); 1]>),
    Given(GivenTo),
    /// Everything up to the last of the entries is there, or (true) read.
    Receipt(UserId, bool),
    Step(Option<UserId>, Box<TraceStep>),
}

/// Sessions that a delivery was given to.
pub(crate) struct GivenTo {
    told_apart: SmallVec<[(UserId, SessionId, DeviceId); 1]>,
    more: u32,
    most: usize,
}

impl GivenTo {
    pub(crate) fn nobody(bounds: Bounds) -> Self {
        Self { told_apart: SmallVec::new(), more: 0, most: if bounds.bytes == 0 { 0 } else { bounds.sessions_max } }
    }

    pub(crate) fn add(&mut self, session: &Session) {
        if self.told_apart.len() < self.most {
            self.told_apart.push((session.user.user.clone(), session.id.clone(), session.device.clone()));
        } else {
            self.more += 1;
        }
    }
}

impl Traces {
    /// An owner has announced entries to homes, each of so many users.
    pub(crate) fn announced(
        &self,
        at: Timestamp,
        (conversation, entries): (&ConversationKey, EntryRun),
        homes: impl Iterator<Item = (NodeId, u32)>,
        bounds: Bounds,
    ) {
        if bounds.bytes > 0 {
            self.note(
                Record { at, conversation: conversation.clone(), entries, what: What::Announced(homes.collect()) },
                bounds,
            );
        }
    }

    /// Entries have been given to sessions.
    pub(crate) fn given(
        &self,
        at: Timestamp,
        (conversation, entries): (&ConversationKey, EntryRun),
        to: GivenTo,
        bounds: Bounds,
    ) {
        if bounds.bytes > 0 && (to.more > 0 || !to.told_apart.is_empty()) {
            self.note(Record { at, conversation: conversation.clone(), entries, what: What::Given(to) }, bounds);
        }
    }

    /// A user has everything up to an entry, or has read it.
    pub(crate) fn receipt(
        &self,
        at: Timestamp,
        (conversation, up_to): (&ConversationKey, Seq),
        (user, is_read): (&UserId, bool),
        bounds: Bounds,
    ) {
        if bounds.bytes > 0 {
            let what = What::Receipt(user.clone(), is_read);
            self.note(Record { at, conversation: conversation.clone(), entries: EntryRun::one(up_to), what }, bounds);
        }
    }

    /// Anything else.
    pub(crate) fn step(
        &self,
        at: Timestamp,
        (conversation, seq): (&ConversationKey, Seq),
        user: Option<&UserId>,
        step: TraceStep,
        bounds: Bounds,
    ) {
        if bounds.bytes > 0 {
            let entries = if step.is_up_to() { EntryRun { first: Seq::ZERO, last: seq } } else { EntryRun::one(seq) };
            let what = What::Step(user.cloned(), Box::new(step));
            self.note(Record { at, conversation: conversation.clone(), entries, what }, bounds);
        }
    }

    fn note(&self, record: Record, bounds: Bounds) {
        let mut kept = lock(&self.0);
        let oldest = Timestamp::from_unix_ms(record.at.unix_ms().saturating_sub(bounds.kept_ms));
        kept.bytes += record.bytes();
        kept.records.push_back(record);
        while kept.bytes > bounds.bytes || kept.records.front().is_some_and(|first| first.at < oldest) {
            let Some(gone) = kept.records.pop_front() else { return };
            kept.bytes -= gone.bytes();
        }
    }

    /// About what it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        lock(&self.0).bytes
    }

    /// What is known here of an entry, of everyone or of some.
    pub(crate) fn of(
        &self,
        (conversation, seq): (&ConversationKey, Seq),
        concerns: impl Fn(&UserId) -> bool,
        node_id: &NodeId,
    ) -> Vec<TraceEvent> {
        let mut events = Vec::new();
        let kept = lock(&self.0);
        for record in kept.records.iter().filter(|record| record.conversation == *conversation) {
            record.tell(seq, &mut |user, step| {
                if user.as_ref().is_none_or(&concerns) {
                    let event = TraceEvent { at: record.at, node_id: node_id.clone(), user_id: user, step };
                    if event.is_news_after(&events) {
                        events.push(event);
                    }
                }
            });
        }
        events
    }
}

impl Record {
    fn bytes(&self) -> usize {
        let varies = match &self.what {
            What::Announced(homes) if homes.spilled() => homes.len() * size_of::<(NodeId, u32)>(),
            What::Given(to) if to.told_apart.spilled() => {
                to.told_apart.len() * size_of::<(UserId, SessionId, DeviceId)>()
            }
            What::Step(..) => size_of::<TraceStep>(),
            _ => 0,
        };
        size_of::<Self>() + varies
    }

    /// What it says of an entry.
    fn tell(&self, seq: Seq, say: &mut dyn FnMut(Option<UserId>, TraceStep)) {
        match &self.what {
            What::Receipt(user, is_read) if self.entries.last >= seq => {
                let up_to_seq = self.entries.last;
                let step = if *is_read { TraceStep::Read { up_to_seq } } else { TraceStep::Delivered { up_to_seq } };
                say(Some(user.clone()), step);
            }
            _ if !self.entries.has(seq) => {}
            What::Announced(homes) => homes.iter().for_each(|(home, users)| {
                say(None, TraceStep::Announced { home_id: home.clone(), users: *users });
            }),
            What::Given(to) => {
                for (user, session, device) in &to.told_apart {
                    let (session_id, device_id) = (session.clone(), device.clone());
                    say(Some(user.clone()), TraceStep::Given { session_id, device_id });
                }
                if to.more > 0 {
                    say(None, TraceStep::GivenToMore { sessions: to.more });
                }
            }
            What::Step(user, step) => say(user.clone(), (**step).clone()),
            What::Receipt(..) => {}
        }
    }
}
