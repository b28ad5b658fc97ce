//! The work of a node as the home of its users: inboxes, `sync`, settings, presence (DESIGN §2, §4, §6).

use crate::api::{Actor, Answer};
use crate::delivery::undroppable;
use crate::dirty::empty_change;
use crate::envelope::{Deliver, Envelope, Look, Outgoing, Registration, Saved};
use crate::node::{Node, Wake, lock, unavailable};
use crate::session::Held;
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use switchboard_presence::{SavedPresence, Shown};
use switchboard_protocol::client::{ConversationSettingsSet, PresenceStatus};
use switchboard_protocol::server::{ConversationSettings, Frame as _, Settings as ShownSettings};
use switchboard_protocol::{ProtocolError, Timestamp};
use switchboard_store::{ConversationKey, InboxChange, Incarnation, Settings, StoreError, UserKey};

/// Users whose last-seen times are read at once.
const LAST_SEEN_AT_ONCE: usize = 16;

/// How long other nodes may not know of a view change: for this long a user with a new home stays known here, as the
/// new home may not know all of their sessions yet.
pub(crate) const HOME_MOVES_MS: u64 = 10_000;

impl Node {
    // Inboxes

    /// Whether the limit of waiting inbox changes is reached.
    pub(crate) fn is_home_full(&self) -> bool {
        self.users.dirty_bytes() >= self.options().home_dirty_bytes
    }

    // Settings

    /// `conversation_settings`: the user's own, durable when it answers.
    pub(crate) async fn set_settings(
        self: &Arc<Self>,
        actor: &Actor,
        set: ConversationSettingsSet,
    ) -> Result<Answer, ProtocolError> {
        let key = ConversationKey { tenant: actor.user.tenant.clone(), conversation: set.conversation_id.clone() };
        self.peek(&actor.user, &key).await?;
        let _one_at_a_time = self.turns_of(&actor.user).lock().await;
        let failed = |error: StoreError| unavailable(self, &error);
        let row = self.store.inbox_row(&actor.user, &key.conversation).await.map_err(failed)?;
        let (number, mut settings) = row.map(|row| (row.settings_number, row.settings)).unwrap_or_default();
        apply(&mut settings, &set);
        let change = InboxChange { settings: Some((number + 1, settings.clone())), ..empty_change(&key.conversation) };
        self.store.put_inbox(vec![(actor.user.clone(), change)]).await.map_err(failed)?;
        if set.muted_until.is_some() {
            self.on_push_muted(&actor.user, &key.conversation, settings.muted_until);
        }
        self.tell_settings(actor, key, &settings);
        Ok(Answer::done())
    }

    /// Sends it to the user's other sessions.
    fn tell_settings(&self, actor: &Actor, conversation: ConversationKey, settings: &Settings) {
        let frame = ConversationSettings {
            conversation_id: conversation.conversation.clone(),
            settings: shown_settings(settings),
        };
        let mut frame = Outgoing::new(undroppable("conversation_settings", frame.encode(None)));
        frame.skip.session = actor.session.clone();
        let users = Arc::from([actor.user.user.clone()]);
        self.deliver(&Deliver { conversation, users, frames: vec![frame], note: None }, &Held::new());
    }

    // Presence

    /// A node has registered its sessions of a user.
    pub(crate) fn on_register(self: &Arc<Self>, node: &Incarnation, registration: Registration) {
        let Registration { user, sessions, saved, arrived } = registration;
        let saved =
            saved.map_or(SavedPresence { status: PresenceStatus::Online, revision: 0, last_seen_at: None }, Into::into);
        let now_ms = self.clock.monotonic_ms();
        let (shown, grace, everywhere) = self.users.at_home(&user, |home| {
            let (shown, grace) = if sessions > 0 {
                (home.presence.restore(node, sessions, saved), None)
            } else {
                (None, home.presence.node_gone(node, now_ms, self.now(), self.options().presence_grace_ms))
            };
            (shown, grace, home.presence.nodes().map(|(_, sessions)| sessions).sum())
        });
        if let Some(deadline_ms) = grace {
            self.wake_at(deadline_ms, Wake::Grace(user.clone()));
        }
        self.publish(&user, shown);
        if !arrived.is_empty() {
            self.on_arrivals(node, &user, everywhere, arrived);
        }
    }

    /// A user's grace period may be over.
    pub(crate) fn on_grace_over(&self, user: &UserKey) {
        self.end_grace(user, self.clock.monotonic_ms());
    }

    /// Ends a user's grace period if it is over at `now_ms`.
    pub(crate) fn end_grace(&self, user: &UserKey, now_ms: u64) {
        let shown = self.users.if_at_home(user, |home| home.presence.grace_over(now_ms)).flatten();
        self.publish(user, shown);
    }

    /// A node is dead: its sessions are gone.
    pub(crate) fn on_node_gone(self: &Arc<Self>, node: &Incarnation) {
        for user in self.users.homed() {
            self.on_register(node, Registration { user: user.clone(), sessions: 0, saved: None, arrived: Vec::new() });
            self.users.if_at_home(&user, |home| home.watchers.retain(|watcher| watcher != node));
        }
        self.on_topic_watcher_gone(node);
    }

    /// `presence_set`.
    pub(crate) fn set_presence(&self, user: &UserKey, status: PresenceStatus) -> Answer {
        let at = self.now();
        let (shown, saved, nodes) = self.users.at_home(user, |home| {
            let shown = home.presence.set(status, at);
            let nodes: Vec<Incarnation> = home.presence.nodes().map(|(node, _)| node.clone()).collect();
            (shown, home.presence.saved(), nodes)
        });
        for node in nodes {
            if node == self.me {
                self.users.save_presence(user, saved);
            } else {
                self.links.send(&node, Envelope::Saved { user: user.clone(), saved: Saved::from(saved) });
            }
        }
        self.publish(user, shown);
        Answer::done()
    }

    fn note_last_seen(&self, user: &UserKey, at: Timestamp) {
        let mut waiting = lock(&self.last_seen);
        if waiting.len() < self.options().home_dirty_max || waiting.contains_key(user) {
            waiting.insert(user.clone(), at);
        } else {
            self.figures.last_seen_dropped.increment(1);
        }
    }

    /// Sends a user's presence to the watching nodes.
    fn publish(&self, user: &UserKey, shown: Option<Shown>) {
        let Some(shown) = shown else { return };
        if let Some(at) = shown.last_seen_at {
            self.note_last_seen(user, at);
        }
        let watchers = self.users.if_at_home(user, |home| home.watchers.clone()).unwrap_or_default();
        for node in watchers {
            if node == self.me {
                self.on_presence(&self.me, user, shown);
            } else {
                self.links.send(&node, Envelope::Presence { users: vec![(user.clone(), Look::from(shown))] });
            }
        }
    }

    /// The presence of users of this home; with `watcher`, later changes are sent there.
    pub(crate) async fn presence_at_home(&self, users: &[UserKey], watcher: Option<&Incarnation>) -> Vec<Shown> {
        if let Some(watcher) = watcher {
            users.iter().for_each(|user| self.add_watcher(user, watcher));
        }
        let present = |user: &UserKey| {
            let known = self.users.if_at_home(user, |home| (home.presence.is_offline(), home.presence.shown()));
            known.and_then(|(offline, shown)| (!offline).then_some(shown))
        };
        // The last-seen time of an offline user is in the store, or known here.
        let last_seen = users.iter().cloned().map(|user| {
            let is_present = present(&user).is_some();
            async move { if is_present { None } else { self.last_seen_of(&user).await } }
        });
        let last_seen: Vec<_> = stream::iter(last_seen).buffered(LAST_SEEN_AT_ONCE).collect().await;
        // The presence of users who came meanwhile has been sent: nothing older may follow.
        let look = |(user, at)| present(user).unwrap_or_else(|| Shown::offline(at));
        users.iter().zip(last_seen).map(look).collect()
    }

    fn add_watcher(&self, user: &UserKey, watcher: &Incarnation) {
        self.users.at_home(user, |home| {
            if !home.watchers.contains(watcher) {
                home.watchers.push(watcher.clone());
            }
        });
    }

    /// `None` if the store has no time or does not answer: presence works without it.
    async fn last_seen_of(&self, user: &UserKey) -> Option<Timestamp> {
        let just_now = lock(&self.last_seen).get(user).copied();
        let stored = self.store.user(user).await.ok().and_then(|record| record.last_seen_at);
        stored.max(just_now)
    }

    /// A node no longer watches a user.
    pub(crate) fn on_unwatch(&self, node: &Incarnation, users: &[UserKey]) {
        for user in users {
            self.users.if_at_home(user, |home| home.watchers.retain(|watcher| watcher != node));
        }
    }

    /// After a view change: users with a new home stay known here for a while.
    pub(crate) fn leave_homes_later(&self) {
        let placement = self.placement();
        let deadline_ms = self.clock.monotonic_ms() + HOME_MOVES_MS;
        for user in self.users.homed() {
            if placement.home(&user).incarnation != self.me {
                self.wake_at(deadline_ms, Wake::LeaveHome(user));
            }
        }
    }

    /// Forgets a user who was known here for that while.
    pub(crate) fn on_leave_home(&self, user: &UserKey) {
        if self.placement().home(user).incarnation != self.me {
            self.users.leave_home(user);
        }
    }

    // The watching side
}

fn apply(settings: &mut Settings, set: &ConversationSettingsSet) {
    if let Some(muted_until) = set.muted_until {
        settings.muted_until = muted_until;
    }
    settings.archived = set.archived.unwrap_or(settings.archived);
    settings.pinned = set.pinned.unwrap_or(settings.pinned);
}

pub(crate) fn shown_settings(settings: &Settings) -> ShownSettings {
    ShownSettings { muted_until: settings.muted_until, archived: settings.archived, pinned: settings.pinned }
}
