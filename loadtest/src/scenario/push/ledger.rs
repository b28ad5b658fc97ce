//! The acknowledged messages of each conversation, and their notifications.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::client::network::intended_ns;
use crate::client::reader::OnFrame;
use crate::client::scan;
use crate::meter::NS_PER_S;
use crate::meter::recorder::{Counter, LatencyMeter, Recorder};
use crate::provider::{Notification, OnNotification};
use crate::verify::{Log, What};

/// The counters of notifications.
#[derive(Clone, Default)]
pub(super) struct Counts {
    /// Notifications of something new.
    notifications: Counter,
    /// Repeated notifications with the same id.
    repeated: Counter,
    /// Repeated notifications with another id.
    doubled: Counter,
    /// Notifications that came after one that covers more.
    overtaken: Counter,
    /// From the intended moment of the newest message to the push, minus the hold.
    latency: LatencyMeter,
}

impl Counts {
    pub(super) fn new(recorder: &mut Recorder) -> Self {
        Self {
            notifications: recorder.counter("notifications"),
            repeated: recorder.counter("repeated"),
            doubled: recorder.counter("doubled"),
            overtaken: recorder.counter("overtaken"),
            latency: recorder.latency("push"),
        }
    }
}

/// A worker's ledger. Each conversation has one user who is away.
pub(super) struct Ledger {
    run: String,
    hold_ns: u64,
    counts: Counts,
    log: Option<Arc<Log>>,
    conversations: Mutex<HashMap<String, Conversation>>,
}

#[derive(Default)]
struct Conversation {
    /// The newest acknowledged, and the newest notified `seq`.
    acknowledged: u64,
    told: u64,
    /// The id of that notification.
    last_id: String,
}

impl Ledger {
    pub(super) fn new(run: &str, hold_s: f64, counts: Counts, log: Option<Arc<Log>>) -> Self {
        let hold_ns = (hold_s * NS_PER_S as f64) as u64;
        Self { run: run.to_owned(), hold_ns, counts, log, conversations: Mutex::default() }
    }

    /// For writers.
    pub(super) fn on_frame(self: Arc<Self>) -> OnFrame {
        Box::new(move |kind, json, _| {
            if let ("sent", Some(id), Some(seq)) =
                (kind, scan::text(json, "conversation_id"), scan::number(json, "seq"))
            {
                let mut conversations = self.conversations();
                let conversation = conversations.entry(id.to_owned()).or_default();
                conversation.acknowledged = conversation.acknowledged.max(seq);
            }
        })
    }

    /// For the push service.
    pub(super) fn on_notification(self: Arc<Self>) -> OnNotification {
        Box::new(move |notification, id, at_ns| self.note(notification, id, at_ns))
    }

    fn note(&self, notification: &Notification, id: &str, at_ns: u64) {
        let (conversation_id, up_to_seq) = (notification.conversation_id.clone(), notification.up_to_seq);
        if let Some(log) = &self.log {
            let (conversation_id, id) = (conversation_id.clone(), id.to_owned());
            log.note(&notification.user_id, What::Notified { conversation_id, up_to_seq, id });
        }
        let mut conversations = self.conversations();
        let conversation = conversations.entry(conversation_id).or_default();
        match up_to_seq.cmp(&conversation.told) {
            Ordering::Less => self.counts.overtaken.add(1),
            Ordering::Equal if conversation.last_id == id => self.counts.repeated.add(1),
            Ordering::Equal => self.counts.doubled.add(1),
            Ordering::Greater => {
                (conversation.told, conversation.last_id) = (up_to_seq, id.to_owned());
                self.counts.notifications.add(1);
                let text = notification.text.as_deref().unwrap_or_default();
                if let Some(intended_ns) = intended_ns(text, &self.run) {
                    self.counts.latency.record_ns(at_ns.saturating_sub(intended_ns + self.hold_ns));
                }
            }
        }
    }

    /// The number of acknowledged messages without a notification.
    pub(super) fn untold(&self) -> u64 {
        self.conversations().values().map(|one| one.acknowledged.saturating_sub(one.told)).sum()
    }

    /// The newest notified `seq` of each conversation, for other workers: their notifications may arrive here.
    pub(super) fn told(&self) -> Value {
        let conversations = self.conversations();
        conversations.iter().filter(|(_, one)| one.told > 0).map(|(id, one)| (id.clone(), json!(one.told))).collect()
    }

    /// Takes over what other workers received.
    pub(super) fn learn(&self, told: &[Value]) {
        let mut conversations = self.conversations();
        for (id, seq) in told.iter().filter_map(Value::as_object).flatten() {
            if let Some(conversation) = conversations.get_mut(id) {
                conversation.told = conversation.told.max(seq.as_u64().unwrap_or(0));
            }
        }
    }

    fn conversations(&self) -> MutexGuard<'_, HashMap<String, Conversation>> {
        self.conversations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::network::client_id;

    fn ledger() -> Arc<Ledger> {
        Arc::new(Ledger::new("run", 1.0, Counts::default(), None))
    }

    fn told(ledger: &Ledger, up_to_seq: u64, id: &str) {
        let text = client_id("run", 0, up_to_seq, 5);
        let notification = json!({
            "type": "notification", "user_id": "u", "conversation_id": "d:1", "up_to_seq": up_to_seq, "text": text,
        });
        ledger.note(&serde_json::from_value(notification).unwrap(), id, 2 * NS_PER_S);
    }

    fn acknowledged(ledger: &Arc<Ledger>, seq: u64) {
        ledger.clone().on_frame()("sent", format!(r#"{{"conversation_id":"d:1","seq":{seq}}}"#).as_bytes(), 9);
    }

    #[test]
    fn notifications_are_told_apart() {
        let ledger = ledger();
        for (up_to_seq, id) in [(1, "a"), (1, "a"), (3, "b"), (3, "c"), (2, "d")] {
            told(&ledger, up_to_seq, id);
        }
        let counts = &ledger.counts;
        assert_eq!((counts.notifications.total(), counts.repeated.total()), (2, 1));
        assert_eq!((counts.doubled.total(), counts.overtaken.total()), (1, 1));
    }

    #[test]
    fn what_was_acknowledged_is_untold_until_somebody_is_told() {
        let ledger = ledger();
        acknowledged(&ledger, 4);
        acknowledged(&ledger, 3);
        assert_eq!(ledger.untold(), 4);
        told(&ledger, 1, "a");
        assert_eq!(ledger.untold(), 3);
        // Another worker received it.
        ledger.learn(&[json!({"d:1": 3, "d:2": 9}), ledger.told()]);
        assert_eq!(ledger.untold(), 1);
        told(&ledger, 5, "b");
        assert_eq!(ledger.untold(), 0);
    }
}
