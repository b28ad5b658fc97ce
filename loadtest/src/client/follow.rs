//! The state with which a client misses nothing and none of its sends is lost: the rule of PROTOCOL §3.
//!
//! Entries are applied in the order of `seq`; known ones are ignored; after a gap the client asks for `changes`. Sends
//! are kept until they are answered for good, and repeated with their `client_id`. Only runs that verify, or whose
//! clients reconnect, have one of these per session: it costs a look at every frame.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::Value;

use super::scan;
use crate::verify::{Asked, Log, Seen, What};

/// The knowledge of one client.
pub(crate) struct Follow {
    user: String,
    log: Option<Arc<Log>>,
    /// The cursor for its next `sync`.
    pub(super) cursor: Option<String>,
    /// The `seq` up to which each conversation is known without a gap.
    known: HashMap<String, u64>,
    /// Conversations that had to be forgotten (`reset`): their messages are in `history`.
    forgotten: HashSet<String>,
    /// Conversations that need `changes`.
    behind: BTreeSet<String>,
    /// The one whose `changes` are being asked for.
    asking: Option<String>,
    /// A `sync` is due.
    pub(super) is_sync_due: bool,
    /// Sends without an answer, by `client_id`.
    unanswered: HashMap<String, Unanswered>,
    sends: u64,
    /// Those to be repeated in this session.
    again: Vec<String>,
    /// The delay before that.
    pub(super) again_after_ms: u64,
}

struct Unanswered {
    number: u64,
    frame: String,
}

/// The effect of an answer on a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The send has ended, successfully or not.
    Final,
    /// It will be repeated.
    Open,
    /// It had ended before.
    Known,
}

/// The delay before a repeat if the server does not give one.
const RETRY_AFTER_MS: u64 = 200;

impl Follow {
    pub(super) fn new(user: &str, log: Option<Arc<Log>>) -> Self {
        Self {
            user: user.to_owned(),
            log,
            cursor: None,
            known: HashMap::new(),
            forgotten: HashSet::new(),
            behind: BTreeSet::new(),
            asking: None,
            is_sync_due: false,
            unanswered: HashMap::new(),
            sends: 0,
            again: Vec::new(),
            again_after_ms: RETRY_AFTER_MS,
        }
    }

    pub(super) fn note(&self, what: impl FnOnce() -> What) {
        if let Some(log) = &self.log {
            log.note(&self.user, what());
        }
    }

    /// A session begins.
    pub(super) fn on_ready(&mut self, store_id: &str) {
        self.note(|| What::Ready { store_id: store_id.to_owned() });
    }

    /// A session ended against the client's will.
    pub(super) fn on_lost(&self, why: &str) {
        self.note(|| What::Lost { why: why.to_owned() });
    }

    /// The client ended its session temporarily.
    pub(super) fn on_left(&self) {
        self.note(|| What::Left);
    }

    /// A frame is sent that is answered elsewhere or not at all.
    pub(super) fn on_say(&self, frame: &str) {
        let json = frame.as_bytes();
        if self.log.is_none() || scan::text(json, "type") != Some("read") {
            return;
        }
        if let (Some(id), Some(seq)) = (scan::text(json, "conversation_id"), scan::number(json, "seq")) {
            self.note(|| What::Read { conversation_id: id.to_owned(), seq });
        }
    }

    /// `resync`: something may have been lost.
    pub(super) fn on_resync(&mut self) {
        self.note(|| What::Resync);
        self.is_sync_due = true;
    }

    /// A send leaves for the first time.
    pub(super) fn on_send(&mut self, client_id: &str, frame: &str) {
        self.note(|| What::Invoke { client_id: client_id.to_owned(), place: place_of(frame) });
        self.sends += 1;
        self.unanswered.insert(client_id.to_owned(), Unanswered { number: self.sends, frame: frame.to_owned() });
    }

    /// `sent`.
    pub(super) fn on_sent(&mut self, json: &[u8]) -> Fate {
        let (Some(client_id), Some(conversation_id), Some(seq)) =
            (scan::text(json, "client_id"), scan::text(json, "conversation_id"), scan::number(json, "seq"))
        else {
            return Fate::Known;
        };
        self.note(|| What::Ok {
            client_id: client_id.to_owned(),
            conversation_id: conversation_id.to_owned(),
            seq,
            duplicate: scan::is(json, "duplicate"),
        });
        // For the sender, `sent` counts as the entry.
        self.apply(conversation_id, seq);
        if self.unanswered.remove(client_id).is_some() { Fate::Final } else { Fate::Known }
    }

    /// An `error` for a send.
    pub(super) fn on_send_error(&mut self, client_id: &str, json: &[u8]) -> Fate {
        let code = scan::text(json, "code").unwrap_or_default().to_owned();
        let client_id = client_id.to_owned();
        if !self.unanswered.contains_key(&client_id) {
            return Fate::Known;
        }
        if matches!(code.as_str(), "unavailable" | "overloaded" | "internal") {
            self.again_after_ms = scan::number(json, "retry_after_ms").unwrap_or(RETRY_AFTER_MS);
            self.again.push(client_id.clone());
            self.note(|| What::Info { client_id, code });
            return Fate::Open;
        }
        self.unanswered.remove(&client_id);
        self.note(|| {
            if code == "outcome_unknown" { What::Info { client_id, code } } else { What::Fail { client_id, code } }
        });
        Fate::Final
    }

    /// An unsolicited entry. Returns whether it is new.
    pub(super) fn on_entry(&mut self, kind: &str, json: &[u8]) -> bool {
        let (Some(conversation_id), Some(seq)) = (scan::text(json, "conversation_id"), scan::number(json, "seq"))
        else {
            return false;
        };
        self.note(|| {
            let frame: Value = serde_json::from_slice(json).unwrap_or_default();
            let entry = Seen::of(&frame).unwrap_or_else(|| Seen { seq, entry: kind.to_owned(), ..Seen::default() });
            What::Live { conversation_id: conversation_id.to_owned(), entry }
        });
        self.apply(conversation_id, seq)
    }

    /// `conversation_activity`: there is more than was sent.
    pub(super) fn on_activity(&mut self, json: &[u8]) {
        let (Some(conversation_id), Some(last_seq)) =
            (scan::text(json, "conversation_id"), scan::number(json, "last_seq"))
        else {
            return;
        };
        self.note(|| What::Activity { conversation_id: conversation_id.to_owned(), last_seq });
        self.is_at(conversation_id, last_seq);
    }

    /// The conversation's log ends at `last_seq` or later.
    pub(super) fn is_at(&mut self, conversation_id: &str, last_seq: u64) {
        if self.known.get(conversation_id).copied().unwrap_or(0) < last_seq {
            self.behind.insert(conversation_id.to_owned());
        }
    }

    /// The rule. Returns whether the entry is new and was applied.
    fn apply(&mut self, conversation_id: &str, seq: u64) -> bool {
        let known = match self.known.get_mut(conversation_id) {
            Some(known) => known,
            None => self.known.entry(conversation_id.to_owned()).or_insert(0),
        };
        if seq == *known + 1 {
            *known = seq;
            return true;
        }
        if seq > *known + 1 {
            self.behind.insert(conversation_id.to_owned());
        }
        false
    }

    /// The answer to a request. Returns the messages of others that are new.
    ///
    /// # Errors
    /// It does not conform to PROTOCOL.
    pub(super) fn on_answer(&mut self, answer: &Value, asked: Asked) -> Result<Vec<Seen>> {
        let what = What::of_answer(answer, asked).context("can't parse an answer")?;
        let mut new = Vec::new();
        match &what {
            What::Changes { conversation_id, entries, last_seq, more, reset, .. } => {
                for entry in entries {
                    // A gap within the answer is left to the checker: asking again would give the same.
                    let known = self.known.entry(conversation_id.clone()).or_insert(0);
                    let is_new = entry.seq > *known;
                    *known = entry.seq.max(*known);
                    if is_new && entry.is_message() && entry.from.as_deref() != Some(&self.user) {
                        new.push(entry.clone());
                    }
                }
                if *reset {
                    // Too many entries: the earlier ones are in `history`.
                    self.forgotten.insert(conversation_id.clone());
                }
                if !more {
                    let known = self.known.entry(conversation_id.clone()).or_insert(0);
                    *known = (*last_seq).max(*known);
                }
            }
            What::Sync { conversations, .. } => {
                for outline in conversations {
                    self.is_at(&outline.conversation_id, outline.last_seq);
                }
                self.cursor = answer["cursor"].as_str().map(str::to_owned);
            }
            _ => {}
        }
        self.note(|| what);
        Ok(new)
    }

    /// A conversation that is behind, and its last known `seq`. It stays behind until [`Follow::has_changes`]: the session may
    /// end before, and the next `sync` does not name it again.
    pub(super) fn take_behind(&mut self) -> Option<(String, u64)> {
        self.behind.extend(self.asking.take());
        let conversation_id = self.behind.pop_first()?;
        let known = self.known.get(&conversation_id).copied().unwrap_or(0);
        self.asking = Some(conversation_id.clone());
        Some((conversation_id, known))
    }

    /// All `changes` of that conversation have come.
    pub(super) fn has_changes(&mut self) {
        self.asking = None;
    }

    /// All known conversations, and whether the client was told to read their history.
    pub(super) fn conversations(&self) -> Vec<(String, bool)> {
        self.known.keys().map(|id| (id.clone(), self.forgotten.contains(id))).collect()
    }

    /// Whether every send has its answer.
    pub(super) fn is_answered(&self) -> bool {
        self.unanswered.is_empty()
    }

    pub(super) fn has_work(&self) -> bool {
        self.is_sync_due || !self.behind.is_empty() || self.asking.is_some() || !self.again.is_empty()
    }

    /// The sends to be repeated in this session, in order.
    pub(super) fn take_again(&mut self) -> Vec<String> {
        let again = std::mem::take(&mut self.again);
        self.frames(|client_id| again.iter().any(|other| other == client_id))
    }

    /// All unanswered sends, in order: they are repeated in the next session.
    pub(super) fn take_all_again(&mut self) -> Vec<String> {
        self.again.clear();
        self.frames(|_| true)
    }

    fn frames(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let mut wanted: Vec<(&String, &Unanswered)> =
            self.unanswered.iter().filter(|(client_id, _)| is_wanted(client_id)).collect();
        wanted.sort_by_key(|(_, send)| send.number);
        for (client_id, send) in &wanted {
            self.note(|| What::Invoke { client_id: (*client_id).clone(), place: place_of(&send.frame) });
        }
        wanted.into_iter().map(|(_, send)| send.frame.clone()).collect()
    }
}

/// The destination of a send, from its frame.
fn place_of(frame: &str) -> String {
    let text = |name| scan::text(frame.as_bytes(), name);
    text("to").or_else(|| text("conversation_id")).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(seq: u64) -> Vec<u8> {
        format!(r#"{{"type":"message","conversation_id":"d:1","seq":{seq},"from":"bob","client_id":"c{seq}"}}"#)
            .into_bytes()
    }

    #[test]
    fn a_hole_is_asked_for_and_what_is_known_is_ignored() {
        let mut follow = Follow::new("alice", None);
        assert!(follow.on_entry("message", &entry(1)));
        assert!(!follow.on_entry("message", &entry(1)));
        assert!(!follow.has_work());
        assert!(!follow.on_entry("message", &entry(3)));
        assert_eq!(follow.take_behind(), Some(("d:1".to_owned(), 1)));
        let entries = json!([
            {"type": "message", "seq": 2, "from": "bob"},
            {"type": "message", "seq": 3, "from": "alice"},
            {"type": "reaction", "seq": 4},
        ]);
        let changes =
            json!({"type": "changes", "conversation_id": "d:1", "entries": entries, "last_seq": 4, "more": false});
        let new = follow.on_answer(&changes, Asked::after(1, 0)).unwrap();
        assert_eq!(new.iter().map(|seen| seen.seq).collect::<Vec<_>>(), [2]);
        follow.has_changes();
        assert!(!follow.has_work());
        assert!(!follow.on_entry("message", &entry(4)));
        assert!(follow.on_entry("message", &entry(5)));
    }

    #[test]
    fn a_hole_in_an_answer_is_not_asked_for_for_ever() {
        let mut follow = Follow::new("alice", None);
        let changes = json!({"type": "changes", "conversation_id": "d:1", "entries": [{"type": "message", "seq": 3}],
            "last_seq": 5, "more": false});
        assert_eq!(follow.on_answer(&changes, Asked::after(0, 0)).unwrap().len(), 1);
        assert!(!follow.has_work() && follow.on_entry("message", &entry(6)));
    }

    #[test]
    fn sync_shows_what_is_behind() {
        let mut follow = Follow::new("alice", None);
        follow.on_entry("message", &entry(1));
        let sync = json!({"type": "sync", "cursor": "c1", "conversations": [
            {"conversation_id": "d:1", "last_seq": 1}, {"conversation_id": "d:2", "last_seq": 7}]});
        follow.on_answer(&sync, Asked::after(0, 0)).unwrap();
        let behind = Some(("d:2".to_owned(), 0));
        assert_eq!((follow.take_behind(), follow.cursor.as_deref()), (behind.clone(), Some("c1")));
        assert_eq!(follow.take_behind(), behind, "its session ended before the answer");
        follow.has_changes();
        assert_eq!(follow.take_behind(), None);
    }

    #[test]
    fn sends_are_kept_until_they_are_answered_for_good() {
        let mut follow = Follow::new("alice", None);
        for client_id in ["a", "b", "c"] {
            follow.on_send(client_id, &format!(r#"{{"to":"bob","client_id":"{client_id}"}}"#));
        }
        let sent = br#"{"type":"sent","client_id":"b","conversation_id":"d:1","seq":1,"duplicate":false}"#;
        assert_eq!((follow.on_sent(sent), follow.on_sent(sent)), (Fate::Final, Fate::Known));
        assert_eq!(follow.on_send_error("c", br#"{"code":"unavailable","retry_after_ms":9}"#), Fate::Open);
        assert_eq!((follow.has_work(), follow.again_after_ms), (true, 9));
        assert_eq!(follow.take_again(), [r#"{"to":"bob","client_id":"c"}"#]);
        assert_eq!(follow.take_all_again().len(), 2);
        assert_eq!(follow.on_send_error("a", br#"{"code":"blocked"}"#), Fate::Final);
        assert_eq!(follow.take_all_again(), [r#"{"to":"bob","client_id":"c"}"#]);
    }
}
