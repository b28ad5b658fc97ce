//! The owner's side of topics: counts batches, and sends the changes to the watching nodes at each tick.

use super::TopicKey;
use super::held::{Content, Held, TickChanges, Update, limits};
use crate::api::Answer;
use crate::envelope::Envelope;
use crate::figures::count;
use crate::node::Node;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use switchboard_protocol::client::TopicWatch;
use switchboard_protocol::server::{OkFrame, TopicState};
use switchboard_protocol::{Event, ProtocolError, ServerFrame, Window};
use switchboard_store::Incarnation;
use switchboard_topics::{Counter, PublishError};

impl Node {
    /// Counts a batch, as a whole or not at all.
    ///
    /// # Errors
    /// The error for the client. `unavailable` if another node owns the topic, `overloaded` if topics, or those of this
    /// tenant, take too much memory.
    pub(crate) fn topic_publish_here(&self, key: &TopicKey, events: Vec<Event>) -> Result<Answer, ProtocolError> {
        self.check_owns(key)?;
        self.check_topic_room(key)?;
        let (now_ms, limits, refused) = (self.clock.wall_ms(), limits(&self.options()), events.len() as u64);
        let published = self.topics.held.at(
            key,
            || self.new_held(now_ms),
            |held| {
                // Checked again under the lock: nothing may be counted here after the last changes were taken for the
                // next owner.
                self.check_owns(key)?;
                held.topic.set_limits(limits);
                Ok::<_, ProtocolError>(held.topic.publish(events, now_ms))
            },
        )?;
        let figures = &self.topics.figures;
        match published {
            Ok(published) => {
                figures.accepted.increment(published.accepted.into());
                figures.late.increment(published.late.into());
                let (accepted, late) = (Some(published.accepted), Some(published.late));
                Ok(Answer::Frame(ServerFrame::Ok(OkFrame { accepted, late, ..OkFrame::default() })))
            }
            Err(error) => {
                match error {
                    PublishError::Ahead { .. } => figures.ahead.increment(refused),
                    PublishError::TooManySeries { .. } => figures.no_series.increment(refused),
                }
                Err(error.into())
            }
        }
    }

    /// The requested windows. `watcher` gets the changes from now on.
    ///
    /// # Errors
    /// `unavailable` if another node owns the topic, `overloaded` if there is nothing of it yet and no memory to watch it.
    pub(crate) fn topic_state_here(
        &self,
        key: &TopicKey,
        watch: &TopicWatch,
        watcher: Option<&Incarnation>,
    ) -> Result<TopicState, ProtocolError> {
        self.check_owns(key)?;
        let now_ms = self.clock.wall_ms();
        let Some(watcher) = watcher else {
            // Reading an unknown topic creates nothing.
            let state = self.topics.held.if_there(key, |held| held.topic.state(watch, now_ms));
            return Ok(state.unwrap_or_else(|| self.new_held(now_ms).topic.state(watch, now_ms)));
        };
        if !self.topics.held.has(key) {
            self.check_topic_room(key)?;
        }
        let watched = |held: &mut Held| {
            held.watchers(watch.window).insert(watcher.clone());
            held.topic.state(watch, now_ms)
        };
        Ok(self.topics.held.at(key, || self.new_held(now_ms), watched))
    }

    /// Not every node may have a new view yet: then the caller asks again.
    fn check_owns(&self, key: &TopicKey) -> Result<(), ProtocolError> {
        if self.counts_topic(key) { Ok(()) } else { Err(self.unavailable()) }
    }

    /// Whether the topic's events are counted here.
    pub(super) fn counts_topic(&self, key: &TopicKey) -> bool {
        self.owns_topic(key) && !self.topics.is_closed()
    }

    pub(super) fn owns_topic(&self, key: &TopicKey) -> bool {
        self.placement().topic_owner(key).incarnation == self.me
    }

    fn check_topic_room(&self, key: &TopicKey) -> Result<(), ProtocolError> {
        if self.topics.held.memory.has_room(key, &self.options()) {
            return Ok(());
        }
        self.topics.figures.overloaded.increment(1);
        Err(self.overloaded())
    }

    pub(super) fn new_held(&self, now_ms: i64) -> Held {
        Held::new(Counter(self.generator.u64()), limits(&self.options()), now_ms)
    }

    /// No session of that node watches any more.
    pub(crate) fn on_topic_unwatch(&self, from: &Incarnation, key: &TopicKey, window: Window) {
        self.topics.held.if_there(key, |held| held.watchers(window).remove(from));
    }

    /// A node's watches are void: it is dead, or registers them again.
    pub(crate) fn on_topic_watcher_gone(&self, node: &Incarnation) {
        self.topics.held.each(|_, held| {
            held.watchers.iter_mut().for_each(|watchers| {
                watchers.remove(node);
            });
        });
    }

    /// Sends the changes to watching nodes, once per topic and window, and to the copy; drops topics that are empty.
    pub(crate) fn tick_topics(self: &Arc<Self>, now_ms: u64) {
        let options = self.options();
        if now_ms < self.topics.next_tick_ms.load(Ordering::Relaxed) {
            return;
        }
        self.topics.next_tick_ms.store(now_ms + options.topics_update_ms, Ordering::Relaxed);
        let (wall_ms, limits) = (self.clock.wall_ms(), limits(&options));
        let (mut owned, mut copies) = (0, 0);
        for key in self.topics.held.keys() {
            let owns = self.owns_topic(&key);
            *(if owns { &mut owned } else { &mut copies }) += 1;
            let changes = self.topics.held.if_there(&key, |held| {
                held.topic.set_limits(limits);
                held.topic.advance(wall_ms);
                if owns { held.take_changes(&key, wall_ms) } else { TickChanges::default() }
            });
            self.send_changes(&key, changes.unwrap_or_default());
            self.topics.held.remove_if(&key, Held::is_idle);
        }
        self.topics.figures.active.set(count(owned));
        self.topics.figures.copies.set(count(copies));
        self.topics.figures.bytes.set(count(self.topics.held.memory.bytes()));
        self.tell_topics_pending();
    }

    fn send_changes(self: &Arc<Self>, key: &TopicKey, changes: TickChanges) {
        self.topics.figures.updates.increment(changes.updates.len() as u64);
        for Update { to, window, version, frame } in changes.updates {
            if to == self.me {
                self.on_topic_update(&to, key, window, version, &frame);
            } else {
                self.links.send(&to, Envelope::TopicUpdate { topic: key.clone(), window, version, frame });
            }
        }
        if let Some((to, Content { versions, parts })) = changes.copy {
            self.links.send(&to, Envelope::TopicChanges { topic: key.clone(), versions, parts });
        }
        for (to, window) in changes.anew {
            if to == self.me {
                self.on_topic_anew(&to, key, window);
            } else {
                self.links.send(&to, Envelope::TopicAnew { topic: key.clone(), window });
            }
        }
    }
}
