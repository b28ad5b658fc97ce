//! Decides a command at its owner, before anything is durable: the decision is an entry, an answer, or an error.
//!
//! Commands are decided one after the other against [`Log`], and each decision advances it, so the order of the
//! decisions is the order of the log.

use super::log::Log;
use super::{group, messages};
use crate::api::{Actor, Answer, Command};
use crate::node::Node;
use bytes::Bytes;
use switchboard_protocol::server::Sent;
use switchboard_protocol::{EntryFrame, MessageId, ProtocolError, Seq, Timestamp, UserId};
use switchboard_store::{ConversationKey, Entry};

/// The conversation that a command is decided for.
pub(super) struct Context<'a> {
    pub(super) node: &'a Node,
    pub(super) key: &'a ConversationKey,
}

/// See the file's comment.
#[expect(clippy::large_enum_variant, reason = "it lives for one call")]
pub(super) enum Decided {
    /// Append this entry. Its effects hold for later decisions already.
    Entry(Box<Draft>),
    /// Append nothing.
    Answer(Answer),
    /// The send repeats the one at this `seq`, whose entry is not durable yet.
    SameAs(Seq),
}

/// An entry on its way into the log, and what to do once it is durable.
pub(super) struct Draft {
    pub(super) entry: Entry,
    /// Members who are mentioned.
    pub(super) mentioned: Vec<UserId>,
    /// Users who get the entry although it removed them.
    pub(super) removed: Vec<UserId>,
    /// Every member gets it in full, however large the group: it changes how entries are delivered.
    pub(super) to_all: bool,
    pub(super) answer: Answering,
}

impl Draft {
    pub(super) fn new(entry: Entry, answer: Answering) -> Self {
        Self { entry, mentioned: Vec::new(), removed: Vec::new(), to_all: false, answer }
    }

    pub(super) fn is_message(&self) -> bool {
        matches!(self.entry.frame, EntryFrame::Message(_))
    }
}

/// The answer to the sender of an entry.
#[derive(Clone)]
pub(super) enum Answering {
    Sent(Sent),
    /// `ok` with the entry's `seq`.
    Ok,
    /// The conversation as the actor sees it, just created.
    Conversation,
}

/// Decides a command that may create an entry.
pub(super) async fn decide(
    context: &Context<'_>,
    log: &mut Log,
    actor: &Actor,
    command: Command,
) -> Result<Decided, ProtocolError> {
    let user = &actor.user.user;
    match command {
        Command::Send(send) => messages::send(context, log, user, send).await,
        Command::Edit(edit) => messages::edit(context, log, user, edit).await,
        Command::Delete(target) => messages::delete(context, log, user, target.seq).await,
        Command::React(react) => messages::react(context, log, user, &react, true).await,
        Command::Unreact(react) => messages::react(context, log, user, &react, false).await,
        Command::ConversationCreate(create) => group::create(context, log, user, &create),
        Command::ConversationUpdate(update) => group::update(context, log, user, update),
        Command::MemberAdd(add) => group::add(context, log, user, &add),
        Command::MemberRemove(remove) => group::remove(context, log, user, &remove),
        Command::MemberRole(role) => group::role(context, log, user, &role),
        // The gateway and `Router::call` send nothing else here.
        _ => Err(ProtocolError::internal()),
    }
}

impl Context<'_> {
    /// The time for a new entry. Within a term it never decreases; the next owner may have another clock.
    pub(super) fn now(&self, log: &Log) -> Timestamp {
        let now = Timestamp::from_unix_ms(self.node.clock.wall_ms());
        log.last_at.map_or(now, |last| last.max(now))
    }

    /// Advances the log by an entry made of `frame`, which has its `seq`.
    pub(super) fn entry(&self, log: &mut Log, frame: EntryFrame, at: Timestamp) -> Entry {
        log.end = frame.seq();
        log.last_at = Some(at);
        if matches!(frame, EntryFrame::Message(_)) {
            log.messages += 1;
        }
        Entry { seq: log.end, messages: log.messages, json: Bytes::from(frame.encode(None)), frame }
    }

    /// An entry without mentions, answered with `ok`.
    pub(super) fn plain(&self, log: &mut Log, frame: EntryFrame, at: Timestamp) -> Decided {
        Decided::Entry(Box::new(Draft::new(self.entry(log, frame, at), Answering::Ok)))
    }

    /// An id for a message, for logs and people (Snowflake: milliseconds, node, counter).
    pub(super) fn message_id(&self, at: Timestamp) -> MessageId {
        MessageId::new(self.node.snowflake(at.unix_ms()))
    }
}

/// Nothing changed: `ok` with `last_seq` (PROTOCOL §3, `ok {seq}`).
pub(super) fn unchanged(log: &Log) -> Decided {
    Decided::Answer(Answer::ok(log.end))
}
