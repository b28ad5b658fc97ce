//! Decisions about messages: send, edit, delete, react (PROTOCOL §3).

use super::decide::{Answering, Context, Decided, Draft, unchanged};
use super::log::Log;
use super::states::KnownState;
use crate::api::Answer;
use crate::node::unavailable;
use switchboard_protocol::client::{Edit, React, Send};
use switchboard_protocol::server::{Message, MessageUpdated, Reaction, Sent};
use switchboard_protocol::{ClientId, Emoji, EntryFrame, ErrorCode, ProtocolError, Role, Seq, ServerFrame, UserId};
use switchboard_store::{MessageState, ReactionState, StoredMessage};

pub(super) async fn send(
    context: &Context<'_>,
    log: &mut Log,
    user: &UserId,
    send: Send,
) -> Result<Decided, ProtocolError> {
    let at = context.now(log);
    // First of all, since a repeat gets its first result, even from a user who has been blocked since (PROTOCOL §3,
    // `client_id`), and since what is remembered now was not searched for in the log.
    if let Some(first) = find_repeat(context, log, user, &send).await? {
        return Ok(first);
    }
    log.recent.forget_old(log.end, at.unix_ms());
    log.member(user)?;
    refuse_blocked(context, log).await?;

    let seq = log.end.next();
    let message_id = context.message_id(at);
    let mentioned: Vec<UserId> =
        send.content.mentions().into_iter().filter(|other| other != user && log.members.contains_key(other)).collect();
    let sent = Sent {
        client_id: send.client_id.clone(),
        conversation_id: context.key.conversation.clone(),
        message_id,
        seq,
        timestamp: at,
        duplicate: false,
    };
    let message = Message {
        conversation_id: context.key.conversation.clone(),
        message_id,
        seq,
        from: user.clone(),
        client_id: send.client_id,
        content: send.content,
        timestamp: at,
    };
    log.recent.note(user, &message.client_id, seq, at.unix_ms());
    let entry = context.entry(log, EntryFrame::Message(message), at);
    Ok(Decided::Entry(Box::new(Draft { mentioned, ..Draft::new(entry, Answering::Sent(sent)) })))
}

/// The first result of a send that is a repeat.
async fn find_repeat(
    context: &Context<'_>,
    log: &Log,
    user: &UserId,
    send: &Send,
) -> Result<Option<Decided>, ProtocolError> {
    if let Some(seq) = log.recent.find(user, &send.client_id) {
        if seq > log.durable {
            return Ok(Some(Decided::SameAs(seq)));
        }
        let stored =
            context.node.store.message(context.key, seq).await.map_err(|error| unavailable(context.node, &error))?;
        if let Some(sent) = stored.and_then(|stored| same_send(&stored.json, user, &send.client_id)) {
            return Ok(Some(Decided::Answer(Answer::Frame(ServerFrame::Sent(sent)))));
        }
    }
    Ok(None)
}

/// The `sent` of a stored message, if it is this user's with this `client_id`.
pub(super) fn same_send(json: &[u8], user: &UserId, client_id: &ClientId) -> Option<Sent> {
    let message: Message = serde_json::from_slice(json).ok()?;
    (message.from == *user && message.client_id == *client_id).then_some(Sent {
        client_id: message.client_id,
        conversation_id: message.conversation_id,
        message_id: message.message_id,
        seq: message.seq,
        timestamp: message.timestamp,
        duplicate: true,
    })
}

pub(super) async fn edit(
    context: &Context<'_>,
    log: &mut Log,
    user: &UserId,
    edit: Edit,
) -> Result<Decided, ProtocolError> {
    log.member(user)?;
    refuse_blocked(context, log).await?;
    if state_of(context, log, edit.seq).await?.from != *user {
        return Err(ProtocolError::forbidden("only its sender may edit a message"));
    }
    let at = context.now(log);
    let seq = log.end.next();
    log.states.change(edit.seq, seq, |state| {
        state.edited = Some((edit.content.clone(), at));
        Ok::<_, ProtocolError>(true)
    })?;
    let frame = MessageUpdated {
        conversation_id: context.key.conversation.clone(),
        seq,
        target_seq: edit.seq,
        content: Some(edit.content),
        deleted: false,
        by: user.clone(),
        timestamp: at,
    };
    Ok(context.plain(log, EntryFrame::MessageUpdated(frame), at))
}

pub(super) async fn delete(
    context: &Context<'_>,
    log: &mut Log,
    user: &UserId,
    target: Seq,
) -> Result<Decided, ProtocolError> {
    let role = log.member(user)?.role;
    if state_of(context, log, target).await?.from != *user && role == Role::Member {
        return Err(ProtocolError::forbidden("only its sender, owners and moderators may delete a message"));
    }
    let at = context.now(log);
    let seq = log.end.next();
    log.states.change(target, seq, |state| {
        (state.deleted, state.edited) = (true, None);
        Ok::<_, ProtocolError>(true)
    })?;
    let frame = MessageUpdated {
        conversation_id: context.key.conversation.clone(),
        seq,
        target_seq: target,
        content: None,
        deleted: true,
        by: user.clone(),
        timestamp: at,
    };
    Ok(context.plain(log, EntryFrame::MessageUpdated(frame), at))
}

pub(super) async fn react(
    context: &Context<'_>,
    log: &mut Log,
    user: &UserId,
    react: &React,
    add: bool,
) -> Result<Decided, ProtocolError> {
    log.member(user)?;
    refuse_blocked(context, log).await?;
    state_of(context, log, react.seq).await?;
    let seq = log.end.next();
    let emojis_max = context.node.options().reactions_per_message_max;
    let change = |state: &mut MessageState| change_reaction(&mut state.reactions, user, &react.emoji, add, emojis_max);
    if !log.states.change(react.seq, seq, change)? {
        return Ok(unchanged(log));
    }
    let at = context.now(log);
    let frame = Reaction {
        conversation_id: context.key.conversation.clone(),
        seq,
        target_seq: react.seq,
        user_id: user.clone(),
        emoji: react.emoji.clone(),
        added: add,
        timestamp: at,
    };
    Ok(context.plain(log, EntryFrame::Reaction(frame), at))
}

/// Changes the reactions; whether anything changed.
fn change_reaction(
    reactions: &mut Vec<ReactionState>,
    user: &UserId,
    emoji: &Emoji,
    add: bool,
    emojis_max: usize,
) -> Result<bool, ProtocolError> {
    let at = reactions.iter().position(|reaction| reaction.emoji == emoji.as_str());
    match (at, add) {
        (None, false) => Ok(false),
        (None, true) if reactions.len() >= emojis_max => {
            Err(ProtocolError::conflict("the message has as many different reactions as it can have"))
        }
        (None, true) => {
            reactions.push(ReactionState { emoji: emoji.as_str().to_owned(), users: vec![user.clone()] });
            Ok(true)
        }
        (Some(at), _) => {
            let users = &mut reactions[at].users;
            match (users.binary_search(user), add) {
                (Err(place), true) => users.insert(place, user.clone()),
                (Ok(place), false) => {
                    users.remove(place);
                }
                _ => return Ok(false),
            }
            if reactions[at].users.is_empty() {
                reactions.remove(at);
            }
            Ok(true)
        }
    }
}

/// The state of the message that a command is about, after everything decided so far.
async fn state_of<'a>(context: &Context<'_>, log: &'a mut Log, target: Seq) -> Result<&'a KnownState, ProtocolError> {
    log.states.forget(context.node.options().message_states_bytes, log.durable, target);
    if log.states.get(target).is_none() {
        if target > log.durable || target == Seq::ZERO {
            return Err(ProtocolError::not_found());
        }
        let stored = context.node.store.message(context.key, target).await;
        let stored = stored.map_err(|error| unavailable(context.node, &error))?;
        let StoredMessage { json, state, .. } = stored.ok_or_else(ProtocolError::not_found)?;
        let message: Message = serde_json::from_slice(&json).map_err(|_| ProtocolError::internal())?;
        log.states.insert(target, KnownState::stored(message.from, state.map(|state| *state).unwrap_or_default()));
    }
    let known = log.states.get(target).ok_or_else(ProtocolError::internal)?;
    if known.state.deleted {
        return Err(ProtocolError::new(ErrorCode::Conflict, "the message is deleted"));
    }
    Ok(known)
}

/// In a direct conversation, sends, edits and reactions of both users are refused while one blocks the other.
async fn refuse_blocked(context: &Context<'_>, log: &mut Log) -> Result<(), ProtocolError> {
    let switchboard_store::Kind::Direct(a, b) = log.meta.kind.clone() else { return Ok(()) };
    let blocked = match log.blocked {
        Some(blocked) => blocked,
        None => {
            let record = context.node.store.user(&super::user_in(context.key, &a)).await;
            let record = record.map_err(|error| unavailable(context.node, &error))?;
            let is_b = |(other, _): &(UserId, _)| *other == b;
            record.blocks.iter().any(is_b) || record.blocked_by.iter().any(is_b)
        }
    };
    log.blocked = Some(blocked);
    if blocked { Err(ProtocolError::blocked()) } else { Ok(()) }
}
