//! `history` and `changes`: read from the store by the session's node, up to the end that the owner reports.

use crate::api::Answer;
use crate::envelope::{Encoded, Peek};
use crate::node::{Node, unavailable};
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;
use switchboard_protocol::client::{ChangesGet, HistoryGet, HistoryRange as Asked};
use switchboard_protocol::limits::ANSWER_ITEMS_BYTES_MAX;
use switchboard_protocol::server::{Changes, History, HistoryMessage, Message, ReactionCount, fit_items};
use switchboard_protocol::{ProtocolError, UserId};
use switchboard_store::{ConversationKey, HistoryRange, MessageState, StoreError, StoredEntry, StoredMessage, UserKey};

impl Node {
    pub(crate) async fn changes(self: &Arc<Self>, user: &UserKey, asked: &ChangesGet) -> Result<Answer, ProtocolError> {
        let key = ConversationKey { tenant: user.tenant.clone(), conversation: asked.conversation_id.clone() };
        let Peek { last, entries: newest, .. } = self.peek_after(user, &key, Some(asked.after)).await?;
        let end = last.last_seq;
        let answer = |entries: Vec<Box<RawValue>>, more, reset| {
            let conversation_id = asked.conversation_id.clone();
            Answer::Changes(Changes { conversation_id, entries, last_seq: end, more, reset })
        };
        if end.get().saturating_sub(asked.after.get()) > self.options().changes_max {
            return Ok(answer(Vec::new(), false, true));
        }
        if asked.after >= end {
            return Ok(answer(Vec::new(), false, false));
        }
        let limit = asked.limit as usize;
        if let Some(newest) = newest {
            let more = newest.len() > limit;
            let entries = newest.into_iter().take(limit).map(|Encoded(json)| raw_text(json));
            return Ok(answer(entries.collect::<Result<_, _>>()?, more, false));
        }
        let stored = self.store.read(&key, asked.after, end, limit, ANSWER_ITEMS_BYTES_MAX).await;
        let stored = stored.map_err(|error: StoreError| unavailable(self, &error))?;
        match (stored.first(), stored.last()) {
            // The entries after `after` have expired.
            (Some(first), _) if first.seq != asked.after.next() => Ok(answer(Vec::new(), false, true)),
            (_, Some(last)) => {
                let more = last.seq < end;
                Ok(answer(raw_entries(&stored)?, more, false))
            }
            _ => Ok(answer(Vec::new(), false, true)),
        }
    }

    pub(crate) async fn history(self: &Arc<Self>, user: &UserKey, asked: &HistoryGet) -> Result<Answer, ProtocolError> {
        let key = ConversationKey { tenant: user.tenant.clone(), conversation: asked.conversation_id.clone() };
        let range = match asked.range {
            Asked::Newest => HistoryRange::Newest,
            Asked::Before(seq) => HistoryRange::Before(seq),
            Asked::After(seq) => HistoryRange::After(seq),
        };
        let end = self.peek(user, &key).await?.last.last_seq;
        let page = self.store.history(&key, range, end, asked.limit as usize, ANSWER_ITEMS_BYTES_MAX).await;
        let page = page.map_err(|error| unavailable(self, &error))?;
        let messages = page.messages.into_iter().map(|message| as_it_is_now(message, &user.user));
        let mut messages = messages.collect::<Result<Vec<_>, _>>()?;
        // Edits and reactions make messages longer than what was read; those furthest from the requested position are
        // dropped.
        let newest_first = !matches!(range, HistoryRange::After(_));
        if newest_first {
            messages.reverse();
        }
        let (mut messages, cut) = fit_items(messages, ANSWER_ITEMS_BYTES_MAX);
        if newest_first {
            messages.reverse();
        }
        Ok(Answer::History(History {
            conversation_id: asked.conversation_id.clone(),
            messages,
            last_seq: page.end,
            more: page.more || cut,
        }))
    }
}

/// A message with later changes applied. Most have none, and are returned as they were stored.
fn as_it_is_now(message: StoredMessage, user: &UserId) -> Result<Box<RawValue>, ProtocolError> {
    let Some(state) = message.state else { return raw(&message.json) };
    let Message { conversation_id, message_id, seq, from, client_id, content, timestamp } =
        serde_json::from_slice(&message.json).map_err(|_| ProtocolError::internal())?;
    let MessageState { edited, deleted, reactions } = *state;
    let (content, edited_at) = match edited {
        Some((content, at)) => (content, Some(at)),
        None => (content, None),
    };
    let reactions = reactions.into_iter().map(|reaction| {
        Ok(ReactionCount {
            emoji: reaction.emoji.parse().map_err(|_| ProtocolError::internal())?,
            count: u32::try_from(reaction.users.len()).unwrap_or(u32::MAX),
            me: reaction.users.binary_search(user).is_ok(),
        })
    });
    let now = HistoryMessage {
        conversation_id,
        message_id,
        seq,
        from,
        client_id,
        content: (!deleted).then_some(content),
        timestamp,
        edited_at: edited_at.filter(|_| !deleted),
        deleted,
        reactions: reactions.collect::<Result<_, ProtocolError>>()?,
    };
    to_raw_value(&now).map_err(|_| ProtocolError::internal())
}

/// Stored entries as items of an answer.
pub(crate) fn raw_entries(stored: &[StoredEntry]) -> Result<Vec<Box<RawValue>>, ProtocolError> {
    stored.iter().map(|entry| raw(&entry.json)).collect()
}

fn raw(json: &[u8]) -> Result<Box<RawValue>, ProtocolError> {
    let text = std::str::from_utf8(json).map_err(|_| ProtocolError::internal())?;
    raw_text(text.to_owned())
}

fn raw_text(json: String) -> Result<Box<RawValue>, ProtocolError> {
    RawValue::from_string(json).map_err(|_| ProtocolError::internal())
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::Seq;
    use switchboard_store::ReactionState;

    #[test]
    fn a_message_is_shown_as_it_is_now() {
        let json = r#"{"type":"message","conversation_id":"g:1","message_id":"5","seq":3,"from":"alice","client_id":"c","content":{"text":"Hello"},"timestamp":"2026-01-02T03:04:05.678Z"}"#;
        let stored = |state| StoredMessage { seq: Seq::new(3), json: json.into(), state };
        let (bob, alice): (UserId, UserId) = ("bob".parse().unwrap(), "alice".parse().unwrap());
        assert_eq!(as_it_is_now(stored(None), &bob).unwrap().get(), json, "untouched");

        let reactions = vec![ReactionState { emoji: "👍".into(), users: vec![bob.clone()] }];
        let state = MessageState { reactions: reactions.clone(), ..MessageState::default() };
        let shown = as_it_is_now(stored(Some(Box::new(state))), &bob).unwrap();
        assert!(shown.get().ends_with(r#""reactions":[{"emoji":"👍","count":1,"me":true}]}"#), "{shown}");

        let state = MessageState { deleted: true, reactions, ..MessageState::default() };
        let shown = as_it_is_now(stored(Some(Box::new(state))), &alice).unwrap();
        assert!(!shown.get().contains("Hello") && shown.get().contains(r#""deleted":true"#), "{shown}");
        assert!(shown.get().contains(r#""me":false"#), "{shown}");
    }
}
