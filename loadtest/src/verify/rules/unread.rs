//! The unread counts of the last `sync`, compared with the log and what the client has read (PROTOCOL §3, "Receipts and
//! unread").

use crate::verify::Outline;
use crate::verify::evidence::{Client, Conversation, Evidence, Read};
use crate::verify::verdict::{Rule, Verdict};

pub(crate) fn check(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    for (name, client) in &evidence.clients {
        for (id, outline) in &client.outlines {
            let conversation = evidence.conversations.get(id).filter(|one| !one.final_logs.is_empty());
            let Some(conversation) = conversation.filter(|_| !outline.removed) else { continue };
            count(name, id, conversation, outline, verdict);
            cursor(name, id, client, conversation, outline, evidence, verdict);
        }
    }
}

/// `unread` is the number of messages after `read_seq`.
fn count(name: &str, id: &str, conversation: &Conversation<'_>, outline: &Outline, verdict: &mut Verdict) {
    let after = conversation.entries.range(outline.read_seq.saturating_add(1)..);
    let within = after.filter(|(seq, entry)| **seq <= outline.last_seq && entry.is_message());
    let unread = within.count() as u64;
    if unread != outline.unread {
        verdict.add(Rule::WrongUnread, id, outline.read_seq, || {
            format!("sync told {name} {} unread after {}, and there are {unread}", outline.unread, outline.read_seq)
        });
    }
}

/// The cursor is where the client's own reading and sends, or the entry that added the user, have put it. A node that
/// dies, or is taken for dead, may forget a `read` without an answer within a second, and the session may lose it; so nothing
/// is known about what was read before a session was lost or told to `resync`, or in one that is over.
fn cursor(
    name: &str,
    id: &str,
    client: &Client<'_>,
    conversation: &Conversation<'_>,
    outline: &Outline,
    evidence: &Evidence<'_>,
    verdict: &mut Verdict,
) {
    let entries = conversation.entries.range(..=outline.last_seq);
    let own = entries.clone().filter(|(_, entry)| entry.is_message() && entry.from.as_deref() == Some(name));
    let own = own.map(|(seq, _)| *seq).next_back().unwrap_or(0);
    let added = entries.filter(|(_, entry)| entry.added.iter().any(|user| user == name));
    let added = added.map(|(seq, _)| *seq).next_back().unwrap_or(0);
    let is_sure = |read: &&Read| {
        let is_on = read.session.is_some_and(|session| !evidence.sessions[session].is_over);
        is_on && read.at_ns > evidence.last_gone_ns
    };
    let reads = client.reads.get(id).map(Vec::as_slice).unwrap_or_default();
    let highest = |seq: Option<u64>| seq.unwrap_or(0).min(outline.last_seq).max(own);
    let surely = highest(reads.iter().filter(is_sure).map(|read| read.seq).max());
    let perhaps = highest(reads.iter().map(|read| read.seq).max()).max(added);
    if !(surely..=perhaps).contains(&outline.read_seq) {
        verdict.add(Rule::WrongUnread, id, outline.read_seq, || {
            format!("sync told {name} read_seq {}, and it has read up to {surely}..={perhaps}", outline.read_seq)
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::verify::What;
    use crate::verify::rules::written::*;

    #[test]
    fn a_wrong_count_is_found() {
        assert_finds(&with_outline(&agreeing(), |own| own.unread += 1), "wrong unread", 3);
    }

    #[test]
    fn a_cursor_that_nobody_has_put_there_is_found() {
        let at_cursor =
            |read_seq, unread| with_outline(&agreeing(), |own| (own.read_seq, own.unread) = (read_seq, unread));
        assert!(found(&at_cursor(3, 1), "wrong unread").is_empty());
        assert_finds(&at_cursor(4, 0), "wrong unread", 4);
        assert_finds(&at_cursor(2, 2), "wrong unread", 2);
        // What was read may be forgotten if a node died afterwards, or was taken for dead.
        for gone in [lost(), What::Resync] {
            let mut died = at_cursor(2, 2);
            died.push(at(38, "alice", gone));
            died.sort_by_key(|operation| operation.at_ns);
            assert!(found(&died, "wrong unread").is_empty());
        }
        // The same holds for what was read in a session that is over.
        let mut left = at_cursor(2, 2);
        left.extend([at(38, "bob", What::Left), at(39, "bob", ready())]);
        left.sort_by_key(|operation| operation.at_ns);
        assert!(found(&left, "wrong unread").is_empty());
    }
}
