//! A session on this node, and what other parts are told about it: its user's home, and the owners of the conversations
//! that it has open.

use crate::api::{Actor, Answer, Command};
use crate::delivery::Socket;
use crate::envelope::{Arrival, Envelope, Outgoing, SessionRow, Skip};
use crate::node::{Node, lock};
use crate::owner::{Input, Refused};
use crate::router::OPEN_MAX;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use switchboard_protocol::client::ConversationRef;
use switchboard_protocol::{
    ClientFrame, CloseCode, ConversationId, DeviceId, ErrorCode, InstanceId, ProtocolError, ServerFrame, SessionId,
    Timestamp, TopicId, UserId, Window,
};
use switchboard_store::{ConversationKey, Incarnation, UserKey};

/// One authenticated connection on this node.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: UserKey,
    pub(crate) device: DeviceId,
    pub(crate) instance: InstanceId,
    /// When its token was issued, if the token says so.
    pub(crate) issued_at: Option<Timestamp>,
    pub(crate) connected_at: Timestamp,
    pub(crate) socket: Arc<dyn Socket>,
    pub(crate) doing: Mutex<Doing>,
}

/// What a session takes part in, at owners, who are told when it ends, and at its home.
#[derive(Debug, Default)]
pub(crate) struct Doing {
    /// Conversations that it has open, as their owners have confirmed.
    pub(crate) open: Vec<ConversationId>,
    /// Conversations whose owners may have it as one of their open sessions: those above, and those whose answer has
    /// not come yet.
    pub(crate) opening: Vec<ConversationId>,
    /// Conversations that it is typing in.
    pub(crate) typing: Vec<ConversationId>,
    /// Whether it watches anyone's presence.
    pub(crate) watches: bool,
    /// Whether its user's home has announced it. A session that the home announces later is newer.
    pub(crate) told_of: bool,
    /// Topics that it watches, with the length of their windows.
    pub(crate) topics: Vec<(TopicId, Window)>,
    /// When it last completed a `sync`, and when a cursor was last read for it.
    pub(crate) synced_ms: Option<u64>,
    pub(crate) cursor_ms: u64,
}

impl Doing {
    /// The owner has the conversation open for this session.
    pub(crate) fn opened(&mut self, conversation: &ConversationId) {
        for list in [&mut self.open, &mut self.opening] {
            if !list.contains(conversation) {
                list.push(conversation.clone());
            }
        }
    }

    /// The conversation is neither open nor being opened any more.
    pub(crate) fn close(&mut self, conversation: &ConversationId) {
        self.open.retain(|open| open != conversation);
        self.opening.retain(|opening| opening != conversation);
    }
}

impl Session {
    pub(crate) fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its arrival, as its user's home is told until it has announced it.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        let arrival =
            || Arrival { session: self.id.clone(), device: self.device.clone(), instance: self.instance.clone() };
        (!self.doing().told_of).then(arrival)
    }

    /// Gives it an entry's frame, if it wants it.
    pub(crate) fn deliver(&self, frame: &Outgoing) {
        if self.wants(&frame.skip) {
            self.socket.deliver(&frame.delivery);
        }
    }

    pub(crate) fn wants(&self, skip: &Skip) -> bool {
        if skip.session.as_ref() == Some(&self.id) {
            return false;
        }
        skip.open.as_ref().is_none_or(|conversation| !self.doing().open.contains(conversation))
    }
}

/// The few sessions that a delivery leaves out.
pub(crate) type Held = Vec<Arc<Session>>;

/// A watching session, as a key by its id.
#[derive(Clone)]
pub(crate) struct Watcher(pub(crate) Arc<Session>);

impl PartialEq for Watcher {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Watcher {}

impl PartialOrd for Watcher {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Watcher {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl std::hash::Hash for Watcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl Node {
    /// Tells a user's home how many sessions they have here.
    pub(crate) fn tell_home(self: &Arc<Self>, user: &UserKey) {
        let home = self.placement().home(user).incarnation.clone();
        let mut registration = self.users.registration_of(user);
        loop {
            let told = registration.sessions;
            if home == self.me {
                self.on_register(&home, registration);
            } else {
                self.links.send(&home, Envelope::Register { users: vec![registration] });
            }
            // Another session may have connected or gone meanwhile, and its registration may have been sent first.
            registration = self.users.registration_of(user);
            if registration.sessions == told {
                break;
            }
        }
    }

    /// A session has ended: tells everyone who has something of it.
    pub(crate) fn disconnected(self: &Arc<Self>, session: &Arc<Session>) {
        if self.users.remove(session) {
            self.tell_home(&session.user);
        }
        let doing = std::mem::take(&mut *session.doing());
        let mut at: Vec<ConversationId> = doing.opening.into_iter().chain(doing.typing).collect();
        at.sort();
        at.dedup();
        let sessions = vec![(session.user.user.clone(), session.id.clone())];
        for conversation in at {
            let key = ConversationKey { tenant: session.user.tenant.clone(), conversation };
            let owner = self.placement().owner(&key).incarnation.clone();
            if owner == self.me {
                self.sessions_gone(key, &owner, sessions.clone());
            } else {
                self.links.send(&owner, Envelope::SessionsGone { conversation: key, sessions: sessions.clone() });
            }
        }
        self.topic_session_gone(session, doing.topics);
        if doing.watches {
            let mut watches = lock(&self.watches);
            let unwatched = watches.session_gone(&Watcher(session.clone()));
            // Before anyone can watch these users again, which this would undo.
            self.unwatch(unwatched);
            drop(watches);
        }
    }

    /// Tells a conversation of this node that sessions of a node are gone, if need be when its queue has room. An
    /// inactive conversation has no sessions.
    pub(crate) fn sessions_gone(
        self: &Arc<Self>,
        key: ConversationKey,
        at: &Incarnation,
        sessions: Vec<(UserId, SessionId)>,
    ) {
        let Err(Refused(mut input)) = self.owners.say_if_active(&key, Input::SessionsGone { at: at.clone(), sessions })
        else {
            return;
        };
        if !self.owners.is_active(&key) {
            return;
        }
        let node = self.clone();
        self.spawn(async move {
            while node.owners.is_active(&key) {
                node.clock.sleep_ms(crate::node::TICK_MS).await;
                match node.owners.say_if_active(&key, input) {
                    Ok(()) => return,
                    Err(Refused(refused)) => input = refused,
                }
            }
        });
    }

    /// Notes what a session is about to take part in at owners, so that they are told when it ends.
    pub(crate) fn note_doing(&self, actor: &Actor, command: &Command) -> Result<(), ProtocolError> {
        if !matches!(
            command,
            ClientFrame::ConversationOpen(_)
                | ClientFrame::ConversationClose(_)
                | ClientFrame::TypingStart(_)
                | ClientFrame::TypingStop(_)
        ) {
            return Ok(());
        }
        let Some(session) = self.session_of(actor) else { return Ok(()) };
        let mut doing = session.doing();
        match command {
            ClientFrame::ConversationOpen(ConversationRef { conversation_id }) => {
                if doing.opening.contains(conversation_id) {
                    return Ok(());
                }
                if doing.opening.len() >= OPEN_MAX {
                    return Err(ProtocolError::conflict("too many open conversations: close one first"));
                }
                doing.opening.push(conversation_id.clone());
            }
            // It gets activity frames from now on, whatever the owner still believes.
            ClientFrame::ConversationClose(closed) => doing.open.retain(|open| *open != closed.conversation_id),
            ClientFrame::TypingStart(typing) => {
                // Typing that is not noted here expires by itself soon.
                doing.typing.retain(|other| *other != typing.conversation_id);
                doing.typing.truncate(OPEN_MAX - 1);
                doing.typing.push(typing.conversation_id.clone());
            }
            ClientFrame::TypingStop(typing) => doing.typing.retain(|other| *other != typing.conversation_id),
            _ => {}
        }
        Ok(())
    }

    /// Notes the result of opening or closing a conversation.
    pub(crate) fn note_done(
        &self,
        actor: &Actor,
        conversation: &ConversationId,
        is_close: bool,
        result: &Result<Answer, ProtocolError>,
    ) {
        let Some(session) = self.session_of(actor) else { return };
        let mut doing = session.doing();
        match result {
            Ok(Answer::Frame(ServerFrame::Opened(_))) => doing.opened(conversation),
            Ok(_) if is_close => doing.close(conversation),
            // Whether the owner has it open is not known, so it is told at the session's end.
            Err(error) if error.code() == ErrorCode::Unavailable => {}
            Err(_) if !is_close => doing.close(conversation),
            _ => {}
        }
    }

    pub(crate) fn session_of(&self, actor: &Actor) -> Option<Arc<Session>> {
        let id = actor.session.as_ref()?;
        self.users.session(&actor.user, id)
    }

    pub(crate) fn session_rows(&self, user: &UserKey) -> Vec<SessionRow> {
        let row = |session: &Arc<Session>| SessionRow {
            session_id: session.id.clone(),
            device_id: session.device.clone(),
            instance_id: session.instance.clone(),
            node_id: self.me.node.clone(),
            connected_at: session.connected_at,
        };
        self.users.sessions(user).iter().map(row).collect()
    }

    /// Closes a user's sessions on this node, for an administrator.
    pub(crate) fn close_sessions(&self, user: &UserKey) -> usize {
        self.user_changed(user);
        let sessions = self.users.sessions(user);
        sessions.iter().for_each(|session| session.socket.close(CloseCode::Revoked));
        sessions.len()
    }
}
