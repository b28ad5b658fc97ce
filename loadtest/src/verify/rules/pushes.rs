//! Users who were away are notified of everything, once (docs/protocol.md, "Push").

use std::collections::{BTreeMap, BTreeSet};

use crate::verify::evidence::Evidence;
use crate::verify::verdict::{Rule, Verdict};
use crate::verify::{Operation, What};

/// A user with a notified device.
#[derive(Default)]
struct Away<'a> {
    /// The user had a session, and may have been shown what was not notified.
    was_here: bool,
    /// The ids of notifications, by conversation and `up_to_seq`.
    told: BTreeMap<(&'a str, u64), BTreeSet<&'a str>>,
}

pub(crate) fn check(operations: &[Operation], evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let is_device = |operation: &&Operation| operation.what == What::Device;
    let devices = operations.iter().filter(is_device).map(|operation| (operation.client.as_str(), Away::default()));
    let mut users: BTreeMap<&str, Away<'_>> = devices.collect();
    for operation in operations {
        let Some(user) = users.get_mut(operation.client.as_str()) else { continue };
        match &operation.what {
            What::Ready { .. } => user.was_here = true,
            What::Notified { conversation_id, up_to_seq, id } => {
                user.told.entry((conversation_id, *up_to_seq)).or_default().insert(id);
            }
            _ => {}
        }
    }
    for (name, user) in &users {
        doubled(name, user, verdict);
    }
    for operation in operations {
        if let What::Invoke { client_id, place } = &operation.what
            && let Some(user) = users.get(place.as_str()).filter(|user| !user.was_here)
        {
            lost(&operation.client, client_id, (place, user), evidence, verdict);
        }
    }
}

/// A repeat has the same id, so that a receiver recognises it.
fn doubled(name: &str, user: &Away<'_>, verdict: &mut Verdict) {
    for ((conversation_id, up_to_seq), ids) in user.told.iter().filter(|(_, ids)| ids.len() > 1) {
        verdict.add(Rule::Duplicate, conversation_id, *up_to_seq, || {
            format!("{name} was notified of it under {} ids: {ids:?}", ids.len())
        });
    }
}

/// What was acknowledged is notified, by itself or with later messages.
fn lost(sender: &str, client_id: &str, to: (&str, &Away<'_>), evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let (name, user) = to;
    let Some(one) = evidence.sends.get(&(sender, client_id)).and_then(|send| send.acknowledged.first()) else { return };
    let mut told = user.told.range((one.conversation_id, one.seq)..=(one.conversation_id, u64::MAX));
    if told.next().is_none() {
        verdict.add(Rule::Lost, one.conversation_id, one.seq, || {
            format!("{client_id} of {sender} was acknowledged, and {name}, who was away, was not notified of it")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::check as check_all;
    use crate::verify::rules::written::{at, ready};

    const ID: &str = "d:1";

    /// Alice writes two messages to Bob, who is away, followed by `of_bob`.
    fn history(of_bob: Vec<What>) -> Vec<Operation> {
        let mut all = vec![at(1, "bob", What::Device), at(2, "alice", ready())];
        for seq in [1, 2] {
            let client_id = format!("a{seq}");
            all.push(at(2 + seq, "alice", What::Invoke { client_id: client_id.clone(), place: "bob".to_owned() }));
            let conversation_id = ID.to_owned();
            all.push(at(2 + seq, "alice", What::Ok { client_id, conversation_id, seq, duplicate: false }));
        }
        all.extend(of_bob.into_iter().map(|what| at(9, "bob", what)));
        all
    }

    fn notified(up_to_seq: u64, id: &str) -> What {
        What::Notified { conversation_id: ID.to_owned(), up_to_seq, id: id.to_owned() }
    }

    /// Only notification rules: nobody does a final read here.
    fn violations(history: &[Operation]) -> Vec<(String, u64)> {
        let listed = check_all(history).listed.into_iter();
        let of_pushes = listed.filter(|violation| violation.what.contains("notified"));
        of_pushes.map(|violation| (violation.rule, violation.seq)).collect()
    }

    #[test]
    fn what_nobody_was_told_of_is_lost() {
        assert_eq!(violations(&history(vec![notified(1, "x"), notified(2, "y")])), []);
        assert_eq!(violations(&history(vec![notified(2, "y")])), [], "they are told together");
        assert_eq!(violations(&history(vec![notified(1, "x")])), [("lost".to_owned(), 2)]);
        assert_eq!(violations(&history(Vec::new())).len(), 2);
    }

    #[test]
    fn who_was_here_may_have_been_shown_it() {
        assert_eq!(violations(&history(vec![ready()])), []);
    }

    #[test]
    fn the_same_under_another_id_is_doubled_and_a_repeat_is_not() {
        let (one, other) = (notified(2, "x"), notified(2, "y"));
        assert_eq!(violations(&history(vec![one.clone(), one.clone()])), []);
        assert_eq!(violations(&history(vec![one, other])), [("duplicate".to_owned(), 2)]);
    }
}
