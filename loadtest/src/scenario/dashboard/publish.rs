//! Publishing: batches with known sums, and their results.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use switchboard_clock::Clock;
use switchboard_protocol::Timestamp;

use crate::client::reader::OnFrame;
use crate::client::scan;
use crate::client::session::Client;
use crate::meter::now_ns;
use crate::meter::recorder::Counter;
use crate::verify::{Log, Tally, What};

/// The series with one event per batch, which shows a watcher the number of batches seen.
pub(super) const BATCHES: &str = "batches";

/// Earlier than any `topics.lateness_ms` allows.
const LATE_MS: i64 = 600_000;

/// Batches of one topic that have different values.
const VARIANTS: usize = 4;

/// The batches of a topic, repeated.
pub(super) struct Stream {
    pub(super) topic: String,
    variants: Vec<Variant>,
    /// The intended moment of each batch, in the order of sending.
    moments_ns: Mutex<Vec<u64>>,
}

/// A batch without its `id`.
struct Variant {
    /// What follows the `id`.
    rest: String,
    series: BTreeMap<String, Tally>,
    events: u64,
    late: u64,
}

impl Stream {
    /// Batches of `events` events over `series` series, in addition to the one of [`BATCHES`]; one in four has a late
    /// event.
    pub(super) fn new(topic: String, events: usize, series: usize) -> Self {
        let variants = (0..VARIANTS).map(|number| Variant::new(&topic, number, events, series)).collect();
        Self { topic, variants, moments_ns: Mutex::default() }
    }

    /// The number of batches that were sent.
    pub(super) fn said(&self) -> usize {
        self.moments_ns.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The intended moments of these batches, counted from 0.
    pub(super) fn moments_ns(&self, numbers: std::ops::Range<usize>) -> Vec<u64> {
        let moments = self.moments_ns.lock().unwrap_or_else(PoisonError::into_inner);
        moments.get(numbers.start..numbers.end.min(moments.len())).unwrap_or_default().to_vec()
    }

    fn say(&self, intended_ns: u64) -> usize {
        let mut moments = self.moments_ns.lock().unwrap_or_else(PoisonError::into_inner);
        moments.push(intended_ns);
        (moments.len() - 1) % VARIANTS
    }
}

impl Variant {
    fn new(topic: &str, number: usize, events: usize, series: usize) -> Self {
        let late_at = Timestamp::from_unix_ms(Clock::system().wall_ms() - LATE_MS);
        let mut list = format!(r#"{{"series":"{BATCHES}","value":1}}"#);
        let mut sums = BTreeMap::from([(BATCHES.to_owned(), Tally { count: 1, sum: 1 })]);
        let late = u64::from(number == 0);
        for event in 1..events.max(2) {
            let (name, value) = (format!("s{}", event % series.max(1)), (number * 104_729 + event * 7_919) % 1_000);
            // Writing into memory can't fail.
            let _ = write!(list, r#",{{"series":"{name}","value":{value},"tags":{{"country":"nl"}}"#);
            if late == 1 && event == 1 {
                let _ = write!(list, r#","timestamp":"{late_at}""#);
            } else {
                sums.entry(name).or_default().add(value as i64);
            }
            list.push('}');
        }
        let rest = format!(r#","topic":"{topic}","events":[{list}]}}"#);
        Self { rest, series: sums, events: events.max(2) as u64 - late, late }
    }
}

/// Everything that was published by this worker, and its result.
#[derive(Default)]
pub(super) struct Ledger(Mutex<Vec<Entry>>);

struct Entry {
    stream: Arc<Stream>,
    variant: usize,
    /// The counted and late events according to the answer; `None` if there is none, or an error.
    told: Option<(u64, u64)>,
    is_answered: bool,
}

impl Ledger {
    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all were answered.
    pub(super) fn is_settled(&self) -> bool {
        self.entries().iter().all(|entry| entry.is_answered)
    }

    /// Records it for the check.
    pub(super) fn note(&self, publisher: &str, log: &Log) {
        for entry in self.entries().iter() {
            let variant = &entry.stream.variants[entry.variant];
            let (topic, series) = (entry.stream.topic.clone(), variant.series.clone());
            log.note(publisher, What::Published { topic, series, late: variant.late, told: entry.told });
        }
    }
}

/// A publisher: its session, and how it reacts to answers.
pub(super) struct Publisher {
    client: OnceLock<Client>,
    ledger: Arc<Ledger>,
    /// While this is on, it publishes the next batch as soon as one is answered.
    flat_out: Arc<AtomicBool>,
    next: OnceLock<Arc<Stream>>,
    counts: Counts,
}

/// The counters of all publishers of a worker.
#[derive(Clone)]
pub(super) struct Counts {
    pub(super) accepted: Counter,
    pub(super) late: Counter,
    pub(super) refused: Counter,
}

impl Publisher {
    pub(super) fn new(ledger: &Arc<Ledger>, flat_out: &Arc<AtomicBool>, counts: &Counts) -> Arc<Self> {
        Arc::new(Self {
            client: OnceLock::new(),
            ledger: ledger.clone(),
            flat_out: flat_out.clone(),
            next: OnceLock::new(),
            counts: counts.clone(),
        })
    }

    /// Sets its session, and what it publishes at full speed. Only the first call counts.
    pub(super) fn attach(&self, client: &Client, flat_out: &Arc<Stream>) {
        self.client.get_or_init(|| client.clone());
        self.next.get_or_init(|| flat_out.clone());
    }

    pub(super) fn publish(&self, stream: &Arc<Stream>, intended_ns: u64) {
        let Some(client) = self.client.get() else { return };
        let variant = stream.say(intended_ns);
        let id = {
            let mut entries = self.ledger.entries();
            entries.push(Entry { stream: stream.clone(), variant, told: None, is_answered: false });
            entries.len() - 1
        };
        client.say(&format!(r#"{{"type":"topic_publish","id":"p{id}"{}"#, stream.variants[variant].rest));
    }

    /// Puts this many batches under way.
    pub(super) fn begin(&self, under_way: usize) {
        (0..under_way).for_each(|_| self.go_on());
    }

    fn go_on(&self) {
        if let Some(stream) = self.next.get().filter(|_| self.flat_out.load(Ordering::Relaxed)) {
            self.publish(stream, now_ns());
        }
    }

    pub(super) fn on_frame(self: &Arc<Self>) -> OnFrame {
        let own = self.clone();
        Box::new(move |kind, json, _| {
            let id = scan::text(json, "id").and_then(|id| id.strip_prefix('p')?.parse().ok());
            if let (Some(id), "ok" | "error") = (id, kind) {
                own.on_answer(id, kind == "ok", json);
                own.go_on();
            }
        })
    }

    fn on_answer(&self, id: usize, is_ok: bool, json: &[u8]) {
        let number = |name| scan::number(json, name).unwrap_or(0);
        let mut entries = self.ledger.entries();
        let Some(entry) = entries.get_mut(id) else { return };
        entry.is_answered = true;
        if is_ok {
            let told = (number("accepted"), number("late"));
            entry.told = Some(told);
            self.counts.accepted.add(told.0);
            self.counts.late.add(told.1);
        } else {
            self.counts.refused.add(entry.stream.variants[entry.variant].events);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::{ClientFrame, ParseLimits, parse_client_frame};

    #[test]
    fn a_batch_holds_what_its_sums_say() {
        let stream = Stream::new("t".to_owned(), 50, 7);
        for variant in &stream.variants {
            let frame = format!(r#"{{"type":"topic_publish","id":"p1"{}"#, variant.rest);
            let incoming = parse_client_frame(&frame, &ParseLimits { content_bytes: 0 }).unwrap();
            let ClientFrame::TopicPublish(publish) = incoming.frame else { panic!("{frame}") };
            let mut sums: BTreeMap<String, Tally> = BTreeMap::new();
            for event in publish.events.iter().filter(|event| event.timestamp.is_none()) {
                sums.entry(event.series.to_string()).or_default().add(event.value.get() as i64);
            }
            assert_eq!((&sums, publish.events.len() as u64), (&variant.series, variant.events + variant.late));
        }
        assert_eq!(stream.variants.iter().map(|variant| variant.late).sum::<u64>(), 1);
    }
}
