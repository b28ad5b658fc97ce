//! The invariants. Owns what has been promised and shown so far: the one log of each conversation, as far as it is
//! known, with which everything later must agree.

use crate::replica::ROW_EPOCHS;
use bytes::Bytes;
use std::collections::BTreeMap;
use switchboard_store::quorum::{LogHead, Row};

#[derive(Default)]
pub(crate) struct Oracle {
    logs: BTreeMap<usize, Log>,
    /// The epoch in which each payload was created.
    made: Vec<u32>,
    violations: Vec<String>,
    pub(crate) counts: Counts,
}

/// The events of a schedule; a schedule without events finds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) durable: u64,
    pub(crate) terms: u64,
    pub(crate) shown: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.durable += other.durable;
        self.terms += other.terms;
        self.shown += other.shown;
    }
}

#[derive(Default)]
struct Log {
    /// What is known to be in each place, for ever.
    entries: BTreeMap<u64, Bytes>,
    /// The place of each client's entry.
    clients: BTreeMap<u32, u64>,
    /// The highest entry that was reported as durable.
    durable: u64,
    /// The end of the log at the begin of each term.
    began: BTreeMap<u64, u64>,
}

impl Oracle {
    pub(crate) fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Creates an entry of a client; returns its number.
    pub(crate) fn make(&mut self, epoch: u32) -> u32 {
        self.made.push(epoch);
        self.made.len() as u32 - 1
    }

    fn is_expired(&self, payload: &Bytes, epoch: u32) -> bool {
        self.made[parse(payload).0 as usize] + ROW_EPOCHS <= epoch
    }

    fn log(&mut self, conversation: usize) -> &mut Log {
        self.logs.entry(conversation).or_default()
    }

    /// Whether a client's entry is in the log.
    pub(crate) fn has(&self, conversation: usize, client: u32) -> bool {
        self.logs.get(&conversation).is_some_and(|log| log.clients.contains_key(&client))
    }

    /// A compare-and-set of the head has taken place.
    pub(crate) fn head_set(&mut self, conversation: usize, old: Option<&LogHead>, new: &LogHead) {
        if old.is_some_and(|old| new.end < old.end) {
            self.violated(format!("c{conversation}: the end goes back from {old:?} to {new:?}"));
        }
        let log = self.log(conversation);
        if new.end.get() < log.durable && old.is_none_or(|old| old.term < new.term || new.owner.is_none()) {
            let durable = log.durable;
            self.violated(format!("c{conversation}: {new:?}, but {durable} was durable"));
        }
        if old.is_none_or(|old| old.term < new.term) {
            self.log(conversation).began.insert(new.term.0, new.end.get());
            self.counts.terms += 1;
        }
    }

    /// An owner reports that these are in the log, for ever and for every reader.
    pub(crate) fn durable(&mut self, conversation: usize, term: u64, first: u64, payloads: &[Bytes], epoch: u32) {
        self.counts.durable += payloads.len() as u64;
        for (seq, payload) in (first..).zip(payloads) {
            self.is_at(conversation, seq, payload, epoch, "durable");
            let log = self.log(conversation);
            log.durable = log.durable.max(seq);
            if let Some((next, end)) = log.began.range(term + 1..).find(|(_, end)| **end < seq) {
                let what = format!("c{conversation}: durable {seq} in {term}, but term {next} began behind {end}");
                self.violated(what);
            }
        }
    }

    fn is_at(&mut self, conversation: usize, seq: u64, payload: &Bytes, epoch: u32, said: &str) {
        let (number, client) = parse(payload);
        let log = self.logs.entry(conversation).or_default();
        let known = log.entries.entry(seq).or_insert_with(|| payload.clone());
        if known != payload {
            let known = parse(known);
            self.violated(format!("c{conversation}: {said} {seq} is {:?}, was {known:?}", (number, client)));
            return;
        }
        let first = *log.clients.entry(client).or_insert(seq);
        let first_payload = log.entries.get(&first).cloned();
        // Repeats are recognised as long as the first one exists.
        if first != seq && !first_payload.is_some_and(|payload| self.is_expired(&payload, epoch)) {
            self.violated(format!("c{conversation}: client {client} counts twice, at {first} and at {seq}"));
        }
    }

    /// A reader shows the log after `after` up to `end`.
    pub(crate) fn shown(&mut self, conversation: usize, after: u64, end: u64, rows: &[Row], epoch: u32) {
        self.counts.shown += rows.len() as u64;
        let mut missing = Vec::new();
        let mut expected = after + 1;
        for row in rows {
            missing.extend(expected..row.seq.get());
            expected = row.seq.get() + 1;
            self.is_at(conversation, row.seq.get(), &row.payload, epoch, "shown");
        }
        missing.extend(expected..=end);
        for seq in missing {
            let entry = self.log(conversation).entries.get(&seq).cloned();
            // One that nobody has seen before may be arbitrarily old.
            if !entry.map_or(epoch >= ROW_EPOCHS, |payload| self.is_expired(&payload, epoch)) {
                self.violated(format!("c{conversation}: {seq} of {end} is missing"));
            }
        }
    }

    /// Everything has come to rest, and every reader sees this end of the log.
    pub(crate) fn ends(&mut self, conversation: usize, end: u64) {
        if let Some((beyond, _)) = self.log(conversation).entries.range(end + 1..).next() {
            let what = format!("c{conversation}: {beyond} was shown or durable, but the log ends at {end}");
            self.violated(what);
        }
    }
}

/// The payload of an entry in the simulation: its number, and its client.
pub(crate) fn payload(number: u32, client: u32) -> Bytes {
    Bytes::copy_from_slice(&(u64::from(number) << 32 | u64::from(client)).to_be_bytes())
}

/// Splits a payload.
pub(crate) fn parse(payload: &Bytes) -> (u32, u32) {
    let all = u64::from_be_bytes(payload.as_ref().try_into().expect("eight bytes"));
    ((all >> 32) as u32, (all & u64::from(u32::MAX)) as u32)
}
