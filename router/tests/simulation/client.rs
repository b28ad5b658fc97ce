//! A client as PROTOCOL.md wants it: keeps copies of its conversations, repeats sends until they are answered, catches
//! up by `sync` and `changes`, reconnects. What it does next is drawn from its own generator.

use crate::copy::Copy;
use crate::oracle::Oracle;
use crate::world::{Phase, Up, World};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_clock::Generator;
use switchboard_protocol::client::{
    ChangesGet, ConversationRef, HistoryGet, HistoryRange, Send, SendTarget, SyncGet, UserList,
};
use switchboard_protocol::server::{Message, Sent, ShownStatus};
use switchboard_protocol::{
    ClientFrame, ClientId, CloseCode, Content, ConversationId, DeviceId, EntryFrame, ErrorCode, InstanceId,
    ProtocolError, Seq, ServerFrame, UserId,
};
use switchboard_router::{Connected, Delivery, NewSession, Socket};
use switchboard_store::{ConversationKey, UserKey};
use tokio::sync::Notify;

/// What came over one connection and has not been looked at.
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

/// A send that has not been answered.
#[derive(Clone)]
struct Pending {
    send: Send,
    tries: u32,
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
    cursor: Option<String>,
    /// Whether more pages of an earlier `sync` follow.
    paging: bool,
    pub(crate) wants_sync: bool,
    pending: Vec<Pending>,
    names: u64,
    acts_at_ms: u64,
    pub(crate) open: BTreeSet<ConversationId>,
    /// What this session may have open: closing that was not answered may not have happened.
    pub(crate) may_be_open: BTreeSet<ConversationId>,
    pub(crate) watched: Vec<UserId>,
    pub(crate) seen: BTreeMap<UserId, ShownStatus>,
    /// Whom he has blocked.
    pub(crate) blocked: Vec<UserId>,
    /// Changes without an answer: looked up once it is too late for them to happen.
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

    /// Lives until the world is to be judged.
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
            self.take_frames();
            self.connection = None;
        }
        if broken || moving {
            // Who is asked to move opens the new session first.
            if let Some(connection) = self.connect().await {
                self.take_frames();
                self.connection = Some(connection);
                self.begin_session().await;
            }
        }
        self.connection.is_some()
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
                // On the wire, what came before the answer comes before it.
                self.take_frames();
                self.seen.extend(state.users.into_iter().map(|user| (user.user_id, user.status)));
            }
            // It watches anew at its next reconnect.
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

    // Catching up

    /// Whether everything heard of is here.
    pub(crate) async fn catch_up(&mut self) -> bool {
        let now_ms = self.oracle.now_ms();
        for (_, conversation) in self.in_doubt.extract_if(.., |(due_ms, _)| *due_ms <= now_ms).collect::<Vec<_>>() {
            self.changes(&conversation).await;
        }
        if self.wants_sync && self.sync().await {
            self.wants_sync = false;
        }
        let behind = |(id, copy): (&ConversationId, &Copy)| copy.is_behind().then(|| id.clone());
        for conversation in self.copies.iter().filter_map(behind).collect::<Vec<_>>() {
            if !self.changes(&conversation).await {
                return false;
            }
        }
        !self.wants_sync
    }

    /// `sync` to the end of its pages; whether it came through.
    pub(crate) async fn sync(&mut self) -> bool {
        let (before, read) = (self.oracle.answered_by_now(), self.oracle.read_by_now());
        let resumed = self.paging;
        let mut first = !resumed;
        loop {
            let limit = if self.generator.percent(50) { 200 } else { 2 };
            let entries_per_conversation = if self.generator.percent(20) { 3 } else { 0 };
            let asked = SyncGet { cursor: self.cursor.clone(), entries_per_conversation, limit };
            let Ok(ServerFrame::Sync(page)) = self.call(ClientFrame::Sync(asked)).await else { return false };
            self.oracle.count(|counts| counts.syncs += 1);
            if page.reset && self.cursor.is_some() {
                self.oracle.violated(format!("a known cursor of {:?} was reset", self.user));
            }
            for row in page.conversations {
                let id = row.conversation.conversation_id.clone();
                let me = (self.key(&id), self.me());
                self.oracle.synced(&self.user, row.clone(), read.get(&me).copied().unwrap_or(0));
                self.copies.entry(id).or_default().hear(row.conversation.last_seq);
            }
            self.cursor = Some(page.cursor);
            if first && !page.more {
                // Of several pages, the first may be older than what a later one is asked after.
                self.check_complete(&before);
            }
            first = false;
            // Pages that began before are as of then: what has come since is asked for once more.
            let resumed = std::mem::replace(&mut self.paging, page.more) && resumed;
            if !page.more {
                return !resumed;
            }
        }
    }

    /// What was answered before `sync` is known now, or was before.
    fn check_complete(&self, before: &BTreeMap<ConversationKey, u64>) {
        for (key, answered) in before.iter().filter(|(key, _)| key.tenant == self.user.tenant) {
            let told = self.copies.get(&key.conversation).map_or(0, |copy| copy.heard.max(copy.applied));
            self.oracle.told("sync", &self.user, key, *answered, Some(told));
        }
    }

    /// `changes` until there are no more; whether it came through.
    pub(crate) async fn changes(&mut self, conversation: &ConversationId) -> bool {
        let (key, me) = (self.key(conversation), self.me());
        loop {
            let before = self.oracle.answered_by_now().get(&key).copied().unwrap_or(0);
            let after = Seq::new(self.copies.entry(conversation.clone()).or_default().applied);
            let limit = if self.generator.percent(50) { 500 } else { 3 };
            let asked = ChangesGet { conversation_id: conversation.clone(), after, limit };
            match self.call(ClientFrame::Changes(asked)).await {
                Ok(ServerFrame::Changes(changes)) => {
                    self.oracle.told("changes", &self.user, &key, before, Some(changes.last_seq.get()));
                    if changes.reset {
                        return self.reload(conversation).await;
                    }
                    let copy = self.copies.entry(conversation.clone()).or_default();
                    if copy.take_changes(changes, &me) {
                        return !copy.is_behind();
                    }
                }
                Err(Failure::Refused(error)) if error.code() == ErrorCode::NotFound => {
                    self.oracle.told("changes", &self.user, &key, before, None);
                    self.copies.remove(conversation);
                    self.open.remove(conversation);
                    return true;
                }
                _ => return false,
            }
        }
    }

    /// Forgets the conversation's messages and loads them by `history`.
    async fn reload(&mut self, conversation: &ConversationId) -> bool {
        self.oracle.count(|counts| counts.resets += 1);
        let mut copy = Copy::default();
        let mut range = HistoryRange::Newest;
        loop {
            let asked = HistoryGet { conversation_id: conversation.clone(), range, limit: 50 };
            let Ok(ServerFrame::History(page)) = self.call(ClientFrame::History(asked)).await else { return false };
            if range == HistoryRange::Newest {
                copy.begin_history(&page);
            }
            let first = page.messages.first().map(|message| message.seq);
            let more = page.more;
            copy.take_history(page);
            match first {
                Some(first) if more => range = HistoryRange::Before(first),
                _ => break,
            }
        }
        self.copies.insert(conversation.clone(), copy);
        true
    }

    // Sending

    pub(crate) fn name(&mut self) -> ClientId {
        self.names += 1;
        format!("{}-{}", self.device, self.names).parse().unwrap()
    }

    pub(crate) fn queue_send(&mut self, target: SendTarget) {
        let client_id = self.name();
        let mentions = if self.generator.percent(30) {
            let other = &self.others[self.generator.below(self.others.len() as u64) as usize];
            format!(r#","mentions":["{other}"]"#)
        } else {
            String::new()
        };
        let text = format!(r#"{{"text":"{} says {client_id}"{mentions}}}"#, self.user.user);
        let content = Content::parse(&text, usize::MAX).unwrap();
        self.pending.push(Pending { send: Send { target, client_id, content, base_seq: None }, tries: 0 });
    }

    async fn try_pending(&mut self) {
        let waiting = std::mem::take(&mut self.pending);
        if waiting.is_empty() {
            return;
        }
        // What is sent together is under way together; some of it twice, some is not waited for.
        let attempts = waiting.iter().map(|pending| self.attempt(pending));
        let outcomes = futures_util::future::join_all(attempts).await;
        for (mut pending, outcome) in waiting.into_iter().zip(outcomes) {
            match outcome {
                Ok(sent) => self.take_sent(&pending.send, sent),
                Err(Failure::Refused(error)) if is_final(&error) => {
                    if pending.tries == 0 {
                        self.oracle.refused(&self.user, &pending.send.client_id);
                    }
                }
                Err(_) => {
                    pending.tries += 1;
                    self.pending.push(pending);
                }
            }
        }
    }

    async fn attempt(&self, pending: &Pending) -> Result<Sent, Failure> {
        let once = || async { self.call(ClientFrame::Send(pending.send.clone())).await };
        let answer = match self.generator.below(100) {
            0..10 => {
                let (first, second) = tokio::join!(once(), once());
                self.note_sent(pending, &second);
                self.note_sent(pending, &first);
                first.or(second)
            }
            10..20 => {
                let patience = Duration::from_millis(self.generator.below(300));
                tokio::time::timeout(patience, once()).await.unwrap_or(Err(Failure::Broken))
            }
            _ => once().await,
        };
        self.note_sent(pending, &answer);
        match answer? {
            ServerFrame::Sent(sent) => Ok(sent),
            other => panic!("a send was answered with {other:?}"),
        }
    }

    fn note_sent(&self, pending: &Pending, answer: &Result<ServerFrame, Failure>) {
        if let Ok(ServerFrame::Sent(sent)) = answer {
            self.oracle.sent(&self.user, sent, pending.send.content.as_str());
        }
    }

    /// `sent` counts as the entry.
    fn take_sent(&mut self, send: &Send, sent: Sent) {
        let message = Message {
            conversation_id: sent.conversation_id,
            message_id: sent.message_id,
            seq: sent.seq,
            from: self.me(),
            client_id: sent.client_id,
            content: send.content.clone(),
            timestamp: sent.timestamp,
        };
        self.take_entry(message.into());
    }

    /// Sends that were never answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.pending.len()
    }
}

/// Whether asking again is pointless.
pub(crate) fn is_final(error: &ProtocolError) -> bool {
    !matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Overloaded | ErrorCode::OutcomeUnknown)
}
