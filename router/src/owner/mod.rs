//! The owner's side: one task per active conversation assigns `seq`, deduplicates sends, has the store append, and
//! announces the entries (DESIGN §2, §4).
//!
//! This file has the table of active conversations and the inputs of their tasks. A conversation enters the table with
//! its first input, and leaves it when it is idle and owes nothing to anybody.

mod announce;
mod begin;
mod cursors;
mod decide;
mod group;
mod leaving;
mod log;
mod lookup;
mod messages;
mod newest;
mod notes;
mod outline;
mod pipeline;
mod query;
mod recent;
mod rest;
mod search;
mod sessions;
mod states;
mod task;

use crate::api::{Actor, Answer, Command};
use crate::envelope::{Envelope, Peek, Roll, RollAsked};
use crate::node::Node;
use crate::wire::{encode_reply, refusal};
use futures_util::future::join_all;
use hashbrown::HashMap;
pub(crate) use newest::NewestBytes;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_protocol::server::Member;
use switchboard_protocol::{ProtocolError, Seq, SessionId, UserId};
use switchboard_store::{ConversationKey, Incarnation, Release, TermNumber, UserKey};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::coop::consume_budget;
use xxhash_rust::xxh3::xxh3_64;

const SHARDS: usize = 16;

/// Orders to one conversation that it has not taken yet, at most.
const ORDERS_MAX: usize = 8;

/// An input of a conversation's task.
pub(crate) enum Input {
    /// A client's frame.
    Command(Box<CommandInput>),
    /// Asks whether a user may read, up to where, and for the entries after `after` if they are in memory.
    Peek { user: UserId, after: Option<Seq>, reply: ReplyTo },
    /// Asks for members, for an administrator.
    Roll { asked: RollAsked, reply: ReplyTo },
    /// These sessions of a node have closed, or have closed the conversation.
    SessionsGone { at: Incarnation, sessions: Vec<(UserId, SessionId)> },
    /// The block between the two users of a direct conversation may have changed.
    BlockChanged { reply: ReplyTo },
    /// The former owner is dead or has let the conversation go: begin a term, and announce what may be unannounced.
    /// `turn` is dropped when that has been attempted.
    TakeOver { released: Option<Release>, reply: Option<ReplyTo>, done: Option<Done>, turn: Option<Done> },
    /// Another node asks for the conversation, which the store says this node owns, in this term.
    LetGo { term: TermNumber, reply: ReplyTo },
    /// A deadline has passed.
    Tick,
}

/// An order to the tasks of all conversations. It does not wait in the queue of inputs, which may be full, and stays
/// full while the store does not answer.
pub(crate) enum Order {
    /// A packet of this node to another was lost: announce again which of its sessions have the conversation open.
    NodeMissed { node: Incarnation },
    /// A node has missed something: announce again what it is owed. It may have considered this node dead.
    Repeat { to: Incarnation, was_out: bool, done: Done },
    /// The view has changed.
    View { done: Done },
    /// The node drains: finish the work under way and end.
    Drain { done: Done },
}

/// A client's frame at its owner.
pub(crate) struct CommandInput {
    pub(crate) actor: Actor,
    /// The node of the acting session.
    pub(crate) at: Incarnation,
    pub(crate) command: Command,
    pub(crate) reply: ReplyTo,
    /// A search of the log has shown that this send is not in its unremembered part.
    pub(crate) searched: bool,
    /// Its bytes' share of the conversation's queue.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// Dropped when the work that it was passed along with is done.
pub(crate) type Done = mpsc::Sender<()>;

/// The outcome of a request to a conversation.
pub(crate) type ReplyResult = Result<LocalReply, ProtocolError>;

/// A reply as it is within this process; `wire.rs` makes it a [`Reply`](crate::envelope::Reply) for another node.
#[derive(Debug)]
pub(crate) enum LocalReply {
    Answer(Answer),
    Peek(Box<Peek>),
    Roll(Roll),
    LetGo(Release),
    Untold(Vec<ConversationKey>),
    Done,
}

/// Where a reply goes.
pub(crate) enum ReplyTo {
    /// A waiter in this process.
    Local(oneshot::Sender<ReplyResult>),
    /// A node that waits for it under this number.
    Remote { node: Incarnation, request: u64 },
}

impl ReplyTo {
    /// Whether the waiter has given up (as far as this process can know).
    pub(crate) fn is_given_up(&self) -> bool {
        match self {
            Self::Local(waiter) => waiter.is_closed(),
            Self::Remote { .. } => false,
        }
    }

    /// Sends the reply.
    pub(crate) fn send(self, node: &Node, result: ReplyResult) {
        match self {
            // A waiter that has gone needs no answer.
            Self::Local(waiter) => drop(waiter.send(result)),
            Self::Remote { node: to, request } => {
                let reply = result.map(encode_reply).map_err(|error| refusal(&error));
                node.links.send(&to, Envelope::Reply { request, reply });
            }
        }
    }
}

/// The conversations that are active on this node.
pub(crate) struct Owners {
    shards: Box<[Mutex<HashMap<ConversationKey, Handle>>]>,
    active: AtomicUsize,
}

struct Handle {
    inputs: mpsc::Sender<Input>,
    orders: mpsc::Sender<Order>,
    room: Arc<Semaphore>,
}

impl Owners {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), active: AtomicUsize::new(0) }
    }

    fn shard(&self, key: &ConversationKey) -> MutexGuard<'_, HashMap<ConversationKey, Handle>> {
        let hash = xxh3_64(key.conversation.as_str().as_bytes());
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many conversations are active.
    pub(crate) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Sends an input to a conversation, which becomes active if it is not.
    ///
    /// # Errors
    /// The input, if the conversation's queue is full or too many conversations are active.
    pub(crate) fn say(&self, node: &Arc<Node>, key: &ConversationKey, input: Input) -> Result<(), Refused> {
        let mut shard = self.shard(key);
        if shard.get(key).is_some_and(|handle| handle.inputs.is_closed()) {
            // The task has panicked. The next one begins a term and reads its state from the store.
            shard.remove(key);
            self.active.fetch_sub(1, Ordering::Relaxed);
        }
        let handle = match shard.get(key) {
            Some(handle) => handle,
            None if self.active() >= node.options().conversations_active_max || !node.may_own() => {
                return Err(Refused(input));
            }
            None => {
                let (inputs, receiver) = mpsc::channel(node.options().conversation_queue_max);
                let (orders, ordered) = mpsc::channel(ORDERS_MAX);
                let room = Arc::new(Semaphore::new(node.options().conversation_queue_bytes));
                self.active.fetch_add(1, Ordering::Relaxed);
                let conversation = task::Conversation::new(node.clone(), key.clone(), receiver, ordered);
                // Ends by itself when it is idle, and when the node drains; `Node::shutdown` waits for it.
                node.tasks.spawn(conversation.run());
                shard.entry(key.clone()).or_insert(Handle { inputs, orders, room })
            }
        };
        handle.say(input)
    }

    /// Sends an input to a conversation if it is active; returns it if not.
    pub(crate) fn say_if_active(&self, key: &ConversationKey, input: Input) -> Result<(), Refused> {
        match self.shard(key).get(key) {
            Some(handle) => handle.say(input),
            None => Err(Refused(input)),
        }
    }

    pub(crate) fn is_active(&self, key: &ConversationKey) -> bool {
        self.shard(key).contains_key(key)
    }

    /// Every active conversation.
    pub(crate) fn keys(&self) -> Vec<ConversationKey> {
        let keys_in = |shard: &Mutex<HashMap<ConversationKey, Handle>>| -> Vec<ConversationKey> {
            shard.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
        };
        let mut keys: Vec<_> = self.shards.iter().flat_map(keys_in).collect();
        keys.sort();
        keys
    }

    /// Sends an order to every active conversation. Returns when all have taken it into their queue; a full queue does
    /// not delay the others.
    pub(crate) async fn order_all(&self, make: impl Fn() -> Order) {
        let mut full = Vec::new();
        for key in self.keys() {
            consume_budget().await;
            let said = self.shard(&key).get(&key).map(|handle| (handle.orders.try_send(make()), handle.orders.clone()));
            if let Some((Err(TrySendError::Full(order)), orders)) = said {
                // The conversation may have ended meanwhile: then it needs no order.
                full.push(async move { drop(orders.send(order).await) });
            }
        }
        join_all(full).await;
    }

    /// Removes a conversation that ends from the table, unless it has new inputs or orders.
    fn leave(&self, key: &ConversationKey, inputs: &mpsc::Receiver<Input>, orders: &mpsc::Receiver<Order>) -> bool {
        let mut shard = self.shard(key);
        // Senders hold the shard's lock, or a clone of the sender (`order_all`).
        if !inputs.is_empty() || !orders.is_empty() || orders.sender_strong_count() > 1 {
            return false;
        }
        shard.remove(key);
        self.active.fetch_sub(1, Ordering::Relaxed);
        true
    }
}

/// An input that a conversation has no room for.
pub(crate) struct Refused(pub(crate) Input);

impl Handle {
    fn say(&self, mut input: Input) -> Result<(), Refused> {
        if let Input::Command(command) = &mut input {
            let bytes = u32::try_from(command_bytes(&command.command)).unwrap_or(u32::MAX);
            match self.room.clone().try_acquire_many_owned(bytes) {
                Ok(room) => command._room = Some(room),
                Err(_) => return Err(Refused(input)),
            }
        }
        self.inputs.try_send(input).map_err(|error| Refused(error.into_inner()))
    }
}

impl Refused {
    /// Answers whoever waits that there is no room.
    pub(crate) fn answer(self, node: &Node) {
        let refusal = if node.may_own() {
            node.figures.overloaded_conversation.increment(1);
            Err(node.overloaded())
        } else {
            Err(node.unavailable())
        };
        match self.0 {
            Input::Command(command) => command.reply.send(node, refusal),
            Input::Peek { reply, .. }
            | Input::Roll { reply, .. }
            | Input::BlockChanged { reply }
            | Input::LetGo { reply, .. } => reply.send(node, refusal),
            Input::TakeOver { reply: Some(reply), .. } => reply.send(node, refusal),
            _ => {}
        }
    }
}

/// The bytes that a command counts for while it waits: its variable part and a constant for the rest.
fn command_bytes(command: &Command) -> usize {
    const REST: usize = 256;
    const MEMBER_BYTES: usize = size_of::<Member>() + 64;
    let ids_bytes = |ids: &[UserId]| -> usize { ids.iter().map(|id| size_of_val(id) + id.as_str().len()).sum() };
    REST + match command {
        Command::Send(send) => send.content.as_str().len(),
        Command::Edit(edit) => edit.content.as_str().len(),
        Command::ConversationCreate(create) => {
            ids_bytes(&create.members) + create.custom.as_ref().map_or(0, |custom| custom.as_str().len())
        }
        Command::ConversationUpdate(update) => update.custom.as_ref().map_or(0, |custom| custom.as_str().len()),
        Command::MemberAdd(add) => ids_bytes(&add.user_ids),
        Command::MemberRemove(remove) => ids_bytes(&remove.user_ids),
        // Its answer may wait behind entries.
        Command::ConversationMembers(members) => members.limit as usize * MEMBER_BYTES,
        _ => 0,
    }
}

/// The key of a user in a conversation's tenant.
pub(crate) fn user_in(conversation: &ConversationKey, user: &UserId) -> UserKey {
    UserKey { tenant: conversation.tenant.clone(), user: user.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::pin::pin;

    /// Adds a conversation whose orders are taken by the test.
    fn add(owners: &Owners, name: &str) -> mpsc::Receiver<Order> {
        let key = ConversationKey { tenant: "t".parse().unwrap(), conversation: name.parse().unwrap() };
        let (inputs, _) = mpsc::channel(1);
        let (orders, ordered) = mpsc::channel(1);
        owners.shard(&key).insert(key.clone(), Handle { inputs, orders, room: Arc::new(Semaphore::new(1)) });
        ordered
    }

    #[test]
    fn those_that_have_no_room_hold_nobody_up() {
        let owners = Owners::new();
        let [mut first, mut second, mut third] = ["a", "b", "c"].map(|name| add(&owners, name));
        let node = Incarnation { node: "n1".parse().unwrap(), life: 1 };
        let order = || owners.order_all(|| Order::NodeMissed { node: node.clone() });
        assert!(order().now_or_never().is_some());
        assert!(third.try_recv().is_ok());

        let mut ordering = pin!(order());
        assert!(ordering.as_mut().now_or_never().is_none(), "it waits for two");
        assert!(third.try_recv().is_ok());
        // The one that is ordered last has room first.
        assert!(second.try_recv().is_ok());
        assert!(ordering.as_mut().now_or_never().is_none());
        assert!(second.try_recv().is_ok());
        assert!(first.try_recv().is_ok());
        assert!(ordering.now_or_never().is_some());
        assert!(first.try_recv().is_ok());
    }
}
