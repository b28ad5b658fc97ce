//! The users known to this node: their sessions here and, if this node is their home, their sessions elsewhere, their
//! presence and the inbox changes that wait to be written.
//!
//! Sharded by user. A shard's lock is held for a look-up and some pushes, never across an await. The users of a
//! delivery are ordered by shard, so a fan-out takes each lock once, not once per recipient.

use crate::blocks::Blocked;
use crate::dirty::{Dirty, change_for_all, changes_for_some, weight};
use crate::envelope::{Deliver, Note, Outgoing, Registration};
use crate::fan_out::Giving;
use crate::push::Unreachable;
use crate::session::{Held, Session};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_presence::{SavedPresence, UserPresence};
use switchboard_protocol::{DeviceId, InstanceId, SessionId, TenantId, UserId};
use switchboard_store::{ConversationKey, InboxChange, Incarnation, UserKey};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) const SHARDS: usize = 32;

/// A user, as far as this node has to do with him.
#[derive(Default)]
struct User {
    /// His sessions on this node.
    sessions: Vec<Arc<Session>>,
    blocked: Option<Box<Blocked>>,
    /// What he set of his presence, to be brought along to a new home.
    saved: Option<Box<SavedPresence>>,
    /// What this node as his home knows.
    home: Option<Box<HomeUser>>,
}

impl User {
    fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.home.is_none()
    }
}

/// A user at his home.
pub(crate) struct HomeUser {
    /// His sessions everywhere, and what he set.
    pub(crate) presence: UserPresence<Incarnation>,
    /// Nodes whose sessions watch him.
    pub(crate) watchers: Vec<Incarnation>,
    /// The view in which he is known to have no device that is pushed to.
    unreachable_in: Option<u64>,
}

#[derive(Default)]
struct Shard {
    users: HashMap<UserKey, User>,
    /// Inbox changes that wait to be written, of users connected or not.
    dirty: Dirty,
    /// Users who are known here by nothing else and have no device that is pushed to.
    unreachable: Unreachable,
}

/// See the file's comment.
pub(crate) struct Users {
    shards: Box<[Mutex<Shard>]>,
    dirty_bytes: AtomicUsize,
}

/// Whom a delivery concerns besides the sessions here.
#[derive(Default)]
pub(crate) struct Further {
    /// Who has sessions on which other node.
    pub(crate) elsewhere: BTreeMap<Incarnation, Vec<UserId>>,
    /// Who may have a device that is pushed to, if that is concerned.
    pub(crate) pushed: Vec<UserId>,
}

/// What adding a session came to.
pub(crate) struct Added {
    /// The older socket of the same device and instance.
    pub(crate) replaced: Option<Arc<Session>>,
}

/// Where a user's state is; deliveries are ordered by it.
pub(crate) fn shard_of(tenant: &TenantId, user: &UserId) -> usize {
    let hash = xxh3_64(user.as_str().as_bytes()) ^ xxh3_64(tenant.as_str().as_bytes()).rotate_left(17);
    usize::try_from(hash % SHARDS as u64).unwrap_or(0)
}

impl Users {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), dirty_bytes: AtomicUsize::new(0) }
    }

    fn shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, user: &UserKey) -> MutexGuard<'_, Shard> {
        self.shard(shard_of(&user.tenant, &user.user))
    }

    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        (0..SHARDS).map(|index| self.shard(index))
    }

    // Sessions

    /// Takes over another life's users with their sessions; not what it knew as their home.
    pub(crate) fn adopt(&self, former: &Self) {
        for index in 0..SHARDS {
            let users = std::mem::take(&mut former.shard(index).users);
            let with_sessions = users.into_iter().filter(|(_, user)| !user.sessions.is_empty());
            self.shard(index).users.extend(with_sessions.map(|(key, user)| (key, User { home: None, ..user })));
        }
    }

    /// Adds a session; a second one of the same device and instance takes the first one's place. `None` if the user has
    /// `most` already.
    pub(crate) fn add(&self, session: Arc<Session>, blocked: Blocked, most: u32) -> Option<Added> {
        let mut shard = self.of(&session.user);
        let same = |other: &Arc<Session>| other.device == session.device && other.instance == session.instance;
        let others = shard.users.get(&session.user).map_or(&[][..], |user| &user.sessions);
        let older = others.iter().position(same);
        if older.is_none() && count(others) >= most {
            return None;
        }
        let user = shard.users.entry(session.user.clone()).or_default();
        user.blocked = (!blocked.is_empty()).then(|| Box::new(blocked));
        let replaced = older.map(|at| user.sessions.swap_remove(at));
        user.sessions.reserve_exact(1);
        user.sessions.push(session);
        Some(Added { replaced })
    }

    /// Removes this very session, in one step; `false` if it was replaced before.
    pub(crate) fn remove(&self, session: &Session) -> bool {
        let mut shard = self.of(&session.user);
        let Some(user) = shard.users.get_mut(&session.user) else { return false };
        let Some(at) = user.sessions.iter().position(|other| other.id == session.id) else { return false };
        user.sessions.swap_remove(at);
        if user.sessions.is_empty() {
            // His home knows it for as long as it counts; kept here it would come back with his next session.
            user.saved = None;
        }
        if user.is_idle() {
            shard.users.remove(&session.user);
        }
        true
    }

    /// The sessions of a user on this node.
    pub(crate) fn sessions(&self, user: &UserKey) -> Vec<Arc<Session>> {
        self.of(user).users.get(user).map(|user| user.sessions.clone()).unwrap_or_default()
    }

    /// One session of a user, if it is on this node.
    pub(crate) fn session(&self, user: &UserKey, id: &SessionId) -> Option<Arc<Session>> {
        let shard = self.of(user);
        shard.users.get(user)?.sessions.iter().find(|session| session.id == *id).cloned()
    }

    /// A user's session of a device's instance, if it is on this node.
    pub(crate) fn session_of(&self, user: &UserKey, device: &DeviceId, instance: &InstanceId) -> Option<Arc<Session>> {
        let shard = self.of(user);
        let sessions = &shard.users.get(user)?.sessions;
        sessions.iter().find(|session| session.device == *device && session.instance == *instance).cloned()
    }

    /// Every session on this node.
    pub(crate) fn all_sessions(&self) -> Vec<Arc<Session>> {
        let sessions_of = |shard: MutexGuard<'_, Shard>| -> Vec<Arc<Session>> {
            shard.users.values().flat_map(|user| user.sessions.iter().cloned()).collect()
        };
        let mut sessions: Vec<_> = self.all().flat_map(sessions_of).collect();
        sessions.sort_by(|a, b| a.id.cmp(&b.id));
        sessions
    }

    /// Users with sessions on this node, as their homes are told, in the order of their keys.
    pub(crate) fn registrations(&self) -> Vec<Registration> {
        let mut registrations = Vec::new();
        for shard in self.all() {
            for (key, user) in shard.users.iter().filter(|(_, user)| !user.sessions.is_empty()) {
                registrations.push(registration_of(key, Some(user)));
            }
        }
        registrations.sort_by(|a, b| a.user.cmp(&b.user));
        registrations
    }

    /// What a user's home is told of him.
    pub(crate) fn registration_of(&self, key: &UserKey) -> Registration {
        registration_of(key, self.of(key).users.get(key))
    }

    /// A user's presence, as his home keeps it, for the case that his home changes.
    pub(crate) fn save_presence(&self, key: &UserKey, saved: SavedPresence) {
        if let Some(user) = self.of(key).users.get_mut(key).filter(|user| !user.sessions.is_empty()) {
            user.saved = Some(Box::new(saved));
        }
    }

    /// Users with whom this one has a block, as known here: complete while he has a session here.
    pub(crate) fn blocked(&self, user: &UserKey) -> Blocked {
        let shard = self.of(user);
        shard.users.get(user).and_then(|user| user.blocked.as_deref().cloned()).unwrap_or_default()
    }

    /// Replaces what is known of a user's blocks, if he has a session here.
    pub(crate) fn set_blocked(&self, key: &UserKey, blocked: Blocked) {
        if let Some(user) = self.of(key).users.get_mut(key) {
            user.blocked = (!blocked.is_empty()).then(|| Box::new(blocked));
        }
    }

    // Delivering

    /// Gives frames to the users' sessions on this node.
    pub(crate) fn relay(&self, tenant: &TenantId, users: &[UserId], frames: &[Outgoing], giving: &mut Giving) {
        self.each(tenant, users, |_, shard, key| {
            if let Some(user) = shard.users.get(key) {
                deliver_to(user, frames, &Held::new(), giving);
            }
        });
    }

    /// A home's part, of the node and the view with this number: gives frames to the users' sessions here, but for those
    /// held back, and notes what changes in their inboxes.
    pub(crate) fn deliver(
        &self,
        deliver: &Deliver,
        held: &Held,
        me: &Incarnation,
        view: u64,
        giving: &mut Giving,
    ) -> Further {
        let mut further = Further::default();
        let for_all = deliver.note.as_ref().map(|note| change_for_all(deliver, note));
        let concerns_push = deliver.note.as_ref().is_some_and(Note::concerns_push);
        self.each(&deliver.conversation.tenant, &deliver.users, |id, shard, key| {
            let user = shard.users.get(key);
            if let Some(user) = user {
                deliver_to(user, &deliver.frames, held, giving);
                let nodes = user.home.iter().flat_map(|home| home.presence.nodes());
                for (node, _) in nodes.filter(|(node, _)| *node != me) {
                    further.elsewhere.entry(node.clone()).or_default().push(id.clone());
                }
            }
            if concerns_push && may_be_reached(user, &mut shard.unreachable, key, view) {
                further.pushed.push(id.clone());
            }
            if let Some(change) = &for_all {
                self.note_in(&mut shard.dirty, key, change.clone());
            }
        });
        for (user, change) in deliver.note.iter().flat_map(|note| changes_for_some(deliver, note)) {
            self.note(&UserKey { tenant: deliver.conversation.tenant.clone(), user }, change);
        }
        further
    }

    /// Gives frames to single sessions; returns those that are not here any more.
    pub(crate) fn to_sessions(
        &self,
        tenant: &TenantId,
        sessions: &[(UserId, SessionId)],
        frames: &[Outgoing],
        giving: &mut Giving,
    ) -> Vec<(UserId, SessionId)> {
        let mut gone = Vec::new();
        for (id, session_id) in sessions {
            let key = UserKey { tenant: tenant.clone(), user: id.clone() };
            let shard = self.of(&key);
            let user = shard.users.get(&key);
            let session = user.and_then(|user| user.sessions.iter().find(|session| session.id == *session_id));
            match (user, session) {
                (Some(user), Some(session)) => deliver_to_session(user, session, frames, giving),
                _ => gone.push((id.clone(), session_id.clone())),
            }
        }
        gone
    }

    /// Sessions whose user was removed from a conversation have it open no more.
    pub(crate) fn closed(&self, conversation: &ConversationKey, sessions: &[(UserId, SessionId)]) {
        for (id, session_id) in sessions {
            let key = UserKey { tenant: conversation.tenant.clone(), user: id.clone() };
            if let Some(session) = self.session(&key, session_id) {
                session.doing().close(&conversation.conversation);
            }
        }
    }

    /// Calls `action` for each user under his shard's lock, which is kept from one to the next in the same shard.
    fn each(&self, tenant: &TenantId, users: &[UserId], mut action: impl FnMut(&UserId, &mut Shard, &UserKey)) {
        let mut held: Option<(usize, MutexGuard<'_, Shard>)> = None;
        for id in users {
            let index = shard_of(tenant, id);
            let mut guard = match held.take() {
                Some((at, guard)) if at == index => guard,
                // The one held is let go before the next is taken.
                other => {
                    drop(other);
                    self.shard(index)
                }
            };
            let key = UserKey { tenant: tenant.clone(), user: id.clone() };
            action(id, &mut guard, &key);
            held = Some((index, guard));
        }
    }

    /// Whether a session of the user is to get a newer cursor; if so, it is not again for `interval_ms`.
    pub(crate) fn wants_cursor(&self, key: &UserKey, now_ms: u64, interval_ms: u64) -> bool {
        let shard = self.of(key);
        let sessions = shard.users.get(key).map_or(&[][..], |user| &user.sessions);
        let wants = |session: &Arc<Session>| {
            let doing = session.doing();
            doing.synced_ms.is_some() && doing.cursor_ms + interval_ms <= now_ms
        };
        let wanted = sessions.iter().any(wants);
        if wanted {
            sessions.iter().for_each(|session| session.doing().cursor_ms = now_ms);
        }
        wanted
    }

    // Who can be pushed to

    /// Whether a user may have a device that is pushed to.
    pub(crate) fn may_be_reached(&self, key: &UserKey, view: u64) -> bool {
        let mut shard = self.of(key);
        let Shard { users, unreachable, .. } = &mut *shard;
        may_be_reached(users.get(key), unreachable, key, view)
    }

    /// He had none when the view with this number was. Of `most` users without sessions that is remembered.
    pub(crate) fn note_unreachable(&self, key: &UserKey, view: u64, most: usize) {
        let mut shard = self.of(key);
        match shard.users.get_mut(key).and_then(|user| user.home.as_mut()) {
            Some(home) => home.unreachable_in = Some(view),
            None => shard.unreachable.note(key, view, most / SHARDS),
        }
    }

    /// He has one now.
    pub(crate) fn forget_unreachable(&self, key: &UserKey) {
        let mut shard = self.of(key);
        shard.unreachable.forget(key);
        if let Some(home) = shard.users.get_mut(key).and_then(|user| user.home.as_mut()) {
            home.unreachable_in = None;
        }
    }

    // Inbox changes

    /// Notes a change to one user's inbox.
    pub(crate) fn note(&self, user: &UserKey, change: InboxChange) {
        self.note_in(&mut self.of(user).dirty, user, change);
    }

    /// Counted while the shard is locked: what is taken has been counted before.
    fn note_in(&self, dirty: &mut Dirty, user: &UserKey, change: InboxChange) {
        let noted = dirty.note(user, change);
        if noted > 0 {
            self.dirty_bytes.fetch_add(noted, Ordering::Relaxed);
        }
    }

    /// Takes all that waits to be written, each user's in the order in which his conversations last changed.
    pub(crate) fn take_dirty(&self) -> Vec<(UserKey, InboxChange)> {
        let mut taken = Vec::new();
        for mut shard in self.all() {
            taken.extend(shard.dirty.take());
        }
        let weighed = taken.iter().map(|(user, change)| weight(user, change)).sum();
        self.dirty_bytes.fetch_sub(weighed, Ordering::Relaxed);
        taken.sort_by(|a, b| a.0.cmp(&b.0));
        taken
    }

    /// What waits to be written for one user; it stays noted.
    pub(crate) fn dirty_of(&self, user: &UserKey) -> Vec<(UserKey, InboxChange)> {
        self.of(user).dirty.of(user).iter().map(|change| (user.clone(), change.clone())).collect()
    }

    /// How many users have something waiting.
    pub(crate) fn dirty_users(&self) -> usize {
        self.all().map(|shard| shard.dirty.users()).sum()
    }

    /// What all that waits weighs.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes.load(Ordering::Relaxed)
    }

    // The home's part

    /// Works on what this node as a user's home knows of him, making it if need be; forgets it if it says nothing.
    pub(crate) fn at_home<T>(&self, key: &UserKey, work: impl FnOnce(&mut HomeUser) -> T) -> T {
        let mut shard = self.of(key);
        let user = shard.users.entry(key.clone()).or_default();
        let home = user.home.get_or_insert_with(|| {
            Box::new(HomeUser { presence: UserPresence::offline(None), watchers: Vec::new(), unreachable_in: None })
        });
        let result = work(home);
        if home.presence.is_offline() && home.watchers.is_empty() {
            user.home = None;
        }
        if user.is_idle() {
            shard.users.remove(key);
        }
        result
    }

    /// Works on what this node as a user's home knows of him, if anything.
    pub(crate) fn if_at_home<T>(&self, key: &UserKey, work: impl FnOnce(&mut HomeUser) -> T) -> Option<T> {
        let known = self.of(key).users.get(key).is_some_and(|user| user.home.is_some());
        known.then(|| self.at_home(key, work))
    }

    /// Who this node is a home of.
    pub(crate) fn homed(&self) -> Vec<UserKey> {
        let homed_in = |shard: MutexGuard<'_, Shard>| -> Vec<UserKey> {
            shard.users.iter().filter(|(_, user)| user.home.is_some()).map(|(key, _)| key.clone()).collect()
        };
        let mut homed: Vec<_> = self.all().flat_map(homed_in).collect();
        homed.sort();
        homed
    }

    /// Forgets a user as one whose home this is.
    pub(crate) fn leave_home(&self, key: &UserKey) {
        let mut shard = self.of(key);
        let Some(user) = shard.users.get_mut(key) else { return };
        user.home = None;
        if user.is_idle() {
            shard.users.remove(key);
        }
    }
}

fn may_be_reached(user: Option<&User>, unreachable: &mut Unreachable, key: &UserKey, view: u64) -> bool {
    match user.and_then(|user| user.home.as_ref()) {
        Some(home) => home.unreachable_in != Some(view),
        None => !unreachable.has(key, view),
    }
}

fn registration_of(key: &UserKey, user: Option<&User>) -> Registration {
    let sessions = user.map_or(&[][..], |user| &user.sessions);
    Registration {
        user: key.clone(),
        sessions: count(sessions),
        saved: user.and_then(|user| user.saved.as_deref().copied()).map(Into::into),
        arrived: sessions.iter().filter_map(|session| session.arrival()).collect(),
    }
}

fn count(sessions: &[Arc<Session>]) -> u32 {
    u32::try_from(sessions.len()).unwrap_or(u32::MAX)
}

fn deliver_to(user: &User, frames: &[Outgoing], held: &Held, giving: &mut Giving) {
    for session in user.sessions.iter().filter(|session| !held.iter().any(|held| held.id == session.id)) {
        deliver_to_session(user, session, frames, giving);
    }
}

fn deliver_to_session(user: &User, session: &Session, frames: &[Outgoing], giving: &mut Giving) {
    let mut has_entry = false;
    for frame in frames {
        let hidden = frame
            .skip
            .hidden_from
            .as_ref()
            .is_some_and(|other| user.blocked.as_ref().is_some_and(|blocked| blocked.contains_key(other)));
        if !hidden && session.wants(&frame.skip) {
            giving.fan_out.give(&session.socket, &frame.delivery);
            has_entry |= frame.seq.is_some();
        }
    }
    if has_entry {
        giving.given.add(session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Delivery, Socket};
    use switchboard_protocol::client::PresenceStatus;
    use switchboard_protocol::{CloseCode, Timestamp};

    struct Deaf;

    impl Socket for Deaf {
        fn deliver(&self, _: &Arc<Delivery>) {}
        fn close(&self, _: CloseCode) {}
        fn reconnect(&self, _: u64, _: Option<&str>) {}
    }

    fn alice() -> UserKey {
        UserKey { tenant: TenantId::default(), user: "alice".parse().unwrap() }
    }

    fn session(id: &str) -> Session {
        Session {
            id: id.parse().unwrap(),
            user: alice(),
            device: "phone".parse().unwrap(),
            instance: InstanceId::default(),
            issued_at: None,
            connected_at: Timestamp::from_unix_ms(0),
            socket: Arc::new(Deaf),
            doing: Mutex::default(),
        }
    }

    #[test]
    fn what_a_user_set_is_not_brought_back_by_his_next_session() {
        let users = Users::new();
        // Someone watches him, so he stays known without a session.
        let me = Incarnation { node: "n1".parse().unwrap(), life: 1 };
        users.at_home(&alice(), |home| home.watchers.push(me));
        let saved = SavedPresence { status: PresenceStatus::Away, revision: 1, last_seen_at: None };
        let first = session("s1");
        users.add(Arc::new(session("s1")), Blocked::new(), 10).unwrap();
        users.save_presence(&alice(), saved);
        assert!(users.registration_of(&alice()).saved.is_some());
        users.remove(&first);
        users.save_presence(&alice(), saved);
        assert!(users.registration_of(&alice()).saved.is_none());
    }

    /// ARCHITECTURE.md, "What a connection holds".
    #[test]
    fn what_a_user_costs() {
        let sizes = (size_of::<Session>(), size_of::<(UserKey, User)>(), size_of::<HomeUser>());
        assert_eq!(sizes, (296, 96, 104));
    }
}
