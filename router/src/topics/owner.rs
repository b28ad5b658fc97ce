//! The owner's side of topics: batches are counted, nodes with watchers are told of changes at each tick.

use super::{TopicKey, Topics, points, watched_frame};
use crate::api::Answer;
use crate::envelope::{Envelope, Outgoing};
use crate::figures::count;
use crate::node::{Node, lock};
use crate::options::Options;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use switchboard_protocol::server::{OkFrame, TopicState};
use switchboard_protocol::{Event, ProtocolError, ServerFrame, Window};
use switchboard_store::Incarnation;
use switchboard_topics::{PublishError, Topic, TopicLimits};

/// Windows in one `topic_state`, at most: of more, the oldest are left out. So it has room in a session's queue.
const STATE_POINTS_MAX: usize = 8_192;

/// A topic that this node owns.
pub(crate) struct Owned {
    topic: Topic,
    /// Nodes whose sessions watch: the windows of a second, of a minute.
    watchers: [BTreeSet<Incarnation>; 2],
    /// It is in the table no more: who still holds it looks again.
    is_gone: bool,
}

/// An update on its way to a node.
struct Told {
    to: Incarnation,
    window: Window,
    version: u64,
    frame: Outgoing,
}

impl Owned {
    fn new(limits: TopicLimits, now_ms: i64) -> Self {
        Self { topic: Topic::new(limits, now_ms), watchers: Default::default(), is_gone: false }
    }

    fn watchers(&mut self, window: Window) -> &mut BTreeSet<Incarnation> {
        let [seconds, minutes] = &mut self.watchers;
        match window {
            Window::Second => seconds,
            Window::Minute => minutes,
        }
    }

    fn is_idle(&self) -> bool {
        self.topic.is_empty() && self.watchers.iter().all(BTreeSet::is_empty)
    }

    /// The newest windows of the range.
    fn state(&mut self, key: &TopicKey, window: Window, mut range_s: u32, now_ms: i64) -> TopicState {
        loop {
            let state = self.topic.state(key.topic.clone(), window, range_s, now_ms);
            if points(&state.series) <= STATE_POINTS_MAX || range_s == 1 {
                return state;
            }
            range_s /= 2;
        }
    }

    /// What there is to tell since the last tick.
    fn tell(&mut self, key: &TopicKey, now_ms: i64) -> Vec<Told> {
        let mut told = Vec::new();
        for window in Window::ALL {
            if self.watchers(window).is_empty() {
                self.topic.skip_changes(window);
                continue;
            }
            let Some(changes) = self.topic.take_changes(window, now_ms) else { continue };
            let version = changes.version;
            let frame = watched_frame(key, window, &changes.of(key.topic.clone()));
            let to_each = |to: &Incarnation| Told { to: to.clone(), window, version, frame: frame.clone() };
            told.extend(self.watchers(window).iter().map(to_each));
        }
        told
    }
}

impl Topics {
    /// Works on a topic, making it if need be.
    fn at<T>(&self, key: &TopicKey, new: impl Fn() -> Owned, work: impl FnOnce(&mut Owned) -> T) -> T {
        loop {
            let owned = lock(&self.owned).entry(key.clone()).or_insert_with(|| Arc::new(Mutex::new(new()))).clone();
            let mut owned = owned.lock().unwrap_or_else(PoisonError::into_inner);
            if !owned.is_gone {
                return work(&mut owned);
            }
        }
    }

    /// Works on a topic if there is something of it.
    fn if_there<T>(&self, key: &TopicKey, work: impl FnOnce(&mut Owned) -> T) -> Option<T> {
        let owned = lock(&self.owned).get(key).cloned()?;
        let mut owned = lock(&owned);
        (!owned.is_gone).then(|| work(&mut owned))
    }

    fn all(&self) -> Vec<(TopicKey, Arc<Mutex<Owned>>)> {
        lock(&self.owned).iter().map(|(key, owned)| (key.clone(), owned.clone())).collect()
    }

    /// Takes a topic out of the table. Its lock is held, the table's is taken: nobody does it the other way round.
    fn remove(&self, key: &TopicKey, owned: &mut Owned) {
        owned.is_gone = true;
        lock(&self.owned).remove(key);
    }
}

impl Node {
    /// Counts a batch, whole or not at all.
    ///
    /// # Errors
    /// What the client is to be told. `unavailable` if another node owns the topic, `overloaded` if topics take too much
    /// memory.
    pub(crate) fn topic_publish_here(&self, key: &TopicKey, events: Vec<Event>) -> Result<Answer, ProtocolError> {
        self.check_owns(key)?;
        let options = self.options();
        if self.topics.bytes.load(Ordering::Relaxed) >= options.topics_memory_bytes {
            self.topics.figures.overloaded.increment(1);
            return Err(self.overloaded());
        }
        let now_ms = self.clock.wall_ms();
        let limits = limits(&options);
        let refused = events.len() as u64;
        let published = self.topics.at(
            key,
            || Owned::new(limits, now_ms),
            |owned| {
                owned.topic.set_limits(limits);
                owned.topic.publish(events, now_ms)
            },
        );
        match published {
            Ok(published) => {
                self.topics.figures.accepted.increment(published.accepted.into());
                self.topics.figures.late.increment(published.late.into());
                let (accepted, late) = (Some(published.accepted), Some(published.late));
                Ok(Answer::Frame(ServerFrame::Ok(OkFrame { accepted, late, ..OkFrame::default() })))
            }
            Err(error) => {
                match error {
                    PublishError::Ahead { .. } => self.topics.figures.ahead.increment(refused),
                    PublishError::TooManySeries { .. } => self.topics.figures.no_series.increment(refused),
                }
                Err(error.into())
            }
        }
    }

    /// All windows of a range. `watcher` is told of changes from now on.
    ///
    /// # Errors
    /// `unavailable` if another node owns the topic.
    pub(crate) fn topic_state_here(
        &self,
        key: &TopicKey,
        window: Window,
        range_s: u32,
        watcher: Option<&Incarnation>,
    ) -> Result<TopicState, ProtocolError> {
        self.check_owns(key)?;
        let (now_ms, limits) = (self.clock.wall_ms(), limits(&self.options()));
        let new = || Owned::new(limits, now_ms);
        let state = match watcher {
            Some(watcher) => self.topics.at(key, new, |owned| {
                owned.watchers(window).insert(watcher.clone());
                owned.state(key, window, range_s, now_ms)
            }),
            // To ask for what is not there leaves nothing behind.
            None => match self.topics.if_there(key, |owned| owned.state(key, window, range_s, now_ms)) {
                Some(state) => state,
                None => new().state(key, window, range_s, now_ms),
            },
        };
        Ok(state)
    }

    /// A view that has just changed may not be everyone's yet: then it is asked again.
    fn check_owns(&self, key: &TopicKey) -> Result<(), ProtocolError> {
        let owns = self.placement().topic_owner(key).incarnation == self.me;
        if owns { Ok(()) } else { Err(self.unavailable()) }
    }

    /// No session of that node watches any more.
    pub(crate) fn on_topic_unwatch(&self, from: &Incarnation, key: &TopicKey, window: Window) {
        self.topics.if_there(key, |owned| owned.watchers(window).remove(from));
    }

    /// What a node watched is void: it has gone, or will say anew what it watches.
    pub(crate) fn on_topic_watcher_gone(&self, node: &Incarnation) {
        for (_, owned) in self.topics.all() {
            lock(&owned).watchers.iter_mut().for_each(|watchers| {
                watchers.remove(node);
            });
        }
    }

    /// Lets go of topics that another node owns now. It begins them empty.
    pub(crate) fn leave_topics(&self) {
        for (key, owned) in self.topics.all() {
            if self.check_owns(&key).is_err() {
                self.topics.remove(&key, &mut lock(&owned));
            }
        }
    }

    /// Tells watching nodes what has changed, each once per topic and window, and forgets topics of which nothing is left.
    pub(crate) fn tick_topics(&self, now_ms: u64) {
        let options = self.options();
        if now_ms < self.topics.next_tick_ms.load(Ordering::Relaxed) {
            return;
        }
        self.topics.next_tick_ms.store(now_ms + options.topics_update_ms, Ordering::Relaxed);
        let (wall_ms, limits) = (self.clock.wall_ms(), limits(&options));
        let (mut bytes, all) = (0, self.topics.all());
        self.topics.figures.active.set(count(all.len()));
        for (key, owned) in all {
            let mut owned = lock(&owned);
            owned.topic.set_limits(limits);
            owned.topic.advance(wall_ms);
            let told = owned.tell(&key, wall_ms);
            bytes += owned.topic.bytes();
            if owned.is_idle() {
                self.topics.remove(&key, &mut owned);
            }
            drop(owned);
            told.into_iter().for_each(|told| self.tell_topic(&key, told));
        }
        self.topics.bytes.store(bytes, Ordering::Relaxed);
        self.topics.figures.bytes.set(count(bytes));
        self.tell_topics_pending();
    }

    fn tell_topic(&self, key: &TopicKey, told: Told) {
        let Told { to, window, version, frame } = told;
        self.topics.figures.updates.increment(1);
        if to == self.me {
            self.on_topic_update(&to, key, window, version, &frame);
        } else {
            self.links.send(&to, Envelope::TopicUpdate { topic: key.clone(), window, version, frame });
        }
    }
}

fn limits(options: &Options) -> TopicLimits {
    TopicLimits { lateness_ms: options.topics_lateness_ms, series_max: options.topics_series_max }
}
