//! One node: the state that its owners, homes and sessions share, and its background tasks.
//!
//! Owns the placement, the links, the tables of users and conversations, and the timer wheel. A node's work as an owner
//! is in `owner/`, as a home in `home.rs`, on a view change in `view_change.rs`, for its sessions in `router.rs`; its
//! requests to other nodes are in `requests.rs`.

use crate::api::Command;
use crate::bus::Bus;
use crate::envelope::{Deliver, Envelope, Outgoing};
use crate::figures::Figures;
use crate::link::Links;
use crate::options::Options;
use crate::owner::{CommandInput, Input, NewestBytes, Owners, ReplyTo};
use crate::receipts::Unheard;
use crate::session::{Held, Watcher};
use crate::users::{SHARDS, Users, shard_of};
use crate::view::{Placement, View};
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_clock::{Clock, Generator, Wheel};
use switchboard_presence::WatchTable;
use switchboard_protocol::{ProtocolError, SessionId, Timestamp, UserId};
use switchboard_store::{ConversationKey, Incarnation, Store, StoreError, UserKey};
use tokio::sync::{Notify, RwLock, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The wheel's tick, and so the accuracy of every deadline here; the gateway's sessions are woken at the same moments.
/// With half of it, an idle node used 1.5 times the CPU.
pub(crate) const TICK_MS: u64 = 100;

/// Slots of the wheel: one turn is 25.6 s.
const WHEEL_SLOTS: usize = 256;

/// What a deadline on the wheel is for.
#[derive(Debug)]
pub(crate) enum Wake {
    Conversation(ConversationKey),
    /// A user's grace period may be over.
    Grace(UserKey),
    /// A user may have another home for good.
    LeaveHome(UserKey),
    /// Held messages of a user may be due.
    Push(UserKey),
}

/// See the file's comment.
pub(crate) struct Node {
    pub(crate) me: Incarnation,
    pub(crate) clock: Clock,
    pub(crate) generator: Generator,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) links: Links,
    pub(crate) users: Users,
    pub(crate) owners: Owners,
    pub(crate) newest_bytes: Arc<NewestBytes>,
    pub(crate) watches: Mutex<WatchTable<Watcher, UserKey>>,
    pub(crate) last_seen: Mutex<BTreeMap<UserKey, Timestamp>>,
    /// Held for writing while inbox changes are being written to the store: readers of inboxes wait for that.
    pub(crate) inbox_flush: RwLock<()>,
    /// See [`Node::turns_of`].
    turns: Box<[tokio::sync::Mutex<()>]>,
    pub(crate) settling: crate::settle::Settling,
    pub(crate) gone: crate::take_over::Gone,
    pub(crate) take_overs: crate::take_over::TakeOvers,
    pub(crate) cursors: crate::cursor::Cursors,
    pub(crate) topics: crate::topics::Topics,
    pub(crate) reopening: crate::opening::Reopening,
    pub(crate) traces: crate::trace::Traces,
    pub(crate) unheard: Arc<Unheard>,
    pub(crate) pushes: crate::push::Pushes,
    pub(crate) push_nudges: Arc<Notify>,
    pub(crate) figures: Figures,
    pub(crate) tasks: TaskTracker,
    options: ArcSwap<Options>,
    placement: ArcSwap<Placement>,
    pub(crate) requests: crate::requests::Requests,
    next_message: AtomicU64,
    /// Revocations and blocks that this node was told of, counted per shard of users. Held while a record takes effect.
    user_changes: Box<[Mutex<u64>]>,
    /// Notified when some of them may not have reached it.
    pub(crate) user_changes_missed: Notify,
    /// When the view changed last.
    view_changed_ms: AtomicU64,
    /// Whether it has sessions of a former life, whose homes and owners do not know this life yet.
    pub(crate) goes_on: AtomicBool,
    wheel: Mutex<Wheel<Wake>>,
    draining: AtomicBool,
    /// Other nodes own what this life of the node owned: it will never own anything again.
    fenced: CancellationToken,
    stop: CancellationToken,
}

/// The parts that a node is made of.
pub(crate) struct Parts {
    pub(crate) me: Incarnation,
    pub(crate) options: Options,
    pub(crate) clock: Clock,
    pub(crate) generator: Generator,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) view: View,
    pub(crate) push_nudges: Arc<Notify>,
    pub(crate) unheard: Arc<Unheard>,
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { me, options, clock, generator, store, bus, view, push_nudges, unheard } = parts;
        let now_ms = clock.monotonic_ms();
        let figures = Figures::new();
        Arc::new(Self {
            links: Links::new(me.clone(), options.bus_queue_bytes, figures.bus_dropped_queue.clone()),
            users: Users::new(),
            owners: Owners::new(),
            newest_bytes: Arc::default(),
            watches: Mutex::new(WatchTable::new(options.presence_batch_ms)),
            last_seen: Mutex::default(),
            inbox_flush: RwLock::new(()),
            turns: (0..SHARDS).map(|_| tokio::sync::Mutex::new(())).collect(),
            settling: crate::settle::Settling::default(),
            gone: crate::take_over::Gone::default(),
            take_overs: crate::take_over::TakeOvers::default(),
            cursors: crate::cursor::Cursors::default(),
            topics: crate::topics::Topics::default(),
            reopening: crate::opening::Reopening::default(),
            traces: crate::trace::Traces::default(),
            unheard,
            pushes: crate::push::Pushes::default(),
            push_nudges,
            figures,
            tasks: TaskTracker::new(),
            placement: ArcSwap::from_pointee(Placement::new(view)),
            requests: crate::requests::Requests::default(),
            next_message: AtomicU64::new(generator.u64()),
            user_changes: (0..SHARDS).map(|_| Mutex::default()).collect(),
            user_changes_missed: Notify::new(),
            view_changed_ms: AtomicU64::new(now_ms),
            goes_on: AtomicBool::new(false),
            wheel: Mutex::new(Wheel::new(TICK_MS, WHEEL_SLOTS, now_ms)),
            draining: AtomicBool::new(false),
            fenced: CancellationToken::new(),
            stop: CancellationToken::new(),
            me,
            options: ArcSwap::from_pointee(options),
            clock,
            generator,
            store,
            bus,
        })
    }

    /// The node's next life, with the sessions of this one and nothing else.
    pub(crate) fn next_life(&self, me: Incarnation, bus: Arc<dyn Bus>, view: View) -> Arc<Self> {
        let (options, clock, generator) = (self.options(), self.clock.clone(), self.generator.clone());
        let (store, push_nudges, unheard) = (self.store.clone(), self.push_nudges.clone(), self.unheard.clone());
        let next = Self::new(Parts { me, options, clock, generator, store, bus, view, push_nudges, unheard });
        // The count continues, so that a reader notices that something may have been missed.
        for (next, changes) in next.user_changes.iter().zip(&self.user_changes) {
            *lock(next) = *lock(changes) + 1;
        }
        next.draining.store(self.is_draining(), Ordering::Relaxed);
        next.users.adopt(&self.users);
        next.goes_on.store(true, Ordering::Relaxed);
        std::mem::swap(&mut *lock(&next.watches), &mut *lock(&self.watches));
        next.topics.adopt(&self.topics);
        std::mem::swap(&mut *lock(&next.last_seen), &mut *lock(&self.last_seen));
        next
    }

    /// The current options.
    pub(crate) fn options(&self) -> Options {
        **self.options.load()
    }

    pub(crate) fn set_options(&self, options: Options) {
        self.options.store(Arc::new(options));
    }

    /// Held while somebody reads something of a user, decides on it and writes it (settings, blocks), so that this
    /// happens one at a time, per shard of users.
    pub(crate) fn turns_of(&self, user: &UserKey) -> &tokio::sync::Mutex<()> {
        &self.turns[shard_of(&user.tenant, &user.user)]
    }

    // Where things are

    pub(crate) fn placement(&self) -> Arc<Placement> {
        self.placement.load_full()
    }

    pub(crate) fn place(&self, placement: Placement) {
        self.view_changed_ms.store(self.clock.monotonic_ms(), Ordering::Relaxed);
        self.placement.store(Arc::new(placement));
    }

    pub(crate) fn view_changed_ms(&self) -> u64 {
        self.view_changed_ms.load(Ordering::Relaxed)
    }

    /// Whether the ring assigns the conversation to this node.
    pub(crate) fn owns(&self, key: &ConversationKey) -> bool {
        self.placement.load().owner(key).incarnation == self.me
    }

    // Its life

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The store reports this incarnation as fenced.
    pub(crate) fn note_fenced(&self) {
        if !self.fenced.is_cancelled() {
            tracing::warn!(incarnation = %self.me, "this life of the node has been fenced");
            self.figures.fenced.increment(1);
            self.fenced.cancel();
        }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.is_cancelled()
    }

    /// Whether this life of the node may still own conversations.
    pub(crate) fn may_own(&self) -> bool {
        !self.is_fenced() && !self.is_stopping()
    }

    pub(crate) async fn fenced(&self) {
        self.fenced.cancelled().await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Runs `task` until it is done or the node stops. The node owns it and waits for it at its end.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Runs a short task, which is completed even if the node stops meanwhile. The node owns it and waits for it at its
    /// end.
    pub(crate) fn spawn_to_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Completes `work`, whether or not the caller waits for the result.
    ///
    /// # Errors
    /// Those of `work`, or `unavailable` when the node stops.
    pub(crate) async fn carry_out<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = Result<T, ProtocolError>> + Send + 'static,
    ) -> Result<T, ProtocolError> {
        let (reply, outcome) = oneshot::channel();
        self.spawn(async move { drop(reply.send(work.await)) });
        outcome.await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    pub(crate) fn wake_at(&self, deadline_ms: u64, wake: Wake) {
        lock(&self.wheel).insert(deadline_ms, wake);
    }

    /// What is due now, in the order of the deadlines.
    pub(crate) fn turn_wheel(&self, now_ms: u64) -> Vec<Wake> {
        let mut due = Vec::new();
        lock(&self.wheel).turn(now_ms, |wake| due.push(wake));
        due
    }

    /// 41 bits of milliseconds since 2020, 10 bits of the node's life, 12 bits of a counter: unique in practice, not
    /// guaranteed.
    pub(crate) fn snowflake(&self, at_unix_ms: i64) -> u64 {
        const EPOCH_MS: i64 = 1_577_836_800_000;
        let since = u64::try_from(at_unix_ms.saturating_sub(EPOCH_MS)).unwrap_or(0) & ((1 << 41) - 1);
        let counter = self.next_message.fetch_add(1, Ordering::Relaxed);
        (since << 22) | ((self.me.life & 0x3ff) << 12) | (counter & 0xfff)
    }

    /// Grows with each revocation and block of the user that this node is told of, and with those of a few other users
    /// in the same shard: few enough that readers seldom have to start again.
    pub(crate) fn user_changes(&self, user: &UserKey) -> u64 {
        *lock(self.user_changes_of(user))
    }

    pub(crate) fn user_changed(&self, user: &UserKey) {
        *lock(self.user_changes_of(user)) += 1;
    }

    /// The changes of any user may have been missed.
    pub(crate) fn users_changed(&self) {
        for changes in &self.user_changes {
            *lock(changes) += 1;
        }
    }

    /// Runs `keep` on a user's record that was read after these changes, unless another one has come since: so a record
    /// read before a change is never kept after it. `keep` may take the locks of watches and users.
    pub(crate) fn if_unchanged<T>(&self, user: &UserKey, changes: u64, keep: impl FnOnce() -> T) -> Option<T> {
        let now = lock(self.user_changes_of(user));
        (*now == changes).then(keep)
    }

    fn user_changes_of(&self, user: &UserKey) -> &Mutex<u64> {
        &self.user_changes[shard_of(&user.tenant, &user.user)]
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_unix_ms(self.clock.wall_ms())
    }

    // Talking to other nodes

    /// Delivers to its users as their home, except to the sessions held back (DESIGN §2, step 6). Returns the users
    /// whom push must hear of.
    pub(crate) fn deliver(&self, deliver: &Deliver, held: &Held) -> Vec<UserId> {
        let (mut giving, view) = (self.begin_giving(deliver.users.len()), self.placement.load().view.number);
        let further = self.users.deliver(deliver, held, &self.me, view, &mut giving);
        for (node, users) in further.elsewhere {
            let (conversation, frames) = (deliver.conversation.clone(), deliver.frames.clone());
            self.links.send(&node, Envelope::Relay { conversation, users, frames });
        }
        self.end_giving(&deliver.conversation, &deliver.frames, giving);
        further.pushed
    }

    /// The number of a delivery that this node made to itself; called once it has taken effect, except for push.
    pub(crate) fn told_myself(&self, deliver: &Deliver, pushed: &[UserId]) -> u64 {
        if pushed.is_empty() {
            return self.links.told_myself();
        }
        let (number, ticket) = self.links.told_myself_undecided();
        self.push_delivered(deliver, pushed, &ticket);
        number
    }

    /// Gives frames to single sessions; returns those that are no longer here.
    pub(crate) fn to_sessions(
        &self,
        conversation: &ConversationKey,
        sessions: &[(UserId, SessionId)],
        frames: &[Outgoing],
    ) -> Vec<(UserId, SessionId)> {
        let mut giving = self.begin_giving(sessions.len());
        let gone = self.users.to_sessions(&conversation.tenant, sessions, frames, &mut giving);
        self.end_giving(conversation, frames, giving);
        gone
    }

    pub(crate) fn overloaded(&self) -> ProtocolError {
        ProtocolError::overloaded(self.options().retry_after_ms)
    }

    pub(crate) fn unavailable(&self) -> ProtocolError {
        ProtocolError::unavailable(self.options().retry_after_ms)
    }

    // Conversations

    /// Sends an input to a conversation that this node owns; if it is refused, answers those who wait.
    pub(crate) fn say(self: &Arc<Self>, key: &ConversationKey, input: Input) {
        if let Err(refused) = self.owners.say(self, key, input) {
            refused.answer(self);
        }
    }

    /// A command for a conversation that this node owns.
    pub(crate) fn command(
        self: &Arc<Self>,
        key: &ConversationKey,
        actor: crate::api::Actor,
        at: Incarnation,
        command: Command,
        reply: ReplyTo,
    ) {
        self.say(
            key,
            Input::Command(Box::new(CommandInput { actor, at, command, reply, searched: false, _room: None })),
        );
    }
}

/// Logs a store's error, and returns the one for the client.
pub(crate) fn unavailable(node: &Node, error: &StoreError) -> ProtocolError {
    match error {
        StoreError::Unavailable { .. } => {
            tracing::debug!(%error, "the store did not answer");
            node.unavailable()
        }
        StoreError::Owned { .. } => node.unavailable(),
        StoreError::Fenced { .. } => {
            node.note_fenced();
            node.unavailable()
        }
        error => {
            tracing::error!(%error, "the store failed");
            ProtocolError::internal()
        }
    }
}

/// Locks a mutex. A panic never leaves its content half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
