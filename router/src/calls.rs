//! Routes a command to where it is carried out: the user's home, the conversation's owner, or this node. If that is
//! this node it is a function call, otherwise a request.

use crate::api::{Actor, Answer, Command};
use crate::envelope::{Ask, Peek, Reply, Roll, RollAsked};
use crate::node::Node;
use crate::owner::{Input, LocalReply, ReplyResult, ReplyTo};
use crate::receipts::SaidReceipt;
use crate::view::{direct_conversation, group_conversation};
use crate::wire::{answer_of, decode_reply, encoded};
use futures_util::future::try_join_all;
use std::sync::Arc;
use switchboard_protocol::client::{EntryRef, SendTarget};
use switchboard_protocol::{ClientFrame, ConversationId, ProtocolError, Seq};
use switchboard_push::Receipt;
use switchboard_store::{ConversationKey, UserKey};
use tokio::sync::oneshot;

impl Node {
    pub(crate) async fn call(self: &Arc<Self>, actor: Actor, command: Command) -> Result<Answer, ProtocolError> {
        // A session holds this future for each of its requests. The rare commands are boxed, so that they do not
        // enlarge it for a send.
        match command {
            ClientFrame::History(asked) => Box::pin(self.history(&actor.user, &asked)).await,
            ClientFrame::Changes(asked) => Box::pin(self.changes(&actor.user, &asked)).await,
            ClientFrame::Sync(_) | ClientFrame::ConversationSettings(_) | ClientFrame::PresenceSet(_) => {
                Box::pin(self.call_home(&actor, command)).await
            }
            ClientFrame::PresenceWatch(watch) => Box::pin(self.watch(&actor, watch.user_ids)).await,
            ClientFrame::PresenceUnwatch(unwatch) => self.stop_watching(&actor, &unwatch.user_ids),
            ClientFrame::Block(block) => Box::pin(self.block(&actor, &block.user_id, true)).await,
            ClientFrame::Unblock(block) => Box::pin(self.block(&actor, &block.user_id, false)).await,
            ClientFrame::TopicPublish(publish) => Box::pin(self.topic_publish(&actor, publish)).await,
            ClientFrame::TopicWatch(watch) => Box::pin(self.topic_watch(&actor, watch)).await,
            ClientFrame::TopicUnwatch(unwatch) => self.topic_unwatch(&actor, unwatch),
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

    /// A client's frame at its user's home.
    pub(crate) async fn at_home(
        self: &Arc<Self>,
        actor: &Actor,
        command: ClientFrame,
    ) -> Result<Answer, ProtocolError> {
        match command {
            ClientFrame::Sync(asked) => {
                let answer = self.sync(&actor.user, &asked).await?;
                if matches!(&answer, Answer::Sync(sync) if !sync.more) {
                    self.note_synced(actor);
                }
                Ok(answer)
            }
            ClientFrame::ConversationSettings(set) => self.set_settings(actor, set).await,
            ClientFrame::PresenceSet(set) => Ok(self.set_presence(&actor.user, set.status)),
            _ => Err(ProtocolError::internal()),
        }
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
        let command = match command {
            ClientFrame::Delivered(entry) => return self.call_receipt(actor, Receipt::Delivered, entry).await,
            ClientFrame::Read(entry) => return self.call_receipt(actor, Receipt::Read, entry).await,
            command => command,
        };
        let is_close = matches!(command, ClientFrame::ConversationClose(_));
        let is_open = matches!(command, ClientFrame::ConversationOpen(_));
        let result = self.at_owner(&actor, &key, command).await;
        if is_open || is_close {
            self.note_done(&actor, &key.conversation, is_close, &result);
        }
        result
    }

    /// The home is told first: the receipt may make a notification unnecessary (DESIGN §2, step 8).
    async fn call_receipt(
        self: &Arc<Self>,
        actor: Actor,
        receipt: Receipt,
        entry: EntryRef,
    ) -> Result<Answer, ProtocolError> {
        let EntryRef { conversation_id: conversation, seq: upto } = entry;
        self.tell_home_of_receipt(&actor.user, &conversation, upto, receipt);
        self.receipt_at_owner(SaidReceipt { actor, conversation, receipt, upto }).await
    }

    /// Carries a command out at the conversation's owner.
    pub(crate) async fn at_owner(
        self: &Arc<Self>,
        actor: &Actor,
        key: &ConversationKey,
        command: Command,
    ) -> Result<Answer, ProtocolError> {
        let owner = self.placement().owner(key).incarnation.clone();
        let reply = if owner == self.me || self.owners.is_active(key) {
            // If this node was the owner until a moment ago, the inputs that it has already are passed on first.
            let command = |reply| self.command(key, actor.clone(), self.me.clone(), command, reply);
            self.ask_here(command).await?
        } else {
            let (actor, conversation) = (actor.clone(), key.clone());
            let ask = Ask::Conversation { actor, conversation, command: encoded(&command) };
            decode_reply(Box::pin(self.ask(&owner, ask)).await?)?
        };
        match reply {
            LocalReply::Answer(answer) => Ok(answer),
            _ => Err(ProtocolError::internal()),
        }
    }

    /// Asks the conversation's owner whether this user may read, and up to where.
    pub(crate) async fn peek(self: &Arc<Self>, user: &UserKey, key: &ConversationKey) -> Result<Peek, ProtocolError> {
        self.peek_after(user, key, None).await
    }

    /// The same, with the entries after `after` if the owner has them in memory.
    pub(crate) async fn peek_after(
        self: &Arc<Self>,
        user: &UserKey,
        key: &ConversationKey,
        after: Option<Seq>,
    ) -> Result<Peek, ProtocolError> {
        let owner = self.placement().owner(key).incarnation.clone();
        let reply = if owner == self.me {
            self.ask_here(|reply| self.say(key, Input::Peek { user: user.user.clone(), after, reply })).await?
        } else {
            decode_reply(self.ask(&owner, Ask::Peek { user: user.clone(), conversation: key.clone(), after }).await?)?
        };
        match reply {
            LocalReply::Peek(peek) => Ok(*peek),
            _ => Err(ProtocolError::internal()),
        }
    }

    /// Asks a conversation's owner for members, whoever asks.
    pub(crate) async fn roll(self: &Arc<Self>, key: &ConversationKey, asked: RollAsked) -> Result<Roll, ProtocolError> {
        let owner = self.placement().owner(key).incarnation.clone();
        let reply = if owner == self.me {
            self.ask_here(|reply| self.say(key, Input::Roll { asked, reply })).await?
        } else {
            decode_reply(self.ask(&owner, Ask::Roll { conversation: key.clone(), asked }).await?)?
        };
        match reply {
            LocalReply::Roll(roll) => Ok(roll),
            _ => Err(ProtocolError::internal()),
        }
    }

    /// Sends an input to a conversation of this node with `say`, and waits for its reply.
    pub(crate) async fn ask_here(&self, say: impl FnOnce(ReplyTo)) -> ReplyResult {
        let (sender, reply) = oneshot::channel();
        say(ReplyTo::Local(sender));
        tokio::select! {
            biased;
            reply = reply => reply.unwrap_or_else(|_| Err(self.unavailable())),
            () = self.clock.sleep_ms(self.options().send_timeout_ms) => Err(self.unavailable()),
        }
    }

    /// Asks every other node that has sessions. A node that leaves meanwhile has none, or learns the change when it
    /// comes back.
    pub(crate) async fn ask_all(&self, ask: impl Fn() -> Ask) -> Result<Vec<Reply>, ProtocolError> {
        let placement = self.placement();
        let asked = placement.view.reached(&self.me).map(|peer| (peer, self.ask(peer, ask())));
        let replies = asked.map(async |(peer, reply)| match reply.await {
            Err(_) if !self.placement().view.reaches(peer) => Ok(None),
            reply => reply.map(Some),
        });
        Ok(try_join_all(replies).await?.into_iter().flatten().collect())
    }
}

/// The conversation that a command is about.
pub(crate) fn conversation_of(user: &UserKey, command: &Command) -> Option<ConversationId> {
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
        | Frame::PresenceUnwatch(_)
        | Frame::TopicPublish(_)
        | Frame::TopicWatch(_)
        | Frame::TopicUnwatch(_) => return None,
    })
}

/// The same of a send.
pub(crate) fn conversation_of_target(user: &UserKey, target: &SendTarget) -> ConversationId {
    match target {
        SendTarget::Conversation(id) => id.clone(),
        SendTarget::To(peer) => direct_conversation(&user.tenant, &user.user, peer),
    }
}
