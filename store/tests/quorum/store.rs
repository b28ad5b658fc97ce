//! The store in the simulation: three replicas, and registers for compare-and-set. Owns all stored state and the
//! operations under way; the schedule decides when things happen.

use crate::oracle::Oracle;
use crate::replica::{Answer, Change, Note, Question, Replica};
use std::collections::BTreeMap;
use std::task::Waker;
use switchboard_clock::Generator;
use switchboard_store::TermNumber;
use switchboard_store::quorum::{LogHead, Swapped, WriteTimestamp};

const REPLICAS: usize = 3;
const MAJORITY: u32 = 2;

/// A compare-and-set, or a SERIAL read.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    ReadHead { conversation: usize },
    CreateHead { conversation: usize, head: LogHead },
    SwapHead { conversation: usize, old: LogHead, new: LogHead },
    Register { life: u64 },
    Fence { life: u64 },
}

/// A future event.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A replica gets a change, the `part`th of an operation.
    Change { op: usize, part: usize, replica: usize, change: Change },
    /// A replica answers.
    Question { op: usize, replica: usize, question: Question },
    /// A compare-and-set takes place, if it may.
    Decision { op: usize, decision: Decision },
    /// If an operation has not answered by then, its outcome is open.
    TimeOut { op: usize },
    /// A message between nodes arrives.
    Bus(Message),
}

/// Messages between nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    /// A request to release a conversation that the node owns in this term.
    LetGo { conversation: usize, term: u64, asked_by: usize, of: usize },
    /// The answer.
    Released { conversation: usize, term: u64, end: u64, to: usize },
}

/// An operation under way.
struct Op {
    /// Which replicas have confirmed each of its parts, or answered, as a bit mask.
    confirmed: Vec<u8>,
    /// What has been answered so far; the answer once enough have confirmed.
    gathered: Answer,
    answer: Option<Result<Answer, ()>>,
    waker: Option<Waker>,
}

/// The behaviour of the network: probabilities in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) repeated: u64,
    pub(crate) timed_out: u64,
    /// For writes: one replica gets it soon, the others late.
    pub(crate) partial: u64,
    /// For rows: the store refuses them for good.
    pub(crate) refused: u64,
    /// For heads: they are set late, so that the outcome is unknown.
    pub(crate) undecided: u64,
}

pub(crate) struct Store {
    pub(crate) generator: Generator,
    pub(crate) weather: Weather,
    pub(crate) oracle: Oracle,
    pub(crate) epoch: u32,
    /// May happen next.
    pub(crate) soon: Vec<Event>,
    /// Will happen much later, or never.
    pub(crate) late: Vec<Event>,
    /// A compare-and-set that compares only the term and the owner: a rule left out.
    pub(crate) swap_ignores_end: bool,
    pub(crate) traced: bool,
    /// The number of fence reads.
    pub(crate) fence_reads: u64,
    /// The numbers of compare-and-sets that fence, and that register.
    pub(crate) fences: u64,
    pub(crate) registrations: u64,
    /// The number of written notes.
    notes: i64,
    replicas: [Replica; REPLICAS],
    heads: BTreeMap<usize, LogHead>,
    lives: BTreeMap<u64, bool>,
    ops: Vec<Op>,
}

impl Store {
    pub(crate) fn new(generator: Generator, weather: Weather) -> Self {
        Self {
            generator,
            weather,
            oracle: Oracle::default(),
            epoch: 0,
            soon: Vec::new(),
            late: Vec::new(),
            swap_ignores_end: false,
            traced: false,
            fence_reads: 0,
            fences: 0,
            registrations: 0,
            notes: 0,
            replicas: Default::default(),
            heads: BTreeMap::new(),
            lives: BTreeMap::new(),
            ops: Vec::new(),
        }
    }

    pub(crate) fn chance(&self, percent: u64) -> bool {
        percent > 0 && self.generator.percent(percent)
    }

    fn op(&mut self, parts: usize, gathered: Answer) -> usize {
        self.ops.push(Op { confirmed: vec![0; parts], gathered, answer: None, waker: None });
        let op = self.ops.len() - 1;
        if self.chance(self.weather.timed_out) {
            self.soon.push(Event::TimeOut { op });
        }
        op
    }

    /// Schedules an event: soon, late, twice or never.
    pub(crate) fn post(&mut self, event: Event) {
        let Weather { lost, late, repeated, .. } = self.weather;
        let roll = self.generator.below(100);
        if roll < lost {
            return;
        }
        if matches!(event, Event::Change { .. } | Event::Bus(_)) && self.chance(repeated) {
            self.late.push(event.clone());
        }
        if roll < lost + late { self.late.push(event) } else { self.soon.push(event) }
    }

    /// Begins a write: each change goes to each replica independently.
    pub(crate) fn begin_write(&mut self, changes: Vec<Change>) -> usize {
        let op = self.op(changes.len(), Answer::Done);
        self.broadcast(op, changes);
        op
    }

    /// The next note of any life.
    pub(crate) fn note(&mut self, term: TermNumber) -> Note {
        self.notes += 1;
        (WriteTimestamp(self.notes), Some(term))
    }

    fn broadcast(&mut self, op: usize, changes: Vec<Change>) {
        let first = self.generator.below(REPLICAS as u64) as usize;
        let partial = self.chance(self.weather.partial);
        for (part, change) in changes.into_iter().enumerate() {
            for replica in 0..REPLICAS {
                let event = Event::Change { op, part, replica, change: change.clone() };
                if partial && replica != first { self.late.push(event) } else { self.post(event) }
            }
        }
    }

    pub(crate) fn begin_read(&mut self, question: Question) -> usize {
        let nothing = match question {
            Question::Rows { .. } => Answer::Rows(Vec::new()),
            Question::Head { .. } => Answer::Head(None),
            Question::Life { .. } => Answer::Live(None),
            Question::Note { .. } => Answer::Note(None),
        };
        self.fence_reads += u64::from(matches!(question, Question::Life { .. }));
        let op = self.op(1, nothing);
        for replica in 0..REPLICAS {
            self.post(Event::Question { op, replica, question });
        }
        op
    }

    pub(crate) fn begin_decision(&mut self, decision: Decision) -> usize {
        let op = self.op(1, Answer::Done);
        self.fences += u64::from(matches!(decision, Decision::Fence { .. }));
        self.registrations += u64::from(matches!(decision, Decision::Register { .. }));
        let sets_head = matches!(decision, Decision::CreateHead { .. } | Decision::SwapHead { .. });
        let event = Event::Decision { op, decision };
        if sets_head && self.chance(self.weather.undecided) {
            self.late.push(event);
            self.soon.push(Event::TimeOut { op });
        } else {
            self.post(event);
        }
        op
    }

    pub(crate) fn answer(&mut self, op: usize, waker: &Waker) -> Option<Result<Answer, ()>> {
        let op = &mut self.ops[op];
        if op.answer.is_none() {
            op.waker = Some(waker.clone());
        }
        op.answer.clone()
    }

    /// Nothing else can happen: everything that waits times out.
    pub(crate) fn time_all_out(&mut self) -> bool {
        let waiting: Vec<usize> = (0..self.ops.len()).filter(|op| self.ops[*op].waker.is_some()).collect();
        waiting.iter().for_each(|op| self.complete(*op, Err(())));
        !waiting.is_empty()
    }

    fn complete(&mut self, op: usize, answer: Result<Answer, ()>) {
        let op = &mut self.ops[op];
        if op.answer.is_none() {
            op.answer = Some(answer);
            if let Some(waker) = op.waker.take() {
                waker.wake();
            }
        }
    }

    fn is_over(&self, op: usize) -> bool {
        self.ops[op].answer.is_some()
    }

    /// Prints an event, if one schedule is replayed.
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            println!("{}", what());
        }
    }

    /// Returns a message for a node.
    pub(crate) fn happen(&mut self, event: Event) -> Option<Message> {
        self.trace(|| format!("      {event:?}"));
        match event {
            Event::Change { op, part, replica, change } => {
                self.replicas[replica].change(change);
                // Done, but nobody learns of it.
                if !self.chance(self.weather.lost) {
                    self.ops[op].confirmed[part] |= 1 << replica;
                    self.complete_if_confirmed(op);
                }
            }
            Event::Question { op, replica, question } if !self.is_over(op) => {
                self.replicas[replica].gather(question, &mut self.ops[op].gathered);
                self.ops[op].confirmed[0] |= 1 << replica;
                self.complete_if_confirmed(op);
            }
            Event::Question { .. } => {}
            Event::Decision { op, decision } => self.decide(op, decision),
            Event::TimeOut { op } => self.complete(op, Err(())),
            Event::Bus(message) => return Some(message),
        }
        None
    }

    fn complete_if_confirmed(&mut self, op: usize) {
        if !self.is_over(op) && self.ops[op].confirmed.iter().all(|confirmed| confirmed.count_ones() >= MAJORITY) {
            let answer = self.ops[op].gathered.clone();
            self.complete(op, Ok(answer));
        }
    }

    /// The moment at which a compare-and-set takes effect. The result is sent to the replicas; a majority has it before
    /// the outcome is known.
    fn decide(&mut self, op: usize, decision: Decision) {
        let (answer, stands) = match decision {
            Decision::ReadHead { conversation } => {
                let answer = Answer::Head(self.heads.get(&conversation).cloned());
                return self.complete(op, Ok(answer));
            }
            Decision::CreateHead { conversation, head } => {
                let matches = !self.heads.contains_key(&conversation);
                self.set_head(conversation, matches, head)
            }
            Decision::SwapHead { conversation, old, new } => {
                let now = self.heads.get(&conversation);
                let same = |now: &LogHead| {
                    *now == old || (self.swap_ignores_end && now.term == old.term && now.owner == old.owner)
                };
                let matches = now.is_some_and(same);
                self.set_head(conversation, matches, new)
            }
            Decision::Register { life } => {
                let live = *self.lives.entry(life).or_insert(true);
                (Answer::Live(Some(live)), Some(Change::Life { life, live }))
            }
            Decision::Fence { life } => {
                let row = self.lives.get_mut(&life).map(|live| *live = false);
                (Answer::Done, row.map(|()| Change::Life { life, live: false }))
            }
        };
        self.ops[op].gathered = answer;
        match stands {
            Some(change) => self.broadcast(op, vec![change]),
            None => self.ops[op].confirmed[0] = u8::MAX,
        }
        self.complete_if_confirmed(op);
    }

    fn set_head(&mut self, conversation: usize, matches: bool, new: LogHead) -> (Answer, Option<Change>) {
        if matches {
            self.oracle.head_set(conversation, self.heads.get(&conversation), &new);
            self.heads.insert(conversation, new);
        }
        let now = self.heads.get(&conversation).cloned();
        let swapped = if matches { Swapped::Applied } else { Swapped::Refused(now.clone()) };
        (Answer::Swapped(swapped), now.map(|head| Change::Head { conversation, head }))
    }

    /// Whether every quorum finds the conversation noted for this life.
    pub(crate) fn is_noted(&self, conversation: usize, life: u64) -> bool {
        self.replicas.iter().filter(|replica| replica.is_noted(conversation, life)).count() >= MAJORITY as usize
    }

    pub(crate) fn owner(&self, conversation: usize) -> Option<u64> {
        self.term_and_owner(conversation).map(|(_, life)| life)
    }

    pub(crate) fn term_and_owner(&self, conversation: usize) -> Option<(u64, u64)> {
        let head = self.heads.get(&conversation)?;
        head.owner.as_ref().map(|owner| (head.term.0, owner.life))
    }

    pub(crate) fn end(&self, conversation: usize) -> Option<u64> {
        self.heads.get(&conversation).map(|head| head.end.get())
    }
}
