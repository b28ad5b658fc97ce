//! Questions. Asked behind entries that are not durable yet, they are answered behind them.

use super::pipeline::Step;
use super::task::Conversation;
use super::{CommandInput, ReplyTo, Telling, Told};
use crate::api::{Answer, Command};
use crate::envelope::Peek;
use switchboard_protocol::client::ConversationMembers;
use switchboard_protocol::server::{Member, Members, Opened};
use switchboard_protocol::{ProtocolError, ServerFrame, UserId};

impl Conversation {
    /// A question with an answer of its own: it is answered as of here, behind everything that was decided before.
    pub(super) fn on_question(&mut self, input: CommandInput) {
        let CommandInput { actor, at, command, reply, .. } = input;
        let user = &actor.user.user;
        let told = match &command {
            Command::ConversationGet(_) => self.conversation(user).map(ServerFrame::Conversation),
            Command::ConversationMembers(members) => self.members(user, members).map(ServerFrame::Members),
            Command::ConversationOpen(_) => self.opened(user).map(ServerFrame::Opened),
            _ => Err(ProtocolError::internal()),
        };
        if let (Ok(ServerFrame::Opened(_)), Some(session)) = (&told, &actor.session) {
            self.sessions.add(&at, user, session);
        }
        self.answer_in_order(reply, told.map(|frame| Telling::Answer(Answer::Frame(frame))));
    }

    /// Answers behind the entries that are not durable yet, so that the answer may tell of them.
    pub(super) fn answer_in_order(&mut self, reply: ReplyTo, told: Told) {
        match told {
            Ok(telling) if !self.pipeline.is_empty() => self.pipeline.push(Step::Answer(reply, telling)),
            told => reply.tell(&self.node, told),
        }
    }

    /// Where the log is, once everything before is durable.
    pub(super) async fn on_peek(&mut self, user: UserId, reply: ReplyTo) {
        if !self.pipeline.is_empty() {
            return self.pipeline.push(Step::Peek(user, reply));
        }
        match self.may_be_asked(&user).await {
            Ok(()) => self.answer_peek(&user, reply),
            Err(error) => reply.tell(&self.node, Err(error)),
        }
    }

    /// Whether this is the place to ask, with a term running.
    async fn may_be_asked(&mut self, user: &UserId) -> Result<(), ProtocolError> {
        if !self.node.owns(&self.key) {
            // The view has just changed: who asks asks again.
            return Err(self.node.unavailable());
        }
        self.begin_for(user).await
    }

    /// Everything before it is durable.
    pub(super) fn answer_peek(&self, user: &UserId, reply: ReplyTo) {
        reply.tell(&self.node, self.peek(user).map(|peek| Telling::Peek(Box::new(peek))));
    }

    fn conversation(&self, user: &UserId) -> Result<switchboard_protocol::server::Conversation, ProtocolError> {
        let log = self.log.as_ref().ok_or_else(ProtocolError::not_found)?;
        log.conversation(&self.key, user, self.node.options().push_members_max)
    }

    fn peek(&self, user: &UserId) -> Result<Peek, ProtocolError> {
        let log = self.log.as_ref().ok_or_else(ProtocolError::not_found)?;
        let member = log.member(user)?;
        // Who is about to be added is told when that is durable.
        if member.stored.joined_seq > log.durable {
            return Err(ProtocolError::not_found());
        }
        Ok(Peek {
            last: log.last(self.node.options().push_members_max),
            mentioned_seq: member.mentioned_seq,
            read: (member.stored.cursor.read_seq, member.stored.cursor.read_messages),
        })
    }

    fn opened(&self, user: &UserId) -> Result<Opened, ProtocolError> {
        let conversation = self.conversation(user)?;
        Ok(Opened {
            conversation_id: conversation.conversation_id,
            last_seq: conversation.last_seq,
            read_seq: conversation.read_seq,
            delivery: conversation.delivery,
        })
    }

    fn members(&self, user: &UserId, asked: &ConversationMembers) -> Result<Members, ProtocolError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let log = self.log.as_ref().ok_or_else(ProtocolError::not_found)?;
        log.member(user)?;
        let after = asked.after.as_ref().map_or(Unbounded, Excluded);
        let mut rest = log.members.range::<UserId, _>((after, Unbounded));
        let members = rest
            .by_ref()
            .take(asked.limit as usize)
            .map(|(user, member)| Member {
                user_id: user.clone(),
                role: member.stored.role,
                joined_at: member.stored.joined_at,
                delivered_seq: member.stored.cursor.delivered_seq,
                read_seq: member.stored.cursor.read_seq,
            })
            .collect();
        Ok(Members { conversation_id: self.key.conversation.clone(), members, more: rest.next().is_some() })
    }
}
