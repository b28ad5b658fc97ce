//! Decides who is notified of what: the arbiters at the users' homes, fed with messages and receipts, and their
//! decisions on the way to the store (DESIGN §7).
//!
//! Owns one small state per user with a device, and none for other users. A message is confirmed to its owner only when
//! it has been decided and the decision is in the store ([`Ticket`]), so a home that is killed loses none. Sends
//! nothing itself.

mod calls;
mod figures;
mod note;
mod reach;
mod ticket;
mod turn;
mod user;
mod write;

pub(crate) use figures::PushFigures;
pub(crate) use note::{Again, News};
pub(crate) use reach::Unreachable;
pub(crate) use ticket::{Ticket, Undecided};

use crate::node::{Node, Wake, lock};
use crate::users::{SHARDS, shard_of};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use switchboard_push::{Now, Output, Rules};
use switchboard_store::{ConversationKey, UserKey};
use tokio::sync::Notify;

use self::user::{Event, PushUser, Round};
use self::write::{Write, Writes};

/// The users whose pushes this node decides about. Sharded by user; a lock is never held across an await.
pub(crate) struct Pushes {
    shards: Box<[Mutex<HashMap<UserKey, PushUser>>]>,
    /// Users who wait for a turn at the store, each once.
    turns: Mutex<VecDeque<UserKey>>,
    turn_came: Notify,
    writes: Writes,
    /// The node ends: nothing is held any more.
    is_leaving: AtomicBool,
}

impl Default for Pushes {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            turns: Mutex::default(),
            turn_came: Notify::new(),
            writes: Writes::default(),
            is_leaving: AtomicBool::new(false),
        }
    }
}

impl Pushes {
    fn shard(&self, user: &UserKey) -> &Mutex<HashMap<UserKey, PushUser>> {
        &self.shards[shard_of(&user.tenant, &user.user)]
    }

    fn queue(&self, user: &UserKey) {
        lock(&self.turns).push_back(user.clone());
        self.turn_came.notify_one();
    }

    /// The next user to have a turn.
    async fn next_turn(&self) -> UserKey {
        loop {
            if let Some(user) = lock(&self.turns).pop_front() {
                return user;
            }
            self.turn_came.notified().await;
        }
    }

    /// Gives a turn to the users for whom `concerns` is true.
    fn queue_all(&self, concerns: impl Fn(&UserKey, &PushUser) -> bool) {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut users = lock(shard);
            let concerned = users.iter_mut().filter(|(key, user)| !user.is_queued && concerns(key, user));
            all.extend(concerned.map(|(key, user)| {
                user.is_queued = true;
                key.clone()
            }));
        }
        all.sort();
        all.iter().for_each(|user| self.queue(user));
    }

    /// The number of known users, and of messages that are not decided.
    fn count(&self) -> (usize, usize) {
        let of_shard = |shard: &Mutex<HashMap<UserKey, PushUser>>| {
            let users = lock(shard);
            (users.len(), users.values().map(PushUser::undecided).sum::<usize>())
        };
        self.shards.iter().map(of_shard).fold((0, 0), |(users, held), (more, also)| (users + more, held + also))
    }

    /// Whether nothing is only in memory.
    fn is_settled(&self) -> bool {
        self.count().1 == 0 && self.writes.is_empty()
    }
}

impl Node {
    fn push_rules(&self) -> Rules {
        let options = self.options();
        Rules {
            hold_ms: options.push_hold_ms,
            collapse_ms: options.push_collapse_ms,
            per_hour: options.push_per_hour,
            conversations_max: options.push_conversations_max,
            messages_max: options.push_messages_max,
        }
    }

    /// The circumstances for a decision about a user now.
    fn push_round(&self, user: &UserKey) -> Round {
        Round {
            now: Now { ms: self.clock.monotonic_ms(), at: self.now() },
            rules: self.push_rules(),
            changes: self.user_changes(user),
            hands_over: self.hands_pushes_over(user),
            is_new_here: self.clock.monotonic_ms() < self.view_changed_ms() + crate::home::HOME_MOVES_MS,
        }
    }

    /// Whether another node decides about this user's pushes from now on.
    fn hands_pushes_over(&self, user: &UserKey) -> bool {
        self.pushes.is_leaving.load(Ordering::Relaxed) || self.placement().home(user).incarnation != self.me
    }

    /// Handles events of a user who may have a device.
    fn push_events(&self, user: &UserKey, events: Vec<Event>) {
        let round = self.push_round(user);
        let mut users = lock(self.pushes.shard(user));
        if !users.contains_key(user) {
            if events.iter().all(Event::is_of_the_past) {
                return;
            }
            if !self.has_room_for_push_user(&mut users) {
                self.figures.push.dropped_users.increment(events.len() as u64);
                return;
            }
        }
        let known = users.entry(user.clone()).or_default();
        let mut out = Vec::new();
        let dropped = events.into_iter().filter_map(|event| known.take(event, &round, &mut out).err()).count();
        self.figures.push.dropped_waiting.increment(dropped as u64);
        self.push_decided(user, known, out, &round);
    }

    /// Whether a shard has room for one more user, if need be after forgetting those who can be loaded again.
    fn has_room_for_push_user(&self, users: &mut HashMap<UserKey, PushUser>) -> bool {
        let most = (self.options().push_users_max / SHARDS).max(1);
        if users.len() >= most {
            user::forget_half(users);
        }
        users.len() < most
    }

    /// Sends an arbiter's decisions to the store, and sets its deadline. Called with the user's shard locked, so that
    /// the decisions are written in order.
    fn push_decided(&self, user: &UserKey, known: &mut PushUser, out: Vec<Output>, round: &Round) {
        out.iter().for_each(|output| self.note_push_step(user, output));
        let outputs: Vec<Output> = out.into_iter().filter(|output| !matches!(output, Output::Trace { .. })).collect();
        let tickets = known.decided();
        // What is confirmed may depend on an earlier decision that is not written yet.
        let writes = !outputs.is_empty() || (!tickets.is_empty() && !self.pushes.writes.is_empty());
        if writes && !self.pushes.writes.push(Write { user: user.clone(), outputs, tickets }) {
            self.figures.push.dropped_writes.increment(1);
        }
        if known.wants_turn(round) && !std::mem::replace(&mut known.is_queued, true) {
            self.pushes.queue(user);
        }
        if let Some(deadline_ms) = known.new_deadline_ms() {
            self.wake_at(deadline_ms, Wake::Push(user.clone()));
        }
    }

    /// Counts an arbiter's decisions, and notes them in the message's trace.
    fn note_push_step(&self, user: &UserKey, output: &Output) {
        self.figures.push.note(output);
        let Some((conversation, seq, step)) = figures::traced(output) else { return };
        let key = ConversationKey { tenant: user.tenant.clone(), conversation: conversation.clone() };
        self.trace_step(&key, seq, Some(&user.user), step);
    }

    /// A user's deadline may have come.
    pub(crate) fn on_push_wake(&self, user: &UserKey) {
        let round = self.push_round(user);
        if let Some(known) = lock(self.pushes.shard(user)).get_mut(user) {
            known.woken();
            self.push_decided(user, known, Vec::new(), &round);
        }
    }

    /// After a view change: hands over the users who have another home now.
    pub(crate) fn leave_pushes(&self) {
        let placement = self.placement();
        self.pushes.queue_all(|user, _| placement.home(user).incarnation != self.me);
    }

    /// The node ends: puts everything held into the queue. [`Node::has_left_pushes`] says when that is done.
    pub(crate) fn leave_all_pushes(&self) {
        self.pushes.is_leaving.store(true, Ordering::Relaxed);
        self.pushes.queue_all(|_, user| user.undecided() > 0);
    }

    /// Whether nothing that push has decided, or has to decide, is only in memory.
    pub(crate) fn has_left_pushes(&self) -> bool {
        self.pushes.is_settled()
    }

    /// Updates the gauges.
    pub(crate) fn gauge_pushes(&self) {
        let (users, undecided) = self.pushes.count();
        self.figures.push.gauge(users, undecided, self.pushes.writes.waiting());
    }

    /// Notified when the push queue may have a new job.
    pub(crate) fn push_nudges(&self) -> Arc<Notify> {
        self.push_nudges.clone()
    }
}
