//! What sessions were shown without asking: each entry once, in order, without gaps (PROTOCOL §3).

use std::collections::BTreeSet;

use crate::verify::evidence::{Conversation, Evidence, Session, Stream};
use crate::verify::verdict::{Rule, Verdict};

/// A send that has no answer after half of `limits.send_timeout_ms`, here of its default, may be shown to its own session: the
/// answer may come too late.
const LATE_NS: u64 = 2_500_000_000;

pub(crate) fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for (number, session) in evidence.sessions.iter().enumerate() {
        for (id, stream) in &session.streams {
            let Some(conversation) = evidence.conversations.get(id) else { continue };
            order(id, session, stream, verdict);
            own(id, number, session, stream, conversation, evidence, verdict);
            if !conversation.members.is_empty() && !conversation.members.contains(session.client) {
                stranger(id, session, stream, conversation, verdict);
            }
        }
    }
    for (id, conversation) in &evidence.conversations {
        let durable = Durable::all(conversation, evidence);
        for session in evidence.sessions.iter().filter(|session| conversation.members.contains(session.client)) {
            left_out(id, session, &durable, verdict);
        }
    }
}

/// Live frames come in the order of `seq`, each once. Gaps are checked by [`left_out`].
fn order(id: &str, session: &Session<'_>, stream: &Stream, verdict: &mut Verdict) {
    let mut highest = 0;
    let mut seen = BTreeSet::new();
    for seq in &stream.live {
        if !seen.insert(*seq) {
            verdict.add(Rule::Duplicate, id, *seq, || format!("{} was shown it twice in one session", session.client));
        } else if *seq < highest {
            verdict.add(Rule::Reordered, id, *seq, || format!("{} was shown it after {highest}", session.client));
        }
        highest = highest.max(*seq);
    }
}

/// For the sending session, `sent` is the entry: a `message` in addition shows it twice, unless the answer was late. After a
/// repeat, the server may no longer have known the session as the sender.
fn own(
    id: &str,
    number: usize,
    session: &Session<'_>,
    stream: &Stream,
    conversation: &Conversation<'_>,
    evidence: &Evidence<'_>,
    verdict: &mut Verdict,
) {
    for seq in &stream.live {
        let entry = conversation.entries.get(seq).filter(|entry| entry.from.as_deref() == Some(session.client));
        let Some(client_id) = entry.and_then(|entry| entry.client_id.as_deref()) else { continue };
        let Some(send) = evidence.sends.get(&(session.client, client_id)) else { continue };
        let [(said_ns, Some(at))] = send.attempts[..] else { continue };
        let in_time = |at_ns: u64| at_ns.saturating_sub(said_ns) < LATE_NS;
        let is_answered = send.acknowledged.iter().any(|one| one.session == Some(number) && in_time(one.at_ns));
        if is_answered && at == number {
            verdict.add(Rule::Duplicate, id, *seq, || {
                format!("{} was shown its own {client_id}, besides `sent`", session.client)
            });
        }
    }
}

/// DESIGN §5.6. Removed members are told of their removal.
fn stranger(id: &str, session: &Session<'_>, stream: &Stream, conversation: &Conversation<'_>, verdict: &mut Verdict) {
    let was_member = conversation
        .entries
        .values()
        .any(|entry| entry.added.iter().chain(&entry.removed).any(|user| user == session.client));
    if let Some(seq) = stream.live.first().filter(|_| !was_member) {
        verdict.add(Rule::Stranger, id, *seq, || format!("{} is no member", session.client));
    }
}

/// A message in the log, and when it was first sent.
struct Durable<'a> {
    seq: u64,
    from: &'a str,
    said_ns: u64,
}

impl<'a> Durable<'a> {
    /// Those of this run's clients: for others the time of sending is unknown.
    fn all(conversation: &Conversation<'a>, evidence: &Evidence<'a>) -> Vec<Self> {
        let messages = conversation.entries.values().filter(|entry| entry.is_message());
        let said = messages.filter_map(|entry| {
            let (from, client_id) = (entry.from.as_deref()?, entry.client_id.as_deref()?);
            let (said_ns, _) = evidence.sends.get(&(from, client_id))?.attempts.first()?;
            Some(Self { seq: entry.seq, from, said_ns: *said_ns })
        });
        said.collect()
    }
}

/// A client that was connected before a message was sent is shown it, or told that there is more than was shown: by
/// `conversation_activity` or `resync`. For a session that broke off, only what precedes the last shown entry is known
/// to have been due.
fn left_out(id: &str, session: &Session<'_>, durable: &[Durable<'_>], verdict: &mut Verdict) {
    let empty = Stream::default();
    let stream = session.streams.get(id).unwrap_or(&empty);
    let live: BTreeSet<u64> = stream.live.iter().copied().collect();
    let until = if session.is_over { live.last().copied().unwrap_or(0) } else { u64::MAX };
    let due =
        durable.iter().filter(|one| one.said_ns > session.began_ns && one.seq <= until && one.from != session.client);
    for one in due.filter(|one| !live.contains(&one.seq) && stream.activity < one.seq) {
        if !session.resyncs_ns.iter().any(|at_ns| *at_ns > one.said_ns) {
            verdict.add(Rule::Lost, id, one.seq, || {
                format!("{} was connected, and neither shown it nor told that there is more", session.client)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::verify::What;
    use crate::verify::rules::written::*;

    #[test]
    fn a_session_is_shown_an_entry_once() {
        let mut history = agreeing();
        history.push(at(60, "bob", live(message(4, "alice", "a4"))));
        assert_finds(&history, "duplicate", 4);
        // In another session it may come once more.
        history.insert(history.len() - 1, at(59, "bob", lost()));
        history.insert(history.len() - 1, at(59, "bob", ready()));
        assert!(found(&history, "duplicate").is_empty());
    }

    #[test]
    fn a_session_is_shown_entries_in_their_order() {
        let mut history = agreeing();
        let places: Vec<usize> = (0..history.len()).filter(|place| is_live_to(&history[*place], "bob")).collect();
        history.swap(places[1], places[2]);
        assert_finds(&history, "reordered", 2);
    }

    #[test]
    fn the_sending_session_is_told_by_sent_alone() {
        let mut history = agreeing();
        history.push(at(60, "alice", live(message(2, "alice", "a2"))));
        assert_finds(&history, "duplicate", 2);
        // After a repeat it may be shown to its sender.
        history.push(at(61, "alice", invoke("a2")));
        assert!(found(&history, "duplicate").is_empty());
        history.pop();
        history.iter_mut().filter(|one| one.at_ns > 10).for_each(|one| one.at_ns += super::LATE_NS);
        assert!(found(&history, "duplicate").is_empty(), "the answer was late");
    }

    #[test]
    fn who_is_connected_is_shown_everything() {
        let left_out = asked_instead(&agreeing(), "bob", 2);
        assert_finds(&left_out, "lost", 2);
        let told = |what: What| {
            let mut history = left_out.clone();
            history.push(at(60, "bob", what));
            found(&history, "lost")
        };
        assert!(told(What::Resync).is_empty());
        assert!(told(What::Activity { conversation_id: "g:1".to_owned(), last_seq: 2 }).is_empty());
        assert_eq!(told(What::Activity { conversation_id: "g:1".to_owned(), last_seq: 1 }).len(), 1);
    }

    #[test]
    fn of_a_session_that_broke_off_the_last_may_be_missing() {
        let mut history = asked_instead(&agreeing(), "bob", 4);
        assert_finds(&history, "lost", 4);
        history.push(at(60, "bob", lost()));
        assert!(found(&history, "lost").is_empty());
    }

    #[test]
    fn strangers_are_shown_nothing() {
        let mut history = agreeing();
        history.extend([at(60, "eve", ready()), at(61, "eve", live(message(2, "alice", "a2")))]);
        assert_finds(&history, "shown to a stranger", 2);
    }
}
