//! One thing that a client said or saw. As in Jepsen's histories, a send is invoked and then ends `ok` (acknowledged),
//! `fail` (surely not stored) or `info` (nobody knows), and everything has its time.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operation {
    /// The machine's monotonic clock: comparable between all clients of a run.
    pub(crate) at_ns: u64,
    /// The user, who has one session at a time.
    pub(crate) client: String,
    #[serde(flatten)]
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum What {
    /// A session begins.
    Ready {
        store_id: String,
    },
    /// A session ended, and the client was not done.
    Lost {
        why: String,
    },
    /// A send leaves; `place` is the `to` or `conversation_id` of its frame. A repeat is one more with its `client_id`.
    Invoke {
        client_id: String,
        place: String,
    },
    /// `sent`.
    Ok {
        client_id: String,
        conversation_id: String,
        seq: u64,
        duplicate: bool,
    },
    /// An error after which the send is surely not stored, unless a former attempt was.
    Fail {
        client_id: String,
        code: String,
    },
    /// An error that leaves it open.
    Info {
        client_id: String,
        code: String,
    },
    /// An entry as it came by itself.
    Live {
        conversation_id: String,
        entry: Seen,
    },
    /// `conversation_activity`.
    Activity {
        conversation_id: String,
        last_seq: u64,
    },
    Sync {
        conversations: Vec<Outline>,
    },
    /// `changes` after `after`.
    Changes {
        conversation_id: String,
        after: u64,
        entries: Vec<Seen>,
        last_seq: u64,
        more: bool,
        reset: bool,
    },
    History {
        conversation_id: String,
        messages: Vec<Seen>,
        last_seq: u64,
        more: bool,
    },
}

/// An entry, or a message of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    /// The frame's `type`.
    #[serde(rename = "type")]
    pub(crate) entry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) client_id: Option<String>,
}

/// A conversation as `sync` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outline {
    pub(crate) conversation_id: String,
    pub(crate) last_seq: u64,
    #[serde(default)]
    pub(crate) read_seq: u64,
    #[serde(default)]
    pub(crate) unread: u64,
}

impl What {
    /// The answer to a `sync`, `changes` (after `after`) or `history`; `None` for any other, or one that is not as
    /// PROTOCOL says.
    pub(crate) fn of_answer(answer: &Value, after: u64) -> Option<Self> {
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let list = |name: &str| serde_json::from_value(answer[name].clone()).ok();
        let is = |name: &str| answer[name].as_bool().unwrap_or(false);
        Some(match answer["type"].as_str()? {
            "sync" => Self::Sync { conversations: serde_json::from_value(answer["conversations"].clone()).ok()? },
            "changes" => Self::Changes {
                conversation_id: text("conversation_id")?,
                after,
                entries: list("entries")?,
                last_seq: answer["last_seq"].as_u64()?,
                more: is("more"),
                reset: is("reset"),
            },
            "history" => Self::History {
                conversation_id: text("conversation_id")?,
                messages: list("messages")?,
                last_seq: answer["last_seq"].as_u64()?,
                more: is("more"),
            },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_become_operations() {
        let entry = json!({"type": "message", "seq": 3, "from": "a", "client_id": "c", "content": {"text": "x"}});
        let seen =
            Seen { seq: 3, entry: "message".to_owned(), from: Some("a".to_owned()), client_id: Some("c".to_owned()) };
        let changes =
            json!({"type": "changes", "conversation_id": "d:1", "entries": [entry], "last_seq": 3, "more": false});
        let Some(What::Changes { entries, after, .. }) = What::of_answer(&changes, 2) else { panic!("no changes") };
        assert_eq!((entries, after), (vec![seen.clone()], 2));
        let history =
            json!({"type": "history", "conversation_id": "d:1", "messages": [entry], "last_seq": 3, "more": true});
        assert!(
            matches!(What::of_answer(&history, 0), Some(What::History { messages, more: true, .. }) if messages == [seen])
        );
        let sync = json!({"type": "sync", "conversations": [{"conversation_id": "d:1", "last_seq": 3, "unread": 1, "title": null}]});
        let Some(What::Sync { conversations }) = What::of_answer(&sync, 0) else { panic!("no sync") };
        assert_eq!((conversations[0].last_seq, conversations[0].unread), (3, 1));
        assert_eq!(What::of_answer(&json!({"type": "ok"}), 0), None);
        assert_eq!(What::of_answer(&json!({"type": "changes"}), 0), None);
    }

    #[test]
    fn a_line_is_flat() {
        let what = What::Fail { client_id: "c".to_owned(), code: "blocked".to_owned() };
        let operation = Operation { at_ns: 5, client: "alice".to_owned(), what };
        let line = serde_json::to_value(&operation).unwrap();
        assert_eq!(line, json!({"at_ns": 5, "client": "alice", "kind": "fail", "client_id": "c", "code": "blocked"}));
        assert_eq!(serde_json::from_value::<Operation>(line).unwrap(), operation);
    }
}
