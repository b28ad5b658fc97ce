//! The gateway's handle to a node: sessions connect and disconnect, and commands are routed.

mod lives;

pub use lives::Life;

use self::lives::run;
use crate::api::{Actor, Answer, BlockInfo, Command, HomeNode, NewSession, OrderKey, SessionInfo};
use crate::blocks::{blocked_of, refuse_revoked};
use crate::bus::Bus;
use crate::calls::{conversation_of, conversation_of_target};
use crate::delivery::Socket;
use crate::envelope::{Ask, Reply, SessionRow};
use crate::node::{Node, Parts, unavailable};
use crate::options::Options;
use crate::session::Session;
use crate::trace::{Trace, TraceQuery, TraceStep};
use crate::view::View;
use crate::watching::user_presence;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::client::SendTarget;
use switchboard_protocol::server::UserPresence;
use switchboard_protocol::{CloseCode, DeviceId, Event, ProtocolError, Seq, SessionId, Timestamp, TopicId, UserId};
use switchboard_store::{ConversationKey, Incarnation, PushDevice, Store, UserKey, UserRecord};
use tokio::sync::{Notify, watch};

/// Conversations that one session may have open at once.
pub const OPEN_MAX: usize = 200;

/// The parts and settings of a router.
pub struct Start {
    /// This incarnation of the node.
    pub me: Incarnation,
    /// Its part of the configuration.
    pub options: Options,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub generator: Generator,
    /// The store.
    pub store: Arc<dyn Store>,
    /// The transport between nodes.
    pub bus: Arc<dyn Bus>,
    /// The view, which contains this node. If the sender is dropped, the last view stays.
    pub views: watch::Receiver<View>,
}

/// A running node. Cheap to clone; the node runs until [`Router::shutdown`].
#[derive(Clone)]
pub struct Router {
    /// The node in its newest life. Held for reading while a session connects or disconnects, so that none is lost
    /// between two lives.
    newest: Arc<RwLock<Arc<Node>>>,
}

/// A session that is connected until this is dropped.
pub struct Connected {
    router: Router,
    session: Arc<Session>,
}

impl Router {
    /// Starts a node's tasks. They take over what the store says is left of earlier lives.
    pub fn start(start: Start) -> Self {
        let Start { me, options, clock, generator, store, bus, views } = start;
        let view = views.borrow().clone();
        let packets = bus.subscribe(&me);
        let (push_nudges, unheard) = Default::default();
        let node = Node::new(Parts { me, options, clock, generator, store, bus, view, push_nudges, unheard });
        run(&node, packets, views);
        Self { newest: Arc::new(RwLock::new(node)) }
    }

    fn newest(&self) -> RwLockReadGuard<'_, Arc<Node>> {
        self.newest.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self) -> Arc<Node> {
        self.newest().clone()
    }

    /// Replaces the options. The bounds of existing queues do not change.
    pub fn set_options(&self, options: Options) {
        self.newest().set_options(options);
    }

    /// The id of the store (PROTOCOL §2, `store_id`).
    pub fn store_id(&self) -> String {
        self.newest().store.store_id().to_owned()
    }

    // Sessions

    /// Connects a session, in place of an older one of the same device and instance.
    ///
    /// # Errors
    /// `revoked` if the token was issued before the user's revocation, `overloaded` if the user has too many sessions,
    /// `unavailable` if the store does not answer.
    pub async fn connect(&self, new: NewSession, socket: Arc<dyn Socket>) -> Result<Connected, ProtocolError> {
        let most = self.newest().options().connections_per_user;
        let NewSession { user, device, instance, issued_at, mut name } = new;
        let session = Arc::new(Session {
            id: session_id(&self.newest()),
            user,
            device,
            instance,
            issued_at,
            connected_at: self.newest().now(),
            socket,
            doing: Mutex::default(),
        });
        let user = &session.user;
        loop {
            let node = self.node();
            let changes = node.user_changes(user);
            let record = node.store.user(user).await.map_err(|error| unavailable(&node, &error))?;
            refuse_revoked(record.revoked_at, issued_at)?;
            keep_name(&node, user, &record, name.take()).await;
            let node = self.newest();
            let add = || node.users.add(session.clone(), blocked_of(&record), most);
            // A revocation or block that came meanwhile did not find the session: then read the record again.
            if let Some(added) = node.if_unchanged(user, changes, add) {
                let added = added.ok_or_else(|| node.overloaded())?;
                if let Some(replaced) = added.replaced {
                    replaced.socket.close(CloseCode::Replaced);
                }
                node.tell_home(user);
                break;
            }
        }
        Ok(Connected { router: self.clone(), session })
    }

    /// Checks a request without a session, or a session's newer token, as `connect` does. Keeps the user's name from
    /// the token.
    ///
    /// # Errors
    /// `revoked` if the token was issued before the user's revocation, `unavailable` if the store does not answer.
    pub async fn admit(
        &self,
        user: &UserKey,
        issued_at: Option<Timestamp>,
        name: Option<String>,
    ) -> Result<(), ProtocolError> {
        let node = self.node();
        let record = node.store.user(user).await.map_err(|error| unavailable(&node, &error))?;
        refuse_revoked(record.revoked_at, issued_at)?;
        keep_name(&node, user, &record, name).await;
        Ok(())
    }

    /// The node at which a user is best connected: their home.
    pub fn home_of(&self, user: &UserKey) -> HomeNode {
        let placement = self.newest().placement();
        let home = placement.home(user);
        HomeNode { node_id: home.incarnation.node.clone(), url: home.url.clone() }
    }

    // Commands

    /// Carries a client's frame out. The future may be dropped at any time: a send continues.
    ///
    /// # Errors
    /// The error for the client.
    pub async fn call(&self, actor: Actor, command: Command) -> Result<Answer, ProtocolError> {
        self.node().call(actor, command).await
    }

    /// Answers to one socket keep their order among frames with the same key.
    pub fn order_key(&self, user: &UserKey, command: &Command) -> OrderKey {
        conversation_of(user, command)
    }

    /// As [`Router::order_key`], for a send of which only the target is known.
    pub fn order_key_of_target(&self, user: &UserKey, target: &SendTarget) -> OrderKey {
        Some(conversation_of_target(user, target))
    }

    /// Publishes to one of the gateway's own topics, which all nodes and tenants share.
    ///
    /// # Errors
    /// As `topic_publish`.
    pub async fn publish_own(&self, topic: TopicId, events: Vec<Event>) -> Result<(), ProtocolError> {
        self.node().topic_publish_own(topic, events).await
    }

    // Users

    /// The users whom a user blocks.
    ///
    /// # Errors
    /// `unavailable` if the store does not answer.
    pub async fn blocks(&self, user: &UserKey) -> Result<Vec<BlockInfo>, ProtocolError> {
        let node = self.node();
        let record = node.store.user(user).await.map_err(|error| unavailable(&node, &error))?;
        let info = |(user_id, blocked_at)| BlockInfo { user_id, blocked_at };
        Ok(record.blocks.into_iter().map(info).collect())
    }

    /// How `viewer` sees `user`.
    ///
    /// # Errors
    /// `unavailable` if the home or the store does not answer.
    pub async fn presence_of(&self, viewer: &UserKey, user: &UserId) -> Result<UserPresence, ProtocolError> {
        let node = self.node();
        let target = UserKey { tenant: viewer.tenant.clone(), user: user.clone() };
        let home = node.placement().home(&target).incarnation.clone();
        let shown = node.presence_at(&home, vec![target], false).await?.pop();
        let record = node.store.user(viewer).await.map_err(|error| unavailable(&node, &error))?;
        let blocked_at = blocked_of(&record).get(user).copied();
        let shown = switchboard_presence::seen(shown.ok_or_else(ProtocolError::internal)?, blocked_at);
        Ok(user_presence(user.clone(), shown))
    }

    // Push

    /// Registers a device for push, or replaces its registration. Durable when it returns.
    ///
    /// # Errors
    /// `conflict` if the user has `push.devices_max` other devices, `unavailable` if their home or the store does not
    /// answer.
    pub async fn put_push_device(
        &self,
        user: &UserKey,
        device: DeviceId,
        registered: PushDevice,
    ) -> Result<(), ProtocolError> {
        self.node().put_push_device(user, device, registered).await
    }

    /// Unregisters a device; with `target`, only if that is still its target. Returns whether it was registered.
    ///
    /// # Errors
    /// `unavailable` if the user's home or the store does not answer.
    pub async fn remove_push_device(
        &self,
        user: &UserKey,
        device: &DeviceId,
        target: Option<String>,
    ) -> Result<bool, ProtocolError> {
        self.node().remove_push_device(user, device, target).await
    }

    /// Replaces the user's notification preferences, JSON. Durable when it returns; queued notifications follow them.
    ///
    /// # Errors
    /// `bad_request` if the JSON is not valid preferences, `unavailable` if the user's home or the store does not
    /// answer.
    pub async fn set_notification_preferences(&self, user: &UserKey, preferences: String) -> Result<(), ProtocolError> {
        self.node().set_notification_preferences(user, preferences).await
    }

    /// The user's notification preferences, as they set them.
    ///
    /// # Errors
    /// `unavailable` if the store does not answer.
    pub async fn notification_preferences(&self, user: &UserKey) -> Result<Option<String>, ProtocolError> {
        let node = self.node();
        node.store.notification_preferences(user).await.map_err(|error| unavailable(&node, &error))
    }

    /// Notified when the push queue may have a new job. The same for all lives of the node.
    pub fn push_nudges(&self) -> Arc<Notify> {
        self.newest().push_nudges()
    }

    // Administration

    /// Closes a user's sessions on all nodes. They may connect again.
    ///
    /// # Errors
    /// `unavailable` if a node does not answer.
    pub async fn disconnect_user(&self, user: &UserKey) -> Result<(), ProtocolError> {
        let (node, user) = (self.node(), user.clone());
        let disconnecting = node.clone();
        node.carry_out(async move { disconnecting.disconnect(&user).await }).await
    }

    /// Refuses the user's tokens issued until now, for good, and closes their sessions.
    ///
    /// # Errors
    /// `unavailable` if the store or a node does not answer; repeating it is harmless.
    pub async fn revoke(&self, user: &UserKey) -> Result<(), ProtocolError> {
        self.node().revoke(user.clone()).await
    }

    /// A user's sessions on all nodes.
    ///
    /// # Errors
    /// `unavailable` if a node does not answer.
    pub async fn sessions(&self, user: &UserKey) -> Result<Vec<SessionInfo>, ProtocolError> {
        let node = self.node();
        let mut rows = node.session_rows(user);
        for reply in node.ask_all(|| Ask::Sessions { user: user.clone() }).await? {
            if let Reply::Sessions(more) = reply {
                rows.extend(more);
            }
        }
        rows.sort_by(|a, b| (a.connected_at, &a.session_id).cmp(&(b.connected_at, &b.session_id)));
        let info = |row: SessionRow| SessionInfo {
            session_id: row.session_id,
            device_id: row.device_id,
            instance_id: row.instance_id,
            node_id: row.node_id,
            connected_at: row.connected_at,
        };
        Ok(rows.into_iter().map(info).collect())
    }

    /// The trace of a message.
    ///
    /// # Errors
    /// `not_found` if the entry is not a message; `unavailable` if the store or a node does not answer.
    pub async fn trace(
        &self,
        conversation: &ConversationKey,
        seq: Seq,
        query: &TraceQuery,
    ) -> Result<Trace, ProtocolError> {
        self.node().trace(conversation, seq, query).await
    }

    /// Adds a step that happened outside of the router to a message's trace.
    pub fn note_trace(&self, conversation: &ConversationKey, seq: Seq, user: Option<&UserId>, step: TraceStep) {
        self.node().trace_step(conversation, seq, user, step);
    }
}

/// Keeps the user's name from the token, for notifications of their messages.
async fn keep_name(node: &Node, user: &UserKey, record: &UserRecord, name: Option<String>) {
    if let Some(name) = name.filter(|name| record.name.as_ref() != Some(name))
        && let Err(error) = node.store.put_user_name(user, &name).await
    {
        tracing::debug!(%error, "a user's name is not kept; it comes with each token");
    }
}

impl Connected {
    /// The session's id.
    pub fn session_id(&self) -> &SessionId {
        &self.session.id
    }

    /// Ends the session's watches of the gateway's own topics, when its user may no longer watch them. Returns whether
    /// there were any.
    pub fn unwatch_own_topics(&self) -> bool {
        self.router.newest().topic_unwatch_own(&self.session)
    }

    /// The actor of this session's commands.
    pub fn actor(&self, awaited: bool) -> Actor {
        Actor { user: self.session.user.clone(), session: Some(self.session.id.clone()), awaited }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.router.newest().disconnected(&self.session);
    }
}

fn session_id(node: &Node) -> SessionId {
    let (high, low) = (node.generator.u64(), node.generator.u64());
    format!("{high:016x}{low:06x}", low = low & 0xff_ffff)
        .parse()
        .unwrap_or_else(|_| unreachable!("hex digits are an id"))
}
