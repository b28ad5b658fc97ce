//! The final log: it has no gaps, everyone was shown the same, and everything that was shown is in it.

use crate::verify::evidence::{Conversation, Evidence, shown_in};
use crate::verify::verdict::{Rule, Verdict};
use crate::verify::{Operation, Seen};

/// Gaps of one conversation that are counted: a server may report any end of its log.
const HOLES_MAX: usize = 10_000;

pub(crate) fn check(operations: &[Operation], evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for (id, conversation) in &evidence.conversations {
        holes(id, conversation, verdict);
        readers(id, conversation, verdict);
    }
    for operation in operations {
        for (id, seen) in shown_in(&operation.what) {
            let Some(entry) = evidence.conversations[id].entries.get(&seen.seq) else { continue };
            if let Some(field) = difference(entry, seen) {
                verdict.add(Rule::Differing, id, seen.seq, || {
                    format!(
                        "{} was shown another {field}: {} and {}",
                        operation.client,
                        described(seen),
                        described(entry)
                    )
                });
            }
        }
    }
}

/// Somebody has seen an entry at every `seq` up to the end: a client without a copy asks for all `changes`.
fn holes(id: &str, conversation: &Conversation<'_>, verdict: &mut Verdict) {
    let all = conversation.reset_until + 1..=conversation.end();
    for seq in all.filter(|seq| !conversation.entries.contains_key(seq)).take(HOLES_MAX) {
        verdict.add(Rule::Hole, id, seq, || "nobody was ever shown an entry of this seq".to_owned());
    }
}

/// A client that reads the whole final log gets every message that anybody was ever shown.
fn readers(id: &str, conversation: &Conversation<'_>, verdict: &mut Verdict) {
    for log in &conversation.final_logs {
        for (seq, entry) in conversation.entries.iter().filter(|(_, entry)| entry.is_message()) {
            if !log.messages.contains_key(seq) {
                verdict.add(Rule::Lost, id, *seq, || {
                    format!(
                        "{} was shown, and is not in the history that {} read at the end",
                        described(entry),
                        log.reader
                    )
                });
            }
        }
    }
}

/// The field in which two views of an entry differ. Fields that one of them lacks are not compared.
fn difference(one: &Seen, other: &Seen) -> Option<&'static str> {
    let differ = |one: &Option<String>, other: &Option<String>| one.is_some() && other.is_some() && one != other;
    if one.entry != other.entry {
        return Some("type");
    }
    let fields = [
        ("sender", &one.from, &other.from),
        ("client_id", &one.client_id, &other.client_id),
        ("message_id", &one.message_id, &other.message_id),
        ("content", &one.content_hash, &other.content_hash),
    ];
    fields.into_iter().find(|(_, one, other)| differ(one, other)).map(|(name, ..)| name)
}

fn described(seen: &Seen) -> String {
    match (&seen.client_id, &seen.from) {
        (Some(client_id), Some(from)) => format!("{} {client_id} of {from}", seen.entry),
        _ => seen.entry.clone(),
    }
}

#[cfg(test)]
mod tests {
    use crate::verify::rules::written::*;

    #[test]
    fn a_hole_at_the_end_is_found() {
        assert_finds(&without_entry(&agreeing(), 2), "hole", 2);
    }

    #[test]
    fn two_contents_of_one_place_are_found() {
        let mut history = agreeing();
        history.push(at(60, "bob", live(with_content(message(2, "alice", "a2"), "other"))));
        assert_finds(&history, "differing", 2);
    }

    #[test]
    fn what_was_shown_and_is_not_in_the_final_log_is_found() {
        let mut history = agreeing();
        history.insert(20, at(45, "bob", live(message(9, "alice", "a9"))));
        assert_finds(&history, "lost", 9);
    }
}
