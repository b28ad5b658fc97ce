//! The results of sends: what was acknowledged is stored, once, and in the order of acknowledgement.

use std::collections::{BTreeMap, BTreeSet};

use crate::verify::Operation;
use crate::verify::evidence::{Evidence, Send, shown_in};
use crate::verify::verdict::{Rule, Verdict};

pub(crate) fn check(operations: &[Operation], evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for ((client, client_id), send) in &evidence.sends {
        lost(client, client_id, send, evidence, verdict);
        refused(client, client_id, send, evidence, verdict);
    }
    places(operations, evidence, verdict);
    for id in evidence.conversations.keys() {
        let acknowledged = in_conversation(id, evidence);
        real_time(id, &acknowledged, verdict);
        of_one_session(id, &acknowledged, verdict);
    }
}

/// DESIGN §5.1: an acknowledged message is in every history that is read afterwards.
fn lost(client: &str, client_id: &str, send: &Send<'_>, evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for one in &send.acknowledged {
        let Some(conversation) = evidence.conversations.get(one.conversation_id) else { continue };
        for log in conversation.final_logs.iter().filter(|log| one.at_ns < log.asked_at_ns) {
            let there = log.messages.get(&one.seq);
            if there.is_none_or(|there| {
                there.client_id.as_deref() != Some(client_id) || there.from.as_deref() != Some(client)
            }) {
                verdict.add(Rule::Lost, one.conversation_id, one.seq, || {
                    format!(
                        "{client_id} of {client} was acknowledged, and is not in the history that {} read at the end",
                        log.reader
                    )
                });
            }
        }
    }
    let first = send.acknowledged.first();
    let unread =
        first.filter(|one| evidence.conversations.get(one.conversation_id).is_none_or(|one| one.final_logs.is_empty()));
    if let Some(one) = unread {
        verdict.add(Rule::Unchecked, one.conversation_id, one.seq, || {
            format!("{client_id} of {client} was acknowledged, and nobody could read the conversation at the end")
        });
    }
}

/// A send is not stored if all its attempts were rejected for good.
fn refused(client: &str, client_id: &str, send: &Send<'_>, evidence: &Evidence<'_>, verdict: &mut Verdict) {
    if send.fails == 0 || send.fails < send.attempts.len() {
        return;
    }
    for (id, conversation) in &evidence.conversations {
        let stored = conversation
            .entries
            .values()
            .find(|entry| entry.client_id.as_deref() == Some(client_id) && entry.from.as_deref() == Some(client));
        if let Some(stored) = stored {
            verdict.add(Rule::RefusedButStored, id, stored.seq, || format!("{client_id} of {client}"));
        }
    }
}

/// PROTOCOL §3: a `client_id` counts once per conversation and sender.
fn places(operations: &[Operation], evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let mut places: BTreeMap<(&str, &str, &str), BTreeSet<u64>> = BTreeMap::new();
    for operation in operations {
        for (id, seen) in shown_in(&operation.what) {
            if let (Some(from), Some(client_id)) = (&seen.from, &seen.client_id) {
                places.entry((id, from, client_id)).or_default().insert(seen.seq);
            }
        }
    }
    for ((client, client_id), send) in &evidence.sends {
        for one in &send.acknowledged {
            places.entry((one.conversation_id, client, client_id)).or_default().insert(one.seq);
        }
    }
    for ((id, from, client_id), seqs) in places.iter().filter(|(_, seqs)| seqs.len() > 1) {
        let is_acknowledged =
            evidence.sends.get(&(*from, *client_id)).is_some_and(|send| !send.acknowledged.is_empty());
        let rule = if is_acknowledged { Rule::Duplicate } else { Rule::ShownTwiceUnacknowledged };
        let last = seqs.last().copied().unwrap_or_default();
        verdict.add(rule, id, last, || format!("{client_id} of {from} is at {seqs:?}"));
    }
}

/// An acknowledged send, for the rules of order.
struct Ordered<'a> {
    client: &'a str,
    client_id: &'a str,
    seq: u64,
    said_ns: u64,
    acknowledged_ns: u64,
    /// The session, for a send that needed only one attempt.
    session: Option<usize>,
}

fn in_conversation<'a>(id: &str, evidence: &'a Evidence<'_>) -> Vec<Ordered<'a>> {
    let all = evidence.sends.iter().filter_map(|((client, client_id), send)| {
        let one = send.acknowledged.iter().find(|one| one.conversation_id == id)?;
        let (said_ns, session) = *send.attempts.first()?;
        let session = session.filter(|_| send.attempts.len() == 1 && one.session == session);
        Some(Ordered { client, client_id, seq: one.seq, said_ns, acknowledged_ns: one.at_ns, session })
    });
    all.collect()
}

/// A send that began after another one was acknowledged comes after it.
fn real_time(id: &str, sends: &[Ordered<'_>], verdict: &mut Verdict) {
    let mut by_end: Vec<&Ordered<'_>> = sends.iter().collect();
    by_end.sort_by_key(|send| send.acknowledged_ns);
    let mut by_begin: Vec<&Ordered<'_>> = sends.iter().collect();
    by_begin.sort_by_key(|send| send.said_ns);
    let mut ended = by_end.into_iter().peekable();
    let mut highest: Option<&Ordered<'_>> = None;
    for send in by_begin {
        while let Some(before) = ended.next_if(|before| before.acknowledged_ns < send.said_ns) {
            highest = highest.filter(|highest| highest.seq > before.seq).or(Some(before));
        }
        if let Some(before) = highest.filter(|before| before.seq > send.seq) {
            verdict.add(Rule::Reordered, id, send.seq, || {
                format!(
                    "{} of {} was said after {} of {} had been acknowledged at {}",
                    send.client_id, send.client, before.client_id, before.client, before.seq
                )
            });
        }
    }
}

/// PROTOCOL §1: frames of one socket are answered in the order they came, as far as they concern the same conversation.
fn of_one_session(id: &str, sends: &[Ordered<'_>], verdict: &mut Verdict) {
    let mut sessions: BTreeMap<usize, Vec<&Ordered<'_>>> = BTreeMap::new();
    for send in sends {
        if let Some(session) = send.session {
            sessions.entry(session).or_default().push(send);
        }
    }
    for mut sends in sessions.into_values() {
        sends.sort_by_key(|send| send.said_ns);
        for two in sends.windows(2).filter(|two| two[0].said_ns < two[1].said_ns && two[0].seq > two[1].seq) {
            verdict.add(Rule::Reordered, id, two[1].seq, || {
                format!(
                    "{} of {} was said after {}, which is at {}",
                    two[1].client_id, two[1].client, two[0].client_id, two[0].seq
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::verify::rules::written::*;

    #[test]
    fn an_acknowledged_message_that_is_not_in_the_log_is_lost() {
        assert_finds(&without_message(&agreeing(), 2), "lost", 2);
    }

    #[test]
    fn a_client_id_at_two_places_is_a_duplicate() {
        let mut history = agreeing();
        history.push(at(60, "bob", live(message(5, "alice", "a2"))));
        assert_finds(&history, "duplicate", 5);
    }

    #[test]
    fn one_that_was_never_acknowledged_is_told_apart() {
        let mut history = agreeing();
        history.retain(|operation| !acknowledges(operation, "a2"));
        history.push(at(60, "bob", live(message(5, "alice", "a2"))));
        assert_finds(&history, "never acknowledged, but shown twice", 5);
    }

    #[test]
    fn what_was_said_after_an_acknowledgement_comes_after_it() {
        let mut history = agreeing();
        // Sent and acknowledged long after 4.
        history.extend([at(70, "alice", invoke("late")), at(71, "alice", ok("late", 3))]);
        assert_finds(&history, "reordered", 3);
    }

    #[test]
    fn what_one_session_says_stays_in_order() {
        let history = vec![
            at(1, "alice", ready()),
            at(2, "alice", invoke("one")),
            at(3, "alice", invoke("other")),
            at(4, "alice", ok("other", 1)),
            at(5, "alice", ok("one", 2)),
        ];
        assert_finds(&history, "reordered", 1);
        let mut repeated = history;
        repeated.insert(3, at(3, "alice", invoke("other")));
        assert!(found(&repeated, "reordered").is_empty());
    }

    #[test]
    fn a_refused_send_is_not_stored() {
        let mut history = agreeing();
        history.retain(|operation| !acknowledges(operation, "a2"));
        history.push(at(60, "alice", fail("a2")));
        assert_finds(&history, "refused, but stored", 2);
        // Another attempt may have been stored.
        history.push(at(59, "alice", invoke("a2")));
        assert!(found(&history, "refused, but stored").is_empty());
    }

    #[test]
    fn what_nobody_could_read_at_the_end_is_unchecked() {
        assert_finds(
            &[at(1, "alice", ready()), at(2, "alice", invoke("x")), at(3, "alice", ok("x", 1))],
            "unchecked",
            1,
        );
    }
}
