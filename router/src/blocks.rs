//! Blocks between users: written, then in force on every node before the answer.

use crate::api::{Actor, Answer};
use crate::envelope::Ask;
use crate::node::{Node, lock, unavailable};
use crate::owner::Input;
use crate::session::Watcher;
use crate::view::direct_conversation;
use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_presence::first_block;
use switchboard_protocol::{ProtocolError, Timestamp, UserId};
use switchboard_store::{ConversationKey, StoreError, UserKey, UserRecord};

/// The users between whom and one user there is a block, with its time.
pub(crate) type Blocked = BTreeMap<UserId, Timestamp>;

/// Who is blocked either way, as the store has it; the earlier time where both block, as it hides more.
pub(crate) fn blocked_of(record: &UserRecord) -> Blocked {
    let mut blocked = Blocked::new();
    for (other, at) in record.blocks.iter().chain(&record.blocked_by) {
        let known = blocked.get(other).copied();
        blocked.extend(first_block(known, Some(*at)).map(|at| (other.clone(), at)));
    }
    blocked
}

impl Node {
    /// `block` and `unblock`: in force, on every node, when it answers.
    pub(crate) async fn block(
        self: &Arc<Self>,
        actor: &Actor,
        other: &UserId,
        block: bool,
    ) -> Result<Answer, ProtocolError> {
        let user = &actor.user;
        if *other == user.user {
            return Err(ProtocolError::bad_request("user_id", "must be another user"));
        }
        let written =
            if block { self.store.block(user, other, self.now()).await } else { self.store.unblock(user, other).await };
        written.map_err(|error: StoreError| unavailable(self, &error))?;
        self.on_block_changed(user, other).await?;
        let ask = || Ask::BlockChanged { tenant: user.tenant.clone(), by: user.user.clone(), other: other.clone() };
        self.ask_all(ask).await?;
        Ok(Answer::done())
    }

    /// This node's part of a block: what it knows of the two users is read anew.
    pub(crate) async fn on_block_changed(self: &Arc<Self>, by: &UserKey, other: &UserId) -> Result<(), ProtocolError> {
        self.user_changed();
        let other_key = UserKey { tenant: by.tenant.clone(), user: other.clone() };
        for (user, about) in [(by, &other_key), (&other_key, by)] {
            let sessions = self.users.sessions(user);
            if sessions.is_empty() {
                continue;
            }
            let record = self.store.user(user).await.map_err(|error| unavailable(self, &error))?;
            let blocked = blocked_of(&record);
            let at = blocked.get(&about.user).copied();
            self.users.set_blocked(user, blocked);
            let mut watches = lock(&self.watches);
            for session in sessions {
                watches.blocked(&Watcher(session), about, at, self.clock.monotonic_ms());
            }
        }
        let conversation = direct_conversation(&by.tenant, &by.user, other);
        let key = ConversationKey { tenant: by.tenant.clone(), conversation };
        if self.owners.is_active(&key) {
            let told = self.told_here(|reply| {
                // Without room the block is not in force, and is set again.
                if let Err(refused) = self.owners.say_if_active(&key, Input::BlockChanged { reply }) {
                    refused.tell(self);
                }
            });
            told.await?;
        }
        Ok(())
    }
}
