//! The answers that clients got: ordered, without gaps, up to date; and that nobody lacks anything at the end (PROTOCOL
//! §3: what was answered with `sent` is in every member's next `sync`, `history` and `changes`).

use crate::verify::evidence::{Client, Evidence};
use crate::verify::verdict::{Rule, Verdict};
use crate::verify::{Operation, Seen, What};

pub(crate) fn check(operations: &[Operation], evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for operation in operations {
        let client = operation.client.as_str();
        match &operation.what {
            What::Changes { conversation_id, after, entries, last_seq, more, reset, .. } => {
                ascending(client, "changes", conversation_id, *after, entries, verdict);
                if !reset {
                    complete(client, conversation_id, *after, entries, (!more).then_some(*last_seq), verdict);
                }
            }
            What::History { conversation_id, after, messages, .. } => {
                ascending(client, "history", conversation_id, *after, messages, verdict);
            }
            _ => {}
        }
        fresh(client, &operation.what, evidence, verdict);
    }
    for (name, client) in &evidence.clients {
        // Clients that have not begun the final read were not asked to.
        if client.looked_back_ns.is_some() {
            at_the_end(name, client, evidence, verdict);
        }
    }
}

fn ascending(client: &str, what: &str, id: &str, after: u64, entries: &[Seen], verdict: &mut Verdict) {
    let mut before = after;
    for entry in entries {
        if entry.seq == before && before > after {
            verdict.add(Rule::Duplicate, id, entry.seq, || format!("twice in {what} that {client} was answered"));
        } else if entry.seq <= before {
            verdict
                .add(Rule::Reordered, id, entry.seq, || format!("after {before} in {what} that {client} was answered"));
        }
        before = before.max(entry.seq);
    }
}

/// `changes` leaves nothing out, and ends only at the end of the log.
fn complete(client: &str, id: &str, after: u64, entries: &[Seen], last_seq: Option<u64>, verdict: &mut Verdict) {
    let mut before = after;
    let ends = last_seq.map(|last_seq| last_seq + 1);
    for next in entries.iter().map(|entry| entry.seq).chain(ends) {
        if next > before + 1 {
            verdict.add(Rule::Lost, id, before + 1, || {
                format!("changes after {after}, as {client} was answered, leave out {} to {}", before + 1, next - 1)
            });
        }
        before = before.max(next);
    }
}

/// An answer contains what was acknowledged before it was requested.
fn fresh(client: &str, what: &What, evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let (What::Changes { asked_at_ns, conversation_id, last_seq, .. }
    | What::History { asked_at_ns, conversation_id, last_seq, .. }) = what
    else {
        return;
    };
    let known = evidence.conversations.get(conversation_id.as_str());
    let acknowledged = known.map_or(0, |conversation| conversation.acknowledged_before(*asked_at_ns));
    if *last_seq < acknowledged {
        verdict.add(Rule::Stale, conversation_id, acknowledged, || {
            format!("was acknowledged before {client} asked, and was answered that the log ends at {last_seq}")
        });
    }
}

/// After the final read, the client has been shown everything of every conversation that it is a member of.
fn at_the_end(name: &str, client: &Client<'_>, evidence: &Evidence<'_>, verdict: &mut Verdict) {
    if !client.is_done {
        return verdict.add(Rule::Unchecked, "", 0, || format!("{name} could not ask for everything at the end"));
    }
    for (id, conversation) in evidence.conversations.iter().filter(|(_, one)| one.members.contains(name)) {
        let end = client.outlines.get(id).map_or(0, |outline| outline.last_seq);
        let acknowledged = client.synced_ns.map_or(0, |asked_ns| conversation.acknowledged_before(asked_ns));
        if end < acknowledged {
            verdict.add(Rule::Stale, id, acknowledged, || {
                format!("was acknowledged before {name} did the last sync, which says that the log ends at {end}")
            });
        }
        let (shown, forgotten) = (client.shown.get(id), client.reset_until.get(id).copied().unwrap_or(0));
        let due = conversation.entries.iter().filter(|(seq, entry)| entry.is_message() || **seq > forgotten);
        for (seq, _) in due.filter(|(seq, _)| shown.is_none_or(|shown| !shown.contains(seq))) {
            verdict.add(Rule::Lost, id, *seq, || format!("{name} has caught up, and was never shown it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::verify::What;
    use crate::verify::rules::written::*;

    #[test]
    fn what_changes_leave_out_is_found() {
        let answer = |seqs: &[u64], last_seq| {
            let mut history = agreeing();
            let entries = seqs.iter().map(|seq| message(*seq, "alice", &format!("a{seq}"))).collect();
            history.push(at(60, "bob", changes(0, entries, last_seq)));
            history
        };
        assert_eq!(found(&answer(&[2, 3], 4), "lost"), [1, 4]);
        assert_finds(&answer(&[2, 3, 4], 4), "lost", 1);
        assert_finds(&answer(&[], 4), "lost", 1);
    }

    #[test]
    fn answers_are_in_order_and_have_nothing_twice() {
        let answer = |seqs: [u64; 2]| {
            let mut history = agreeing();
            let entries = seqs.iter().map(|seq| message(*seq, "alice", &format!("a{seq}"))).collect();
            history.push(at(60, "bob", history_answer(1, entries, 4)));
            history
        };
        assert_finds(&answer([3, 2]), "reordered", 2);
        assert_finds(&answer([2, 2]), "duplicate", 2);
    }

    #[test]
    fn an_answer_that_does_not_know_what_was_acknowledged_is_stale() {
        let mut history = agreeing();
        history.push(at(60, "bob", changes(3, vec![], 3)));
        assert_finds(&history, "stale", 4);
        assert_finds(&with_outline(&agreeing(), |own| own.last_seq = 3), "stale", 4);
    }

    #[test]
    fn who_was_never_shown_something_has_lost_it() {
        let mut history = agreeing();
        // Carol came late, and got everything by `changes`.
        history.retain(|operation| !(operation.client == "carol" && shows(operation, 3)));
        assert_finds(&history, "lost", 3);
    }

    #[test]
    fn who_does_not_get_to_look_back_is_unchecked() {
        let mut history = agreeing();
        history.retain(|operation| !(operation.client == "carol" && operation.what == What::Done));
        assert_finds(&history, "unchecked", 0);
    }
}
