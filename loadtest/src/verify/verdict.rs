//! What a check came to: violations by rule, of which the first are listed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Violations of one rule that are listed; the others are only counted. So no rule hides another.
const LISTED_MAX: u64 = 20;

/// What must hold (PROTOCOL §3, DESIGN §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// An acknowledged message is in the log, and every member is shown every entry.
    Lost,
    /// A `client_id` has one place in the log, and a session is shown an entry once.
    Duplicate,
    /// As [`Rule::Duplicate`], of a send whose client was never told that it succeeded.
    ShownTwiceUnacknowledged,
    /// There is one order: that in which sends were acknowledged, and in which every session is shown them.
    Reordered,
    /// A `seq` is the same entry for everyone.
    Differing,
    /// The log has no holes.
    Hole,
    /// What was acknowledged before a question is in its answer.
    Stale,
    /// What was refused is not there.
    RefusedButStored,
    /// `unread` and `read_seq` of `sync` are what the log and the client's own reading make them.
    WrongUnread,
    /// The windows of a dashboard hold what was accepted, and nothing else.
    WrongWindow,
    /// Only members are shown anything.
    Stranger,
    /// Everything could be looked at.
    Unchecked,
}

/// What the check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) operations: u64,
    /// Sends that were answered with `sent`.
    pub(crate) acknowledged: u64,
    /// Entries and messages that clients were shown, each as often as it was.
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
