//! What is wrong with a history. It knows nothing of a running system: a history in, violations out.
//!
//! So far two rules: a `client_id` has one place, and a place has one message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Operation, Seen, What};

/// Violations that are listed; the others are only counted.
const LISTED_MAX: usize = 100;

/// What the check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) operations: u64,
    /// Sends that were answered with `sent`.
    pub(crate) acknowledged: u64,
    pub(crate) violations: u64,
    /// The first ones.
    pub(crate) listed: Vec<Violation>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Violation {
    pub(crate) rule: String,
    pub(crate) conversation_id: String,
    pub(crate) seq: u64,
    pub(crate) what: String,
}

impl Verdict {
    fn add(&mut self, rule: &str, conversation_id: &str, seq: u64, what: String) {
        self.violations += 1;
        if self.listed.len() < LISTED_MAX {
            let (rule, conversation_id) = (rule.to_owned(), conversation_id.to_owned());
            self.listed.push(Violation { rule, conversation_id, seq, what });
        }
    }
}

/// Checks operations that are in the order of time.
pub(crate) fn check(operations: &[Operation]) -> Verdict {
    let mut verdict = Verdict { operations: operations.len() as u64, ..Verdict::default() };
    // (conversation, seq) → client_id, and (conversation, client_id) → seq.
    let mut messages: BTreeMap<(&str, u64), &str> = BTreeMap::new();
    let mut places: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut is_at = |verdict: &mut Verdict, conversation_id, seq, client_id| {
        let there = *messages.entry((conversation_id, seq)).or_insert(client_id);
        if there != client_id {
            verdict.add("one place, one message", conversation_id, seq, format!("{there} and {client_id}"));
        }
        let place = *places.entry((conversation_id, client_id)).or_insert(seq);
        if place != seq {
            verdict.add("a client_id counts once", conversation_id, seq, format!("{client_id} is at {place} too"));
        }
    };
    for operation in operations {
        if let What::Ok { conversation_id, seq, client_id, .. } = &operation.what {
            verdict.acknowledged += 1;
            is_at(&mut verdict, conversation_id, *seq, client_id);
        }
        for (conversation_id, seen) in seen_in(&operation.what) {
            if let Some(client_id) = &seen.client_id {
                is_at(&mut verdict, conversation_id, seen.seq, client_id);
            }
        }
    }
    verdict
}

/// The entries that an operation shows.
fn seen_in(what: &What) -> impl Iterator<Item = (&str, &Seen)> {
    let (conversation_id, seen) = match what {
        What::Live { conversation_id, entry } => (conversation_id.as_str(), std::slice::from_ref(entry)),
        What::Changes { conversation_id, entries, .. } => (conversation_id.as_str(), entries.as_slice()),
        What::History { conversation_id, messages, .. } => (conversation_id.as_str(), messages.as_slice()),
        _ => ("", [].as_slice()),
    };
    seen.iter().map(move |seen| (conversation_id, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(what: What) -> Operation {
        Operation { at_ns: 0, client: "a".to_owned(), what }
    }

    fn ok(client_id: &str, seq: u64) -> Operation {
        let (client_id, conversation_id) = (client_id.to_owned(), "d:1".to_owned());
        operation(What::Ok { client_id, conversation_id, seq, duplicate: false })
    }

    fn live(client_id: &str, seq: u64) -> Operation {
        let entry = Seen { seq, entry: "message".to_owned(), from: None, client_id: Some(client_id.to_owned()) };
        operation(What::Live { conversation_id: "d:1".to_owned(), entry })
    }

    #[test]
    fn what_agrees_is_right() {
        let verdict = check(&[ok("x", 1), live("x", 1), live("y", 2), live("y", 2)]);
        assert_eq!((verdict.violations, verdict.acknowledged, verdict.operations), (0, 1, 4));
    }

    #[test]
    fn two_places_and_two_messages_are_found() {
        assert_eq!(check(&[ok("x", 1), live("x", 2)]).listed[0].rule, "a client_id counts once");
        assert_eq!(check(&[ok("x", 1), live("y", 1)]).listed[0].rule, "one place, one message");
    }
}
