//! The projections of the log: members, messages and conversations, in tables beside it.
//!
//! They are a fold of the log up to `applied_seq`, written later than the entries: first what the entries change, then,
//! once all of that is confirmed, the state with its `applied_seq`. Every write carries the timestamp of its entry, so
//! applying the same entries again, by any node and however late, has no effect. A reader folds the entries after
//! `applied_seq` itself.

use super::Core;
use super::client::unreadable;
use super::members::{Memberships, Values, number, text};
use super::quorum::{bigint, bucket};
use super::scan::decode;
use crate::kv::values::decode_at;
use crate::quorum::{Quorum as _, Row, WriteTimestamp};
use crate::{ConversationKey, ConversationMeta, Cursor, Kind, NewConversation, Preview, StoreError};
use scylla::value::CqlValue;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use switchboard_protocol::server::{ConversationUpdated, Message, MessageUpdated, Reaction};
use switchboard_protocol::{Content, EntryFrame, Seq, UserId};

/// Entries that are folded before their changes are written.
const FOLD_ENTRIES_MAX: u64 = 512;

/// Message states in one batch.
const BATCH_STATES_MAX: usize = 100;

/// A conversation's row in the state table: its facts at `applied_seq`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) messages: u64,
    pub(super) meta: ConversationMeta,
    pub(super) last_message: Option<Preview>,
    /// Whether the last message has been deleted: no edit gives it a text again.
    #[serde(default)]
    last_is_deleted: bool,
}

/// The state at `applied`, the end of what is projected to the tables.
#[derive(Clone, Debug)]
pub(super) struct Projected {
    pub(super) applied: Seq,
    pub(super) state: State,
}

impl State {
    fn new(new: NewConversation) -> Self {
        let NewConversation { kind, title, custom, created_at } = new;
        let members_count = match &kind {
            Kind::Direct(..) => 2,
            Kind::Group => 0,
        };
        let meta = ConversationMeta { kind, title, custom, created_at, members_count };
        Self { messages: 0, meta, last_message: None, last_is_deleted: false }
    }
}

/// The parts of a message that later entries change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Edit,
    Deletion,
    /// By emoji and user.
    Reaction(String, String),
}

/// The newest version of a part.
#[derive(Clone, Debug)]
pub(super) struct PartState {
    pub(super) entry: Seq,
    pub(super) timestamp: WriteTimestamp,
    /// For an edit, its content and time as JSON; for a deletion or a reaction that stands, any value. Empty: taken
    /// back.
    pub(super) value: String,
}

/// The value of a deletion, or of a reaction that stands.
const STANDS: &str = "1";

pub(super) type Parts = BTreeMap<(Seq, Part), PartState>;

/// Entries folded into a state.
pub(super) struct Fold {
    pub(super) state: State,
    /// The last entry that is folded in.
    pub(super) end: Seq,
    timestamp: WriteTimestamp,
    cursors: BTreeMap<UserId, Cursor>,
    pub(super) parts: Parts,
    /// Those of a new direct conversation; others are read when the first entry that changes them is folded in.
    memberships: Option<Memberships>,
}

impl Fold {
    fn new(from: Projected) -> Self {
        let Projected { state, applied: end } = from;
        let (cursors, parts) = (BTreeMap::new(), Parts::new());
        let memberships = if end == Seq::ZERO { first_members(&state) } else { None };
        Self { state, end, timestamp: WriteTimestamp::FIRST, cursors, parts, memberships }
    }

    async fn apply(&mut self, core: &Core, conversation: &ConversationKey, row: &Row) -> Result<(), StoreError> {
        let entry = decode(row.seq, &row.payload)?;
        let (seq, messages) = (row.seq, entry.messages);
        if seq != self.end.next() {
            self.expect_expired(core, conversation)?;
        }
        (self.end, self.timestamp, self.state.messages) = (seq, row.timestamp, messages);
        let frame = std::str::from_utf8(&entry.json).ok().and_then(|text| EntryFrame::decode(text).ok());
        let Some((_, frame)) = frame else { return Err(unreadable(format!("{conversation:?}: entry {seq}"))) };
        match frame {
            EntryFrame::Message(message) => self.on_message(&message),
            EntryFrame::MessageUpdated(update) => self.on_message_updated(&update)?,
            EntryFrame::Reaction(reaction) => self.on_reaction(&reaction),
            EntryFrame::ConversationUpdated(update) => self.on_conversation_updated(update),
            EntryFrame::Membership(membership) => {
                if self.memberships.is_none() {
                    self.memberships = Some(core.read_memberships(conversation).await?);
                }
                if let Some(memberships) = &mut self.memberships {
                    memberships.apply(&membership, messages, row.timestamp);
                    self.state.meta.members_count = u32::try_from(memberships.all.len()).unwrap_or(u32::MAX);
                }
            }
        }
        Ok(())
    }

    /// The next entry is missing. That is allowed before the first entry that is there, and wherever a retention
    /// applies: entries expire only roughly in the order in which they were written.
    fn expect_expired(&self, core: &Core, conversation: &ConversationKey) -> Result<(), StoreError> {
        let is_first = self.timestamp == WriteTimestamp::FIRST;
        if is_first || core.quorum.retention.seconds_of(&conversation.tenant).is_some() {
            return Ok(());
        }
        Err(unreadable(format!("{conversation:?}: no entry {} in its log", self.end.next())))
    }

    fn on_message(&mut self, message: &Message) {
        self.state.last_message = Some(Preview::of(message));
        self.state.last_is_deleted = false;
        // A send moves the sender's own cursor (PROTOCOL §3, "Receipts and unread").
        let (seq, read_messages) = (message.seq, self.state.messages);
        let own = Cursor { delivered_seq: seq, read_seq: seq, read_messages, ..Cursor::default() };
        self.cursors.insert(message.from.clone(), own);
    }

    fn on_message_updated(&mut self, update: &MessageUpdated) -> Result<(), StoreError> {
        let target = update.target_seq;
        let edited = update.content.as_ref().map(|content| (content, update.timestamp));
        let edited = edited.filter(|_| !update.deleted).map(|edit| serde_json::to_string(&edit)).transpose();
        let edited = edited.map_err(unreadable)?;
        if update.deleted {
            self.put_part(target, Part::Deletion, STANDS.to_owned());
        }
        // A deleted message loses its edits too.
        self.put_part(target, Part::Edit, edited.unwrap_or_default());
        if let Some(last) = self.state.last_message.as_mut().filter(|last| last.seq == target) {
            self.state.last_is_deleted |= update.deleted;
            let content = update.content.as_ref().filter(|_| !self.state.last_is_deleted);
            last.text = content.and_then(Content::preview).unwrap_or_default();
        }
        Ok(())
    }

    fn on_reaction(&mut self, reaction: &Reaction) {
        let part = Part::Reaction(reaction.emoji.to_string(), reaction.user_id.to_string());
        let value = if reaction.added { STANDS.to_owned() } else { String::new() };
        self.put_part(reaction.target_seq, part, value);
    }

    fn on_conversation_updated(&mut self, update: ConversationUpdated) {
        self.state.meta.title = update.title.or(self.state.meta.title.take());
        self.state.meta.custom = update.custom.or(self.state.meta.custom.take());
    }

    fn put_part(&mut self, target: Seq, part: Part, value: String) {
        self.parts.insert((target, part), PartState { entry: self.end, timestamp: self.timestamp, value });
    }
}

impl Core {
    /// A conversation's state with its `applied_seq`; if nothing has been applied, the state it was created with.
    /// `None` if there is no such conversation. The tables contain everything that the entries up to `applied_seq`
    /// changed.
    pub(super) async fn read_state(&self, conversation: &ConversationKey) -> Result<Option<Projected>, StoreError> {
        let key = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let found: Option<(i64, String)> = self.client.row(&self.statements.projections.state, key).await?;
        if let Some((applied, state)) = found {
            let state = decode_at(b"conversation_state state", state.as_bytes())?;
            return Ok(Some(Projected { applied: Seq::new(applied.cast_unsigned()), state }));
        }
        let created = self.read_created(conversation).await?;
        Ok(created.map(|created| Projected { applied: Seq::ZERO, state: State::new(created) }))
    }

    async fn read_created(&self, conversation: &ConversationKey) -> Result<Option<NewConversation>, StoreError> {
        let key = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let created: Option<(String,)> = self.client.row(&self.statements.log.created, key).await?;
        created.map(|(created,)| decode_at(b"conversation_head created", created.as_bytes())).transpose()
    }

    /// Folds the entries after `from.applied` up to `end` into its state, without writing anything.
    pub(super) async fn fold(
        &self,
        conversation: &ConversationKey,
        from: Projected,
        end: Seq,
    ) -> Result<Fold, StoreError> {
        let mut fold = Fold::new(from);
        while fold.end < end {
            let upto = end.min(Seq::new(fold.end.get() + FOLD_ENTRIES_MAX));
            let rows = self.quorum.read_rows(conversation, fold.end, upto).await?;
            for row in &rows {
                fold.apply(self, conversation, row).await?;
            }
            if fold.end < upto {
                fold.expect_expired(self, conversation)?;
                fold.end = upto;
            }
        }
        Ok(fold)
    }

    /// Brings the tables up to `end`, which is durable. Returns the state there, or `None` if there is no such
    /// conversation.
    pub(super) async fn bring_up(
        &self,
        conversation: &ConversationKey,
        end: Seq,
    ) -> Result<Option<Projected>, StoreError> {
        let Some(mut projected) = self.read_state(conversation).await? else { return Ok(None) };
        if end == Seq::ZERO {
            self.write_members(conversation, first_members(&projected.state).as_ref(), []).await?;
        }
        while projected.applied < end {
            let upto = end.min(Seq::new(projected.applied.get() + FOLD_ENTRIES_MAX));
            let fold = self.fold(conversation, projected, upto).await?;
            self.write(conversation, &fold).await?;
            projected = Projected { applied: upto, state: fold.state };
        }
        Ok(Some(projected))
    }

    async fn write(&self, conversation: &ConversationKey, fold: &Fold) -> Result<(), StoreError> {
        let members = self.write_members(conversation, fold.memberships.as_ref(), fold.cursors.clone());
        tokio::try_join!(members, self.write_parts(conversation, &fold.parts))?;
        let (tenant, id) = (conversation.tenant.as_str(), conversation.conversation.as_str());
        let state = serde_json::to_string(&fold.state).map_err(unreadable)?;
        let values = (tenant, id, bigint(fold.end.get()), state, fold.timestamp.0);
        self.client.execute(&self.statements.projections.put_state, values).await.map(drop)
    }

    async fn write_parts(&self, conversation: &ConversationKey, parts: &Parts) -> Result<(), StoreError> {
        let parts: Vec<_> = parts.iter().collect();
        for of_bucket in parts.chunk_by(|((one, _), _), ((next, _), _)| bucket(*one) == bucket(*next)) {
            for some in of_bucket.chunks(BATCH_STATES_MAX) {
                let statement = &self.statements.projections.put_message_state;
                let ttl_s = self.quorum.ttl_s(&conversation.tenant);
                let values: Vec<Values> = some
                    .iter()
                    .map(|((target, part), state)| part_values(conversation, *target, part, state, ttl_s))
                    .collect();
                let statements = values.iter().map(|_| statement);
                self.client.batch(&self.statements.projections.put_message_states, statements, &values).await?;
            }
        }
        Ok(())
    }

    /// The stored parts of the messages from `first` to `last`.
    pub(super) async fn read_parts(
        &self,
        conversation: &ConversationKey,
        first: Seq,
        last: Seq,
    ) -> Result<Parts, StoreError> {
        let mut parts = Parts::new();
        let (tenant, id) = (conversation.tenant.as_str(), conversation.conversation.as_str());
        for bucket in bucket(first)..=bucket(last) {
            let values = (tenant, id, bigint(bucket), bigint(first.get()), bigint(last.get()));
            let found: Vec<(i64, String, String, String, i64, String)> =
                self.client.rows(&self.statements.projections.message_states, values).await?;
            for (target, part, emoji, user, entry, value) in found {
                let part = parse_part(&part, emoji, user)?;
                let entry = Seq::new(entry.cast_unsigned());
                let state = PartState { entry, timestamp: WriteTimestamp::FIRST, value };
                parts.insert((Seq::new(target.cast_unsigned()), part), state);
            }
        }
        Ok(parts)
    }
}

/// A direct conversation has its members from the start. They are written again until an entry is applied: before that,
/// nothing shows that it has been done.
fn first_members(state: &State) -> Option<Memberships> {
    let Kind::Direct(one, other) = &state.meta.kind else { return None };
    let mut memberships = Memberships::default();
    for user in [one, other] {
        memberships.add_first(user, state.meta.created_at);
    }
    Some(memberships)
}

fn parse_part(part: &str, emoji: String, user: String) -> Result<Part, StoreError> {
    match part {
        "edit" => Ok(Part::Edit),
        "deletion" => Ok(Part::Deletion),
        "reaction" => Ok(Part::Reaction(emoji, user)),
        other => Err(unreadable(format!("a part {other:?} of a message's state"))),
    }
}

fn part_values(conversation: &ConversationKey, target: Seq, part: &Part, state: &PartState, ttl_s: i32) -> Values {
    let (name, emoji, user) = match part {
        Part::Edit => ("edit", "", ""),
        Part::Deletion => ("deletion", "", ""),
        Part::Reaction(emoji, user) => ("reaction", emoji.as_str(), user.as_str()),
    };
    vec![
        text(conversation.tenant.as_str()),
        text(conversation.conversation.as_str()),
        number(bucket(target)),
        number(target.get()),
        text(name),
        text(emoji),
        text(user),
        number(state.entry.get()),
        text(state.value.as_str()),
        Some(CqlValue::BigInt(state.timestamp.0)),
        Some(CqlValue::Int(ttl_s)),
    ]
}
