//! Blocks between users, and revocations of users' tokens. Each is written to the store and in force on every node
//! before it is answered.

use crate::api::{Actor, Answer};
use crate::envelope::Ask;
use crate::node::{Node, lock, unavailable};
use crate::owner::Input;
use crate::session::Watcher;
use crate::view::direct_conversation;
use futures_util::stream::{self, StreamExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use switchboard_presence::first_block;
use switchboard_protocol::{CloseCode, ErrorCode, ProtocolError, Timestamp, UserId};
use switchboard_store::{ConversationKey, StoreError, UserKey, UserRecord};

/// User records that are read at the same time.
const READS_AT_ONCE: usize = 16;

/// The users who have a block with one user, with its time.
pub(crate) type Blocked = BTreeMap<UserId, Timestamp>;

/// The users blocked either way, as the store has it; if both block, with the earlier time, which hides more.
pub(crate) fn blocked_of(record: &UserRecord) -> Blocked {
    let mut blocked = Blocked::new();
    for (other, at) in record.blocks.iter().chain(&record.blocked_by) {
        let known = blocked.get(other).copied();
        blocked.extend(first_block(known, Some(*at)).map(|at| (other.clone(), at)));
    }
    blocked
}

impl Node {
    /// `block` and `unblock`: in force on every node when they return.
    pub(crate) async fn block(
        self: &Arc<Self>,
        actor: &Actor,
        other: &UserId,
        block: bool,
    ) -> Result<Answer, ProtocolError> {
        let user = actor.user.clone();
        if *other == user.user {
            return Err(ProtocolError::bad_request("user_id", "must be another user"));
        }
        let (node, other) = (self.clone(), other.clone());
        // The block takes effect even if the session that asked for it is gone by then.
        self.carry_out(async move { node.put_block(&user, &other, block).await }).await
    }

    async fn put_block(self: &Arc<Self>, user: &UserKey, other: &UserId, block: bool) -> Result<Answer, ProtocolError> {
        if block {
            self.write_block(user, other).await?;
        } else {
            self.store.unblock(user, other).await.map_err(|error| unavailable(self, &error))?;
        }
        self.on_block_changed(user, other).await?;
        let ask = || Ask::BlockChanged { tenant: user.tenant.clone(), by: user.user.clone(), other: other.clone() };
        self.ask_all(ask).await?;
        Ok(Answer::done())
    }

    async fn write_block(&self, user: &UserKey, other: &UserId) -> Result<(), ProtocolError> {
        let failed = |error: StoreError| unavailable(self, &error);
        let _one_at_a_time = self.turns_of(user).lock().await;
        let blocks = self.store.user(user).await.map_err(failed)?.blocks;
        let most = self.options().blocks_per_user;
        if blocks.len() >= most && blocks.iter().all(|(blocked, _)| blocked != other) {
            return Err(ProtocolError::conflict(format!("a user blocks at most {most} others")));
        }
        self.store.block(user, other, self.now()).await.map_err(failed)
    }

    /// Refuses a user's tokens issued up to now, and closes their sessions everywhere.
    pub(crate) async fn revoke(self: &Arc<Self>, user: UserKey) -> Result<(), ProtocolError> {
        let node = self.clone();
        self.carry_out(async move {
            let revoked = node.store.revoke(&user, node.now()).await;
            revoked.map_err(|error| unavailable(&node, &error))?;
            node.disconnect(&user).await
        })
        .await
    }

    /// Closes a user's sessions everywhere.
    pub(crate) async fn disconnect(&self, user: &UserKey) -> Result<(), ProtocolError> {
        self.close_sessions(user);
        self.ask_all(|| Ask::Disconnect { user: user.clone() }).await.map(drop)
    }

    /// Puts a block in force on this node: reads the records of both users again.
    pub(crate) async fn on_block_changed(self: &Arc<Self>, by: &UserKey, other: &UserId) -> Result<(), ProtocolError> {
        let other_key = UserKey { tenant: by.tenant.clone(), user: other.clone() };
        self.user_changed(by);
        self.user_changed(&other_key);
        for (user, about) in [(by, &other_key), (&other_key, by)] {
            if !self.users.sessions(user).is_empty() {
                let keep = |record: &UserRecord| self.put_blocks_in_force(user, blocked_of(record), [&about.user]);
                self.read_user(user, keep).await.map_err(|error| unavailable(self, &error))?;
            }
        }
        let conversation = direct_conversation(&by.tenant, &by.user, other);
        let key = ConversationKey { tenant: by.tenant.clone(), conversation };
        if self.owners.is_active(&key) {
            let reply = self.ask_here(|reply| {
                // Without room the block is not in force, and the client sets it again.
                if let Err(refused) = self.owners.say_if_active(&key, Input::BlockChanged { reply }) {
                    refused.answer(self);
                }
            });
            reply.await?;
        }
        Ok(())
    }

    /// Reads a user's record and runs `keep` on it; again if a block or a revocation has come meanwhile.
    async fn read_user<T>(&self, user: &UserKey, keep: impl Fn(&UserRecord) -> T) -> Result<T, StoreError> {
        loop {
            let changes = self.user_changes(user);
            let record = self.store.user(user).await?;
            if let Some(kept) = self.if_unchanged(user, changes, || keep(&record)) {
                return Ok(kept);
            }
        }
    }

    /// Puts a user's blocks in force, of which those with the users in `about` may be new.
    fn put_blocks_in_force<'a>(&self, user: &UserKey, blocked: Blocked, about: impl IntoIterator<Item = &'a UserId>) {
        let about = about
            .into_iter()
            .map(|other| (UserKey { tenant: user.tenant.clone(), user: other.clone() }, blocked.get(other).copied()));
        let about: Vec<_> = about.collect();
        self.users.set_blocked(user, blocked);
        let mut watches = lock(&self.watches);
        for session in self.users.sessions(user) {
            for (other, at) in &about {
                watches.blocked(&Watcher(session.clone()), other, *at, self.clock.monotonic_ms());
            }
        }
    }

    /// Reads all blocks and revocations again whenever some may not have reached this node, because other nodes
    /// considered it dead.
    pub(crate) async fn keep_user_changes(self: Arc<Self>) {
        loop {
            self.user_changes_missed.notified().await;
            // Users who connect from here on read what is in force.
            self.users_changed();
            let users = self.users.registrations().into_iter().map(|registration| registration.user);
            stream::iter(users).for_each_concurrent(READS_AT_ONCE, |user| self.read_again(user)).await;
        }
    }

    /// Until the store answers, or the user is gone.
    async fn read_again(&self, user: UserKey) {
        while !self.users.sessions(&user).is_empty() {
            let keep = |record: &UserRecord| {
                let (before, now) = (self.users.blocked(&user), blocked_of(record));
                let about: BTreeSet<UserId> = before.into_keys().chain(now.keys().cloned()).collect();
                self.put_blocks_in_force(&user, now, &about);
                record.revoked_at
            };
            match self.read_user(&user, keep).await {
                Ok(revoked_at) => return self.close_revoked(&user, revoked_at),
                Err(_) => self.clock.sleep_ms(self.options().retry_after_ms).await,
            }
        }
    }

    /// Closes sessions with a revoked token: the revocation closed the user's sessions, but may not have reached this
    /// node.
    fn close_revoked(&self, user: &UserKey, revoked_at: Option<Timestamp>) {
        for session in self.users.sessions(user) {
            if refuse_revoked(revoked_at, session.issued_at).is_err() {
                session.socket.close(CloseCode::Revoked);
            }
        }
    }
}

/// Tokens whose `iat` is not after the second of revocation, or that have none, are refused (PROTOCOL §6).
pub(crate) fn refuse_revoked(revoked_at: Option<Timestamp>, issued_at: Option<Timestamp>) -> Result<(), ProtocolError> {
    let second = |at: Timestamp| at.unix_ms().div_euclid(1_000);
    match (revoked_at, issued_at) {
        (Some(revoked), issued) if issued.is_none_or(|issued| second(issued) <= second(revoked)) => {
            Err(ProtocolError::new(ErrorCode::Revoked, "the token was revoked"))
        }
        _ => Ok(()),
    }
}
