//! The result of a check: violations by rule, of which the first are listed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Violations of one rule that are listed; the others are only counted, so that no rule hides another.
const LISTED_MAX: u64 = 20;

/// The properties that must hold (PROTOCOL §3, DESIGN §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// An acknowledged message is in the log, and every member is shown every entry.
    Lost,
    /// A `client_id` has one place in the log, and a session is shown an entry once.
    Duplicate,
    /// Like [`Rule::Duplicate`], for a send whose client was never told that it succeeded.
    ShownTwiceUnacknowledged,
    /// There is one order: the order of acknowledgement, in which every session is shown the entries.
    Reordered,
    /// A `seq` is the same entry for everyone.
    Differing,
    /// The log has no holes.
    Hole,
    /// What was acknowledged before a request is in its answer.
    Stale,
    /// What was rejected is not stored.
    RefusedButStored,
    /// `unread` and `read_seq` of `sync` match the log and the client's own reading.
    WrongUnread,
    /// The windows of a dashboard contain exactly what was accepted.
    WrongWindow,
    /// Only members are shown anything.
    Stranger,
    /// Everything could be checked.
    Unchecked,
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) operations: u64,
    /// Sends that were answered with `sent`.
    pub(crate) acknowledged: u64,
    /// Entries and messages that clients were shown, counted each time.
    #[serde(default)]
    pub(crate) shown: u64,
    /// Conversations whose whole log was read at the end.
    #[serde(default)]
    pub(crate) read_back: u64,
    pub(crate) violations: u64,
    #[serde(default)]
    pub(crate) by_rule: BTreeMap<String, u64>,
    /// The first ones of each rule.
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
    pub(super) fn add(&mut self, rule: Rule, conversation_id: &str, seq: u64, what: impl FnOnce() -> String) {
        self.violations += 1;
        let of_rule = self.by_rule.entry(rule.to_string()).or_default();
        *of_rule += 1;
        if *of_rule <= LISTED_MAX {
            let (rule, conversation_id) = (rule.to_string(), conversation_id.to_owned());
            self.listed.push(Violation { rule, conversation_id, seq, what: what() });
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Duplicate => "duplicate",
            Self::ShownTwiceUnacknowledged => "never acknowledged, but shown twice",
            Self::Reordered => "reordered",
            Self::Differing => "differing",
            Self::Hole => "hole",
            Self::Stale => "stale",
            Self::RefusedButStored => "refused, but stored",
            Self::WrongUnread => "wrong unread",
            Self::WrongWindow => "wrong window",
            Self::Stranger => "shown to a stranger",
            Self::Unchecked => "unchecked",
        })
    }
}
