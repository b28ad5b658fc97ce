//! Watching other users' presence, on the side of the watching sessions. The watched user's home is in `home.rs`.

use crate::api::{Actor, Answer};
use crate::delivery::ephemeral;
use crate::envelope::{Ask, Envelope, Outgoing, Reply};
use crate::node::{Node, lock};
use crate::session::{Session, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use switchboard_presence::Shown;
use switchboard_protocol::server::{self, Frame as _, PresenceState, UserPresence};
use switchboard_protocol::{ProtocolError, ServerFrame, UserId};
use switchboard_store::{Incarnation, UserKey};

impl Node {
    /// `presence_watch`.
    pub(crate) async fn watch(self: &Arc<Self>, actor: &Actor, users: Vec<UserId>) -> Result<Answer, ProtocolError> {
        let session = self.session_of(actor).ok_or_else(|| ProtocolError::forbidden("this needs a session"))?;
        let key = |user| UserKey { tenant: actor.user.tenant.clone(), user };
        let keys: Vec<UserKey> = users.into_iter().map(key).collect();
        let watcher = Watcher(session.clone());
        let all_known = {
            let mut watches = lock(&self.watches);
            // Read under the lock under which a block that comes now finds these watches.
            let blocked = self.users.blocked(&actor.user);
            let target = |key: &UserKey| (key.clone(), blocked.get(&key.user).copied());
            let targets: Vec<_> = keys.iter().map(target).collect();
            session.doing().watches = true;
            let newly = watches.watch(&watcher, &targets)?;
            newly.is_empty() && watches.all_known(&keys)
        };
        if !all_known {
            self.watch_at_homes(&keys).await;
        }
        let state = lock(&self.watches).state(&watcher, &keys);
        let users = state.into_iter().map(|(key, shown)| user_presence(key.user, shown)).collect();
        Ok(Answer::Frame(ServerFrame::PresenceState(PresenceState { users })))
    }

    /// If a home does not answer in time, its users are shown as unknown now, and its answer is sent as a change later.
    async fn watch_at_homes(self: &Arc<Self>, users: &[UserKey]) {
        for (home, users) in self.by_home(users.iter().cloned()) {
            if self.watch_at(&home, users.clone()).await.is_err() {
                self.watch_until_answered(home, users);
            }
        }
    }

    /// Asks the homes of watched users (all of them, or one) for their presence and later changes.
    pub(crate) fn watch_again(self: &Arc<Self>, only: Option<&Incarnation>) {
        let targets: BTreeSet<UserKey> = lock(&self.watches).targets().cloned().collect();
        for (home, users) in self.by_home(targets.into_iter()) {
            if only.is_none_or(|only| *only == home) {
                self.watch_until_answered(home, users);
            }
        }
    }

    fn by_home(&self, users: impl Iterator<Item = UserKey>) -> BTreeMap<Incarnation, Vec<UserKey>> {
        let placement = self.placement();
        let mut by_home: BTreeMap<Incarnation, Vec<UserKey>> = BTreeMap::new();
        for user in users {
            by_home.entry(placement.home(&user).incarnation.clone()).or_default().push(user);
        }
        by_home
    }

    /// Asks a home until it answers, or until the view changes and all homes are asked again.
    pub(crate) fn watch_until_answered(self: &Arc<Self>, home: Incarnation, users: Vec<UserKey>) {
        let (node, view) = (self.clone(), self.placement().view.number);
        self.spawn(async move {
            while node.placement().view.number == view && node.watch_at(&home, users.clone()).await.is_err() {
                node.clock.sleep_ms(node.options().retry_after_ms).await;
            }
        });
    }

    /// The presence of users whose home this is; with `watch`, the changes from now on too.
    pub(crate) async fn presence_at(
        &self,
        home: &Incarnation,
        users: Vec<UserKey>,
        watch: bool,
    ) -> Result<Vec<Shown>, ProtocolError> {
        if *home == self.me {
            return Ok(self.presence_at_home(&users, watch.then_some(&self.me)).await);
        }
        match self.ask(home, Ask::PresenceOf { users, watch }).await? {
            Reply::Presence(looks) => Ok(looks.into_iter().map(Into::into).collect()),
            _ => Err(ProtocolError::internal()),
        }
    }

    /// Watches users at one home; its answer becomes what is shown.
    pub(crate) async fn watch_at(
        self: &Arc<Self>,
        home: &Incarnation,
        users: Vec<UserKey>,
    ) -> Result<(), ProtocolError> {
        let asking = lock(&self.watches).asking();
        let looks = self.presence_at(home, users.clone(), true).await?;
        let placement = self.placement();
        let (mut watches, now_ms) = (lock(&self.watches), self.clock.monotonic_ms());
        for (user, shown) in users.iter().zip(looks) {
            if placement.home(user).incarnation == *home {
                watches.answered(asking, user, shown, now_ms);
            }
        }
        Ok(())
    }

    pub(crate) fn stop_watching(&self, actor: &Actor, users: &[UserId]) -> Result<Answer, ProtocolError> {
        let session = self.session_of(actor).ok_or_else(|| ProtocolError::forbidden("this needs a session"))?;
        let key = |user: &UserId| UserKey { tenant: actor.user.tenant.clone(), user: user.clone() };
        let keys: Vec<UserKey> = users.iter().map(key).collect();
        let mut watches = lock(&self.watches);
        let unwatched = watches.unwatch(&Watcher(session), &keys);
        self.unwatch(unwatched);
        drop(watches);
        Ok(Answer::done())
    }

    /// No session here watches these users any more. Sent while [`Node::watches`] is held, so that a later watch is
    /// sent after it.
    pub(crate) fn unwatch(&self, users: Vec<UserKey>) {
        let placement = self.placement();
        for user in users {
            let home = &placement.home(&user).incarnation;
            if *home == self.me {
                self.on_unwatch(&self.me, &[user]);
            } else {
                self.links.send(home, Envelope::Unwatch { users: vec![user] });
            }
        }
    }

    /// A node has sent a watched user's presence. Only the current home counts: a former one may report a user whose
    /// sessions have registered elsewhere.
    pub(crate) fn on_presence(&self, from: &Incarnation, user: &UserKey, shown: Shown) {
        if self.placement().home(user).incarnation != *from {
            return;
        }
        lock(&self.watches).changed(user, shown, self.clock.monotonic_ms());
    }

    /// Sends the changes to watching sessions.
    pub(crate) fn tell_presence(&self, now_ms: u64) {
        let due = {
            let mut watches = lock(&self.watches);
            if watches.next_due_ms().is_none_or(|due_ms| due_ms > now_ms) {
                Vec::new()
            } else {
                watches.take_due(now_ms)
            }
        };
        for (session, users) in due {
            self.tell_presence_to(&session.0, users);
        }
    }

    /// A batch for a watching session.
    pub(crate) fn tell_presence_to(&self, watcher: &Session, users: Vec<(UserKey, Shown)>) {
        let about: Vec<String> = users.iter().map(|(key, _)| key.user.to_string()).collect();
        let about: Vec<&str> = about.iter().map(String::as_str).collect();
        let users = users.into_iter().map(|(key, shown)| user_presence(key.user, shown)).collect();
        // A newer batch about the same users replaces one that still waits.
        let frame = Outgoing::new(ephemeral("presence", server::Presence { users }.encode(None), &about));
        watcher.socket.deliver(&frame.delivery);
    }
}

pub(crate) fn user_presence(user_id: UserId, shown: Shown) -> UserPresence {
    UserPresence { user_id, status: shown.status, last_seen_at: shown.last_seen_at }
}
