//! Copies of topics, so that they outlive their owner: each topic has a copy on its heir, the node that becomes its
//! owner if this one dies. If the ring moves a topic, it is transferred whole to the new owner.
//!
//! The node that has counted events sends them: first everything, piece by piece, each acknowledged before the next one
//! leaves, then the changes with each tick. A copy counts data once however often it is sent
//! (`switchboard_topics::Part`), so nodes whose views differ for a while cost only traffic. A copy has no claim to
//! memory: if there is none left, it is not kept.

use super::TopicKey;
use super::held::{Absorbed, Content, Copy, copy_at};
use crate::envelope::{Ask, Envelope, Reply};
use crate::node::{Node, TICK_MS};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use switchboard_protocol::ProtocolError;
use switchboard_store::Incarnation;
use switchboard_topics::{CopyCursor, Part};

/// The number of windows in one piece of a topic, about: some 300 KB.
const PIECE_POINTS_MAX: usize = 4_096;

/// How often a leaving node tries to hand its topics over while no node takes them.
const LAST_ATTEMPTS: usize = 2;

impl Node {
    /// Keeps a whole copy of every topic that this node leads on another node. Runs with the node's ticks, so that an
    /// idle node does not wake for it.
    pub(crate) async fn keep_topics_copied(self: Arc<Self>) {
        loop {
            let interval_ms = self.options().topics_update_ms.next_multiple_of(TICK_MS);
            self.clock.sleep_to_next_ms(interval_ms).await;
            self.copy_topics().await;
        }
    }

    /// Stops counting, and hands over everything counted. For a node that leaves, whether the others know it yet or
    /// not.
    pub(crate) async fn hand_over_topics(&self) {
        self.topics.is_closed.store(true, Ordering::SeqCst);
        for _ in 0..LAST_ATTEMPTS {
            if self.copy_topics().await {
                return;
            }
        }
    }

    /// Copies one topic after the other, so that pieces never fill the bus. A node that refuses one is not asked again
    /// in this round. Whether everything due was taken.
    async fn copy_topics(&self) -> bool {
        let mut refusing = BTreeSet::new();
        for key in self.topics.held.keys() {
            let placement = self.placement();
            let closed = self.topics.is_closed();
            let due =
                self.topics.held.if_there(&key, |held| held.copy_due(&key, &placement, &self.me, closed)).flatten();
            let Some(to) = due.filter(|to| !refusing.contains(to)) else { continue };
            if let Err(error) = self.copy_topic(&key, &to).await {
                tracing::debug!(%error, %to, "a topic was not copied");
                refusing.insert(to);
            }
        }
        refusing.is_empty()
    }

    /// Sends a node everything of a topic, and leaves the topic to that node if it is the owner.
    async fn copy_topic(&self, key: &TopicKey, to: &Incarnation) -> Result<(), ProtocolError> {
        let told = self.tell_whole_topic(key, to).await;
        if told.is_err() {
            self.topics.held.if_there(key, |held| held.copy = None);
        }
        told
    }

    async fn tell_whole_topic(&self, key: &TopicKey, to: &Incarnation) -> Result<(), ProtocolError> {
        let mut from = self.begin_copy(key, to);
        while let Some(place) = from {
            let piece = self.topics.held.if_there(key, |held| {
                let (parts, next) = held.topic.parts(place, PIECE_POINTS_MAX);
                (Content { versions: held.versions(), parts }, next)
            });
            let Some((content, next)) = piece else { return Ok(()) };
            self.tell_piece(key, to, content).await?;
            from = next;
        }
        // Unless the other node has missed something meanwhile, and must be sent everything again.
        let is_whole = self.topics.held.if_there(key, |held| {
            let copy = held.copy.as_mut().filter(|copy| copy.at == *to);
            copy.map(|copy| copy.is_whole = true).is_some()
        });
        match is_whole {
            Some(false) => Err(self.unavailable()),
            Some(true) if !self.counts_topic(key) => self.leave_topic(key, to).await,
            _ => Ok(()),
        }
    }

    /// Where the copy begins; `None` if the node has everything.
    fn begin_copy(&self, key: &TopicKey, to: &Incarnation) -> Option<CopyCursor> {
        let begin = |held: &mut super::Held| {
            if held.copy.as_ref().is_some_and(|copy| copy.at == *to && copy.is_whole) {
                return None;
            }
            held.copy = Some(Copy { at: to.clone(), is_whole: false });
            Some(CopyCursor::default())
        };
        self.topics.held.if_there(key, begin).flatten()
    }

    async fn tell_piece(&self, key: &TopicKey, to: &Incarnation, content: Content) -> Result<(), ProtocolError> {
        let Content { versions, parts } = content;
        if parts.is_empty() {
            return Ok(());
        }
        match self.ask(to, Ask::TopicCopy { topic: key.clone(), versions, parts }).await? {
            Reply::Done => Ok(()),
            _ => Err(ProtocolError::internal()),
        }
    }

    /// The next owner has everything except what came since the last tick, and nothing more is counted here. After
    /// that, this node no longer leads: it keeps a copy if it is the heir.
    async fn leave_topic(&self, key: &TopicKey, to: &Incarnation) -> Result<(), ProtocolError> {
        let now_ms = self.clock.wall_ms();
        let last = self.topics.held.if_there(key, |held| held.last_changes(now_ms));
        if let Some(last) = last {
            self.tell_piece(key, to, last).await?;
        }
        if self.counts_topic(key) {
            // This node has become the owner again.
            return Ok(());
        }
        self.topics.held.if_there(key, |held| (held.told_by, held.copy) = (Some(to.clone()), None));
        self.drop_stray_copy(key);
        Ok(())
    }

    /// Takes a piece of a topic from another node.
    ///
    /// # Errors
    /// `unavailable` if the topic does not belong on this node in its view, `overloaded` if there is no memory for it.
    pub(crate) fn on_topic_copy(
        &self,
        from: &Incarnation,
        key: &TopicKey,
        versions: [u64; 2],
        parts: Vec<Part>,
    ) -> Result<(), ProtocolError> {
        let owns = self.owns_topic(key);
        if !owns && !self.is_heir(key) {
            return Err(self.unavailable());
        }
        if !self.topics.held.memory.has_room(key, &self.options()) {
            return Err(self.refuse_copy(key));
        }
        let now_ms = self.clock.wall_ms();
        let heir = copy_at(key, &self.placement(), &self.me).filter(|heir| owns && heir != from);
        let passed_on =
            heir.map(|heir| (heir, Envelope::TopicChanges { topic: key.clone(), versions, parts: parts.clone() }));
        let new = || self.new_held(now_ms).told_by((!owns).then(|| from.clone()));
        let is_new = self.topics.held.at(key, new, |held| {
            let is_new = held.absorb(Content { versions, parts }, now_ms);
            if owns && is_new {
                held.absorbed = Absorbed::Lately;
            }
            // A leading node goes on leading: it has counts to send, which the sender may not have.
            if held.told_by.is_some() {
                held.told_by = Some(from.clone());
            }
            is_new
        });
        // What the owner is sent for the first time, it also sends to its own copy.
        if let Some((heir, changes)) = passed_on.filter(|_| is_new) {
            self.links.send(&heir, changes);
        }
        Ok(())
    }

    /// Takes the changes of a topic since its owner's last tick. A node that does not have the rest asks for it.
    pub(crate) fn on_topic_changes(&self, from: &Incarnation, key: &TopicKey, versions: [u64; 2], parts: Vec<Part>) {
        let is_known = self.topics.held.has(key);
        if !is_known || self.on_topic_copy(from, key, versions, parts).is_err() {
            self.links.send(from, Envelope::TopicUnknown { topic: key.clone() });
        }
    }

    /// A node to which this one sends a topic's changes does not have the topic, or not all of it.
    pub(crate) fn on_topic_unknown(&self, from: &Incarnation, key: &TopicKey) {
        self.topics.held.if_there(key, |held| held.copy.take_if(|copy| copy.at == *from));
    }

    /// A node has missed changes: its copies must be sent again.
    pub(crate) fn copy_topics_again(&self, to: &Incarnation) {
        self.topics.held.each(|_, held| drop(held.copy.take_if(|copy| copy.at == *to)));
    }

    /// After a view change: updates which topics this node leads and keeps copies of. Topics that another node owns now
    /// are sent there by [`Node::keep_topics_copied`].
    pub(crate) fn place_topics(&self) {
        let placement = self.placement();
        for key in self.topics.held.keys() {
            let owns = self.owns_topic(&key);
            self.topics.held.if_there(&key, |held| {
                if !owns {
                    held.watchers = Default::default();
                }
                // The heir of a dead owner leads, even if the ring has assigned the topic to a third node.
                if owns || held.told_by.as_ref().is_some_and(|owner| !placement.view.has(owner)) {
                    held.told_by = None;
                }
            });
            self.drop_stray_copy(&key);
        }
    }

    /// Drops a copy, unless this node is the heir.
    fn drop_stray_copy(&self, key: &TopicKey) {
        if !self.owns_topic(key) && !self.is_heir(key) {
            self.topics.held.remove_if(key, |held| held.told_by.is_some());
        }
    }

    fn is_heir(&self, key: &TopicKey) -> bool {
        self.placement().topic_heir(key).is_some_and(|heir| heir.incarnation == self.me)
    }

    fn refuse_copy(&self, key: &TopicKey) -> ProtocolError {
        self.topics.figures.copies_refused.increment(1);
        self.topics.held.remove_if(key, |held| held.told_by.is_some());
        self.overloaded()
    }
}
