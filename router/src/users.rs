//! The users known to this node: their sessions here and, if this node is their home, their sessions elsewhere, their
//! presence and the inbox changes that wait to be written. One look-up finds all this, as waiting for memory is most of
//! what a recipient of a fan-out costs here.
//!
//! Sharded by user. A shard's lock is held for a look-up and some pushes, never across an await. The users of a
//! delivery are ordered by shard, so a fan-out takes each lock once, not once per recipient.

mod deliver;
mod home;

use self::home::HomeUser;
use crate::blocks::Blocked;
use crate::dirty::{Dirty, Place};
use crate::envelope::Registration;
use crate::push::Unreachable;
use crate::session::Session;
use hashbrown::{Equivalent, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_presence::SavedPresence;
use switchboard_protocol::{DeviceId, InstanceId, SessionId, TenantId, UserId};
use switchboard_store::UserKey;
use xxhash_rust::xxh3::xxh3_64;

pub(crate) const SHARDS: usize = 32;

/// A user, as far as this node knows them.
#[derive(Default)]
struct User {
    /// Their sessions on this node. They rarely change, so there is no room for more.
    sessions: Box<[Arc<Session>]>,
    blocked: Option<Box<Blocked>>,
    /// The presence that the user set, to be sent to a new home.
    saved: Option<Box<SavedPresence>>,
    /// What this node knows as the user's home.
    home: Option<Box<HomeUser>>,
    /// Where in the shard the changes to their inbox wait to be written.
    dirty: Option<Place>,
}

impl User {
    fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.home.is_none() && self.dirty.is_none()
    }
}

/// As [`UserKey`], to look a user up without making one.
#[derive(Clone, Copy, Hash)]
struct UserRef<'a> {
    tenant: &'a TenantId,
    user: &'a UserId,
}

impl Equivalent<UserKey> for UserRef<'_> {
    fn equivalent(&self, key: &UserKey) -> bool {
        *self.user == key.user && *self.tenant == key.tenant
    }
}

impl<'a> From<&'a UserKey> for UserRef<'a> {
    fn from(key: &'a UserKey) -> Self {
        Self { tenant: &key.tenant, user: &key.user }
    }
}

impl From<&UserRef<'_>> for UserKey {
    fn from(user: &UserRef<'_>) -> Self {
        Self { tenant: user.tenant.clone(), user: user.user.clone() }
    }
}

#[derive(Default)]
struct Shard {
    users: HashMap<UserKey, User>,
    dirty: Dirty,
    /// Users without any other state here that have no device for push.
    unreachable: Unreachable,
}

/// See the file's comment.
pub(crate) struct Users {
    shards: Box<[Mutex<Shard>]>,
    dirty_bytes: AtomicUsize,
}

/// The result of adding a session.
pub(crate) struct Added {
    /// The older session of the same device and instance.
    pub(crate) replaced: Option<Arc<Session>>,
}

/// The shard of a user. Deliveries are ordered by it.
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

    /// Takes the users with sessions over from a former life of the node, which keeps what it knew as their home.
    pub(crate) fn adopt(&self, former: &Self) {
        for index in 0..SHARDS {
            let mut former = former.shard(index);
            let with_sessions = former.users.iter_mut().filter(|(_, user)| !user.sessions.is_empty());
            let here = with_sessions.map(|(key, user)| {
                let left = User { home: user.home.take(), dirty: user.dirty.take(), ..User::default() };
                (key.clone(), std::mem::replace(user, left))
            });
            self.shard(index).users.extend(here);
        }
    }

    /// Adds a session, in place of an older one of the same device and instance. `None` if the user has `most` already.
    pub(crate) fn add(&self, session: Arc<Session>, blocked: Blocked, most: u32) -> Option<Added> {
        let mut shard = self.of(&session.user);
        let same = |other: &Arc<Session>| other.device == session.device && other.instance == session.instance;
        let others = shard.users.get(&session.user).map_or(&[][..], |user| &*user.sessions);
        let older = others.iter().position(same);
        if older.is_none() && count(others) >= most {
            return None;
        }
        let user = shard.users.entry(session.user.clone()).or_default();
        user.blocked = (!blocked.is_empty()).then(|| Box::new(blocked));
        let mut sessions = std::mem::take(&mut user.sessions).into_vec();
        let replaced = older.map(|at| sessions.swap_remove(at));
        sessions.reserve_exact(1);
        sessions.push(session);
        user.sessions = sessions.into();
        Some(Added { replaced })
    }

    /// Removes this session; `false` if it was replaced before.
    pub(crate) fn remove(&self, session: &Session) -> bool {
        let mut shard = self.of(&session.user);
        let Some(user) = shard.users.get_mut(&session.user) else { return false };
        let Some(at) = user.sessions.iter().position(|other| other.id == session.id) else { return false };
        let mut sessions = std::mem::take(&mut user.sessions).into_vec();
        sessions.swap_remove(at);
        user.sessions = sessions.into();
        if user.sessions.is_empty() {
            // The home keeps it as long as it is valid; kept here, it would come back with the user's next session.
            user.saved = None;
        }
        if user.is_idle() {
            shard.users.remove(&session.user);
        }
        true
    }

    /// The sessions of a user on this node.
    pub(crate) fn sessions(&self, user: &UserKey) -> Vec<Arc<Session>> {
        self.of(user).users.get(user).map(|user| user.sessions.to_vec()).unwrap_or_default()
    }

    /// One session of a user, if it is on this node.
    pub(crate) fn session(&self, user: &UserKey, id: &SessionId) -> Option<Arc<Session>> {
        let shard = self.of(user);
        shard.users.get(user)?.sessions.iter().find(|session| session.id == *id).cloned()
    }

    /// A user's session with this device and instance, if it is on this node.
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

    /// The registrations of the users with sessions on this node, ordered by user.
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

    /// A user's registration at their home.
    pub(crate) fn registration_of(&self, key: &UserKey) -> Registration {
        registration_of(key, self.of(key).users.get(key))
    }

    /// Keeps a user's presence as the home knows it, for a new home.
    pub(crate) fn save_presence(&self, key: &UserKey, saved: SavedPresence) {
        if let Some(user) = self.of(key).users.get_mut(key).filter(|user| !user.sessions.is_empty()) {
            user.saved = Some(Box::new(saved));
        }
    }

    /// Whether a session of the user is due for a newer cursor; if so, none is again for `interval_ms`.
    pub(crate) fn wants_cursor(&self, key: &UserKey, now_ms: u64, interval_ms: u64) -> bool {
        let shard = self.of(key);
        let sessions = shard.users.get(key).map_or(&[][..], |user| &*user.sessions);
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

    /// The users with whom this one has a block. Complete while the user has a session here.
    pub(crate) fn blocked(&self, user: &UserKey) -> Blocked {
        let shard = self.of(user);
        shard.users.get(user).and_then(|user| user.blocked.as_deref().cloned()).unwrap_or_default()
    }

    /// Replaces a user's blocks, if they have a session here.
    pub(crate) fn set_blocked(&self, key: &UserKey, blocked: Blocked) {
        if let Some(user) = self.of(key).users.get_mut(key) {
            user.blocked = (!blocked.is_empty()).then(|| Box::new(blocked));
        }
    }
}

fn registration_of(key: &UserKey, user: Option<&User>) -> Registration {
    let sessions = user.map_or(&[][..], |user| &*user.sessions);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Delivery, Socket};
    use crate::dirty::empty_change;
    use switchboard_protocol::client::PresenceStatus;
    use switchboard_protocol::{CloseCode, Timestamp};
    use switchboard_store::Incarnation;

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
        // Someone watches her, so she stays known without a session.
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

    #[test]
    fn who_has_a_change_that_waits_is_known_until_it_is_taken() {
        let users = Users::new();
        let change = |id: &str| empty_change(&id.parse().unwrap());
        let waiting = || (users.dirty_users(), users.dirty_of(&alice()).len());
        let first = session("s1");
        users.add(Arc::new(session("s1")), Blocked::new(), 10).unwrap();
        for id in ["g:a", "g:b", "g:a"] {
            users.note(&alice(), &change(id));
        }
        users.remove(&first);
        assert_eq!(waiting(), (1, 2));
        assert!(users.dirty_bytes() > 0);
        let shard = shard_of(&alice().tenant, &alice().user);
        assert_eq!(users.take_dirty(|other| other != shard), []);
        assert_eq!(users.take_dirty(|own| own == shard), [(alice(), change("g:b")), (alice(), change("g:a"))]);
        assert_eq!((waiting(), users.dirty_bytes()), ((0, 0), 0));
        assert!(users.of(&alice()).users.is_empty());
    }

    #[test]
    fn the_next_life_gets_the_sessions_and_the_former_one_keeps_the_changes() {
        let (former, next) = (Users::new(), Users::new());
        former.add(Arc::new(session("s1")), Blocked::new(), 10).unwrap();
        former.note(&alice(), &empty_change(&"g:a".parse().unwrap()));
        next.adopt(&former);
        assert_eq!((former.sessions(&alice()).len(), next.sessions(&alice()).len()), (0, 1));
        let waiting = |users: &Users| users.dirty_of(&alice()).len();
        assert_eq!((waiting(&former), waiting(&next)), (1, 0));
    }

    /// ARCHITECTURE.md, "What a connection holds".
    #[test]
    fn what_a_user_costs() {
        let sizes = (size_of::<Session>(), size_of::<(UserKey, User)>(), size_of::<HomeUser>());
        assert_eq!(sizes, (296, 96, 104));
    }
}
