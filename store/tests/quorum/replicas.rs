//! The store in the simulation: three replicas that keep of each row the version with the highest timestamp, and
//! registers for what is compared and set. Owns all stored state and the operations under way; decides nothing about
//! when things happen, which is the schedule's.

use crate::oracle::Oracle;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use switchboard_clock::Generator;
use switchboard_store::quorum::{LogHead, Row, Swapped, WriteTimestamp};

pub(crate) const REPLICAS: usize = 3;
pub(crate) const MAJORITY: u32 = 2;

/// Rows are gone so many epochs after they were written.
pub(crate) const ROW_EPOCHS: u32 = 2;

/// A row on one replica.
#[derive(Clone)]
pub(crate) struct Cell {
    row: Row,
    expires: u32,
}

impl Cell {
    /// Of two versions the higher one stays; of two with one timestamp the larger value, then the longer life.
    fn order(&self) -> (WriteTimestamp, u64, &[u8], u32) {
        (self.row.timestamp, self.row.term.0, &self.row.payload, self.expires)
    }
}

#[derive(Default)]
struct Replica {
    rows: BTreeMap<(usize, u64), Cell>,
    heads: BTreeMap<usize, LogHead>,
    /// By life: whether it is live.
    lives: BTreeMap<u64, bool>,
    /// By conversation and life: when it was noted or removed last, and which of the two.
    notes: BTreeMap<(usize, u64), (WriteTimestamp, bool)>,
}

/// What a replica is told.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Rows { conversation: usize, rows: Arc<[Row]>, expires: u32 },
    Head { conversation: usize, head: LogHead },
    Life { life: u64, live: bool },
    Note { conversation: usize, life: u64, timestamp: WriteTimestamp, there: bool },
}

/// What a replica is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    Rows { conversation: usize, after: u64, upto: u64 },
    Head { conversation: usize },
    Life { life: u64 },
}

/// What is compared and set, or read SERIAL.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    ReadHead { conversation: usize },
    CreateHead { conversation: usize, head: LogHead },
    SwapHead { conversation: usize, old: LogHead, new: LogHead },
    Register { life: u64 },
    Fence { life: u64 },
}

/// What an operation answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Done,
    Rows(Vec<Cell>),
    Head(Option<LogHead>),
    Swapped(Swapped),
    /// None: there is no row.
    Live(Option<bool>),
}

impl Answer {
    /// The rows that have not expired. One that has goes on hiding what is older.
    pub(crate) fn into_rows(self, epoch: u32) -> Vec<Row> {
        let Self::Rows(cells) = self else { unreachable!("the answer to a read") };
        cells.into_iter().filter(|cell| epoch < cell.expires).map(|cell| cell.row).collect()
    }
}

/// What is to happen, some time.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A replica gets a change, the `part`th of an operation.
    Change { op: usize, part: usize, replica: usize, change: Change },
    /// A replica answers.
    Question { op: usize, replica: usize, question: Question },
    /// A compare-and-set takes place, if it may.
    Decision { op: usize, decision: Decision },
    /// An operation that has not answered by then has an open outcome.
    TimeOut { op: usize },
    /// A message between nodes arrives.
    Bus(Message),
}

/// What nodes say to each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    /// Let go of the conversation that is yours in this term.
    LetGo { conversation: usize, term: u64, asked_by: usize, of: usize },
    /// I have.
    Released { conversation: usize, term: u64, end: u64, to: usize },
}

/// An operation under way.
struct Op {
    /// Which replicas have confirmed each of its parts, or answered: a bit for each.
    confirmed: Vec<u8>,
    /// What has been answered so far; what it answers once enough have confirmed.
    gathered: Answer,
    answer: Option<Result<Answer, ()>>,
    waker: Option<Waker>,
}

/// How the network behaves: chances in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) repeated: u64,
    pub(crate) timed_out: u64,
    /// Of writes: one replica gets it soon, the others late.
    pub(crate) partial: u64,
    /// Of compare-and-set: the decision comes late, so that its outcome is not known.
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
    /// A compare-and-set that looks at the term and the owner only: a rule left out.
    pub(crate) swap_ignores_end: bool,
    pub(crate) traced: bool,
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
            replicas: Default::default(),
            heads: BTreeMap::new(),
            lives: BTreeMap::new(),
            ops: Vec::new(),
        }
    }

    fn op(&mut self, parts: usize, gathered: Answer) -> usize {
        self.ops.push(Op { confirmed: vec![0; parts], gathered, answer: None, waker: None });
        let op = self.ops.len() - 1;
        if self.generator.percent(self.weather.timed_out) {
            self.soon.push(Event::TimeOut { op });
        }
        op
    }

    /// Has something happen: soon, late, twice or never.
    pub(crate) fn post(&mut self, event: Event) {
        let Weather { lost, late, repeated, .. } = self.weather;
        let roll = self.generator.below(100);
        if roll < lost {
            return;
        }
        if matches!(event, Event::Change { .. } | Event::Bus(_)) && self.generator.percent(repeated) {
            self.late.push(event.clone());
        }
        if roll < lost + late { self.late.push(event) } else { self.soon.push(event) }
    }

    /// Begins a write: each change goes to each replica by itself.
    pub(crate) fn begin_write(&mut self, changes: Vec<Change>) -> usize {
        let op = self.op(changes.len(), Answer::Done);
        self.broadcast(op, changes);
        op
    }

    fn broadcast(&mut self, op: usize, changes: Vec<Change>) {
        let first = self.generator.below(REPLICAS as u64) as usize;
        let partial = self.generator.percent(self.weather.partial);
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
        };
        let op = self.op(1, nothing);
        for replica in 0..REPLICAS {
            self.post(Event::Question { op, replica, question });
        }
        op
    }

    pub(crate) fn begin_decision(&mut self, decision: Decision) -> usize {
        let op = self.op(1, Answer::Done);
        let is_read = matches!(decision, Decision::ReadHead { .. });
        let event = Event::Decision { op, decision };
        if !is_read && self.generator.percent(self.weather.undecided) {
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

    /// Nothing else can happen: whoever waits gets to know that he waits in vain.
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

    /// Tells what happens, when one schedule is replayed.
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            println!("{}", what());
        }
    }

    /// Gives back what is for a node.
    pub(crate) fn happen(&mut self, event: Event) -> Option<Message> {
        self.trace(|| format!("      {event:?}"));
        match event {
            Event::Change { op, part, replica, change } => {
                self.replicas[replica].change(change);
                self.ops[op].confirmed[part] |= 1 << replica;
                self.complete_if_confirmed(op);
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

    /// The moment at which a compare-and-set takes place. What then stands is told to the replicas; a majority has it
    /// before the outcome is known.
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
                if let Some(live) = self.lives.get_mut(&life) {
                    *live = false;
                }
                (Answer::Done, Some(Change::Life { life, live: false }))
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
        let there = |replica: &&Replica| replica.notes.get(&(conversation, life)).is_some_and(|(_, there)| *there);
        self.replicas.iter().filter(there).count() >= MAJORITY as usize
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

impl Replica {
    fn change(&mut self, change: Change) {
        match change {
            Change::Rows { conversation, rows, expires } => {
                for row in rows.iter() {
                    let new = Cell { row: row.clone(), expires };
                    let cell = self.rows.entry((conversation, row.seq.get())).or_insert_with(|| new.clone());
                    if cell.order() < new.order() {
                        *cell = new;
                    }
                }
            }
            Change::Head { conversation, head } => {
                let age = |head: &LogHead| (head.term, head.owner.is_none(), head.end);
                let now = self.heads.entry(conversation).or_insert_with(|| head.clone());
                if age(now) < age(&head) {
                    *now = head;
                }
            }
            Change::Life { life, live } => {
                let now = self.lives.entry(life).or_insert(live);
                *now = *now && live;
            }
            Change::Note { conversation, life, timestamp, there } => {
                let now = self.notes.entry((conversation, life)).or_insert((timestamp, there));
                // A removal wins against a note of the same time.
                if (now.0, !now.1) < (timestamp, !there) {
                    *now = (timestamp, there);
                }
            }
        }
    }

    /// Adds this replica's answer to what others have said.
    fn gather(&self, question: Question, into: &mut Answer) {
        match (question, into) {
            (Question::Rows { conversation, after, upto }, Answer::Rows(cells)) => {
                for (_, cell) in self.rows.range((conversation, after + 1)..=(conversation, upto)) {
                    match cells.binary_search_by_key(&cell.row.seq, |cell| cell.row.seq) {
                        Ok(at) if cells[at].order() < cell.order() => cells[at] = cell.clone(),
                        Ok(_) => {}
                        Err(at) => cells.insert(at, cell.clone()),
                    }
                }
            }
            (Question::Head { conversation }, Answer::Head(newest)) => {
                let age = |head: &LogHead| (head.term, head.owner.is_none(), head.end);
                if let Some(head) = self.heads.get(&conversation)
                    && newest.as_ref().is_none_or(|newest| age(newest) < age(head))
                {
                    *newest = Some(head.clone());
                }
            }
            (Question::Life { life }, Answer::Live(live)) => {
                if let Some(said) = self.lives.get(&life) {
                    *live = Some(live.unwrap_or(true) && *said);
                }
            }
            _ => unreachable!("answers are made for their questions"),
        }
    }
}

/// The payload of an entry in the simulation: which one it is, and what its client calls it.
pub(crate) fn payload(number: u32, client: u32) -> Bytes {
    Bytes::copy_from_slice(&(u64::from(number) << 32 | u64::from(client)).to_be_bytes())
}

/// Takes it apart.
pub(crate) fn parse(payload: &Bytes) -> (u32, u32) {
    let all = u64::from_be_bytes(payload.as_ref().try_into().expect("eight bytes"));
    ((all >> 32) as u32, (all & u64::from(u32::MAX)) as u32)
}
