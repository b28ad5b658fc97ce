//! A minimal owner of a conversation: just enough to make entries.

use crate::{
    Appended, Begun, Claim, ConversationKey, Entry, Incarnation, Kind, NewConversation, Previous, RecentWindow, Store,
    StoreError, TermNumber, UserKey,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_protocol::server::{ConversationUpdated, Membership, Message, MessageUpdated, Reaction};
use switchboard_protocol::{Content, Custom, EntryFrame, MessageId, Role, Seq, Timestamp, UserId};

/// A user id.
pub fn user(id: &str) -> UserId {
    id.parse().expect("a user id")
}

/// A user of tenant `t`.
pub fn user_key(id: &str) -> UserKey {
    UserKey { tenant: "t".parse().expect("a tenant id"), user: user(id) }
}

/// A conversation of tenant `t`.
pub fn conversation_key(id: &str) -> ConversationKey {
    ConversationKey { tenant: "t".parse().expect("a tenant id"), conversation: id.parse().expect("a conversation id") }
}

/// A life of the node `n{node}`.
pub fn incarnation(node: u64) -> Incarnation {
    Incarnation { node: format!("n{node}").parse().expect("a node id"), life: node }
}

/// The time of entry `seq`: entries are a second apart.
pub(super) fn time_of(seq: u64) -> Timestamp {
    Timestamp::from_unix_ms(1_700_000_000_000 + i64::try_from(seq).expect("a small number") * 1_000)
}

pub(super) const EVERYTHING: RecentWindow = RecentWindow { entries_max: u64::MAX, since: Timestamp::MIN };

/// A conversation and the term in which this owner appends to it.
pub struct Conversation {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The conversation.
    pub key: ConversationKey,
    /// The owner's term.
    pub term: TermNumber,
    /// The newest seq that was assigned.
    pub end: u64,
    /// Messages up to there.
    pub messages: u64,
}

/// Begins a term of a conversation that exists or is made. An owner in another process is taken for dead.
async fn begin(store: &Arc<dyn Store>, key: &ConversationKey, mut claim: Claim) -> Begun {
    loop {
        match store.begin_term(key, claim.clone()).await {
            Err(StoreError::Owned { by, .. }) => claim.previous = Previous::Gone(by),
            // A server is down or slow: an owner retries.
            Err(StoreError::Unavailable { .. }) => {}
            begun => return begun.expect("begins").expect("exists"),
        }
    }
}

impl Conversation {
    /// A new direct conversation of alice and bob.
    pub async fn direct(store: &Arc<dyn Store>, id: &str) -> Self {
        let kind = Kind::Direct(user("alice"), user("bob"));
        Self::create(store, conversation_key(id), kind).await
    }

    /// A new group whose first entry adds its owner alice, and bob.
    pub async fn group(store: &Arc<dyn Store>, id: &str) -> Self {
        let mut group = Self::create(store, conversation_key(id), Kind::Group).await;
        let entry = group.membership(&["alice", "bob"], &[], &[("alice", Role::Owner)]);
        group.append([entry]).await;
        group
    }

    pub(super) async fn create(store: &Arc<dyn Store>, key: ConversationKey, kind: Kind) -> Self {
        let create = NewConversation { kind, title: None, custom: None, created_at: time_of(0) };
        let claim = Claim { by: incarnation(1), create: Some(create), recent: EVERYTHING, previous: Previous::Unknown };
        let begun = begin(store, &key, claim).await;
        Self::of(store, &key, &begun)
    }

    fn of(store: &Arc<dyn Store>, key: &ConversationKey, begun: &Begun) -> Self {
        let (term, end, messages) = (begun.term, begun.end.get(), begun.messages);
        Self { store: store.clone(), key: key.clone(), term, end, messages }
    }

    /// The next term of a conversation, for the node `n{node}`. An owner in another process is taken for dead.
    pub async fn take_over(store: &Arc<dyn Store>, key: &ConversationKey, node: u64) -> (Self, Begun) {
        let claim = Claim { by: incarnation(node), create: None, recent: EVERYTHING, previous: Previous::Unknown };
        let begun = begin(store, key, claim).await;
        (Self::of(store, key, &begun), begun)
    }

    /// Appends entries made by this conversation.
    pub async fn append<const N: usize>(&self, entries: [Entry; N]) {
        let appended = self.try_append(entries).await.expect("appends");
        assert_eq!(appended, Appended::Durable);
    }

    pub(super) async fn try_append<const N: usize>(&self, entries: [Entry; N]) -> Result<Appended, StoreError> {
        self.store.append(&self.key, self.term, Arc::from(entries)).await
    }

    /// Makes and appends one message.
    pub async fn send(&mut self, from: &str, text: &str) -> Seq {
        let entry = self.message(from, text);
        self.append([entry]).await;
        Seq::new(self.end)
    }

    fn next(&mut self) -> (Seq, Timestamp) {
        self.end += 1;
        (Seq::new(self.end), time_of(self.end))
    }

    fn entry(&self, frame: EntryFrame) -> Entry {
        let json = Bytes::from(frame.encode(None));
        Entry { seq: frame.seq(), messages: self.messages, frame, json }
    }

    /// A message whose `client_id` is `c` followed by its seq.
    pub fn message(&mut self, from: &str, text: &str) -> Entry {
        let content = serde_json::json!({ "text": text }).to_string();
        self.message_of(from, &content)
    }

    pub(super) fn message_of(&mut self, from: &str, content: &str) -> Entry {
        let (seq, timestamp) = self.next();
        self.messages += 1;
        self.entry(EntryFrame::Message(Message {
            conversation_id: self.key.conversation.clone(),
            message_id: MessageId::new(1_000 + seq.get()),
            seq,
            from: user(from),
            client_id: format!("c{seq}").parse().expect("a client id"),
            content: Content::parse(content, usize::MAX).expect("content"),
            timestamp,
        }))
    }

    pub(super) fn edit(&mut self, target: Seq, text: &str) -> Entry {
        let content = serde_json::json!({ "text": text }).to_string();
        let content = Content::parse(&content, usize::MAX).expect("content");
        self.message_updated(target, Some(content))
    }

    pub(super) fn delete(&mut self, target: Seq) -> Entry {
        self.message_updated(target, None)
    }

    fn message_updated(&mut self, target_seq: Seq, content: Option<Content>) -> Entry {
        let (seq, timestamp) = self.next();
        let deleted = content.is_none();
        let conversation_id = self.key.conversation.clone();
        let by = user("alice");
        self.entry(EntryFrame::MessageUpdated(MessageUpdated {
            conversation_id,
            seq,
            target_seq,
            content,
            deleted,
            by,
            timestamp,
        }))
    }

    /// Adds or removes a reaction to a message.
    pub fn reaction(&mut self, target_seq: Seq, who: &str, emoji: &str, added: bool) -> Entry {
        let (seq, timestamp) = self.next();
        self.entry(EntryFrame::Reaction(Reaction {
            conversation_id: self.key.conversation.clone(),
            seq,
            target_seq,
            user_id: user(who),
            emoji: emoji.parse().expect("an emoji"),
            added,
            timestamp,
        }))
    }

    pub(super) fn membership(&mut self, added: &[&str], removed: &[&str], roles: &[(&str, Role)]) -> Entry {
        let (seq, timestamp) = self.next();
        self.entry(EntryFrame::Membership(Membership {
            conversation_id: self.key.conversation.clone(),
            seq,
            added: added.iter().map(|id| user(id)).collect(),
            removed: removed.iter().map(|id| user(id)).collect(),
            roles: roles.iter().map(|(id, role)| (user(id), *role)).collect::<BTreeMap<_, _>>(),
            by: user("alice"),
            timestamp,
        }))
    }

    pub(super) fn update(&mut self, title: Option<&str>, custom: Option<&str>) -> Entry {
        let (seq, timestamp) = self.next();
        self.entry(EntryFrame::ConversationUpdated(ConversationUpdated {
            conversation_id: self.key.conversation.clone(),
            seq,
            title: title.map(|title| title.parse().expect("a title")),
            custom: custom.map(|custom| Custom::parse(custom).expect("custom")),
            by: user("alice"),
            timestamp,
        }))
    }
}
