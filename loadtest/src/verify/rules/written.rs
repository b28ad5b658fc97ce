//! Hand-written histories for the tests of the rules: three people in one group, and no violations.

use crate::verify::evidence::shown_in;
use crate::verify::{Operation, Outline, Seen, Verdict, What, check};

const GROUP: &str = "g:1";

pub(crate) fn at(at_ns: u64, client: &str, mut what: What) -> Operation {
    if let What::Sync { asked_at_ns, .. } | What::Changes { asked_at_ns, .. } | What::History { asked_at_ns, .. } =
        &mut what
    {
        *asked_at_ns = at_ns;
    }
    Operation { at_ns, client: client.to_owned(), what }
}

pub(crate) fn ready() -> What {
    What::Ready { store_id: "s".to_owned() }
}

pub(crate) fn lost() -> What {
    What::Lost { why: "broken".to_owned() }
}

pub(crate) fn invoke(client_id: &str) -> What {
    What::Invoke { client_id: client_id.to_owned(), place: GROUP.to_owned() }
}

pub(crate) fn ok(client_id: &str, seq: u64) -> What {
    What::Ok { client_id: client_id.to_owned(), conversation_id: GROUP.to_owned(), seq, duplicate: false }
}

pub(crate) fn fail(client_id: &str) -> What {
    What::Fail { client_id: client_id.to_owned(), code: "blocked".to_owned() }
}

pub(crate) fn message(seq: u64, from: &str, client_id: &str) -> Seen {
    Seen {
        seq,
        entry: "message".to_owned(),
        from: Some(from.to_owned()),
        client_id: Some(client_id.to_owned()),
        message_id: Some(format!("m{seq}")),
        content_hash: Some("x".to_owned()),
        ..Seen::default()
    }
}

pub(crate) fn with_content(seen: Seen, hash: &str) -> Seen {
    Seen { content_hash: Some(hash.to_owned()), ..seen }
}

pub(crate) fn live(entry: Seen) -> What {
    What::Live { conversation_id: GROUP.to_owned(), entry }
}

pub(crate) fn changes(after: u64, entries: Vec<Seen>, last_seq: u64) -> What {
    let conversation_id = GROUP.to_owned();
    What::Changes { asked_at_ns: 0, conversation_id, after, entries, last_seq, more: false, reset: false }
}

pub(crate) fn history_answer(after: u64, messages: Vec<Seen>, last_seq: u64) -> What {
    let conversation_id = GROUP.to_owned();
    What::History { asked_at_ns: 0, conversation_id, after, messages, last_seq, more: false }
}

/// Alice creates the group and writes 2, 3 and 4; Bob is shown all of it live, and reads up to 3; Carol comes late. At
/// the end everyone does a final read, and Alice reads the whole log.
pub(crate) fn agreeing() -> Vec<Operation> {
    let made = Seen {
        seq: 1,
        entry: "membership".to_owned(),
        added: ["alice", "bob", "carol"].map(str::to_owned).to_vec(),
        ..Seen::default()
    };
    let mut all = vec![
        at(1, "alice", ready()),
        at(2, "bob", ready()),
        at(5, "alice", live(made.clone())),
        at(6, "bob", live(made.clone())),
    ];
    for (seq, at_ns) in [(2, 10), (3, 13), (4, 16)] {
        let client_id = format!("a{seq}");
        all.push(at(at_ns, "alice", invoke(&client_id)));
        all.push(at(at_ns + 1, "alice", ok(&client_id, seq)));
        all.push(at(at_ns + 2, "bob", live(message(seq, "alice", &client_id))));
    }
    let messages: Vec<Seen> = (2..=4).map(|seq| message(seq, "alice", &format!("a{seq}"))).collect();
    let entries = std::iter::once(made).chain(messages.clone()).collect();
    all.push(at(30, "carol", ready()));
    all.push(at(35, "bob", What::Read { conversation_id: GROUP.to_owned(), seq: 3 }));
    for (client, read_seq, unread) in [("alice", 4, 0), ("bob", 3, 1), ("carol", 1, 3)] {
        all.push(at(40, client, What::LookBack));
        let outline = Outline { conversation_id: GROUP.to_owned(), last_seq: 4, read_seq, unread, removed: false };
        all.push(at(41, client, What::Sync { asked_at_ns: 0, whole: true, conversations: vec![outline], more: false }));
    }
    all.push(at(42, "carol", changes(0, entries, 4)));
    all.push(at(43, "alice", history_answer(0, messages, 4)));
    let users = ["alice", "bob", "carol"].map(str::to_owned).to_vec();
    all.push(at(44, "alice", What::Members { conversation_id: GROUP.to_owned(), users }));
    for client in ["alice", "bob", "carol"] {
        all.push(at(50, client, What::Done));
    }
    all
}

/// As if the final history did not contain this message.
pub(crate) fn without_message(history: &[Operation], seq: u64) -> Vec<Operation> {
    let mut history = history.to_vec();
    for operation in &mut history {
        if let What::History { messages, .. } = &mut operation.what {
            messages.retain(|seen| seen.seq != seq);
        }
    }
    history
}

/// As if nobody had ever been shown this entry.
pub(crate) fn without_entry(history: &[Operation], seq: u64) -> Vec<Operation> {
    let mut history = without_message(history, seq);
    history.retain(|operation| !matches!(&operation.what, What::Live { entry, .. } if entry.seq == seq));
    for operation in &mut history {
        if let What::Changes { entries, .. } = &mut operation.what {
            entries.retain(|seen| seen.seq != seq);
        }
    }
    history
}

/// As if the client had not been shown this message live, and had asked for it at once.
pub(crate) fn asked_instead(history: &[Operation], client: &str, seq: u64) -> Vec<Operation> {
    let instead = |operation: &Operation| {
        if is_live_to(operation, client) && shows(operation, seq) {
            let entry = message(seq, "alice", &format!("a{seq}"));
            return at(operation.at_ns, client, changes(seq - 1, vec![entry], seq));
        }
        operation.clone()
    };
    history.iter().map(instead).collect()
}

/// Bob's last `sync`, changed.
pub(crate) fn with_outline(history: &[Operation], change: impl Fn(&mut Outline)) -> Vec<Operation> {
    let mut history = history.to_vec();
    for operation in history.iter_mut().filter(|operation| operation.client == "bob") {
        if let What::Sync { conversations, .. } = &mut operation.what {
            conversations.iter_mut().for_each(&change);
        }
    }
    history
}

pub(crate) fn shows(operation: &Operation, seq: u64) -> bool {
    shown_in(&operation.what).any(|(_, seen)| seen.seq == seq)
}

pub(crate) fn is_live_to(operation: &Operation, client: &str) -> bool {
    operation.client == client && matches!(operation.what, What::Live { .. })
}

pub(crate) fn acknowledges(operation: &Operation, wanted: &str) -> bool {
    matches!(&operation.what, What::Ok { client_id, .. } if client_id == wanted)
}

/// The places of the violations of a rule.
pub(crate) fn found(history: &[Operation], rule: &str) -> Vec<u64> {
    let verdict: Verdict = check(history);
    verdict.listed.iter().filter(|violation| violation.rule == rule).map(|violation| violation.seq).collect()
}

#[track_caller]
pub(crate) fn assert_finds(history: &[Operation], rule: &str, seq: u64) {
    let verdict = check(history);
    assert!(found(history, rule).contains(&seq), "{rule} at {seq}: {verdict:#?}");
}

#[test]
fn what_agrees_is_right() {
    let verdict = check(&agreeing());
    assert_eq!(verdict.listed, []);
    assert_eq!((verdict.violations, verdict.acknowledged, verdict.read_back, verdict.shown), (0, 3, 1, 12));
}

#[test]
fn a_rule_that_finds_much_hides_no_other() {
    let mut history = agreeing();
    history.extend((0..100).map(|_| at(60, "bob", live(message(4, "alice", "a4")))));
    history.push(at(61, "bob", live(with_content(message(2, "alice", "a2"), "y"))));
    let verdict = check(&history);
    assert_eq!((verdict.by_rule["duplicate"], verdict.by_rule["differing"]), (101, 1));
    assert!(verdict.listed.len() < 50 && verdict.listed.iter().any(|violation| violation.rule == "differing"));
}
