//! A conversation at rest, without a term: questions are answered from the store and typing is passed on without
//! beginning a term. So reading and typing write nothing.

use super::log::{Log, LogEnd, delivery_to, fan_out_order, shown};
use super::query::page_of;
use super::task::Conversation;
use super::{CommandInput, LocalReply};
use crate::api::{Answer, Command};
use crate::envelope::Peek;
use crate::node::unavailable;
use std::sync::Arc;
use switchboard_protocol::server::Delivery;
use switchboard_protocol::{ProtocolError, ServerFrame, UserId};
use switchboard_store::{Head, InboxLast, Kind, Member, StoreError};

/// A conversation's head in the store, and the member who asks.
pub(super) struct AtRest {
    head: Head,
    member: Member,
}

/// The recipients of an ephemeral frame.
#[derive(Clone)]
pub(super) struct Audience {
    pub(super) delivery: Delivery,
    /// In the order of the fan-out. Empty for a large group, where only sessions that have it open get it.
    pub(super) everyone: Arc<[UserId]>,
}

impl Conversation {
    /// The conversation as the store has it, for a member; `None` if a term runs, or if the last one was not ended and
    /// may have left something unannounced.
    pub(super) async fn at_rest(&mut self, user: &UserId) -> Result<Option<AtRest>, ProtocolError> {
        if self.log.is_some() {
            return Ok(None);
        }
        let failed = |error: StoreError| unavailable(&self.node, &error);
        let head = self.node.store.head(&self.key).await.map_err(failed)?.ok_or_else(ProtocolError::not_found)?;
        if !head.ended {
            return Ok(None);
        }
        let member = self.node.store.member(&self.key, user).await.map_err(failed)?;
        let member = member.ok_or_else(ProtocolError::not_found)?;
        Ok(Some(AtRest { head, member }))
    }

    /// Answers commands that need no term if none runs; returns the others.
    pub(super) async fn answer_at_rest(&mut self, input: CommandInput) -> Option<CommandInput> {
        let needs_none = matches!(
            input.command,
            Command::ConversationGet(_)
                | Command::ConversationMembers(_)
                | Command::ConversationClose(_)
                | Command::TypingStart(_)
                | Command::TypingStop(_)
                | Command::Signal(_)
        );
        if self.log.is_some() || !needs_none {
            return Some(input);
        }
        let answer = match self.at_rest(&input.actor.user.user).await {
            Ok(None) => return Some(input),
            Ok(Some(rest)) => self.told_at_rest(rest, &input).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(Some(frame)) => input.reply.send(&self.node, Ok(LocalReply::Answer(Answer::Frame(frame)))),
            Ok(None) => self.on_ephemeral(input),
            Err(error) => input.reply.send(&self.node, Err(error)),
        }
        None
    }

    /// The answer to a question; `None` for an ephemeral command, whose audience is known afterwards.
    async fn told_at_rest(&mut self, rest: AtRest, input: &CommandInput) -> Result<Option<ServerFrame>, ProtocolError> {
        let push_members_max = self.node.options().push_members_max;
        match &input.command {
            Command::ConversationGet(_) => {
                let Head { meta, end, messages, .. } = &rest.head;
                let user = &input.actor.user.user;
                let end = LogEnd { seq: *end, messages: *messages };
                let shown = shown(&self.key, meta, user, &rest.member, end, push_members_max);
                Ok(Some(ServerFrame::Conversation(shown)))
            }
            Command::ConversationMembers(asked) => {
                let members = self.members_at_rest().await?;
                let members = members.iter().map(|(user, member)| (user, member));
                Ok(Some(ServerFrame::Members(page_of(&self.key, asked, members))))
            }
            Command::TypingStart(_) => {
                self.audience_at_rest = Some(self.audience_of(&rest.head).await?);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    pub(super) async fn members_at_rest(&mut self) -> Result<Vec<(UserId, Member)>, ProtocolError> {
        self.node.store.members(&self.key).await.map_err(|error| unavailable(&self.node, &error))
    }

    async fn audience_of(&mut self, head: &Head) -> Result<Audience, ProtocolError> {
        let members = usize::try_from(head.meta.members_count).unwrap_or(usize::MAX);
        let delivery = delivery_to(members, self.node.options().push_members_max);
        let everyone = match (&head.meta.kind, delivery) {
            (Kind::Direct(a, b), _) => fan_out_order(&self.key.tenant, [a, b].into_iter()),
            (Kind::Group, Delivery::Activity) => Arc::default(),
            (Kind::Group, Delivery::Full) => {
                let members = self.members_at_rest().await?;
                fan_out_order(&self.key.tenant, members.iter().map(|(user, _)| user))
            }
        };
        Ok(Audience { delivery, everyone })
    }

    /// The recipients of an ephemeral frame now.
    pub(super) fn audience(&self) -> Option<Audience> {
        let of_term = |log: &Log| Audience {
            delivery: log.delivery(self.node.options().push_members_max),
            everyone: log.everyone.clone(),
        };
        self.log.as_ref().map(of_term).or_else(|| self.audience_at_rest.clone())
    }
}

impl AtRest {
    /// While no term runs, the head has the end of the log, for every reader.
    pub(super) fn peek(self, push_members_max: usize) -> Peek {
        let Self { head, member } = self;
        let members = usize::try_from(head.meta.members_count).unwrap_or(usize::MAX);
        let last = InboxLast {
            last_seq: head.end,
            messages: head.messages,
            preview: head.last_message,
            ask_owner: delivery_to(members, push_members_max) == Delivery::Activity,
            // It would take all members.
            outline: None,
        };
        Peek {
            last,
            entries: None,
            mentioned_seq: member.cursor.mentioned_seq,
            read: (member.cursor.read_seq, member.cursor.read_messages),
        }
    }
}
