//! What the gateway sees of a node: sessions come and go, commands are carried out where they belong.

use crate::api::{Actor, Answer, BlockInfo, Command, NewSession, OrderKey, Place, SessionInfo};
use crate::blocks::blocked_of;
use crate::bus::Bus;
use crate::calls::{conversation_of, conversation_of_target};
use crate::delivery::Socket;
use crate::envelope::{Ask, Reply, SessionRow};
use crate::node::{Node, Parts, unavailable};
use crate::options::Options;
use crate::owner::Input;
use crate::session::{Doing, Session};
use crate::view::View;
use crate::watching::user_presence;
use std::sync::{Arc, Mutex};
use switchboard_clock::{Clock, Generator};
use switchboard_protocol::client::SendTarget;
use switchboard_protocol::server::UserPresence;
use switchboard_protocol::{CloseCode, ErrorCode, ProtocolError, SessionId, Timestamp, UserId};
use switchboard_store::{Incarnation, Store, UserKey};
use tokio::sync::watch;

/// Conversations that one session may have open at once.
pub const OPEN_MAX: usize = 200;

/// What a router is started with.
pub struct Start {
    /// This life of this node.
    pub me: Incarnation,
    /// Its part of the configuration.
    pub options: Options,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub generator: Generator,
    /// Where things are kept.
    pub store: Arc<dyn Store>,
    /// How nodes talk.
    pub bus: Arc<dyn Bus>,
    /// Which nodes live. This node is in it; if it ends, the last one stays.
    pub views: watch::Receiver<View>,
}

/// A running node. Cheap to clone; the node runs until [`Router::shutdown`].
#[derive(Clone)]
pub struct Router {
    node: Arc<Node>,
}

/// A session that is connected until this is dropped.
pub struct Connected {
    node: Arc<Node>,
    session: Arc<Session>,
}

impl Router {
    /// Starts a node's tasks, which take over what the store says is left of earlier lives.
    pub fn start(start: Start) -> Self {
        let Start { me, options, clock, generator, store, bus, views } = start;
        let view = views.borrow().clone();
        let packets = bus.subscribe(&me);
        let node = Node::new(Parts { me, options, clock, generator, store, bus, view });
        // All end when the node stops, which `shutdown` waits for.
        node.spawn(node.clone().receive_packets(packets));
        node.spawn(node.clone().send_packets());
        node.spawn(node.clone().follow_views(views));
        node.spawn(node.clone().keep_time());
        node.spawn(node.clone().keep_flushed());
        Self { node }
    }

    /// Takes other options, for what comes after: a bound of a queue that is there stays.
    pub fn set_options(&self, options: Options) {
        self.node.set_options(options);
    }

    /// Names the store's life (PROTOCOL §2, `store_id`).
    pub fn store_id(&self) -> &str {
        self.node.store.store_id()
    }

    /// Whether this node has settled for its view: nothing of an earlier life is untold.
    pub fn is_settled(&self) -> bool {
        let fingerprint = self.node.placement().view.fingerprint();
        self.node.settling.has_settled(fingerprint)
    }

    // Sessions

    /// Lets a session in. It takes the place of an older one of the same device and instance.
    ///
    /// # Errors
    /// `revoked` if the token was issued before the user's revocation, `overloaded` if he has too many sessions,
    /// `unavailable` if the store does not answer.
    pub async fn connect(&self, new: NewSession, socket: Arc<dyn Socket>) -> Result<Connected, ProtocolError> {
        let node = &self.node;
        let mut changes = node.user_changes();
        let record = node.store.user(&new.user).await.map_err(|error| unavailable(node, &error))?;
        refuse_revoked(record.revoked_at, new.issued_at)?;
        let session = Arc::new(Session {
            id: session_id(node),
            user: new.user,
            device: new.device,
            instance: new.instance,
            connected_at: node.now(),
            socket,
            doing: Mutex::new(Doing::default()),
        });
        let most = node.options().connections_per_user;
        let Some(added) = node.users.add(session.clone(), blocked_of(&record), most) else {
            return Err(node.overloaded());
        };
        if let Some(replaced) = added.replaced {
            replaced.socket.close(CloseCode::Replaced);
        }
        node.tell_home(&session.user);
        let connected = Connected { node: node.clone(), session };
        // A revocation or a block that came between the reading and the adding did not find the session.
        while changes != node.user_changes() {
            changes = node.user_changes();
            let user = &connected.session.user;
            let record = node.store.user(user).await.map_err(|error| unavailable(node, &error))?;
            refuse_revoked(record.revoked_at, new.issued_at)?;
            node.users.set_blocked(user, blocked_of(&record));
        }
        Ok(connected)
    }

    /// Refuses tokens that were issued before the user's revocation.
    ///
    /// # Errors
    /// `revoked`, or `unavailable` if the store does not answer.
    pub async fn check_revoked(&self, user: &UserKey, issued_at: Option<Timestamp>) -> Result<(), ProtocolError> {
        let record = self.node.store.user(user).await.map_err(|error| unavailable(&self.node, &error))?;
        refuse_revoked(record.revoked_at, issued_at)
    }

    /// Where a user is best connected: at his home.
    pub fn place(&self, user: &UserKey) -> Place {
        let placement = self.node.placement();
        let home = placement.home(user);
        Place { node_id: home.incarnation.node.clone(), url: home.url.clone() }
    }

    // Commands

    /// Carries out a client's frame. The future may be dropped at any time: a send goes on.
    ///
    /// # Errors
    /// What the client is to be told.
    pub async fn call(&self, actor: Actor, command: Command) -> Result<Answer, ProtocolError> {
        self.node.call(actor, command).await
    }

    /// Answers of one socket keep their order among those with the same key.
    pub fn order_key(&self, user: &UserKey, command: &Command) -> OrderKey {
        conversation_of(user, command)
    }

    /// As [`Router::order_key`], of a command of which no more is known than whom it is for.
    pub fn order_key_of_target(&self, user: &UserKey, target: &SendTarget) -> OrderKey {
        Some(conversation_of_target(user, target))
    }

    // Users

    /// Whom a user blocks.
    ///
    /// # Errors
    /// `unavailable` if the store does not answer.
    pub async fn blocks(&self, user: &UserKey) -> Result<Vec<BlockInfo>, ProtocolError> {
        let record = self.node.store.user(user).await.map_err(|error| unavailable(&self.node, &error))?;
        let info = |(user_id, blocked_at)| BlockInfo { user_id, blocked_at };
        Ok(record.blocks.into_iter().map(info).collect())
    }

    /// How `viewer` sees `user`.
    ///
    /// # Errors
    /// `unavailable` if the home or the store does not answer.
    pub async fn presence_of(&self, viewer: &UserKey, user: &UserId) -> Result<UserPresence, ProtocolError> {
        let node = &self.node;
        let target = UserKey { tenant: viewer.tenant.clone(), user: user.clone() };
        let home = node.placement().home(&target).incarnation.clone();
        let shown = node.presence_at(&home, vec![target], false).await?.pop();
        let record = node.store.user(viewer).await.map_err(|error| unavailable(node, &error))?;
        let blocked_at = blocked_of(&record).get(user).copied();
        let shown = switchboard_presence::seen(shown.ok_or_else(ProtocolError::internal)?, blocked_at);
        Ok(user_presence(user.clone(), shown))
    }

    // Administration

    /// Closes a user's sessions everywhere; they may come back.
    ///
    /// # Errors
    /// `unavailable` if a node does not answer.
    pub async fn disconnect_user(&self, user: &UserKey) -> Result<(), ProtocolError> {
        self.node.close_sessions(user);
        self.node.ask_all(|| Ask::Disconnect { user: user.clone() }).await.map(drop)
    }

    /// Refuses a user's tokens issued up to now, for good, and closes his sessions.
    ///
    /// # Errors
    /// `unavailable` if the store or a node does not answer; repeating it is harmless.
    pub async fn revoke(&self, user: &UserKey) -> Result<(), ProtocolError> {
        let revoked = self.node.store.revoke(user, self.node.now()).await;
        revoked.map_err(|error| unavailable(&self.node, &error))?;
        self.disconnect_user(user).await
    }

    /// A user's sessions everywhere.
    ///
    /// # Errors
    /// `unavailable` if a node does not answer.
    pub async fn sessions(&self, user: &UserKey) -> Result<Vec<SessionInfo>, ProtocolError> {
        let mut rows = self.node.session_rows(user);
        for reply in self.node.ask_all(|| Ask::Sessions { user: user.clone() }).await? {
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

    // The end

    /// Asks every client to go elsewhere, spread over `drain.spread_ms`, and lets every conversation go. Returns when
    /// all is let go and flushed; the caller has a deadline.
    pub async fn drain(&self) {
        let node = &self.node;
        node.set_draining();
        let placement = node.placement();
        for session in node.users.all_sessions() {
            let after_ms =
                node.generator.below(node.options().drain_spread_ms.min(node.options().drain_timeout_ms) + 1);
            let url = placement.elsewhere(&session.user, &node.me.node);
            session.socket.reconnect(after_ms, url.as_deref());
        }
    }

    /// Lets every conversation go and writes what waits: after it nothing that was answered is only in memory.
    pub async fn finish(&self) {
        // Nobody comes back within his grace here.
        self.node.users.homed().iter().for_each(|user| self.node.end_grace(user, u64::MAX));
        let (done, mut all_done) = tokio::sync::mpsc::channel(1);
        self.node.owners.say_to_all(|| Input::Drain { done: done.clone() }).await;
        drop(done);
        loop {
            // What conversations owe to this node is confirmed by its flushes.
            self.node.flush().await;
            tokio::select! {
                biased;
                none = all_done.recv() => if none.is_none() { break },
                () = self.node.clock.sleep_ms(crate::node::TICK_MS) => {}
            }
        }
        self.node.flush().await;
    }

    /// Ends all of the node's tasks, wherever they are, and waits for that. Without [`Router::finish`] before, this is
    /// what a crash would leave behind.
    pub async fn shutdown(&self) {
        self.node.stop();
        self.node.tasks.wait().await;
    }
}

impl Connected {
    /// The session's id.
    pub fn session_id(&self) -> &SessionId {
        &self.session.id
    }

    /// In whose name it acts.
    pub fn actor(&self, awaited: bool) -> Actor {
        Actor { user: self.session.user.clone(), session: Some(self.session.id.clone()), awaited }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.node.disconnected(&self.session);
    }
}

/// Tokens whose `iat` is not after the second of revocation, or that have none, are refused (PROTOCOL §8).
fn refuse_revoked(revoked_at: Option<Timestamp>, issued_at: Option<Timestamp>) -> Result<(), ProtocolError> {
    let second = |at: Timestamp| at.unix_ms().div_euclid(1_000);
    match (revoked_at, issued_at) {
        (Some(revoked), issued) if issued.is_none_or(|issued| second(issued) <= second(revoked)) => {
            Err(ProtocolError::new(ErrorCode::Revoked, "the token was revoked"))
        }
        _ => Ok(()),
    }
}

fn session_id(node: &Node) -> SessionId {
    let (high, low) = (node.generator.u64(), node.generator.u64());
    format!("{high:016x}{low:06x}", low = low & 0xff_ffff)
        .parse()
        .unwrap_or_else(|_| unreachable!("hex digits are an id"))
}
