//! A client that follows PROTOCOL.md: keeps copies of its conversations, repeats sends until they are answered, catches
//! up by `sync` and `changes`, reconnects. Its actions are drawn from its own generator.

mod catching_up;
mod sending;

use crate::copy::Copy;
use crate::oracle::Oracle;
use crate::world::{Phase, Up, World};
use sending::Pending;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_clock::Generator;
use switchboard_protocol::client::{ConversationRef, UserList};
use switchboard_protocol::server::ShownStatus;
use switchboard_protocol::{
    ClientFrame, CloseCode, ConversationId, DeviceId, EntryFrame, ErrorCode, InstanceId, ProtocolError, ServerFrame,
    UserId,
};
use switchboard_router::{Connected, Delivery, NewSession, Socket};
use switchboard_store::{ConversationKey, UserKey};
use tokio::sync::Notify;

/// Frames of one connection that have not been processed.
pub(crate) struct Inbox {
    user: UserKey,
    oracle: Arc<Oracle>,
    state: Mutex<InboxState>,
    pub(crate) news: Notify,
}

#[derive(Default)]
struct InboxState {
    frames: VecDeque<Arc<Delivery>>,
    closed: Option<CloseCode>,
    moving: bool,
}

impl Inbox {
    pub(crate) fn new(user: UserKey, oracle: Arc<Oracle>) -> Arc<Self> {
        Arc::new(Self { user, oracle, state: Mutex::default(), news: Notify::new() })
    }

    pub(crate) fn take(&self) -> VecDeque<Arc<Delivery>> {
        std::mem::take(&mut self.state.lock().unwrap().frames)
    }

    pub(crate) fn closed(&self) -> Option<CloseCode> {
        self.state.lock().unwrap().closed
    }

    fn is_moving(&self) -> bool {
        self.state.lock().unwrap().moving
    }
}

impl Socket for Inbox {
    fn deliver(&self, delivery: &Arc<Delivery>) {
        let text = std::str::from_utf8(&delivery.json).unwrap();
        self.oracle.trace(format_args!("{} {} < {text}", self.user.tenant, self.user.user));
        if let Ok((_, entry)) = EntryFrame::decode(text) {
            self.oracle.delivered(&self.user, &entry, &delivery.json);
        }
        self.state.lock().unwrap().frames.push_back(delivery.clone());
        self.news.notify_one();
    }

    fn close(&self, why: CloseCode) {
        self.state.lock().unwrap().closed = Some(why);
        self.news.notify_one();
    }

    fn reconnect(&self, _after_ms: u64, _url: Option<&str>) {
        self.state.lock().unwrap().moving = true;
        self.news.notify_one();
    }
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) up: Up,
    pub(crate) connected: Connected,
    pub(crate) inbox: Arc<Inbox>,
}

/// Why there is no answer.
pub(crate) enum Failure {
    /// The connection broke, or the client did not wait.
    Broken,
    Refused(ProtocolError),
}

pub(crate) struct Client {
    pub(crate) world: Arc<World>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) generator: Generator,
    pub(crate) user: UserKey,
    pub(crate) device: DeviceId,
    /// All users of the tenant but this one.
    pub(crate) others: Vec<UserId>,
    pub(crate) connection: Option<Connection>,
    pub(crate) copies: BTreeMap<ConversationId, Copy>,
    pub(crate) cursor: Option<String>,
    /// Whether an earlier `sync` has more pages.
    paging: bool,
    pub(crate) wants_sync: bool,
    pending: Vec<Pending>,
    names: u64,
    acts_at_ms: u64,
    pub(crate) open: BTreeSet<ConversationId>,
    /// Conversations that this session may have open: an unanswered close may not have happened.
    pub(crate) may_be_open: BTreeSet<ConversationId>,
    pub(crate) watched: Vec<UserId>,
    pub(crate) seen: BTreeMap<UserId, ShownStatus>,
    /// The users that this one has blocked.
    pub(crate) blocked: Vec<UserId>,
    /// Changes without an answer: checked once it is too late for them to happen.
    pub(crate) in_doubt: Vec<(u64, ConversationId)>,
}

impl Client {
    pub(crate) fn new(world: &Arc<World>, user: UserKey, device: &str, others: Vec<UserId>) -> Self {
        Self {
            world: world.clone(),
            oracle: world.oracle.clone(),
            generator: world.generator.fork(),
            user,
            device: device.parse().unwrap(),
            others,
            connection: None,
            copies: BTreeMap::new(),
            cursor: None,
            paging: false,
            wants_sync: true,
            pending: Vec::new(),
            names: 0,
            acts_at_ms: 0,
            open: BTreeSet::new(),
            may_be_open: BTreeSet::new(),
            watched: Vec::new(),
            seen: BTreeMap::new(),
            blocked: Vec::new(),
            in_doubt: Vec::new(),
        }
    }

    pub(crate) fn me(&self) -> UserId {
        self.user.user.clone()
    }

    pub(crate) fn key(&self, conversation: &ConversationId) -> ConversationKey {
        ConversationKey { tenant: self.user.tenant.clone(), conversation: conversation.clone() }
    }

    /// Runs until the final judgement.
    pub(crate) async fn run(mut self) -> Self {
        while self.world.phase() != Phase::Over {
            self.turn().await;
        }
        self
    }

    async fn turn(&mut self) {
        if !self.keep_connected().await {
            return self.pause(50, 400).await;
        }
        self.take_frames();
        if !self.catch_up().await {
            return self.pause(100, 500).await;
        }
        self.try_pending().await;
        if self.world.phase() == Phase::Quiet || self.generator.percent(20) {
            self.unblock().await;
        }
        if self.world.phase() == Phase::Chaos && self.oracle.now_ms() >= self.acts_at_ms {
            self.acts_at_ms = self.oracle.now_ms() + 50 + self.generator.below(700);
            self.act().await;
        }
        if self.world.phase() == Phase::Chaos && self.generator.percent(30) {
            self.confirm().await;
        }
        self.pause(5, 250).await;
    }

    async fn pause(&self, from_ms: u64, to_ms: u64) {
        let ms = from_ms + self.generator.below(to_ms - from_ms);
        let sleep = tokio::time::sleep(Duration::from_millis(ms));
        match &self.connection {
            None => sleep.await,
            Some(connection) => tokio::select! {
                biased;
                () = connection.up.killed.cancelled() => {}
                () = connection.inbox.news.notified() => {}
                () = sleep => {}
            },
        }
    }

    // The connection

    /// Whether there is a connection.
    async fn keep_connected(&mut self) -> bool {
        let moving = self.connection.as_ref().is_some_and(|connection| connection.inbox.is_moving());
        let broken = self
            .connection
            .as_ref()
            .is_none_or(|connection| connection.up.killed.is_cancelled() || connection.inbox.closed().is_some());
        if broken {
            self.check_not_replaced();
            self.take_frames();
            self.connection = None;
        }
        if broken || moving {
            // A client that is asked to move opens the new session first.
            if let Some(connection) = self.connect().await {
                self.take_frames();
                self.connection = Some(connection);
                self.begin_session().await;
            }
        }
        self.connection.is_some()
    }

    /// Only a newer session replaces this one, and there is none unless it was asked to move.
    fn check_not_replaced(&self) {
        let Some(Connection { up, inbox, .. }) = &self.connection else { return };
        if inbox.closed() == Some(CloseCode::Replaced) && !inbox.is_moving() {
            self.oracle.violated(format!("{:?} {} at {} was replaced by nothing", self.user, self.device, up.me));
        }
    }

    pub(crate) async fn connect(&mut self) -> Option<Connection> {
        let up = self.world.pick(&self.generator)?;
        self.connect_to(up).await
    }

    pub(crate) async fn connect_to(&self, up: Up) -> Option<Connection> {
        let new = NewSession {
            user: self.user.clone(),
            device: self.device.clone(),
            instance: InstanceId::default(),
            issued_at: None,
            name: None,
        };
        let inbox = Inbox::new(self.user.clone(), self.oracle.clone());
        let connecting = up.router.connect(new, inbox.clone());
        let connected = tokio::select! {
            biased;
            () = up.killed.cancelled() => return None,
            connected = connecting => connected.ok()?,
        };
        self.oracle.count(|counts| counts.connects += 1);
        self.oracle
            .trace(format_args!("{} {} {} connects to {}", self.user.tenant, self.user.user, self.device, up.me));
        Some(Connection { up, connected, inbox })
    }

    async fn begin_session(&mut self) {
        self.wants_sync = true;
        self.may_be_open.clear();
        for conversation_id in std::mem::take(&mut self.open) {
            self.open_conversation(conversation_id).await;
        }
        self.watch().await;
    }

    pub(crate) async fn open_conversation(&mut self, conversation_id: ConversationId) {
        let frame = ClientFrame::ConversationOpen(ConversationRef { conversation_id: conversation_id.clone() });
        self.may_be_open.insert(conversation_id.clone());
        if let Ok(ServerFrame::Opened(opened)) = self.call(frame).await {
            if let Some(copy) = self.copies.get_mut(&conversation_id) {
                copy.hear(opened.last_seq);
            }
            self.open.insert(conversation_id);
        }
    }

    pub(crate) async fn watch(&mut self) {
        self.seen.clear();
        if self.watched.is_empty() {
            return;
        }
        let frame = ClientFrame::PresenceWatch(UserList { user_ids: self.watched.clone() });
        match self.call(frame).await {
            Ok(ServerFrame::PresenceState(state)) => {
                // On the wire, frames that came before the answer precede it.
                self.take_frames();
                self.seen.extend(state.users.into_iter().map(|user| (user.user_id, user.status)));
            }
            // It watches again at its next reconnect.
            _ => self.watched.clear(),
        }
    }

    // Asking

    pub(crate) async fn call(&self, frame: ClientFrame) -> Result<ServerFrame, Failure> {
        self.call_with(true, frame).await
    }

    pub(crate) async fn call_with(&self, awaited: bool, frame: ClientFrame) -> Result<ServerFrame, Failure> {
        let Some(connection) = &self.connection else { return Err(Failure::Broken) };
        let kind = frame.type_name();
        self.oracle.trace(format_args!(
            "{} {} {} > {}",
            self.user.tenant,
            self.user.user,
            self.device,
            frame.encode(None)
        ));
        let answer = tokio::select! {
            biased;
            () = connection.up.killed.cancelled() => return Err(Failure::Broken),
            answer = connection.up.router.call(connection.connected.actor(awaited), frame) => answer,
        };
        match answer {
            Ok(answer) => {
                self.oracle.count(|counts| counts.answers += 1);
                let json = answer.encode(None);
                self.oracle.trace(format_args!("{} {} {} = {json}", self.user.tenant, self.user.user, self.device));
                let (_, frame) = ServerFrame::decode(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
                Ok(frame)
            }
            Err(error) => {
                self.oracle.count(|counts| counts.errors += 1);
                self.oracle.trace(format_args!(
                    "{} {} {} = {kind} refused: {error}",
                    self.user.tenant, self.user.user, self.device
                ));
                if error.code() == ErrorCode::Internal {
                    self.oracle.violated(format!("{:?} was answered with `internal` to {kind}", self.user));
                }
                Err(Failure::Refused(error))
            }
        }
    }

    // Frames

    pub(crate) fn take_frames(&mut self) {
        let Some(connection) = &self.connection else { return };
        for delivery in connection.inbox.take() {
            let text = std::str::from_utf8(&delivery.json).unwrap();
            let (_, frame) = ServerFrame::decode(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            self.take_frame(frame);
        }
    }

    fn take_frame(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Message(entry) => self.take_entry(entry.into()),
            ServerFrame::MessageUpdated(entry) => self.take_entry(entry.into()),
            ServerFrame::Reaction(entry) => self.take_entry(entry.into()),
            ServerFrame::Membership(entry) => self.take_entry(entry.into()),
            ServerFrame::ConversationUpdated(entry) => self.take_entry(entry.into()),
            ServerFrame::ConversationActivity(activity) => {
                self.copies.entry(activity.conversation_id).or_default().hear(activity.last_seq);
            }
            ServerFrame::Resync(_) => {
                self.oracle.count(|counts| counts.resyncs += 1);
                self.wants_sync = true;
            }
            ServerFrame::Cursor(newer) => self.cursor = Some(newer.cursor),
            ServerFrame::Presence(presence) => {
                self.seen.extend(presence.users.into_iter().map(|user| (user.user_id, user.status)));
            }
            _ => {}
        }
    }

    fn take_entry(&mut self, entry: EntryFrame) {
        let conversation = crate::oracle::conversation_of(&entry).clone();
        let me = self.me();
        self.copies.entry(conversation).or_default().take(entry, &me);
    }
}

/// Whether a retry is pointless.
pub(crate) fn is_final(error: &ProtocolError) -> bool {
    !matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Overloaded | ErrorCode::OutcomeUnknown)
}
