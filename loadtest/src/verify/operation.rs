//! An operation or observation of a client. As in Jepsen's histories, a send is invoked and then ends `ok`
//! (acknowledged), `fail` (definitely not stored) or `info` (unknown), and everything has its time. `docs/verify.md`
//! describes the lines for external checkers.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
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
    /// A session ended against the client's will.
    Lost {
        why: String,
    },
    /// The client ended its session temporarily.
    Left,
    /// A send leaves; `place` is the `to` or `conversation_id` of its frame. A repeat is another one with the same
    /// `client_id`.
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
    /// An error after which the send is definitely not stored, unless an earlier attempt was.
    Fail {
        client_id: String,
        code: String,
    },
    /// An error that leaves the outcome open.
    Info {
        client_id: String,
        code: String,
    },
    /// `read` leaves; it has no answer.
    Read {
        conversation_id: String,
        seq: u64,
    },
    /// An unsolicited entry.
    Live {
        conversation_id: String,
        entry: Seen,
    },
    /// `conversation_activity`.
    Activity {
        conversation_id: String,
        last_seq: u64,
    },
    Resync,
    /// A page of `sync`.
    Sync {
        asked_at_ns: u64,
        /// It was requested without a cursor, or continues one that was.
        whole: bool,
        conversations: Vec<Outline>,
        more: bool,
    },
    /// `changes` after `after`.
    Changes {
        asked_at_ns: u64,
        conversation_id: String,
        after: u64,
        entries: Vec<Seen>,
        last_seq: u64,
        more: bool,
        reset: bool,
    },
    /// A page of `history` after `after`.
    History {
        asked_at_ns: u64,
        conversation_id: String,
        after: u64,
        messages: Vec<Seen>,
        last_seq: u64,
        more: bool,
    },
    /// A page of `conversation_members`.
    Members {
        conversation_id: String,
        users: Vec<String>,
    },
    /// A batch of events for a dashboard.
    Published {
        topic: String,
        /// The events that are not late, by series.
        series: BTreeMap<String, Tally>,
        /// The number of late events.
        late: u64,
        /// `accepted` and `late` of the answer; `None` if there was no answer, or an error.
        told: Option<(u64, u64)>,
    },
    /// The totals of all windows of one length that a client received, by series.
    Windows {
        topic: String,
        window: String,
        series: BTreeMap<String, Tally>,
    },
    /// The user has a device that gets notifications.
    Device,
    /// The push service got a notification for the user, with this `Switchboard-Id`.
    Notified {
        conversation_id: String,
        up_to_seq: u64,
        id: String,
    },
    /// Nobody sends any more: the client now asks for everything that the server has for it.
    LookBack,
    /// It has received all of that.
    Done,
}

/// The sum of events, whose values are integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum: i64,
}

impl Tally {
    pub(crate) fn add(&mut self, value: i64) {
        *self = self.plus(Self { count: 1, sum: value });
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, sum: self.sum + other.sum }
    }
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message_id: Option<String>,
    /// A hash of the content as compact JSON with sorted keys: the first eight bytes of its SHA-256. `None` for a
    /// message that was changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_hash: Option<String>,
    /// The users added and removed by a `membership`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) added: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) removed: Vec<String>,
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
    #[serde(default)]
    pub(crate) removed: bool,
}

/// A request whose answer shows entries or conversations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) at_ns: u64,
    /// For `changes` and `history`.
    pub(crate) after: u64,
    /// For `sync`.
    pub(crate) is_whole: bool,
}

impl Asked {
    pub(crate) fn after(after: u64, at_ns: u64) -> Self {
        Self { at_ns, after, is_whole: false }
    }
}

impl What {
    /// The answer to a `sync`, `changes`, `history` or `conversation_members`; `None` for any other answer, or if it
    /// does not conform to PROTOCOL.
    pub(crate) fn of_answer(answer: &Value, asked: Asked) -> Option<Self> {
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        let list = |name: &str| answer[name].as_array()?.iter().map(Seen::of).collect::<Option<Vec<Seen>>>();
        let is = |name: &str| answer[name].as_bool().unwrap_or(false);
        Some(match answer["type"].as_str()? {
            "sync" => Self::Sync {
                asked_at_ns: asked.at_ns,
                whole: asked.is_whole,
                conversations: serde_json::from_value(answer["conversations"].clone()).ok()?,
                more: is("more"),
            },
            "changes" => Self::Changes {
                asked_at_ns: asked.at_ns,
                conversation_id: text("conversation_id")?,
                after: asked.after,
                // With `reset` there are no entries.
                entries: if is("reset") { Vec::new() } else { list("entries")? },
                last_seq: answer["last_seq"].as_u64()?,
                more: is("more"),
                reset: is("reset"),
            },
            "history" => Self::History {
                asked_at_ns: asked.at_ns,
                conversation_id: text("conversation_id")?,
                after: asked.after,
                messages: list("messages")?,
                last_seq: answer["last_seq"].as_u64()?,
                more: is("more"),
            },
            "members" => Self::Members {
                conversation_id: text("conversation_id")?,
                users: texts(answer["members"].as_array()?.iter().map(|member| &member["user_id"])),
            },
            _ => return None,
        })
    }
}

impl Seen {
    /// An entry's frame, or a message of a history.
    pub(crate) fn of(frame: &Value) -> Option<Self> {
        let text = |name: &str| frame[name].as_str().map(str::to_owned);
        let list = |name: &str| texts(frame[name].as_array().map(Vec::as_slice).unwrap_or_default().iter());
        let is_changed = frame.get("edited_at").is_some_and(Value::is_string) || frame["deleted"] == true;
        Some(Self {
            seq: frame["seq"].as_u64()?,
            entry: text("type").unwrap_or_else(|| "message".to_owned()),
            from: text("from"),
            client_id: text("client_id"),
            message_id: text("message_id"),
            content_hash: frame.get("content").filter(|_| !is_changed).map(hash),
            added: list("added"),
            removed: list("removed"),
        })
    }

    pub(crate) fn is_message(&self) -> bool {
        self.entry == "message"
    }
}

fn texts<'a>(values: impl Iterator<Item = &'a Value>) -> Vec<String> {
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn hash(content: &Value) -> String {
    let hash = digest(&SHA256, content.to_string().as_bytes());
    hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_become_operations() {
        let entry = json!({"type": "message", "seq": 3, "from": "a", "client_id": "c", "content": {"text": "x"}});
        let seen = Seen::of(&entry).unwrap();
        assert_eq!((seen.seq, seen.from.as_deref(), seen.client_id.as_deref()), (3, Some("a"), Some("c")));
        let asked = Asked::after(2, 7);
        let changes =
            json!({"type": "changes", "conversation_id": "d:1", "entries": [entry], "last_seq": 3, "more": false});
        let Some(What::Changes { entries, after, asked_at_ns, .. }) = What::of_answer(&changes, asked) else {
            panic!("no changes")
        };
        assert_eq!((entries, after, asked_at_ns), (vec![seen.clone()], 2, 7));
        let history =
            json!({"type": "history", "conversation_id": "d:1", "messages": [entry], "last_seq": 3, "more": true});
        assert!(
            matches!(What::of_answer(&history, asked), Some(What::History { messages, more: true, .. }) if messages == [seen])
        );
        let sync = json!({"type": "sync", "conversations": [{"conversation_id": "d:1", "last_seq": 3, "unread": 1, "title": null}]});
        let Some(What::Sync { conversations, .. }) = What::of_answer(&sync, asked) else { panic!("no sync") };
        assert_eq!((conversations[0].last_seq, conversations[0].unread), (3, 1));
        assert_eq!(What::of_answer(&json!({"type": "ok"}), asked), None);
        assert_eq!(What::of_answer(&json!({"type": "changes"}), asked), None);
    }

    #[test]
    fn contents_are_told_apart_whatever_the_order_of_their_fields() {
        let hash = |content: Value| Seen::of(&json!({"seq": 1, "content": content})).unwrap().content_hash;
        assert_eq!(hash(json!({"text": "x", "y": 1})), hash(json!({"y": 1, "text": "x"})));
        assert_ne!(hash(json!({"text": "x"})), hash(json!({"text": "y"})));
        // From the SHA-256 of `{"text":"x"}`, as sha256sum prints it.
        assert_eq!(hash(json!({"text": "x"})).as_deref(), Some("fcd1ccec08db6f78"));
        let edited = json!({"seq": 1, "content": {"text": "x"}, "edited_at": "2026"});
        assert_eq!(Seen::of(&edited).unwrap().content_hash, None);
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
