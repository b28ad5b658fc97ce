//! The topics on this node: those that it owns, and copies of others in case their owner dies.

use super::memory::Memory;
use super::{TopicKey, watched_frame};
use crate::envelope::Outgoing;
use crate::node::lock;
use crate::options::Options;
use crate::view::Placement;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use switchboard_protocol::Window;
use switchboard_store::Incarnation;
use switchboard_topics::{Counter, Part, Topic, TopicLimits};

/// The size of a topic without its windows.
const BASE_BYTES: usize = size_of::<TopicKey>() + size_of::<Arc<Mutex<Held>>>() + size_of::<Mutex<Held>>();

/// A topic, or a copy of one, on this node.
pub(crate) struct Held {
    pub(super) topic: Topic,
    /// The watching nodes: of the 1 s windows, and of the 1 min windows.
    pub(super) watchers: [BTreeSet<Incarnation>; 2],
    /// The node that sends this one the topic; `None` if this node leads the topic: what was counted here may exist
    /// nowhere else.
    pub(super) told_by: Option<Incarnation>,
    /// The copy that this node keeps up to date.
    pub(super) copy: Option<Copy>,
    /// Whether counts of other nodes have arrived that watchers have not been sent: since the last tick, or before it.
    pub(super) absorbed: Absorbed,
    /// It is no longer in the table, so its holder must look it up again.
    is_gone: bool,
    /// The bytes that the memory counts for it.
    bytes: usize,
}

/// A topic's copy on another node.
pub(super) struct Copy {
    pub(super) at: Incarnation,
    /// The node has everything from before; later changes are sent at each tick.
    pub(super) is_whole: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Absorbed {
    Nothing,
    BeforeLastTick,
    Lately,
}

/// A topic's changes since the last tick, by recipient.
#[derive(Default)]
pub(super) struct TickChanges {
    pub(super) updates: Vec<Update>,
    /// For the node that keeps a copy.
    pub(super) copy: Option<(Incarnation, Content)>,
    /// Nodes whose watchers must get a new state.
    pub(super) anew: Vec<(Incarnation, Window)>,
}

/// An update on its way to a node.
pub(super) struct Update {
    pub(super) to: Incarnation,
    pub(super) window: Window,
    pub(super) version: u64,
    pub(super) frame: Outgoing,
}

/// Windows on their way to another node, with the versions of [`Window::ALL`] that they belong to.
pub(super) struct Content {
    pub(super) versions: [u64; 2],
    pub(super) parts: Vec<Part>,
}

impl Held {
    pub(super) fn new(counter: Counter, limits: TopicLimits, now_ms: i64) -> Self {
        Self {
            topic: Topic::new(counter, limits, now_ms),
            watchers: Default::default(),
            told_by: None,
            copy: None,
            absorbed: Absorbed::Nothing,
            is_gone: false,
            bytes: 0,
        }
    }

    pub(super) fn told_by(self, told_by: Option<Incarnation>) -> Self {
        Self { told_by, ..self }
    }

    pub(super) fn watchers(&mut self, window: Window) -> &mut BTreeSet<Incarnation> {
        let [seconds, minutes] = &mut self.watchers;
        match window {
            Window::Second => seconds,
            Window::Minute => minutes,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.topic.is_empty() && self.watchers.iter().all(BTreeSet::is_empty)
    }

    /// Takes what has changed since the last tick, for the owner to send.
    pub(super) fn take_changes(&mut self, key: &TopicKey, now_ms: i64) -> TickChanges {
        let mut tick = TickChanges { anew: self.anew(), ..TickChanges::default() };
        let mut parts = Vec::new();
        for window in Window::ALL {
            if self.watchers(window).is_empty() && self.copy.is_none() {
                self.topic.skip_changes(window);
                continue;
            }
            let Some(mut changes) = self.topic.take_changes(window, now_ms) else { continue };
            let own = std::mem::take(&mut changes.own.series);
            if self.copy.is_some() && !own.is_empty() {
                parts.push(Part { counter: changes.own.counter, window, series: own });
            }
            if self.watchers(window).is_empty() {
                continue;
            }
            let version = changes.version;
            let frame = watched_frame(key, window, &changes.of(key.topic.clone()));
            let to_each = |to: &Incarnation| Update { to: to.clone(), window, version, frame: frame.clone() };
            tick.updates.extend(self.watchers(window).iter().map(to_each));
        }
        if let Some(copy) = self.copy.as_ref().filter(|_| !parts.is_empty()) {
            tick.copy = Some((copy.at.clone(), Content { versions: self.versions(), parts }));
        }
        tick
    }

    /// The nodes whose watchers must get a new state, because counts of other nodes have come and no more of them do.
    fn anew(&mut self) -> Vec<(Incarnation, Window)> {
        let is_all = self.absorbed == Absorbed::BeforeLastTick;
        self.absorbed = if self.absorbed == Absorbed::Lately { Absorbed::BeforeLastTick } else { Absorbed::Nothing };
        if !is_all {
            return Vec::new();
        }
        let of = |window: Window| self.watchers[window as usize].iter().map(move |watcher| (watcher.clone(), window));
        Window::ALL.into_iter().flat_map(of).collect()
    }

    /// The changes since the owner's last tick, as its last ones.
    pub(super) fn last_changes(&mut self, now_ms: i64) -> Content {
        let changes = Window::ALL.map(|window| self.topic.take_changes(window, now_ms));
        let parts = changes.into_iter().flatten().map(|changes| changes.own).filter(|own| !own.series.is_empty());
        Content { parts: parts.collect(), versions: self.versions() }
    }

    pub(super) fn versions(&self) -> [u64; 2] {
        Window::ALL.map(|window| self.topic.version(window))
    }

    /// Takes counts of another node. Whether any was new.
    pub(super) fn absorb(&mut self, content: Content, now_ms: i64) -> bool {
        for (window, version) in Window::ALL.into_iter().zip(content.versions) {
            self.topic.raise_version(window, version);
        }
        self.topic.absorb(content.parts, now_ms)
    }

    /// The node that must be sent everything here that it may not have: the owner, or the owner's heir. A node that
    /// counts no more sends the last of it in any case.
    pub(super) fn copy_due(
        &self,
        key: &TopicKey,
        placement: &Placement,
        me: &Incarnation,
        is_closed: bool,
    ) -> Option<Incarnation> {
        let to = if self.told_by.is_none() { copy_at(key, placement, me)? } else { return None };
        let is_told = self.copy.as_ref().is_some_and(|copy| copy.at == to && copy.is_whole);
        let leaves = is_closed || placement.topic_owner(key).incarnation == to;
        (leaves || !is_told).then_some(to)
    }
}

/// The other node for a topic of this one: its owner, or, on the owner, its heir.
pub(super) fn copy_at(key: &TopicKey, placement: &Placement, me: &Incarnation) -> Option<Incarnation> {
    let owner = &placement.topic_owner(key).incarnation;
    let at = if owner == me { &placement.topic_heir(key)?.incarnation } else { owner };
    Some(at.clone())
}

pub(super) fn limits(options: &Options) -> TopicLimits {
    TopicLimits { lateness_ms: options.topics_lateness_ms, series_max: options.topics_series_max }
}

/// The table of topics.
#[derive(Default)]
pub(crate) struct Table {
    topics: Mutex<BTreeMap<TopicKey, Arc<Mutex<Held>>>>,
    pub(super) memory: Memory,
}

impl Table {
    /// Runs `work` on a topic, which is made if needed.
    pub(super) fn at<T>(&self, key: &TopicKey, new: impl Fn() -> Held, work: impl FnOnce(&mut Held) -> T) -> T {
        loop {
            let held = lock(&self.topics).entry(key.clone()).or_insert_with(|| Arc::new(Mutex::new(new()))).clone();
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            if !held.is_gone {
                return self.work(key, &mut held, work);
            }
        }
    }

    /// Runs `work` on a topic, if it is here.
    pub(super) fn if_there<T>(&self, key: &TopicKey, work: impl FnOnce(&mut Held) -> T) -> Option<T> {
        let held = lock(&self.topics).get(key).cloned()?;
        let mut held = lock(&held);
        (!held.is_gone).then(|| self.work(key, &mut held, work))
    }

    /// Runs `work` on each topic, one after the other.
    pub(super) fn each(&self, mut work: impl FnMut(&TopicKey, &mut Held)) {
        for key in self.keys() {
            self.if_there(&key, |held| work(&key, held));
        }
    }

    fn work<T>(&self, key: &TopicKey, held: &mut Held, work: impl FnOnce(&mut Held) -> T) -> T {
        let result = work(held);
        let bytes = BASE_BYTES + held.topic.bytes();
        self.memory.note(key, std::mem::replace(&mut held.bytes, bytes), bytes);
        result
    }

    pub(super) fn has(&self, key: &TopicKey) -> bool {
        lock(&self.topics).contains_key(key)
    }

    pub(super) fn keys(&self) -> Vec<TopicKey> {
        lock(&self.topics).keys().cloned().collect()
    }

    /// Removes a topic from the table if that is still wanted once its lock is held. The table's lock is taken inside
    /// the topic's; nobody takes them in the other order.
    pub(super) fn remove_if(&self, key: &TopicKey, is_wanted: impl FnOnce(&Held) -> bool) {
        let Some(held) = lock(&self.topics).get(key).cloned() else { return };
        let mut held = lock(&held);
        if !held.is_gone && is_wanted(&held) {
            held.is_gone = true;
            self.memory.note(key, held.bytes, 0);
            lock(&self.topics).remove(key);
        }
    }

    /// Takes all topics of a former life over. Its watchers register again.
    pub(super) fn adopt(&self, former: &Self) {
        std::mem::swap(&mut *lock(&self.topics), &mut *lock(&former.topics));
        self.memory.swap(&former.memory);
        self.each(|_, held| (held.watchers, held.copy) = (Default::default(), None));
    }
}
