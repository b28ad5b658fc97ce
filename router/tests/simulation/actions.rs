//! The actions of clients, one at a time.

use crate::client::{Client, Failure, is_final};
use switchboard_protocol::client::{
    ConversationCreate, ConversationRef, ConversationSettingsSet, ConversationUpdate, Edit, EntryRef, GroupKind,
    HistoryGet, HistoryRange, MemberAdd, MemberRemove, MemberRole, PresenceSet, PresenceStatus, React, SendTarget,
    UserRef,
};
use switchboard_protocol::{
    ClientFrame, Content, ConversationId, EntryFrame, ErrorCode, Role, Seq, ServerFrame, UserId,
};
use switchboard_store::ConversationKey;

/// Longer than any command can be under way: `send_timeout_ms`, plus the delays of the bus and the store.
const DOUBT_MS: u64 = 6_000;

impl Client {
    pub(crate) async fn act(&mut self) {
        let drawn = self.generator.below(1_000);
        let Some(conversation) = self.some_conversation() else {
            return self.begin_something(drawn).await;
        };
        match drawn {
            0..300 => self.queue_sends(&conversation),
            300..340 => self.queue_send(SendTarget::To(self.other())),
            340..420 => self.edit(conversation).await,
            420..440 => self.delete(conversation).await,
            440..540 => self.react(conversation).await,
            540..640 => self.read(conversation).await,
            640..710 => self.change_members(conversation).await,
            710..715 => self.create().await,
            715..745 => self.open_conversation(conversation).await,
            745..760 => self.close(conversation).await,
            760..775 => self.set_settings(conversation).await,
            775..785 => self.block().await,
            785..800 => self.update(conversation).await,
            800..850 => self.check_history(conversation).await,
            850..880 => drop(self.sync().await),
            880..895 => self.connection = None,
            895..915 => self.probe().await,
            915..945 => self.type_something(conversation).await,
            945..965 => self.set_presence().await,
            965..985 => self.watch_someone().await,
            _ => {}
        }
    }

    async fn begin_something(&mut self, drawn: u64) {
        match drawn {
            0..100 => self.create().await,
            100..300 => self.queue_send(SendTarget::To(self.other())),
            300..400 => drop(self.sync().await),
            _ => {}
        }
    }

    // Drawing

    fn one_of<T: Clone>(&self, from: &[T]) -> Option<T> {
        let index = usize::try_from(self.generator.below(from.len() as u64)).unwrap_or(0);
        from.get(index).cloned()
    }

    fn other(&self) -> UserId {
        self.one_of(&self.others).expect("a tenant has several users")
    }

    fn some_conversation(&self) -> Option<ConversationId> {
        self.one_of(&self.copies.keys().cloned().collect::<Vec<_>>())
    }

    /// One of the newest messages of a conversation, which others change too.
    fn some_message(&self, conversation: &ConversationId) -> Option<(Seq, bool)> {
        let copy = self.copies.get(conversation)?;
        let newest: Vec<_> = copy.messages.iter().rev().take(4).collect();
        self.one_of(&newest).map(|(seq, message)| (Seq::new(*seq), message.from == self.user.user))
    }

    // Changing

    fn queue_sends(&mut self, conversation: &ConversationId) {
        let many = if self.generator.percent(20) { 4 } else { 1 };
        for _ in 0..many {
            self.queue_send(SendTarget::Conversation(conversation.clone()));
        }
    }

    /// A change of a conversation that is answered with `ok`.
    async fn change(&mut self, conversation_id: ConversationId, frame: ClientFrame) {
        let key = self.key(&conversation_id);
        match self.call(frame).await {
            Ok(ServerFrame::Ok(ok)) => {
                let seq = ok.seq.expect("a change is answered with its seq");
                self.oracle.answered(&key, seq.get());
                // If nothing changed, it is another client's newest entry: so the client must ask for it.
                self.copies.entry(conversation_id).or_default().hear(seq);
            }
            Ok(other) => panic!("answered with {other:?}"),
            Err(Failure::Refused(error)) if is_final(&error) => {}
            Err(_) => self.in_doubt.push((self.oracle.now_ms() + DOUBT_MS, conversation_id)),
        }
    }

    async fn edit(&mut self, conversation_id: ConversationId) {
        let Some((seq, true)) = self.some_message(&conversation_id) else { return };
        let (me, name) = (self.me(), self.name());
        let text = format!(r#"{{"text":"{me} edits {name}"}}"#);
        let content = Content::parse(&text, usize::MAX).unwrap();
        let frame = ClientFrame::Edit(Edit { conversation_id: conversation_id.clone(), seq, content });
        self.change(conversation_id, frame).await;
    }

    async fn delete(&mut self, conversation_id: ConversationId) {
        let Some((seq, true)) = self.some_message(&conversation_id) else { return };
        let frame = ClientFrame::Delete(EntryRef { conversation_id: conversation_id.clone(), seq });
        self.change(conversation_id, frame).await;
    }

    async fn react(&mut self, conversation_id: ConversationId) {
        let Some((seq, _)) = self.some_message(&conversation_id) else { return };
        let emoji = self.one_of(&["+1", "heart", "tada"]).expect("three").parse().unwrap();
        let react = React { conversation_id: conversation_id.clone(), seq, emoji };
        let frame = if self.generator.percent(65) { ClientFrame::React(react) } else { ClientFrame::Unreact(react) };
        self.change(conversation_id, frame).await;
    }

    async fn change_members(&mut self, conversation_id: ConversationId) {
        let (someone, id) = (self.other(), conversation_id.clone());
        let frame = match self.generator.below(10) {
            0..6 => {
                ClientFrame::MemberAdd(MemberAdd { conversation_id: id, user_ids: vec![someone], role: Role::Member })
            }
            6..8 => ClientFrame::MemberRemove(MemberRemove { conversation_id: id, user_ids: vec![someone] }),
            8 => {
                let role = if self.generator.percent(50) { Role::Moderator } else { Role::Owner };
                ClientFrame::MemberRole(MemberRole { conversation_id: id, user_id: someone, role })
            }
            _ if self.generator.percent(20) => {
                ClientFrame::MemberRemove(MemberRemove { conversation_id: id, user_ids: vec![self.me()] })
            }
            _ => return,
        };
        self.change(conversation_id, frame).await;
    }

    async fn update(&mut self, conversation_id: ConversationId) {
        let title = Some(format!("{}'s", self.name()).parse().unwrap());
        let update = ConversationUpdate { conversation_id: conversation_id.clone(), title, custom: None };
        self.change(conversation_id, ClientFrame::ConversationUpdate(update)).await;
    }

    async fn create(&mut self) {
        let mut members: Vec<UserId> = self.others.iter().filter(|_| self.generator.percent(50)).cloned().collect();
        members.sort();
        let client_id = self.name();
        let create = ConversationCreate { kind: GroupKind::Group, client_id, title: None, custom: None, members };
        for _ in 0..2 {
            // Sent twice, it is one group.
            if let Ok(ServerFrame::Conversation(made)) =
                self.call(ClientFrame::ConversationCreate(create.clone())).await
            {
                let key = self.key(&made.conversation_id);
                self.oracle.answered(&key, 1);
                self.copies.entry(made.conversation_id).or_default().hear(made.last_seq);
            }
        }
    }

    // Reading

    async fn read(&mut self, conversation_id: ConversationId) {
        let Some(copy) = self.copies.get(&conversation_id) else { return };
        let seq = Seq::new(copy.applied.saturating_sub(self.generator.below(3)));
        let key = self.key(&conversation_id);
        self.oracle.read_tried(&key, &self.user.user, seq.get());
        self.oracle.arrived(&key, &self.user.user, seq.get());
        let entry = EntryRef { conversation_id, seq };
        if self.generator.percent(30) {
            drop(self.call_with(false, ClientFrame::Delivered(entry)).await);
        } else if self.generator.percent(40) {
            drop(self.call_with(false, ClientFrame::Read(entry)).await);
        } else if self.call(ClientFrame::Read(entry)).await.is_ok() {
            self.oracle.read(&key, &self.user.user, seq.get());
            self.oracle.received(&key, &self.user.user, seq.get());
        }
    }

    /// Sends receipts for a conversation.
    pub(crate) async fn confirm(&self) {
        let Some(conversation_id) = self.some_conversation() else { return };
        let Some(copy) = self.copies.get(&conversation_id) else { return };
        let (key, seq) = (self.key(&conversation_id), Seq::new(copy.applied));
        self.oracle.arrived(&key, &self.user.user, seq.get());
        let delivered = ClientFrame::Delivered(EntryRef { conversation_id, seq });
        if self.generator.percent(30) {
            drop(self.call_with(false, delivered).await);
        } else if self.call(delivered).await.is_ok() {
            self.oracle.received(&key, &self.user.user, seq.get());
        }
    }

    /// The result of `history` equals a fold of the entries up to its end.
    async fn check_history(&mut self, conversation_id: ConversationId) {
        let key = self.key(&conversation_id);
        let before = self.oracle.answered_by_now().get(&key).copied().unwrap_or(0);
        let asked = HistoryGet { conversation_id: conversation_id.clone(), range: HistoryRange::Newest, limit: 200 };
        match self.call(ClientFrame::History(asked)).await {
            Ok(ServerFrame::History(page)) => {
                self.oracle.told("history", &self.user, &key, before, Some(page.last_seq.get()));
                self.take_frames();
                let Some(copy) = self.copies.get(&conversation_id) else { return };
                if copy.applied == page.last_seq.get() && !page.more {
                    let shown = page.messages.into_iter().map(|message| (message.seq.get(), crate::copy::now(message)));
                    let shown: crate::truth::Messages = shown.collect();
                    if shown != copy.messages {
                        let (at, mine) = (page.last_seq, &copy.messages);
                        self.oracle
                            .violated(format!("history of {key:?} at {at} shows {shown:?}, live frames {mine:?}"));
                    }
                }
            }
            Err(Failure::Refused(error)) if error.code() == ErrorCode::NotFound => {
                self.oracle.told("history", &self.user, &key, before, None);
            }
            _ => {}
        }
    }

    /// What belongs to others, of this tenant or another, is not found.
    async fn probe(&mut self) {
        let others = |key: &ConversationKey| !self.copies.contains_key(&key.conversation);
        let others: Vec<_> = self.oracle.conversations().into_iter().filter(others).collect();
        let Some(key) = self.one_of(&others) else { return };
        let conversation_id = key.conversation.clone();
        let content = Content::parse(r#"{"text":"intruder"}"#, usize::MAX).unwrap();
        let target = SendTarget::Conversation(conversation_id.clone());
        let send = switchboard_protocol::client::Send { target, client_id: self.name(), content, base_seq: None };
        let frame = match self.generator.below(4) {
            0 => ClientFrame::Send(send),
            1 => ClientFrame::ConversationGet(ConversationRef { conversation_id }),
            2 => ClientFrame::ConversationOpen(ConversationRef { conversation_id }),
            _ => ClientFrame::Read(EntryRef { conversation_id, seq: Seq::new(1) }),
        };
        match self.call(frame).await {
            Err(Failure::Broken) => {}
            Err(Failure::Refused(error)) if !is_final(&error) || error.code() == ErrorCode::NotFound => {}
            Err(Failure::Refused(error)) => {
                self.oracle.violated(format!("{:?} learned of {key:?}: {error}", self.user));
            }
            Ok(answer) if key.tenant != self.user.tenant => {
                self.oracle.violated(format!("{:?} got into {key:?}: {answer:?}", self.user));
            }
            // The user may be a member without knowing it yet.
            Ok(ServerFrame::Sent(sent)) => self.oracle.sent(&self.user, &sent, r#"{"text":"intruder"}"#),
            Ok(_) => self.oracle.admitted(&self.user, &key),
        }
    }

    // The rest

    async fn close(&mut self, conversation_id: ConversationId) {
        self.open.remove(&conversation_id);
        let frame = ClientFrame::ConversationClose(ConversationRef { conversation_id: conversation_id.clone() });
        if self.call(frame).await.is_ok() {
            self.may_be_open.remove(&conversation_id);
        }
    }

    async fn set_settings(&mut self, conversation_id: ConversationId) {
        let (archived, pinned) = (Some(self.generator.percent(50)), Some(self.generator.percent(50)));
        let set = ConversationSettingsSet { conversation_id, muted_until: None, archived, pinned };
        drop(self.call(ClientFrame::ConversationSettings(set)).await);
    }

    async fn block(&mut self) {
        let user_id = self.other();
        // Undone whatever the result, so that everyone's presence can be compared in the end.
        self.oracle.tried_to_block(&self.user, &user_id);
        self.blocked.push(user_id.clone());
        drop(self.call(ClientFrame::Block(UserRef { user_id })).await);
    }

    /// Removes blocks, with retries.
    pub(crate) async fn unblock(&mut self) {
        let Some(user_id) = self.blocked.pop() else { return };
        if self.call(ClientFrame::Unblock(UserRef { user_id: user_id.clone() })).await.is_err() {
            self.blocked.push(user_id);
        }
    }

    async fn type_something(&mut self, conversation_id: ConversationId) {
        let about = ConversationRef { conversation_id };
        let starts = self.generator.percent(70);
        let frame = if starts { ClientFrame::TypingStart(about) } else { ClientFrame::TypingStop(about) };
        drop(self.call_with(false, frame).await);
    }

    async fn set_presence(&mut self) {
        let statuses = [PresenceStatus::Online, PresenceStatus::Away, PresenceStatus::Busy];
        let status = self.one_of(&statuses).expect("three");
        drop(self.call(ClientFrame::PresenceSet(PresenceSet { status })).await);
    }

    async fn watch_someone(&mut self) {
        let other = self.other();
        if !self.watched.contains(&other) {
            self.watched.push(other);
            self.watched.sort();
        }
        self.watch().await;
    }
}

/// An entry without a change must not exist.
pub(crate) fn is_idle_change(entry: &EntryFrame) -> bool {
    matches!(entry, EntryFrame::Membership(change) if change.added.is_empty() && change.removed.is_empty() && change.roles.is_empty())
}
