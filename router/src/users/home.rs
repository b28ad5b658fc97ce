//! What this node knows of users as their home: where their sessions are, their presence, whether they have a device, and the
//! inbox changes that wait to be written.

use super::{SHARDS, Shard, User, UserRef, Users};
use crate::dirty::{Dirty, weight};
use crate::push::Unreachable;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use switchboard_presence::UserPresence;
use switchboard_store::{InboxChange, Incarnation, UserKey};

/// What the home of a user knows.
pub(crate) struct HomeUser {
    /// The user's sessions on all nodes, and the presence that they set.
    pub(crate) presence: UserPresence<Incarnation>,
    /// Nodes with sessions that watch the user.
    pub(crate) watchers: Vec<Incarnation>,
    /// The view in which the user is known to have no device.
    unreachable_in: Option<u64>,
}

impl Users {
    // Presence and watchers

    /// Runs `work` on a user's home state, which is made if needed and dropped if it is empty afterwards.
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

    /// Runs `work` on a user's home state, if there is any.
    pub(crate) fn if_at_home<T>(&self, key: &UserKey, work: impl FnOnce(&mut HomeUser) -> T) -> Option<T> {
        let known = self.of(key).users.get(key).is_some_and(|user| user.home.is_some());
        known.then(|| self.at_home(key, work))
    }

    /// The users whose home is this node.
    pub(crate) fn homed(&self) -> Vec<UserKey> {
        let homed_in = |shard: MutexGuard<'_, Shard>| -> Vec<UserKey> {
            shard.users.iter().filter(|(_, user)| user.home.is_some()).map(|(key, _)| key.clone()).collect()
        };
        let mut homed: Vec<_> = self.all().flat_map(homed_in).collect();
        homed.sort();
        homed
    }

    /// Drops a user's home state.
    pub(crate) fn leave_home(&self, key: &UserKey) {
        let mut shard = self.of(key);
        let Some(user) = shard.users.get_mut(key) else { return };
        user.home = None;
        if user.is_idle() {
            shard.users.remove(key);
        }
    }

    // Devices

    /// Whether a user may have a device for push.
    pub(crate) fn may_be_reached(&self, key: &UserKey, view: u64) -> bool {
        let mut shard = self.of(key);
        let Shard { users, unreachable, .. } = &mut *shard;
        may_be_reached(users.get(key), unreachable, UserRef::from(key), view)
    }

    /// Notes that a user had no device as of a view. At most `most` users without sessions are remembered.
    pub(crate) fn note_unreachable(&self, key: &UserKey, view: u64, most: usize) {
        let mut shard = self.of(key);
        match shard.users.get_mut(key).and_then(|user| user.home.as_mut()) {
            Some(home) => home.unreachable_in = Some(view),
            None => shard.unreachable.note(key, view, most / SHARDS),
        }
    }

    /// Notes that a user has a device now.
    pub(crate) fn forget_unreachable(&self, key: &UserKey) {
        let mut shard = self.of(key);
        shard.unreachable.forget(key);
        if let Some(home) = shard.users.get_mut(key).and_then(|user| user.home.as_mut()) {
            home.unreachable_in = None;
        }
    }

    // Inbox changes

    /// Notes a change to one user's inbox.
    pub(crate) fn note(&self, key: &UserKey, change: &InboxChange) {
        let mut shard = self.of(key);
        let Shard { users, dirty, .. } = &mut *shard;
        let who = UserRef::from(key);
        self.note_of(who, users.entry_ref(&who).or_default(), dirty, change);
    }

    /// The count changes under the shard's lock, so that nothing is taken before it is counted.
    pub(super) fn note_of(&self, who: UserRef<'_>, user: &mut User, dirty: &mut Dirty, change: &InboxChange) {
        if dirty.note(&mut user.dirty, || UserKey::from(&who), change) {
            self.dirty_bytes.fetch_add(weight(who.tenant, who.user, change), Ordering::Relaxed);
        }
    }

    /// Takes the changes that wait to be written, of the shards that are `wanted`; each user's are in the order in which
    /// their conversations last changed.
    pub(crate) fn take_dirty(&self, wanted: impl Fn(usize) -> bool) -> Vec<(UserKey, InboxChange)> {
        let mut taken = Vec::new();
        for shard in (0..SHARDS).filter(|shard| wanted(*shard)) {
            let Shard { users, dirty, .. } = &mut *self.shard(shard);
            for (key, changes) in dirty.take() {
                if let Some(user) = users.get_mut(&key) {
                    user.dirty = None;
                    if user.is_idle() {
                        users.remove(&key);
                    }
                }
                taken.extend(changes.into_iter().map(|change| (key.clone(), change)));
            }
        }
        let weighed = taken.iter().map(|(key, change)| weight(&key.tenant, &key.user, change)).sum();
        self.dirty_bytes.fetch_sub(weighed, Ordering::Relaxed);
        taken.sort_by(|a, b| a.0.cmp(&b.0));
        taken
    }

    /// The changes that wait to be written for one user. They stay noted.
    pub(crate) fn dirty_of(&self, key: &UserKey) -> Vec<(UserKey, InboxChange)> {
        let shard = self.of(key);
        let place = shard.users.get(key).and_then(|user| user.dirty);
        let changes = place.map_or(&[][..], |place| shard.dirty.at(place));
        changes.iter().map(|change| (key.clone(), change.clone())).collect()
    }

    /// How many users have changes that wait.
    pub(crate) fn dirty_users(&self) -> usize {
        self.all().map(|shard| shard.dirty.users()).sum()
    }

    /// The bytes of all changes that wait.
    pub(crate) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes.load(Ordering::Relaxed)
    }
}

pub(super) fn may_be_reached(user: Option<&User>, unreachable: &mut Unreachable, who: UserRef<'_>, view: u64) -> bool {
    match user.and_then(|user| user.home.as_ref()) {
        Some(home) => home.unreachable_in != Some(view),
        None => !unreachable.has(&UserKey::from(&who), view),
    }
}
