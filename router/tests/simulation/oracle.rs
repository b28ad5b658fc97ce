//! The simulation's knowledge: every durable entry, every answer, every frame. Violations of DESIGN §5 are recorded as
//! they are seen, or found at the end from the logs.

use crate::truth::Truth;
use bytes::Bytes;
mod push;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard};
use switchboard_clock::Clock;
use switchboard_protocol::server::{Sent, SyncConversation};
use switchboard_protocol::{ClientId, EntryFrame, Seq, UserId};
use switchboard_store::{ConversationKey, Entry, UserKey};

/// Event counts, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) repeated: u64,
    pub(crate) entries: u64,
    pub(crate) delivered: u64,
    pub(crate) answers: u64,
    pub(crate) errors: u64,
    pub(crate) syncs: u64,
    pub(crate) resyncs: u64,
    pub(crate) resets: u64,
    pub(crate) connects: u64,
    pub(crate) faults: u64,
    pub(crate) fenced: u64,
    pub(crate) pushed: u64,
    pub(crate) received: u64,
    pub(crate) enqueued: u64,
    /// The number of those that were judged.
    pub(crate) enqueued_well: u64,
    pub(crate) notified: u64,
    pub(crate) withdrawn: u64,
}

/// A request for a conversation's end, at a time when this much had been answered already.
struct Asked {
    what: &'static str,
    user: UserKey,
    key: ConversationKey,
    answered_before: u64,
    /// The answer; `None`: `not_found`.
    told: Option<u64>,
    at_ms: u64,
}

/// A row of a `sync` answer.
struct SyncRow {
    user: UserKey,
    key: ConversationKey,
    row: SyncConversation,
    read_before: u64,
    at_ms: u64,
}

/// A send's place in the logs, and its content.
type Place = (ConversationKey, Seq, String);

#[derive(Default)]
struct Inner {
    durable: BTreeMap<(ConversationKey, Seq), Bytes>,
    /// The highest entry of each conversation that was answered with `sent` or `ok`.
    answered: BTreeMap<ConversationKey, u64>,
    /// Each send's first answer: its place and its content.
    sent: BTreeMap<(UserKey, ClientId), Place>,
    /// Sends that were rejected for good at their first attempt.
    refused: BTreeSet<(UserKey, ClientId)>,
    /// Which users got which entry live.
    delivered: BTreeSet<(ConversationKey, Seq, UserId)>,
    /// Users who got access without knowing of a membership.
    admitted: Vec<(UserKey, ConversationKey)>,
    /// Reads that were answered.
    read: BTreeMap<(ConversationKey, UserId), u64>,
    push: push::Push,
    /// The furthest attempted read.
    read_tried: BTreeMap<(ConversationKey, UserId), u64>,
    asked: Vec<Asked>,
    rows: Vec<SyncRow>,
    violations: Vec<String>,
    trace: DefaultHasher,
    counts: Counts,
    /// Until this time nodes may disagree about who is alive.
    split_until_ms: u64,
    verbose: bool,
}

pub(crate) struct Oracle {
    clock: Clock,
    inner: Mutex<Inner>,
}

impl Oracle {
    pub(crate) fn new(clock: Clock) -> Self {
        let verbose = std::env::var_os("SWITCHBOARD_SIM_TRACE").is_some();
        Self { clock, inner: Mutex::new(Inner { verbose, ..Inner::default() }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.monotonic_ms()
    }

    /// One line of the run: two runs of one seed have the same lines.
    pub(crate) fn trace(&self, line: fmt::Arguments<'_>) {
        let now_ms = self.now_ms();
        let mut inner = self.inner();
        let line = format!("{now_ms} {line}");
        line.hash(&mut inner.trace);
        if inner.verbose {
            eprintln!("{line}");
        }
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.inner().trace.finish()
    }

    pub(crate) fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.inner().counts);
    }

    pub(crate) fn counts(&self) -> Counts {
        self.inner().counts
    }

    pub(crate) fn violated(&self, what: impl fmt::Display) {
        self.trace(format_args!("VIOLATION {what}"));
        let violation = format!("at {} ms: {what}", self.now_ms());
        self.inner().violations.push(violation);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }

    /// Nodes disagree about who is alive: a node that others take for dead may miss announcements until it is in their
    /// view again. Until then its `sync` may be stale.
    pub(crate) fn split_until(&self, until_ms: u64) {
        let mut inner = self.inner();
        inner.split_until_ms = inner.split_until_ms.max(until_ms);
    }

    fn is_split(inner: &Inner, now_ms: u64) -> bool {
        now_ms < inner.split_until_ms
    }

    // What happens

    /// The store answered `Durable`.
    pub(crate) fn durable(&self, key: &ConversationKey, entries: &[Entry]) {
        let mut differing = Vec::new();
        {
            let mut inner = self.inner();
            for entry in entries {
                inner.counts.entries += 1;
                let before = inner.durable.insert((key.clone(), entry.seq), entry.json.clone());
                if before.is_some_and(|before| before != entry.json) {
                    differing.push(entry.seq);
                }
            }
        }
        for seq in differing {
            self.violated(format!("two entries were durable at {seq} of {key:?}"));
        }
    }

    /// A socket was given an entry.
    pub(crate) fn delivered(&self, user: &UserKey, frame: &EntryFrame, json: &Bytes) {
        let key = ConversationKey { tenant: user.tenant.clone(), conversation: conversation_of(frame).clone() };
        let known = {
            let mut inner = self.inner();
            inner.counts.delivered += 1;
            inner.delivered.insert((key.clone(), frame.seq(), user.user.clone()));
            inner.durable.get(&(key.clone(), frame.seq())).map(|durable| durable == json)
        };
        match known {
            Some(true) => {}
            Some(false) => self.violated(format!("{user:?} was given another {} of {key:?}", frame.seq())),
            None => self.violated(format!("{user:?} was given {} of {key:?} before it was durable", frame.seq())),
        }
    }

    /// A send was answered.
    pub(crate) fn sent(&self, user: &UserKey, sent: &Sent, content: &str) {
        let key = ConversationKey { tenant: user.tenant.clone(), conversation: sent.conversation_id.clone() };
        self.answered(&key, sent.seq.get());
        let name = (user.clone(), sent.client_id.clone());
        let first = {
            let mut inner = self.inner();
            inner.counts.sent += 1;
            if sent.duplicate {
                inner.counts.repeated += 1;
            }
            inner.sent.entry(name.clone()).or_insert((key.clone(), sent.seq, content.to_owned())).clone()
        };
        if (first.0, first.1) != (key, sent.seq) {
            self.violated(format!("{name:?} was answered with {} and then with {}", first.1, sent.seq));
        }
    }

    /// An entry up to here was answered with `sent` or `ok`.
    pub(crate) fn answered(&self, key: &ConversationKey, seq: u64) {
        let mut inner = self.inner();
        let answered = inner.answered.entry(key.clone()).or_default();
        *answered = (*answered).max(seq);
    }

    /// A send's first attempt was rejected for good.
    pub(crate) fn refused(&self, user: &UserKey, client_id: &ClientId) {
        self.inner().refused.insert((user.clone(), client_id.clone()));
    }

    /// A user who knew of no membership got an answer.
    pub(crate) fn admitted(&self, user: &UserKey, key: &ConversationKey) {
        self.inner().admitted.push((user.clone(), key.clone()));
    }

    pub(crate) fn read_tried(&self, key: &ConversationKey, user: &UserId, seq: u64) {
        let mut inner = self.inner();
        let read = inner.read_tried.entry((key.clone(), user.clone())).or_default();
        *read = (*read).max(seq);
    }

    pub(crate) fn read(&self, key: &ConversationKey, user: &UserId, seq: u64) {
        let mut inner = self.inner();
        let read = inner.read.entry((key.clone(), user.clone())).or_default();
        *read = (*read).max(seq);
    }

    /// How much of each conversation has been answered: any later answer must include it.
    pub(crate) fn answered_by_now(&self) -> BTreeMap<ConversationKey, u64> {
        self.inner().answered.clone()
    }

    /// The cursors that any later `sync` must show.
    pub(crate) fn read_by_now(&self) -> BTreeMap<(ConversationKey, UserId), u64> {
        self.inner().read.clone()
    }

    /// A user was told a conversation's end.
    pub(crate) fn told(
        &self,
        what: &'static str,
        user: &UserKey,
        key: &ConversationKey,
        before: u64,
        told: Option<u64>,
    ) {
        let at_ms = self.now_ms();
        let mut inner = self.inner();
        if !(Self::is_split(&inner, at_ms) && what == "sync") {
            let (user, key) = (user.clone(), key.clone());
            inner.asked.push(Asked { what, user, key, answered_before: before, told, at_ms });
        }
    }

    /// A user got an inbox row.
    pub(crate) fn synced(&self, user: &UserKey, row: SyncConversation, read_before: u64) {
        let at_ms = self.now_ms();
        let mut inner = self.inner();
        let key =
            ConversationKey { tenant: user.tenant.clone(), conversation: row.conversation.conversation_id.clone() };
        let read_before = if Self::is_split(&inner, at_ms) { 0 } else { read_before };
        inner.rows.push(SyncRow { user: user.clone(), key, row, read_before, at_ms });
    }

    // The judgement

    /// The known conversations.
    pub(crate) fn conversations(&self) -> BTreeSet<ConversationKey> {
        let inner = self.inner();
        let with_entries = inner.durable.keys().map(|(key, _)| key.clone());
        let told_of = inner.rows.iter().map(|row| row.key.clone());
        with_entries.chain(told_of).collect()
    }

    /// Compares everything that was said with the logs.
    pub(crate) fn judge(&self, truths: &BTreeMap<ConversationKey, Truth>) {
        let mut found = Vec::new();
        {
            let inner = self.inner();
            found.extend(judge_durable(&inner, truths));
            found.extend(judge_sends(&inner, truths));
            found.extend(judge_deliveries(&inner, truths));
            found.extend(judge_intruders(&inner, truths));
            found.extend(inner.asked.iter().filter_map(|asked| judge_asked(asked, truths)));
            found.extend(inner.rows.iter().filter_map(|row| judge_row(&inner, row, truths)));
        }
        found.into_iter().for_each(|what| self.violated(what));
    }
}

/// What was durable once is in the log, unchanged.
fn judge_durable(inner: &Inner, truths: &BTreeMap<ConversationKey, Truth>) -> Vec<String> {
    let lost = inner.durable.iter().filter(|((key, seq), json)| truths[key].json(*seq) != Some(*json));
    lost.map(|((key, seq), _)| format!("the durable entry {seq} of {key:?} is not in the log")).collect()
}

/// What was answered with `sent` is in the log once, in its place; what was rejected is not.
fn judge_sends(inner: &Inner, truths: &BTreeMap<ConversationKey, Truth>) -> Vec<String> {
    let mut found = Vec::new();
    let mut places: BTreeMap<(UserKey, ClientId), Vec<Place>> = BTreeMap::new();
    for (key, truth) in truths {
        for message in truth.sends() {
            let sender = UserKey { tenant: key.tenant.clone(), user: message.from.clone() };
            let place = (key.clone(), message.seq, message.content.as_str().to_owned());
            places.entry((sender, message.client_id.clone())).or_default().push(place);
        }
    }
    for (name, places) in &places {
        if places.len() > 1 {
            found.push(format!("{name:?} is in the log {} times: {places:?}", places.len()));
        }
        if inner.refused.contains(name) {
            found.push(format!("{name:?} was refused and is in the log"));
        }
    }
    for (name, sent) in &inner.sent {
        if places.get(name).and_then(|places| places.first()) != Some(sent) {
            found.push(format!("{name:?} was answered with {sent:?}, but the log has {:?}", places.get(name)));
        }
    }
    found
}

/// Only members got entries, and users concerned by them.
fn judge_deliveries(inner: &Inner, truths: &BTreeMap<ConversationKey, Truth>) -> Vec<String> {
    let strange = inner.delivered.iter().filter(|(key, seq, user)| {
        let truth = &truths[key];
        !truth.is_member(user, *seq) && !truth.is_member(user, Seq::new(seq.get().saturating_sub(1)))
    });
    strange.map(|(key, seq, user)| format!("{user:?}, no member, was given {seq} of {key:?}")).collect()
}

/// Only members get access, and write.
fn judge_intruders(inner: &Inner, truths: &BTreeMap<ConversationKey, Truth>) -> Vec<String> {
    let mut found = Vec::new();
    for (user, key) in &inner.admitted {
        if truths.get(key).is_none_or(|truth| !truth.was_member(&user.user, truth.end())) {
            found.push(format!("{user:?} got into {key:?}"));
        }
    }
    for (key, truth) in truths {
        let strangers = truth.sends().filter(|message| !truth.is_member(&message.from, message.seq));
        found.extend(strangers.map(|message| format!("{}, no member, wrote {} of {key:?}", message.from, message.seq)));
    }
    found
}

/// What was answered before is in every member's next answer.
fn judge_asked(asked: &Asked, truths: &BTreeMap<ConversationKey, Truth>) -> Option<String> {
    let Asked { what, user, key, answered_before, told, at_ms } = asked;
    let truth = &truths[key];
    let before = Seq::new(*answered_before);
    // A user who joined or left meanwhile may get either answer.
    let stayed = *answered_before > 0 && truth.is_member(&user.user, before) && !truth.leaves_after(&user.user, before);
    let end = truth.end().get();
    match told {
        Some(told) if *told > end => Some(format!("at {at_ms} ms: {what} told {user:?} {told} of {key:?} with {end}")),
        Some(told) if stayed && told < answered_before => Some(format!(
            "at {at_ms} ms: {what} told {user:?} {told} of {key:?}, {answered_before} was answered before"
        )),
        None if stayed => Some(format!("at {at_ms} ms: {what} told {user:?} that there is no {key:?}")),
        _ => None,
    }
}

/// Counts are never estimates.
fn judge_row(inner: &Inner, row: &SyncRow, truths: &BTreeMap<ConversationKey, Truth>) -> Option<String> {
    let SyncRow { user, key, row, read_before, at_ms } = row;
    let truth = &truths[key];
    let (told, state) = (&row.conversation, &row.state);
    let wrong = |what: String| Some(format!("at {at_ms} ms: sync told {user:?} of {key:?} {what}: {row:?}"));
    if state.removed {
        let late = told.last_seq > truth.last_removal(&user.user);
        return if late { wrong("what came after his removal".to_owned()) } else { None };
    }
    if !truth.was_member(&user.user, told.last_seq) {
        return wrong("though he is no member".to_owned());
    }
    let unread = truth.messages_between(told.read_seq, told.last_seq);
    if told.unread != unread {
        return wrong(format!("unread {}, not {unread}", told.unread));
    }
    let mentioned = truth.mentioned(&user.user, told.last_seq);
    if state.mentioned_seq > mentioned {
        return wrong(format!("mentioned {}, not {mentioned}", state.mentioned_seq));
    }
    if told.read_seq.get() < *read_before {
        return wrong(format!("read {}, {read_before} was answered before", told.read_seq));
    }
    let tried = inner.read_tried.get(&(key.clone(), user.user.clone())).copied().unwrap_or(0);
    let own = truth.own_read(&user.user).get();
    if told.read_seq.get() > tried.max(own) {
        return wrong(format!("read {}, {} was read", told.read_seq, tried.max(own)));
    }
    None
}

pub(crate) fn conversation_of(frame: &EntryFrame) -> &switchboard_protocol::ConversationId {
    match frame {
        EntryFrame::Message(entry) => &entry.conversation_id,
        EntryFrame::MessageUpdated(entry) => &entry.conversation_id,
        EntryFrame::Reaction(entry) => &entry.conversation_id,
        EntryFrame::Membership(entry) => &entry.conversation_id,
        EntryFrame::ConversationUpdated(entry) => &entry.conversation_id,
    }
}
