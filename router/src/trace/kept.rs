//! The trace records of this node: the newest ones, in order of recording, within `trace.bytes` and `trace.kept_s`.
//! Recording costs a lock and a push. Reading scans all records, which happens only when an administrator asks for a
//! trace.

use super::{TraceEvent, TraceStep};
use crate::delivery::EntryRun;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Mutex;
use switchboard_protocol::{DeviceId, NodeId, Seq, SessionId, Timestamp, UserId};
use switchboard_store::{ConversationKey, Receipt};

use crate::node::lock;
use crate::session::Session;

/// The limits of the records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// 0: nothing is recorded.
    pub(crate) bytes: usize,
    pub(crate) kept_ms: i64,
    /// Sessions of one delivery that are named; the rest are only counted.
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
pub(super) struct Record {
    pub(super) at: Timestamp,
    pub(super) conversation: ConversationKey,
    pub(super) entries: EntryRun,
    pub(super) what: What,
}

pub(super) enum What {
    /// An owner announced the entries to homes, each with its number of users.
    Announced(SmallVec<[(NodeId, u32); 1]>),
    /// The entries were given to sessions.
    Given(GivenTo),
    /// A user's receipt for everything up to the last of the entries.
    Receipt(UserId, Receipt),
    /// Anything else.
    Step(Option<UserId>, Box<TraceStep>),
}

struct GivenSession {
    user: UserId,
    session: SessionId,
    device: DeviceId,
}

/// Sessions that a delivery was given to.
pub(crate) struct GivenTo {
    /// The first few, up to `named_max`.
    named: SmallVec<[GivenSession; 1]>,
    /// The number of others.
    more: u32,
    named_max: usize,
}

impl GivenTo {
    pub(crate) fn nobody(bounds: Bounds) -> Self {
        let named_max = if bounds.bytes == 0 { 0 } else { bounds.sessions_max };
        Self { named: SmallVec::new(), more: 0, named_max }
    }

    pub(crate) fn add(&mut self, session: &Session) {
        if self.named.len() < self.named_max {
            let Session { user, id, device, .. } = session;
            self.named.push(GivenSession { user: user.user.clone(), session: id.clone(), device: device.clone() });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_nobody(&self) -> bool {
        self.more == 0 && self.named.is_empty()
    }
}

impl Traces {
    /// Keeps a record, and forgets the oldest ones beyond the bounds.
    pub(super) fn note(&self, record: Record, bounds: Bounds) {
        let mut kept = lock(&self.0);
        let oldest = Timestamp::from_unix_ms(record.at.unix_ms().saturating_sub(bounds.kept_ms));
        kept.bytes += record.bytes();
        kept.records.push_back(record);
        while kept.bytes > bounds.bytes || kept.records.front().is_some_and(|first| first.at < oldest) {
            let Some(gone) = kept.records.pop_front() else { return };
            kept.bytes -= gone.bytes();
        }
    }

    /// About the bytes that the records take in memory.
    pub(crate) fn bytes(&self) -> usize {
        lock(&self.0).bytes
    }

    /// The events of an entry that concern everyone, or a user whom `concerns` accepts.
    pub(crate) fn of(
        &self,
        conversation: &ConversationKey,
        seq: Seq,
        concerns: impl Fn(&UserId) -> bool,
        node_id: &NodeId,
    ) -> Vec<TraceEvent> {
        let mut events = Vec::new();
        let kept = lock(&self.0);
        for record in kept.records.iter().filter(|record| record.conversation == *conversation) {
            record.steps(seq, &mut |user, step| {
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
            What::Given(to) if to.named.spilled() => to.named.len() * size_of::<GivenSession>(),
            What::Step(..) => size_of::<TraceStep>(),
            _ => 0,
        };
        size_of::<Self>() + varies
    }

    /// Calls `say` with each step that the record holds about an entry.
    fn steps(&self, seq: Seq, say: &mut dyn FnMut(Option<UserId>, TraceStep)) {
        match &self.what {
            What::Receipt(user, receipt) if self.entries.last >= seq => {
                let up_to_seq = self.entries.last;
                let step = match receipt {
                    Receipt::Delivered => TraceStep::Delivered { up_to_seq },
                    Receipt::Read => TraceStep::Read { up_to_seq },
                };
                say(Some(user.clone()), step);
            }
            _ if !self.entries.has(seq) => {}
            What::Announced(homes) => homes.iter().for_each(|(home, users)| {
                say(None, TraceStep::Announced { home_id: home.clone(), users: *users });
            }),
            What::Given(to) => {
                for GivenSession { user, session, device } in &to.named {
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
