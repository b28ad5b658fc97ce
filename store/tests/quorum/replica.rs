//! One replica: of each row it keeps the version with the highest timestamp, whenever and however often versions
//! arrive. (Every write of a row writes all its columns with one timestamp, so what holds for columns holds for rows.)
//! Owns what is stored on it; knows nothing of majorities.

use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_protocol::Seq;
use switchboard_store::TermNumber;
use switchboard_store::quorum::{LogHead, Row, Swapped, WriteTimestamp};

/// Rows expire this many epochs after they were written.
pub(crate) const ROW_EPOCHS: u32 = 2;

/// The order of successive heads.
fn age(head: &LogHead) -> (TermNumber, bool, Seq) {
    (head.term, head.owner.is_none(), head.end)
}

/// A row on one replica.
#[derive(Clone)]
pub(crate) struct Cell {
    row: Row,
    expires: u32,
}

impl Cell {
    /// Of two versions the higher timestamp wins; with equal timestamps the larger value, then the longer life.
    fn order(&self) -> (WriteTimestamp, u64, &[u8], u32) {
        (self.row.timestamp, self.row.term.0, &self.row.payload, self.expires)
    }
}

#[derive(Default)]
pub(crate) struct Replica {
    rows: BTreeMap<(usize, u64), Cell>,
    heads: BTreeMap<usize, LogHead>,
    /// By life: whether it is live.
    lives: BTreeMap<u64, bool>,
    /// By conversation and life: when it was last noted or removed, and if noted, for which term.
    notes: BTreeMap<(usize, u64), Note>,
}

/// A note with its timestamp; without a term it has been removed.
pub(crate) type Note = (WriteTimestamp, Option<TermNumber>);

/// Of two versions of a note the higher timestamp wins. A removal wins against a note with the same timestamp.
fn note_order((timestamp, term): Note) -> (WriteTimestamp, bool) {
    (timestamp, term.is_none())
}

/// A change for a replica.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Rows { conversation: usize, rows: Arc<[Row]>, expires: u32 },
    Head { conversation: usize, head: LogHead },
    Life { life: u64, live: bool },
    Note { conversation: usize, life: u64, note: Note },
}

/// A question to a replica.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    Rows { conversation: usize, after: u64, upto: u64 },
    Head { conversation: usize },
    Life { life: u64 },
    Note { conversation: usize, life: u64 },
}

/// The answer of an operation.
#[derive(Clone)]
pub(crate) enum Answer {
    Done,
    Rows(Vec<Cell>),
    Head(Option<LogHead>),
    Swapped(Swapped),
    /// `None`: there is no row.
    Live(Option<bool>),
    Note(Option<Note>),
}

impl Answer {
    /// The rows that have not expired. Expired ones still hide older versions.
    pub(crate) fn into_rows(self, epoch: u32) -> Vec<Row> {
        let Self::Rows(cells) = self else { unreachable!("the answer to a read") };
        cells.into_iter().filter(|cell| epoch < cell.expires).map(|cell| cell.row).collect()
    }
}

impl Replica {
    pub(crate) fn change(&mut self, change: Change) {
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
                let now = self.heads.entry(conversation).or_insert_with(|| head.clone());
                if age(now) < age(&head) {
                    *now = head;
                }
            }
            Change::Life { life, live } => {
                let now = self.lives.entry(life).or_insert(live);
                *now = *now && live;
            }
            Change::Note { conversation, life, note } => {
                let now = self.notes.entry((conversation, life)).or_insert(note);
                if note_order(*now) < note_order(note) {
                    *now = note;
                }
            }
        }
    }

    /// Whether the conversation is noted for this life.
    pub(crate) fn is_noted(&self, conversation: usize, life: u64) -> bool {
        self.notes.get(&(conversation, life)).is_some_and(|(_, term)| term.is_some())
    }

    /// Adds this replica's answer to those of others.
    pub(crate) fn gather(&self, question: Question, into: &mut Answer) {
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
            (Question::Note { conversation, life }, Answer::Note(newest)) => {
                if let Some(note) = self.notes.get(&(conversation, life))
                    && newest.is_none_or(|newest| note_order(newest) < note_order(*note))
                {
                    *newest = Some(*note);
                }
            }
            _ => unreachable!("answers are made for their questions"),
        }
    }
}
