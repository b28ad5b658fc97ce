//! The sessions that have a conversation open or are typing in it, and the ephemeral frames between them (PROTOCOL §4).

use super::rest::Audience;
use super::task::Conversation;
use super::{CommandInput, LocalReply};
use crate::api::{Answer, Command};
use crate::delivery::ephemeral;
use crate::envelope::{Envelope, Outgoing};
use crate::view::View;
use std::collections::{BTreeMap, BTreeSet};
use switchboard_presence::Typing;
use switchboard_protocol::client::SignalSend;
use switchboard_protocol::server::{Delivery, Frame as _, Signal, TypingStart, TypingStop};
use switchboard_protocol::{ProtocolError, SessionId, UserId};
use switchboard_store::Incarnation;

/// Sessions of one node.
pub(super) type OpenSessions = Vec<(UserId, SessionId)>;

/// Kept by the owner, with or without a term: ephemeral traffic needs none.
#[derive(Default)]
pub(super) struct Sessions {
    open: BTreeMap<Incarnation, BTreeSet<(UserId, SessionId)>>,
    typing: Typing<UserId, SessionId>,
}

impl Sessions {
    /// The open sessions for which `wanted` is true, by node.
    pub(super) fn open(&self, wanted: impl Fn(&(UserId, SessionId)) -> bool) -> Vec<(Incarnation, OpenSessions)> {
        let chosen = |sessions: &BTreeSet<_>| sessions.iter().filter(|session| wanted(session)).cloned().collect();
        let by_node = self.open.iter().map(|(at, sessions)| (at.clone(), chosen(sessions)));
        by_node.filter(|(_, sessions): &(_, OpenSessions)| !sessions.is_empty()).collect()
    }

    /// Whether this session has the conversation open.
    pub(super) fn has(&self, at: &Incarnation, user: &UserId, session: &SessionId) -> bool {
        self.open.get(at).is_some_and(|sessions| sessions.contains(&(user.clone(), session.clone())))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.typing.is_empty()
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.typing.next_deadline_ms()
    }

    /// The session gets everything from now on.
    pub(super) fn add(&mut self, at: &Incarnation, user: &UserId, session: &SessionId) {
        self.open.entry(at.clone()).or_default().insert((user.clone(), session.clone()));
    }

    pub(super) fn remove(&mut self, at: &Incarnation, user: &UserId, session: &SessionId) {
        if let Some(sessions) = self.open.get_mut(at) {
            sessions.remove(&(user.clone(), session.clone()));
            if sessions.is_empty() {
                self.open.remove(at);
            }
        }
    }

    /// The sessions of dead nodes are gone.
    pub(super) fn forget_dead(&mut self, view: &View) {
        self.open.retain(|at, _| view.reaches(at));
    }

    /// Forgets a node's sessions, which it will announce again.
    pub(super) fn forget_node(&mut self, node: &Incarnation) {
        self.open.remove(node);
    }

    /// Removes a user who is no longer a member. Returns the user's open sessions.
    fn forget_user(&mut self, user: &UserId) -> Vec<(Incarnation, OpenSessions)> {
        let forgotten = self.open(|(other, _)| other == user);
        for (at, sessions) in &forgotten {
            sessions.iter().for_each(|(user, session)| self.remove(at, user, session));
        }
        forgotten
    }
}

impl Conversation {
    /// Typing, signals and closing: none of these is stored.
    pub(super) fn on_ephemeral(&mut self, input: CommandInput) {
        let CommandInput { actor, at, command, reply, .. } = input;
        let result = self.ephemeral(&actor.user.user, actor.session.as_ref(), &at, command);
        reply.send(&self.node, result.map(|()| LocalReply::Answer(Answer::done())));
    }

    fn ephemeral(
        &mut self,
        user: &UserId,
        session: Option<&SessionId>,
        at: &Incarnation,
        command: Command,
    ) -> Result<(), ProtocolError> {
        // Without a term, the store has been asked for the members.
        if let Some(log) = &self.log {
            log.member(user)?;
        }
        let session = session.ok_or_else(|| ProtocolError::forbidden("this needs a session"))?;
        match command {
            Command::TypingStart(_) => self.start_typing(user, session),
            Command::TypingStop(_) => self.stop_typing(user, Some(session)),
            Command::ConversationClose(_) => self.sessions.remove(at, user, session),
            Command::Signal(signal) => self.signal(user, session, signal),
            _ => {}
        }
        Ok(())
    }

    fn start_typing(&mut self, user: &UserId, session: &SessionId) {
        if self.sessions.typing.start(user, session, self.node.clock.monotonic_ms()) {
            self.tell_typing(user, true);
        }
    }

    /// The user has stopped typing in this session, or (`None`) in all.
    pub(super) fn stop_typing(&mut self, user: &UserId, session: Option<&SessionId>) {
        let stopped = match session {
            Some(session) => self.sessions.typing.stop(user, session),
            None => self.sessions.typing.stop_all(user),
        };
        if stopped {
            self.tell_typing(user, false);
        }
    }

    /// A member was removed: closes the conversation for the member's sessions, and tells them so, as their own state
    /// decides which frames they accept.
    pub(super) fn close_for(&mut self, user: &UserId) {
        for (at, sessions) in self.sessions.forget_user(user) {
            if at == self.node.me {
                self.node.users.closed(&self.key, &sessions);
            } else {
                self.node.links.send(&at, Envelope::Closed { conversation: self.key.clone(), sessions });
            }
        }
        self.stop_typing(user, None);
    }

    /// Typing ends 5 s after its last frame.
    pub(super) fn expire_typing(&mut self, now_ms: u64) {
        let mut stopped = Vec::new();
        self.sessions.typing.expire(now_ms, |user| stopped.push(user.clone()));
        for user in stopped {
            self.tell_typing(&user, false);
        }
    }

    /// Sessions have closed, or their node has found them closed.
    pub(super) fn on_sessions_gone(&mut self, at: &Incarnation, sessions: &[(UserId, SessionId)]) {
        for (user, session) in sessions {
            self.sessions.remove(at, user, session);
            self.stop_typing(user, Some(session));
        }
    }

    /// Sends to the other members' sessions; in a large group, to those that have it open.
    fn tell_typing(&mut self, user: &UserId, starts: bool) {
        let (conversation_id, user_id) = (self.key.conversation.clone(), user.clone());
        let (kind, json) = if starts {
            ("typing_start", TypingStart { conversation_id, user_id }.encode(None))
        } else {
            ("typing_stop", TypingStop { conversation_id, user_id }.encode(None))
        };
        // One key for both: a waiting stop makes a waiting start pointless, and vice versa.
        let delivery = ephemeral("typing", json, &[self.key.conversation.as_str(), user.as_str()]);
        let mut frame = Outgoing::new(crate::delivery::Delivery { kind, ..delivery });
        frame.skip.hidden_from = Some(user.clone());
        let Some(Audience { delivery, everyone }) = self.audience() else { return };
        if delivery == Delivery::Activity {
            self.tell_others_open(user, None, &frame);
        } else {
            let others = everyone.iter().filter(|other| *other != user).cloned().collect();
            self.tell_homes(&others, &[frame], None);
        }
    }

    fn signal(&mut self, user: &UserId, session: &SessionId, signal: SignalSend) {
        let json = Signal {
            conversation_id: self.key.conversation.clone(),
            user_id: user.clone(),
            kind: signal.kind.clone(),
            data: signal.data,
        }
        .encode(None);
        let about = [self.key.conversation.as_str(), user.as_str(), signal.kind.as_str()];
        let mut frame = Outgoing::new(ephemeral("signal", json, &about));
        frame.skip.hidden_from = Some(user.clone());
        self.tell_others_open(user, Some(session), &frame);
    }

    /// Sends to sessions that have the conversation open, except this one or (`None`) all of this user's.
    fn tell_others_open(&mut self, user: &UserId, session: Option<&SessionId>, frame: &Outgoing) {
        let others = self.sessions.open(|(other, id)| match session {
            Some(session) => id != session,
            None => other != user,
        });
        for (at, sessions) in others {
            self.tell_sessions(&at, sessions, vec![frame.clone()]);
        }
    }
}
