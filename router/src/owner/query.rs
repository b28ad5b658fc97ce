//! Questions to a conversation. They are answered in order: after the entries that were decided before them are
//! durable.

use super::pipeline::Step;
use super::task::Conversation;
use super::{CommandInput, LocalReply, ReplyResult, ReplyTo};
use crate::api::{Answer, Command};
use crate::envelope::{Encoded, Peek, Roll, RollAsked};
use crate::node::unavailable;
use bytes::Bytes;
use switchboard_protocol::client::ConversationMembers;
use switchboard_protocol::server::{Member, Members, Opened};
use switchboard_protocol::{ProtocolError, Seq, ServerFrame, UserId};
use switchboard_store::{ConversationKey, Member as StoredMember};
use tokio::sync::OwnedSemaphorePermit;

impl Conversation {
    /// A question with its own answer, as of now: the answer follows everything decided before.
    pub(super) fn on_question(&mut self, input: CommandInput) {
        let CommandInput { actor, at, command, reply, _room, .. } = input;
        let user = &actor.user.user;
        let result = match &command {
            Command::ConversationGet(_) => self.conversation(user).map(ServerFrame::Conversation),
            Command::ConversationMembers(members) => self.members(user, members).map(ServerFrame::Members),
            Command::ConversationOpen(_) => self.opened(user).map(ServerFrame::Opened),
            _ => Err(ProtocolError::internal()),
        };
        if let (Ok(ServerFrame::Opened(_)), Some(session)) = (&result, &actor.session) {
            self.sessions.add(&at, user, session);
        }
        self.answer_in_order(reply, _room, result.map(|frame| LocalReply::Answer(Answer::Frame(frame))));
    }

    /// Answers after the entries that are not durable yet, so that the answer may include them.
    pub(super) fn answer_in_order(&mut self, reply: ReplyTo, room: Option<OwnedSemaphorePermit>, result: ReplyResult) {
        if self.log.is_some() {
            self.pipeline.push(Step::Answer { reply, result: Box::new(result), _room: room });
        } else {
            reply.send(&self.node, result);
        }
    }

    /// Answers where the log ends, once everything before is durable.
    pub(super) async fn on_peek(&mut self, user: UserId, after: Option<Seq>, reply: ReplyTo) {
        match self.peek_at_rest(&user).await {
            Ok(Some(peek)) => reply.send(&self.node, Ok(LocalReply::Peek(Box::new(peek)))),
            Ok(None) => self.pipeline.push(Step::Peek { user, after, reply }),
            Err(error) => reply.send(&self.node, Err(error)),
        }
    }

    /// `None` if a term runs, or now does.
    async fn peek_at_rest(&mut self, user: &UserId) -> Result<Option<Peek>, ProtocolError> {
        if !self.node.owns(&self.key) {
            // The view has just changed: the caller asks again.
            return Err(self.node.unavailable());
        }
        if let Some(rest) = self.at_rest(user).await? {
            return Ok(Some(rest.peek(self.node.options().push_members_max)));
        }
        self.begin_for(user).await?;
        Ok(None)
    }

    /// Everything before the question is durable.
    pub(super) fn answer_peek(&self, user: &UserId, after: Option<Seq>, reply: ReplyTo) {
        reply.send(&self.node, self.peek(user, after).map(|peek| LocalReply::Peek(Box::new(peek))));
    }

    /// Members, and the end of the log, for administrators.
    pub(super) async fn roll(&mut self, asked: &RollAsked) -> Result<Roll, ProtocolError> {
        if !self.node.owns(&self.key) {
            return Err(self.node.unavailable());
        }
        if self.log.is_none() {
            let head = self.node.store.head(&self.key).await.map_err(|error| unavailable(&self.node, &error))?;
            let head = head.ok_or_else(ProtocolError::not_found)?;
            if head.ended {
                let members = self.members_at_rest().await?;
                return Ok(roll_of(asked, head.end, members.iter().map(|(user, member)| (user, member))));
            }
            self.begin(None).await?;
        }
        let log = self.log.as_ref().ok_or_else(ProtocolError::not_found)?;
        Ok(roll_of(asked, log.durable, log.members.iter()))
    }

    fn conversation(&self, user: &UserId) -> Result<switchboard_protocol::server::Conversation, ProtocolError> {
        let log = self.log.as_ref().ok_or_else(ProtocolError::not_found)?;
        log.conversation(&self.key, user, self.node.options().push_members_max)
    }

    fn peek(&self, user: &UserId, after: Option<Seq>) -> Result<Peek, ProtocolError> {
        let log = self.log.as_ref().ok_or_else(ProtocolError::not_found)?;
        let member = log.member(user)?;
        // A member whose joining is not durable yet is announced once it is.
        if member.joined_seq > log.durable {
            return Err(ProtocolError::not_found());
        }
        let text = |json: &Bytes| String::from_utf8(json.to_vec()).map(Encoded).map_err(|_| ProtocolError::internal());
        let newer = after.and_then(|after| log.newest.after(after, self.node.clock.monotonic_ms()));
        Ok(Peek {
            entries: newer.map(|entries| entries.map(text).collect()).transpose()?,
            last: log.last(self.node.options().push_members_max),
            mentioned_seq: member.cursor.mentioned_seq,
            read: (member.cursor.read_seq, member.cursor.read_messages),
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
        let log = self.log.as_ref().ok_or_else(ProtocolError::not_found)?;
        log.member(user)?;
        Ok(page_of(&self.key, asked, log.members.iter()))
    }
}

fn roll_of<'a>(asked: &RollAsked, end: Seq, all: impl Iterator<Item = (&'a UserId, &'a StoredMember)>) -> Roll {
    let is_asked = |user: &UserId| match &asked.user {
        Some(one) => user == one,
        None => asked.after.as_ref().is_none_or(|after| user > after),
    };
    let mut rest = all.filter(|(user, member)| is_asked(user) && member.joined_seq <= end);
    let members = rest.by_ref().take(asked.limit).map(|(user, member)| (user.clone(), *member)).collect();
    Roll { end, members, more: rest.next().is_some() }
}

/// A page of the members, in the order of their ids.
pub(super) fn page_of<'a>(
    key: &ConversationKey,
    asked: &ConversationMembers,
    all: impl Iterator<Item = (&'a UserId, &'a StoredMember)>,
) -> Members {
    let mut rest = all.skip_while(|(user, _)| asked.after.as_ref().is_some_and(|after| *user <= after));
    let member = |(user, member): (&UserId, &StoredMember)| Member {
        user_id: user.clone(),
        role: member.role,
        joined_at: member.joined_at,
        delivered_seq: member.cursor.delivered_seq,
        read_seq: member.cursor.read_seq,
    };
    let members = rest.by_ref().take(asked.limit as usize).map(member).collect();
    Members { conversation_id: key.conversation.clone(), members, more: rest.next().is_some() }
}
