//! Delivering frames to users' sessions on this node and, at their home, noting the changes to their inboxes. Keeps the lock of
//! a shard from one user to the next, as deliveries are ordered by shard.

use super::home::may_be_reached;
use super::{Shard, User, UserRef, Users, shard_of};
use crate::dirty::{change_for_all, changes_for_some};
use crate::envelope::{Deliver, Note, Outgoing};
use crate::fan_out::Giving;
use crate::session::{Held, Session};
use std::collections::BTreeMap;
use std::sync::MutexGuard;
use switchboard_protocol::{SessionId, TenantId, UserId};
use switchboard_store::{ConversationKey, Incarnation, UserKey};

/// The users of a delivery that need more than the sessions here.
#[derive(Default)]
pub(crate) struct Further {
    /// The users with sessions on other nodes, by node.
    pub(crate) elsewhere: BTreeMap<Incarnation, Vec<UserId>>,
    /// The users who may have a device, if the delivery concerns push.
    pub(crate) pushed: Vec<UserId>,
}

impl Users {
    /// Gives frames to the users' sessions on this node.
    pub(crate) fn relay(&self, tenant: &TenantId, users: &[UserId], frames: &[Outgoing], giving: &mut Giving) {
        self.each(tenant, users, |who, shard| {
            if let Some(user) = shard.users.get(&who) {
                deliver_to(user, frames, &Held::new(), giving);
            }
        });
    }

    /// Delivers as the users' home, `me`, in the view with number `view`: gives frames to their sessions here, except
    /// those held back, and notes the changes to their inboxes.
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
        self.each(&deliver.conversation.tenant, &deliver.users, |who, shard| {
            let Shard { users, dirty, unreachable } = shard;
            // One look-up, which makes the entry where a change will wait in it.
            let mut user = match &for_all {
                Some(_) => Some(users.entry_ref(&who).or_default()),
                None => users.get_mut(&who),
            };
            if let Some(user) = &mut user {
                deliver_to(user, &deliver.frames, held, giving);
                let nodes = user.home.iter().flat_map(|home| home.presence.nodes());
                for (node, _) in nodes.filter(|(node, _)| *node != me) {
                    further.elsewhere.entry(node.clone()).or_default().push(who.user.clone());
                }
                if let Some(change) = &for_all {
                    self.note_of(who, user, dirty, change);
                }
            }
            if concerns_push && may_be_reached(user.as_deref(), unreachable, who, view) {
                further.pushed.push(who.user.clone());
            }
        });
        for (user, change) in deliver.note.iter().flat_map(|note| changes_for_some(deliver, note)) {
            self.note(&UserKey { tenant: deliver.conversation.tenant.clone(), user }, &change);
        }
        further
    }

    /// Gives frames to single sessions; returns those that are no longer here.
    pub(crate) fn to_sessions(
        &self,
        tenant: &TenantId,
        sessions: &[(UserId, SessionId)],
        frames: &[Outgoing],
        giving: &mut Giving,
    ) -> Vec<(UserId, SessionId)> {
        let mut gone = Vec::new();
        for (id, session_id) in sessions {
            let shard = self.shard(shard_of(tenant, id));
            let user = shard.users.get(&UserRef { tenant, user: id });
            let session = user.and_then(|user| user.sessions.iter().find(|session| session.id == *session_id));
            match (user, session) {
                (Some(user), Some(session)) => deliver_to_session(user, session, frames, giving),
                _ => gone.push((id.clone(), session_id.clone())),
            }
        }
        gone
    }

    /// Closes a conversation for sessions whose user was removed from it.
    pub(crate) fn closed(&self, conversation: &ConversationKey, sessions: &[(UserId, SessionId)]) {
        for (id, session_id) in sessions {
            let key = UserKey { tenant: conversation.tenant.clone(), user: id.clone() };
            if let Some(session) = self.session(&key, session_id) {
                session.doing().close(&conversation.conversation);
            }
        }
    }

    /// Calls `action` for each user under the lock of their shard, which is kept for the next user of the same shard.
    fn each(&self, tenant: &TenantId, users: &[UserId], mut action: impl FnMut(UserRef<'_>, &mut Shard)) {
        let mut held: Option<(usize, MutexGuard<'_, Shard>)> = None;
        for user in users {
            let index = shard_of(tenant, user);
            let mut guard = match held.take() {
                Some((at, guard)) if at == index => guard,
                // Release one lock before taking the next.
                other => {
                    drop(other);
                    self.shard(index)
                }
            };
            action(UserRef { tenant, user }, &mut guard);
            held = Some((index, guard));
        }
    }
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
            has_entry |= frame.delivery.position.is_some();
        }
    }
    if has_entry {
        giving.given.add(session);
    }
}
