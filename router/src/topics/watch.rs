//! The watchers' side of topics: which sessions of this node watch which topic, and the frames that they get.
//!
//! A session gets updates once it has its state. Updates that come before the state are merged into one that waits for
//! it.

use super::{TOPICS_WATCHED_MAX, TopicKey, conflated, watched_frame};
use crate::api::{Actor, Answer};
use crate::delivery::Delivery;
use crate::envelope::{Ask, Envelope, Outgoing};
use crate::fan_out::FanOut;
use crate::node::{Node, lock};
use crate::session::Session;
use crate::wire::answer_of;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use switchboard_protocol::client::{TopicUnwatch, TopicWatch};
use switchboard_protocol::server::TopicState;
use switchboard_protocol::{ProtocolError, ServerFrame, TopicId, Window};
use switchboard_store::Incarnation;

/// The watches of this node's sessions.
#[derive(Default)]
pub(crate) struct Watched {
    topics: BTreeMap<(TopicKey, Window), WatchedTopic>,
}

struct WatchedTopic {
    /// The node whose updates count.
    owner: Incarnation,
    sessions: Vec<Watching>,
}

struct Watching {
    session: Arc<Session>,
    range_s: u32,
    /// The version of the state that the session was given; `None` while that is on its way.
    told: Option<u64>,
    /// The state has only just been returned to the caller, and is not on its way to the client yet.
    is_fresh: bool,
    /// The update that waits for the state, with its version.
    pending: Option<(u64, Arc<Delivery>)>,
}

impl Watching {
    fn tell(&mut self, version: u64, delivery: &Arc<Delivery>, fan_out: &mut FanOut) {
        match self.told {
            Some(told) if version <= told => {}
            Some(_) if !self.is_fresh && self.pending.is_none() => {
                fan_out.give(&self.session.socket, delivery);
            }
            _ => {
                let before = self.pending.take();
                let merged = before.and_then(|(_, before)| conflated(&before, delivery)).map(Arc::new);
                self.pending = Some((version, merged.unwrap_or_else(|| delivery.clone())));
            }
        }
    }

    fn tell_pending(&mut self) {
        let Some(told) = self.told else { return };
        if std::mem::take(&mut self.is_fresh) {
            return;
        }
        if let Some((version, delivery)) = self.pending.take().filter(|(version, _)| *version > told) {
            self.told = Some(version);
            self.session.socket.deliver(&delivery);
        }
    }
}

impl Watched {
    /// Adds a session, or changes its range. Returns its former watch, if there was one.
    fn add(
        &mut self,
        key: &(TopicKey, Window),
        owner: &Incarnation,
        session: &Arc<Session>,
        range_s: u32,
    ) -> Option<Watching> {
        let new = || WatchedTopic { owner: owner.clone(), sessions: Vec::new() };
        let topic = self.topics.entry(key.clone()).or_insert_with(new);
        let before = topic.sessions.iter().position(|watching| watching.session.id == session.id);
        let former = before.map(|at| topic.sessions.remove(at));
        topic.sessions.push(Watching { session: session.clone(), range_s, told: None, is_fresh: false, pending: None });
        former
    }

    /// The owner refused a session's new range: it watches as before. Returns whether it needs a new state for that.
    fn restore(&mut self, key: &(TopicKey, Window), owner: &Incarnation, former: Watching) -> bool {
        let Some(topic) = self.topics.get_mut(key) else { return false };
        let is_same = |watching: &&mut Watching| watching.session.id == former.session.id;
        let Some(watching) = topic.sessions.iter_mut().find(is_same) else { return false };
        watching.range_s = former.range_s;
        if watching.told.is_none() && topic.owner == *owner {
            let since = watching.pending.take();
            *watching = former;
            since.into_iter().for_each(|(version, delivery)| watching.tell(version, &delivery, &mut FanOut::to(1)));
        }
        watching.told.is_none()
    }

    /// Removes a session. Returns the owner if no session here watches any more.
    fn remove(&mut self, key: &(TopicKey, Window), session: &Session) -> Option<Incarnation> {
        let topic = self.topics.get_mut(key)?;
        topic.sessions.retain(|watching| watching.session.id != session.id);
        if !topic.sessions.is_empty() {
            return None;
        }
        self.topics.remove(key).map(|topic| topic.owner)
    }
}

impl Node {
    /// `topic_watch`. Without a session (HTTP), or with `before_ms`, the windows are read once.
    pub(crate) async fn topic_watch(
        self: &Arc<Self>,
        actor: &Actor,
        watch: TopicWatch,
    ) -> Result<Answer, ProtocolError> {
        let key = (TopicKey::of(actor, watch.topic.clone()), watch.window);
        let session = self.session_of(actor).filter(|_| watch.before_ms.is_none());
        let Some(session) = session else {
            let owner = self.placement().topic_owner(&key.0).incarnation.clone();
            let state = self.topic_state_at(&owner, &key.0, watch, false).await?;
            return Ok(Answer::Frame(ServerFrame::TopicState(state)));
        };
        let (topic, window) = (watch.topic.clone(), watch.window);
        {
            let mut doing = session.doing();
            if !doing.topics.contains(&(topic.clone(), window)) {
                if doing.topics.len() >= TOPICS_WATCHED_MAX {
                    return Err(ProtocolError::conflict("too many watched topics: unwatch one first"));
                }
                doing.topics.push((topic.clone(), window));
            }
        }
        let owner = self.placement().topic_owner(&key.0).incarnation.clone();
        let former = lock(&self.topics.watched).add(&key, &owner, &session, watch.range_s);
        if self.session_of(actor).is_none() {
            // It ended before it was added: nobody else will remove it.
            self.topic_stop(&key, &session);
            return Err(self.unavailable());
        }
        match self.topic_state_at(&owner, &key.0, watch, true).await {
            Ok(state) => {
                self.topic_told(&key, &session, state.version);
                Ok(Answer::Frame(ServerFrame::TopicState(state)))
            }
            Err(error) => {
                match former {
                    None => self.topic_stop(&key, &session),
                    Some(former) => {
                        if lock(&self.topics.watched).restore(&key, &owner, former) {
                            self.watch_topic_until_told(key);
                        }
                    }
                }
                Err(error)
            }
        }
    }

    /// The session has its state. Updates since then leave with the tick after the next, behind the answer.
    fn topic_told(&self, key: &(TopicKey, Window), session: &Session, version: u64) {
        let mut watched = lock(&self.topics.watched);
        let Some(topic) = watched.topics.get_mut(key) else { return };
        if let Some(watching) = topic.sessions.iter_mut().find(|watching| watching.session.id == session.id) {
            (watching.told, watching.is_fresh) = (Some(version), true);
        }
    }

    /// `topic_unwatch`.
    pub(crate) fn topic_unwatch(&self, actor: &Actor, unwatch: TopicUnwatch) -> Result<Answer, ProtocolError> {
        let session = self.session_of(actor).ok_or_else(|| ProtocolError::forbidden("this needs a session"))?;
        self.topic_stop(&(TopicKey::of(actor, unwatch.topic), unwatch.window), &session);
        Ok(Answer::done())
    }

    /// Ends the session's watches of the gateway's own topics. Whether there were any.
    pub(crate) fn topic_unwatch_own(&self, session: &Session) -> bool {
        let own: Vec<_> = session.doing().topics.iter().filter(|(topic, _)| topic.is_own()).cloned().collect();
        let has_watched = !own.is_empty();
        self.topic_session_gone(session, own);
        has_watched
    }

    fn topic_stop(&self, key: &(TopicKey, Window), session: &Session) {
        session.doing().topics.retain(|(topic, window)| *topic != key.0.topic || *window != key.1);
        let owner = lock(&self.topics.watched).remove(key, session);
        if let Some(owner) = owner {
            self.topic_unwatch_at(&owner, key);
        }
    }

    /// A session has ended.
    pub(crate) fn topic_session_gone(&self, session: &Session, topics: Vec<(TopicId, Window)>) {
        let actor = Actor { user: session.user.clone(), session: None, awaited: false };
        for (topic, window) in topics {
            self.topic_stop(&(TopicKey::of(&actor, topic), window), session);
        }
    }

    fn topic_unwatch_at(&self, owner: &Incarnation, (topic, window): &(TopicKey, Window)) {
        if *owner == self.me {
            self.on_topic_unwatch(owner, topic, *window);
        } else {
            self.links.send(owner, Envelope::TopicUnwatch { topic: topic.clone(), window: *window });
        }
    }

    async fn topic_state_at(
        self: &Arc<Self>,
        owner: &Incarnation,
        key: &TopicKey,
        asked: TopicWatch,
        watch: bool,
    ) -> Result<TopicState, ProtocolError> {
        if *owner == self.me {
            return self.topic_state_here(key, &asked, watch.then_some(owner));
        }
        let TopicWatch { window, range_s, before_ms, .. } = asked;
        let ask = Ask::TopicState { topic: key.clone(), window, range_s, before_ms, watch };
        match answer_of(self.ask(owner, ask).await?)? {
            Answer::Frame(ServerFrame::TopicState(state)) => Ok(state),
            _ => Err(ProtocolError::internal()),
        }
    }

    /// The owner has sent a topic's changes.
    pub(crate) fn on_topic_update(
        &self,
        from: &Incarnation,
        topic: &TopicKey,
        window: Window,
        version: u64,
        frame: &Outgoing,
    ) {
        let key = (topic.clone(), window);
        let mut watched = lock(&self.topics.watched);
        match watched.topics.get_mut(&key).filter(|topic| topic.owner == *from) {
            Some(topic) => {
                let mut fan_out = FanOut::to(topic.sessions.len());
                for watching in &mut topic.sessions {
                    watching.tell(version, &frame.delivery, &mut fan_out);
                }
                drop(watched);
                self.send_queued(fan_out);
            }
            // It does not know yet that nobody watches here, or that another node owns the topic.
            None => {
                drop(watched);
                self.topic_unwatch_at(from, &key);
            }
        }
    }

    /// Gives sessions the updates that waited for their state.
    pub(crate) fn tell_topics_pending(&self) {
        let mut watched = lock(&self.topics.watched);
        watched.topics.values_mut().flat_map(|topic| &mut topic.sessions).for_each(Watching::tell_pending);
    }

    /// Counts of other nodes have reached the owner.
    pub(crate) fn on_topic_anew(self: &Arc<Self>, from: &Incarnation, topic: &TopicKey, window: Window) {
        self.watch_topics_again(|key, owner| owner == from && key.0 == *topic && key.1 == window);
    }

    /// Watches again the topics with a new owner, or those that `concerns` names: their watchers get a new state.
    pub(crate) fn watch_topics_again(self: &Arc<Self>, concerns: impl Fn(&(TopicKey, Window), &Incarnation) -> bool) {
        let placement = self.placement();
        let mut again = Vec::new();
        for (key, topic) in &mut lock(&self.topics.watched).topics {
            let owner = &placement.topic_owner(&key.0).incarnation;
            if topic.owner != *owner || concerns(key, owner) {
                topic.owner = owner.clone();
                // Also sessions whose first state is on its way: either state is good, whichever comes first.
                topic.sessions.iter_mut().for_each(|watching| (watching.told, watching.pending) = (None, None));
                again.push(key.clone());
            }
        }
        again.into_iter().for_each(|key| self.watch_topic_until_told(key));
    }

    /// Repeats the request as long as the view names this owner.
    fn watch_topic_until_told(self: &Arc<Self>, key: (TopicKey, Window)) {
        let (node, placement) = (self.clone(), self.placement());
        self.spawn(async move {
            let owner = &placement.topic_owner(&key.0).incarnation;
            while node.placement().view.number == placement.view.number && !node.watch_topic_at(&key, owner).await {
                node.clock.sleep_ms(node.options().retry_after_ms).await;
            }
        });
    }

    /// Asks once for each watched range, and gives the sessions their new state. Whether the owner answered.
    async fn watch_topic_at(self: &Arc<Self>, key: &(TopicKey, Window), owner: &Incarnation) -> bool {
        let ranges: BTreeSet<u32> = {
            let watched = lock(&self.topics.watched);
            let Some(topic) = watched.topics.get(key).filter(|topic| topic.owner == *owner) else { return true };
            topic.sessions.iter().map(|watching| watching.range_s).collect()
        };
        for range_s in ranges {
            let asked = TopicWatch { topic: key.0.topic.clone(), window: key.1, range_s, before_ms: None };
            let Ok(state) = self.topic_state_at(owner, &key.0, asked, true).await else { return false };
            let frame = watched_frame(&key.0, key.1, &state);
            let mut watched = lock(&self.topics.watched);
            let Some(topic) = watched.topics.get_mut(key).filter(|topic| topic.owner == *owner) else { return true };
            for watching in topic.sessions.iter_mut().filter(|watching| watching.range_s == range_s) {
                (watching.told, watching.is_fresh) = (Some(state.version), false);
                watching.session.socket.deliver(&frame.delivery);
                watching.tell_pending();
            }
        }
        true
    }
}
