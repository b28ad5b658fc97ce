//! What the gateway sees of a node: sessions come and go, commands are carried out where they belong.

use crate::api::{Actor, Answer, BlockInfo, Command, NewSession, OrderKey, Place, SessionInfo};
use crate::bus::Bus;
use crate::delivery::Socket;
use crate::envelope::{Ask, Envelope, Here, Outgoing, Reply, SessionRow};
use crate::node::{Node, Parts, lock, unavailable};
use crate::options::Options;
use crate::owner::{Input, ReplyTo, Telling, Told};
use crate::users::{Doing, Session, Watcher, blocked_of, ephemeral};
use crate::view::{View, direct_conversation, group_conversation};
use crate::wire::{answer_of, encoded};
use futures_util::future::try_join_all;
use std::sync::{Arc, Mutex};
use switchboard_clock::{Clock, Generator};
use switchboard_presence::Shown;
use switchboard_protocol::client::{ConversationRef, SendTarget};
use switchboard_protocol::server::{self, Frame as _, PresenceState, UserPresence};
use switchboard_protocol::{
    ClientFrame, CloseCode, ConversationId, ErrorCode, ProtocolError, ServerFrame, SessionId, Timestamp, UserId,
};
use switchboard_store::{ConversationKey, Incarnation, Store, StoreError, UserKey};
use tokio::sync::{oneshot, watch};

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
        self.node.settling.has(&self.node.me, fingerprint)
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
            return Err(ProtocolError::overloaded(node.options().retry_after_ms));
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
        let shown = if home == node.me {
            node.presence_at_home(std::slice::from_ref(&target), None).await.pop()
        } else {
            match node.ask(&home, Ask::PresenceOf { users: vec![target], watch: false }).await? {
                Reply::Presence(mut looks) => looks.pop().map(Shown::from),
                _ => None,
            }
        };
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

impl Node {
    /// Tells a user's home how many sessions he has here.
    fn tell_home(&self, user: &UserKey) {
        let home = self.placement().home(user).incarnation.clone();
        let here = self.users.here_of(user);
        if home == self.me { self.on_here(&home, here) } else { self.send_here(&home, here) }
    }

    fn send_here(&self, home: &Incarnation, here: Here) {
        self.links.send(home, Envelope::Here { users: vec![here] });
    }

    /// A session has ended: whoever has to do with it is told.
    fn disconnected(self: &Arc<Self>, session: &Arc<Session>) {
        if self.users.remove(session) {
            self.tell_home(&session.user);
        }
        let doing = std::mem::take(&mut *session.doing());
        let mut at: Vec<ConversationId> = doing.opening.into_iter().chain(doing.typing).collect();
        at.sort();
        at.dedup();
        let sessions = vec![(session.user.user.clone(), session.id.clone())];
        for conversation in at {
            let key = ConversationKey { tenant: session.user.tenant.clone(), conversation };
            let owner = self.placement().owner(&key).incarnation.clone();
            if owner == self.me {
                self.sessions_gone(key, &sessions);
            } else {
                self.links.send(&owner, Envelope::SessionsGone { conversation: key, sessions: sessions.clone() });
            }
        }
        if doing.watches {
            let unwatched = lock(&self.watches).session_gone(&Watcher(session.clone()));
            self.unwatch(unwatched);
        }
    }

    /// Tells a conversation of this node that sessions here are gone, if need be when it has room. One that is not active
    /// has nobody's sessions.
    fn sessions_gone(self: &Arc<Self>, key: ConversationKey, sessions: &[(UserId, SessionId)]) {
        let input = |node: &Self| Input::SessionsGone { at: node.me.clone(), sessions: sessions.to_vec() };
        if self.owners.say_if_active(&key, input(self)).is_ok() || !self.owners.is_active(&key) {
            return;
        }
        let (node, sessions) = (self.clone(), sessions.to_vec());
        self.spawn(async move {
            while node.owners.is_active(&key) {
                node.clock.sleep_ms(crate::node::TICK_MS).await;
                let input = Input::SessionsGone { at: node.me.clone(), sessions: sessions.clone() };
                if node.owners.say_if_active(&key, input).is_ok() {
                    return;
                }
            }
        });
    }

    /// No session here watches these users any more.
    fn unwatch(&self, users: Vec<UserKey>) {
        let placement = self.placement();
        for user in users {
            let home = &placement.home(&user).incarnation;
            if *home == self.me {
                self.on_unwatch(&self.me, &[user]);
            } else {
                self.links.send(home, Envelope::Unwatch { users: vec![user] });
            }
        }
    }

    async fn call(self: &Arc<Self>, actor: Actor, command: Command) -> Result<Answer, ProtocolError> {
        match command {
            ClientFrame::History(asked) => self.history(&actor.user, &asked).await,
            ClientFrame::Changes(asked) => self.changes(&actor.user, &asked).await,
            ClientFrame::Sync(_) | ClientFrame::ConversationSettings(_) | ClientFrame::PresenceSet(_) => {
                self.call_home(&actor, command).await
            }
            ClientFrame::PresenceWatch(watch) => self.watch(&actor, watch.user_ids).await,
            ClientFrame::PresenceUnwatch(unwatch) => self.stop_watching(&actor, &unwatch.user_ids),
            ClientFrame::Block(block) => self.block(&actor, &block.user_id, true).await,
            ClientFrame::Unblock(block) => self.block(&actor, &block.user_id, false).await,
            ClientFrame::Auth(_) | ClientFrame::Ping => Err(ProtocolError::internal()),
            command => self.call_owner(actor, command).await,
        }
    }

    async fn call_home(self: &Arc<Self>, actor: &Actor, command: Command) -> Result<Answer, ProtocolError> {
        let home = self.placement().home(&actor.user).incarnation.clone();
        if home == self.me {
            return self.at_home(actor, command).await;
        }
        let ask = Ask::User { actor: actor.clone(), command: encoded(&command) };
        answer_of(self.ask(&home, ask).await?)
    }

    async fn call_owner(self: &Arc<Self>, actor: Actor, command: Command) -> Result<Answer, ProtocolError> {
        if let ClientFrame::Send(send) = &command
            && matches!(&send.target, SendTarget::To(peer) if *peer == actor.user.user)
        {
            return Err(ProtocolError::bad_request("to", "must be another user"));
        }
        let conversation = conversation_of(&actor.user, &command).ok_or_else(ProtocolError::internal)?;
        let key = ConversationKey { tenant: actor.user.tenant.clone(), conversation };
        self.note_doing(&actor, &command)?;
        let is_close = matches!(command, ClientFrame::ConversationClose(_));
        let is_open = matches!(command, ClientFrame::ConversationOpen(_));
        let result = self.at_owner(&actor, &key, command).await;
        if is_open || is_close {
            self.note_done(&actor, &key.conversation, is_close, &result);
        }
        result
    }

    /// Carries a command out at the conversation's owner.
    pub(crate) async fn at_owner(
        self: &Arc<Self>,
        actor: &Actor,
        key: &ConversationKey,
        command: Command,
    ) -> Result<Answer, ProtocolError> {
        let owner = self.placement().owner(key).incarnation.clone();
        if owner != self.me {
            let (actor, conversation) = (actor.clone(), key.clone());
            let reply = self.ask(&owner, Ask::Conversation { actor, conversation, command: encoded(&command) }).await;
            return answer_of(reply?);
        }
        let (reply, told) = oneshot::channel();
        self.command(key, actor.clone(), owner, command, ReplyTo::Here(reply));
        match self.in_time(told).await? {
            Telling::Answer(answer) => Ok(answer),
            Telling::Peek(_) | Telling::Done => Err(ProtocolError::internal()),
        }
    }

    /// Waits for a reply of this process.
    pub(crate) async fn in_time(&self, told: oneshot::Receiver<Told>) -> Result<Telling, ProtocolError> {
        tokio::select! {
            biased;
            told = told => told.unwrap_or_else(|_| Err(self.unavailable())),
            () = self.clock.sleep_ms(self.options().send_timeout_ms) => Err(self.unavailable()),
        }
    }

    /// Notes what a session is about to have under way at owners, so that they are told when it ends.
    fn note_doing(&self, actor: &Actor, command: &Command) -> Result<(), ProtocolError> {
        let Some(session) = self.session_of(actor) else { return Ok(()) };
        let mut doing = session.doing();
        match command {
            ClientFrame::ConversationOpen(ConversationRef { conversation_id }) => {
                if doing.opening.contains(conversation_id) {
                    return Ok(());
                }
                if doing.opening.len() >= OPEN_MAX {
                    return Err(ProtocolError::conflict("too many open conversations: close one first"));
                }
                doing.opening.push(conversation_id.clone());
            }
            // It is told of activity from now on, whatever its owner still believes.
            ClientFrame::ConversationClose(closed) => doing.open.retain(|open| *open != closed.conversation_id),
            ClientFrame::TypingStart(typing) => {
                // What is not noted any more ends by itself soon.
                doing.typing.retain(|other| *other != typing.conversation_id);
                doing.typing.truncate(OPEN_MAX - 1);
                doing.typing.push(typing.conversation_id.clone());
            }
            ClientFrame::TypingStop(typing) => doing.typing.retain(|other| *other != typing.conversation_id),
            _ => {}
        }
        Ok(())
    }

    /// Notes what came of opening or closing a conversation.
    fn note_done(
        &self,
        actor: &Actor,
        conversation: &ConversationId,
        is_close: bool,
        result: &Result<Answer, ProtocolError>,
    ) {
        let Some(session) = self.session_of(actor) else { return };
        let mut doing = session.doing();
        match result {
            Ok(Answer::Frame(ServerFrame::Opened(_))) => doing.opened(conversation),
            Ok(_) if is_close => doing.close(conversation),
            // Whether the owner has it open is not known: it is told at the end.
            Err(error) if error.code() == ErrorCode::Unavailable => {}
            Err(_) if !is_close => doing.close(conversation),
            _ => {}
        }
    }

    pub(crate) fn session_of(&self, actor: &Actor) -> Option<Arc<Session>> {
        let id = actor.session.as_ref()?;
        self.users.session(&actor.user, id)
    }

    /// `presence_watch`.
    async fn watch(self: &Arc<Self>, actor: &Actor, users: Vec<UserId>) -> Result<Answer, ProtocolError> {
        let session = self.session_of(actor).ok_or_else(|| ProtocolError::forbidden("this needs a session"))?;
        let key = |user| UserKey { tenant: actor.user.tenant.clone(), user };
        let keys: Vec<UserKey> = users.into_iter().map(key).collect();
        let watcher = Watcher(session.clone());
        let all_known = {
            let mut watches = lock(&self.watches);
            // Read under the lock under which a block that comes now will find these watches.
            let blocked = self.users.blocked(&actor.user);
            let target = |key: &UserKey| (key.clone(), blocked.get(&key.user).copied());
            let targets: Vec<_> = keys.iter().map(target).collect();
            session.doing().watches = true;
            let newly = watches.watch(&watcher, &targets)?;
            newly.is_empty() && watches.all_known(&keys)
        };
        if !all_known {
            self.watch_at_homes(&keys).await;
        }
        let state = lock(&self.watches).state(&watcher, &keys);
        let users = state.into_iter().map(|(key, shown)| user_presence(key.user, shown)).collect();
        Ok(Answer::Frame(ServerFrame::PresenceState(PresenceState { users })))
    }

    /// A home that does not answer in time is told as unknown now, and its answer as a change later.
    async fn watch_at_homes(self: &Arc<Self>, users: &[UserKey]) {
        let placement = self.placement();
        let mut by_home: std::collections::BTreeMap<Incarnation, Vec<UserKey>> = std::collections::BTreeMap::new();
        for user in users {
            by_home.entry(placement.home(user).incarnation.clone()).or_default().push(user.clone());
        }
        for (home, users) in by_home {
            if self.watch_at(&home, users.clone()).await.is_err() {
                self.watch_until_answered(home, users);
            }
        }
    }

    fn stop_watching(&self, actor: &Actor, users: &[UserId]) -> Result<Answer, ProtocolError> {
        let session = self.session_of(actor).ok_or_else(|| ProtocolError::forbidden("this needs a session"))?;
        let key = |user: &UserId| UserKey { tenant: actor.user.tenant.clone(), user: user.clone() };
        let keys: Vec<UserKey> = users.iter().map(key).collect();
        let unwatched = lock(&self.watches).unwatch(&Watcher(session), &keys);
        self.unwatch(unwatched);
        Ok(Answer::done())
    }

    /// A watching session's batch.
    pub(crate) fn tell_presence_to(&self, watcher: &Session, users: Vec<(UserKey, Shown)>) {
        let about: Vec<String> = users.iter().map(|(key, _)| key.user.to_string()).collect();
        let about: Vec<&str> = about.iter().map(String::as_str).collect();
        let users = users.into_iter().map(|(key, shown)| user_presence(key.user, shown)).collect();
        // A newer batch about the same users takes the place of one that still waits.
        let frame = Outgoing::new(ephemeral("presence", server::Presence { users }.encode(None), &about));
        watcher.socket.deliver(&frame.delivery);
    }

    /// `block` and `unblock`: in force, on every node, when it answers.
    async fn block(self: &Arc<Self>, actor: &Actor, other: &UserId, block: bool) -> Result<Answer, ProtocolError> {
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
        let (reply, told) = oneshot::channel();
        if self.owners.say_if_active(&key, Input::BlockChanged { reply: ReplyTo::Here(reply) }).is_ok() {
            self.in_time(told).await?;
        }
        Ok(())
    }

    /// Asks every other node of the view.
    async fn ask_all(&self, ask: impl Fn() -> Ask) -> Result<Vec<Reply>, ProtocolError> {
        let placement = self.placement();
        try_join_all(placement.view.peers(&self.me).map(|peer| self.ask(peer, ask()))).await
    }

    pub(crate) fn session_rows(&self, user: &UserKey) -> Vec<SessionRow> {
        let row = |session: &Arc<Session>| SessionRow {
            session_id: session.id.clone(),
            device_id: session.device.clone(),
            instance_id: session.instance.clone(),
            node_id: self.me.node.clone(),
            connected_at: session.connected_at,
        };
        self.users.sessions(user).iter().map(row).collect()
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

fn user_presence(user_id: UserId, shown: Shown) -> UserPresence {
    UserPresence { user_id, status: shown.status, last_seen_at: shown.last_seen_at }
}

fn conversation_of_target(user: &UserKey, target: &SendTarget) -> ConversationId {
    match target {
        SendTarget::Conversation(id) => id.clone(),
        SendTarget::To(peer) => direct_conversation(&user.tenant, &user.user, peer),
    }
}

/// The conversation that a command is about.
fn conversation_of(user: &UserKey, command: &Command) -> Option<ConversationId> {
    use ClientFrame as Frame;
    Some(match command {
        Frame::Send(send) => conversation_of_target(user, &send.target),
        Frame::ConversationCreate(create) => group_conversation(&user.tenant, &user.user, &create.client_id),
        Frame::ConversationUpdate(update) => update.conversation_id.clone(),
        Frame::ConversationMembers(members) => members.conversation_id.clone(),
        Frame::MemberAdd(add) => add.conversation_id.clone(),
        Frame::MemberRemove(remove) => remove.conversation_id.clone(),
        Frame::MemberRole(role) => role.conversation_id.clone(),
        Frame::Edit(edit) => edit.conversation_id.clone(),
        Frame::Delete(entry) | Frame::Delivered(entry) | Frame::Read(entry) => entry.conversation_id.clone(),
        Frame::React(react) | Frame::Unreact(react) => react.conversation_id.clone(),
        Frame::History(asked) => asked.conversation_id.clone(),
        Frame::Changes(asked) => asked.conversation_id.clone(),
        Frame::ConversationSettings(set) => set.conversation_id.clone(),
        Frame::Signal(signal) => signal.conversation_id.clone(),
        Frame::ConversationGet(about)
        | Frame::ConversationOpen(about)
        | Frame::ConversationClose(about)
        | Frame::TypingStart(about)
        | Frame::TypingStop(about) => about.conversation_id.clone(),
        Frame::Auth(_)
        | Frame::Ping
        | Frame::Sync(_)
        | Frame::Block(_)
        | Frame::Unblock(_)
        | Frame::PresenceSet(_)
        | Frame::PresenceWatch(_)
        | Frame::PresenceUnwatch(_) => return None,
    })
}
