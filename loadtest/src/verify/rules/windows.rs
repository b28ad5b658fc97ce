//! Dashboards (PROTOCOL §5): the windows contain what was accepted, and nothing late or else.

use std::collections::{BTreeMap, BTreeSet};

use crate::verify::evidence::Evidence;
use crate::verify::verdict::{Rule, Verdict};
use crate::verify::{Operation, Tally, What};

/// What was published to one topic, by series.
#[derive(Default)]
struct Published<'a> {
    accepted: BTreeMap<&'a str, Tally>,
    /// Batches without an answer, or with an error: each may or may not be counted.
    open: BTreeMap<&'a str, Tally>,
}

pub(crate) fn check(operations: &[Operation], evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let mut topics: BTreeMap<&str, Published<'_>> = BTreeMap::new();
    let mut looked_at: BTreeSet<&str> = BTreeSet::new();
    for operation in operations {
        if let What::Published { topic, series, late, told } = &operation.what {
            let published = topics.entry(topic).or_default();
            let sums = if told.is_some() { &mut published.accepted } else { &mut published.open };
            for (name, tally) in series {
                let sum = sums.entry(name).or_default();
                *sum = sum.plus(*tally);
            }
            answer(topic, series, *late, *told, verdict);
        }
    }
    for operation in operations {
        if let What::Windows { topic, window, series } = &operation.what {
            looked_at.insert(topic);
            // An owner that dies loses what came since its last tick.
            let may_lose = evidence.last_gone_ns > 0;
            if let Some(published) = topics.get(topic.as_str()) {
                windows(&format!("{topic} {window} at {}", operation.client), published, series, may_lose, verdict);
            }
        }
    }
    for topic in topics.keys().filter(|topic| !looked_at.contains(*topic)) {
        verdict.add(Rule::Unchecked, topic, 0, || "nobody has looked at its windows".to_owned());
    }
}

/// An answer distinguishes late events from those that count.
fn answer(topic: &str, series: &BTreeMap<String, Tally>, late: u64, told: Option<(u64, u64)>, verdict: &mut Verdict) {
    let events = series.values().map(|tally| tally.count).sum::<u64>();
    if let Some(told) = told.filter(|told| *told != (events, late)) {
        verdict.add(Rule::WrongWindow, topic, 0, || {
            format!("of {events} events and {late} that were late, (accepted, late) were {told:?}")
        });
    }
}

fn windows(
    place: &str,
    published: &Published<'_>,
    shown: &BTreeMap<String, Tally>,
    may_lose: bool,
    verdict: &mut Verdict,
) {
    let names = published.accepted.keys().chain(published.open.keys()).copied();
    let names: BTreeSet<&str> = names.chain(shown.keys().map(String::as_str)).collect();
    for name in names {
        let of = |sums: &BTreeMap<&str, Tally>| sums.get(name).copied().unwrap_or_default();
        let (least, open) = (of(&published.accepted), of(&published.open));
        let shown = shown.get(name).copied().unwrap_or_default();
        let is_exact = open == Tally::default() && !may_lose;
        let is_missing = shown.count < least.count && !may_lose;
        if is_missing || shown.count > least.count + open.count || (is_exact && shown != least) {
            verdict.add(Rule::WrongWindow, place, 0, || {
                format!("{name}: {shown:?} is shown, {least:?} was accepted, of {open:?} nobody knows")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::check as check_all;
    use crate::verify::rules::written::{at, lost, ready};

    fn series(count: u64, sum: i64) -> BTreeMap<String, Tally> {
        BTreeMap::from([("clicks".to_owned(), Tally { count, sum })])
    }

    fn published(told: Option<(u64, u64)>) -> Operation {
        at(5, "publisher", What::Published { topic: "sales".to_owned(), series: series(3, 6), late: 1, told })
    }

    fn shown(count: u64, sum: i64) -> Operation {
        let (topic, window) = ("sales".to_owned(), "1m".to_owned());
        at(9, "watcher", What::Windows { topic, window, series: series(count, sum) })
    }

    fn violations(history: &[Operation]) -> Vec<String> {
        check_all(history).by_rule.into_keys().collect()
    }

    #[test]
    fn sums_that_agree_are_right_and_any_other_is_found() {
        assert_eq!(violations(&[published(Some((3, 1))), shown(3, 6)]), [""; 0]);
        for wrong in [shown(2, 6), shown(4, 6), shown(3, 7)] {
            assert_eq!(violations(&[published(Some((3, 1))), wrong]), ["wrong window"]);
        }
        for told in [(4, 0), (3, 0), (2, 1)] {
            assert_eq!(violations(&[published(Some(told)), shown(3, 6)]), ["wrong window"], "{told:?}");
        }
        assert_eq!(violations(&[published(Some((3, 1)))]), ["unchecked"]);
    }

    #[test]
    fn what_has_no_answer_may_count_or_not() {
        for right in [shown(3, 6), shown(6, 12), shown(4, 7)] {
            assert_eq!(violations(&[published(Some((3, 1))), published(None), right]), [""; 0]);
        }
        assert_eq!(violations(&[published(Some((3, 1))), published(None), shown(7, 12)]), ["wrong window"]);
        assert_eq!(violations(&[published(Some((3, 1))), published(None), shown(2, 4)]), ["wrong window"]);
    }

    #[test]
    fn a_dead_owner_excuses_what_is_missing_and_nothing_more() {
        let with_death =
            |shown| vec![at(1, "watcher", ready()), at(7, "watcher", lost()), published(Some((3, 1))), shown];
        let wrong_windows = |history: &[Operation]| check_all(history).by_rule.get("wrong window").copied();
        assert_eq!(wrong_windows(&with_death(shown(2, 4))), None);
        assert_eq!(wrong_windows(&with_death(shown(4, 6))), Some(1));
    }
}
