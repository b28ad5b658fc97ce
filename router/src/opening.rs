//! Opens the conversations that sessions of this node have open again, where the owner may not know about them: after a
//! view change, and after a loss between nodes.
//!
//! Owns the set of conversations to open until their owner answers, since the owner may learn of a view later than this
//! node.

use crate::api::{Actor, Answer};
use crate::delivery::undroppable;
use crate::envelope::Outgoing;
use crate::node::{Node, lock};
use crate::session::Session;
use crate::view_change::resync;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use switchboard_protocol::client::ConversationRef;
use switchboard_protocol::server::{ConversationActivity, Frame as _, Opened};
use switchboard_protocol::{ClientFrame, ConversationId, ErrorCode, ProtocolError, Seq, ServerFrame, SessionId};
use switchboard_store::{ConversationKey, Incarnation};

/// Openings that wait for their owner's answer, each once. At most as many as the sessions here have open.
#[derive(Default)]
pub(crate) struct Reopening(Mutex<BTreeSet<(SessionId, ConversationId)>>);

impl Node {
    /// Opens the conversations that sessions here have open again, at the owners for which `concerns` is true.
    pub(crate) fn open_again(self: &Arc<Self>, concerns: impl Fn(&ConversationKey, &Incarnation) -> bool) {
        let placement = self.placement();
        for session in self.users.all_sessions() {
            for conversation in session.doing().opening.clone() {
                let key = ConversationKey { tenant: session.user.tenant.clone(), conversation };
                if concerns(&key, &placement.owner(&key).incarnation) {
                    let node = self.clone();
                    let session = session.clone();
                    self.spawn(async move { node.open_at(key, &session).await });
                }
            }
        }
    }

    /// Opens a conversation again, and tells the client the end of the log, so that it fetches what it missed.
    async fn open_at(self: &Arc<Self>, key: ConversationKey, session: &Session) {
        if self.users.session(&session.user, &session.id).is_none() {
            // The session has ended since, and its owners were told: nothing may be opened for it after that.
            return;
        }
        let opened = match self.ask_to_open(&key, session).await {
            Err(error) => {
                // Until it has, the session gets activity frames.
                session.doing().open.retain(|open| *open != key.conversation);
                self.figures.resyncs_of_owners.increment(1);
                session.socket.deliver(&resync());
                if is_for_now(&error) { self.open_at_last(&key, session).await } else { None }
            }
            Ok(opened) => Some(opened),
        };
        let Some(opened) = opened else { return };
        if !session.doing().opening.contains(&key.conversation) {
            // Closed meanwhile, and this answer came after that.
            let close = ConversationRef { conversation_id: key.conversation.clone() };
            drop(self.at_owner(&in_name_of(session), &key, ClientFrame::ConversationClose(close)).await);
            return;
        }
        session.doing().opened(&key.conversation);
        let mentioned_seq = self.peek(&session.user, &key).await.map_or(Seq::ZERO, |peek| peek.mentioned_seq);
        let (conversation_id, last_seq) = (opened.conversation_id, opened.last_seq);
        let frame = ConversationActivity { conversation_id, last_seq, mentioned_seq };
        session.socket.deliver(&Outgoing::new(undroppable("conversation_activity", frame.encode(None))).delivery);
    }

    async fn ask_to_open(self: &Arc<Self>, key: &ConversationKey, session: &Session) -> Result<Opened, ProtocolError> {
        let open = ClientFrame::ConversationOpen(ConversationRef { conversation_id: key.conversation.clone() });
        match self.at_owner(&in_name_of(session), key, open).await? {
            Answer::Frame(ServerFrame::Opened(opened)) => Ok(opened),
            _ => Err(ProtocolError::internal()),
        }
    }

    /// Repeats the request, to whichever node is the owner by then, until the conversation is opened or refused. `None`
    /// also if it is no longer wanted, or requested already.
    async fn open_at_last(self: &Arc<Self>, key: &ConversationKey, session: &Session) -> Option<Opened> {
        let this = (session.id.clone(), key.conversation.clone());
        if !lock(&self.reopening.0).insert(this.clone()) {
            return None;
        }
        let opened = loop {
            self.clock.sleep_ms(self.options().retry_after_ms).await;
            let is_connected = self.users.session(&session.user, &session.id).is_some();
            if !is_connected || !session.doing().opening.contains(&key.conversation) {
                break None;
            }
            match self.ask_to_open(key, session).await {
                Err(error) if is_for_now(&error) => {}
                answer => break answer.ok(),
            }
        };
        lock(&self.reopening.0).remove(&this);
        opened
    }
}

fn in_name_of(session: &Session) -> Actor {
    Actor { user: session.user.clone(), session: Some(session.id.clone()), awaited: true }
}

/// Whether another attempt may succeed.
fn is_for_now(error: &ProtocolError) -> bool {
    matches!(error.code(), ErrorCode::Unavailable | ErrorCode::Overloaded)
}
