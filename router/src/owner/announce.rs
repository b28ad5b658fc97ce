//! Announces durable entries to the homes of all members, and owes each announcement until its home has confirmed it
//! (DESIGN §4). Then answers those who wait.

mod activity;
mod log_end;

use super::decide::Answering;
use super::log::{Log, fan_out_order};
use super::notes::{news, part_of, user_notes};
use super::pipeline::{Pending, Step};
use super::sessions::OpenSessions;
use super::task::Conversation;
use super::{LocalReply, ReplyTo};
use crate::api::Answer;
use crate::delivery::{self, LogPosition, undroppable};
use crate::envelope::{Deliver, Envelope, Note, Outgoing};
use crate::link::Links;
use crate::session::Held;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use switchboard_protocol::server::Delivery;
use switchboard_protocol::{EntryFrame, ProtocolError, ServerFrame, UserId};
use switchboard_store::{ConversationKey, Incarnation, Preview};

/// The users of a fan-out, in its order, by home.
type ByHome = Vec<(Incarnation, Arc<[UserId]>)>;

/// The users of a fan-out by home, as of a view.
struct Plan {
    view: u64,
    users: Arc<[UserId]>,
    by_home: ByHome,
}

/// What has been announced to which home, and what is still to be announced.
#[derive(Default)]
pub(super) struct Announced {
    /// The number of the last envelope to each home that it has to confirm.
    told: BTreeMap<Incarnation, u64>,
    /// The view in which the first of these was sent.
    told_in: Option<u64>,
    /// The plan of the last fan-out.
    plan: Option<Plan>,
    /// When the next `conversation_activity` is due.
    activity_due_ms: Option<u64>,
    activity_sent_ms: Option<u64>,
}

impl Announced {
    /// Whether every home has confirmed everything.
    pub(super) fn owes_nothing(&self, links: &Links) -> bool {
        self.activity_due_ms.is_none() && self.told.iter().all(|(home, number)| links.is_confirmed(home, *number))
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.activity_due_ms
    }

    /// The view of the last fan-out's plan.
    fn planned_in(&self) -> Option<u64> {
        self.plan.as_ref().map(|plan| plan.view)
    }

    /// The term is over: the next one owes its announcements.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Entries that go to the same users.
#[derive(Default)]
struct Run {
    pending: Vec<Pending>,
}

impl Conversation {
    /// Announces these steps, which are durable, and answers those who wait, in the order of the log.
    pub(super) async fn release(&mut self, steps: VecDeque<Step>) {
        let (now_ms, newest_bytes_max) = (self.node.clock.monotonic_ms(), self.node.options().newest_entries_bytes);
        let mut run = Run::default();
        let mut steps = steps.into_iter().peekable();
        while let Some(step) = steps.next() {
            match step {
                Step::Entry(pending) => {
                    if run.pending.first().is_some_and(|first| !go_together(first, &pending)) {
                        self.tell_run(std::mem::take(&mut run));
                    }
                    let next = match steps.peek() {
                        Some(Step::Entry(next)) if go_together(&pending, next) => Some(&**next),
                        _ => None,
                    };
                    if let Some(log) = &mut self.log {
                        let entry = &pending.draft.entry;
                        log.newest.push(entry.seq, &entry.json, now_ms, newest_bytes_max);
                        advance(log, &pending, next);
                    }
                    self.note_mentions(&pending.draft.mentioned);
                    run.pending.push(*pending);
                }
                Step::Answer { reply, result, _room } => {
                    self.tell_run(std::mem::take(&mut run));
                    reply.send(&self.node, *result);
                }
                Step::Peek { user, after, reply } => {
                    self.tell_run(std::mem::take(&mut run));
                    self.answer_peek(&user, after, reply);
                }
            }
        }
        self.tell_run(run);
    }

    /// Announces entries, then answers their senders: so what was answered is in every member's next `sync`.
    fn tell_run(&mut self, run: Run) {
        let (Some(log), Some(last)) = (&self.log, run.pending.last()) else { return };
        let push_members_max = self.node.options().push_members_max;
        let full = log.delivery(push_members_max) == Delivery::Full || last.draft.to_all;
        let newest = Some(Arc::new(log.last(push_members_max)));
        let last_note = Note { last: newest, users: Vec::new(), news: news(log, &run.pending) };
        let now_us = self.node.clock.monotonic_us();
        let late_us = self.node.options().send_timeout_ms * 1_000 / 2;
        let is_late = |pending: &Pending| now_us.saturating_sub(pending.decided_us) >= late_us;
        let frames: Vec<Outgoing> =
            run.pending.iter().map(|pending| outgoing(&self.key, pending, is_late(pending))).collect();
        let held = self.held_back(&run, full);
        if full {
            let users = run.pending.iter().flat_map(user_notes).collect();
            self.tell_homes_but(&held, &last.users.clone(), &frames, Some(&Note { users, ..last_note.clone() }));
        } else {
            self.tell_open_but(&held, &frames);
        }
        for (pending, frame) in run.pending.into_iter().zip(frames) {
            self.node.trace_held(&self.key, &frame, &held);
            held.iter().for_each(|session| session.deliver(&frame));
            if !full {
                let news = self.log.as_ref().and_then(|log| news(log, std::slice::from_ref(&pending)));
                self.tell_concerned(&pending, frame, Note { news, ..last_note.clone() });
            }
            self.told(pending, full);
        }
        self.node.links.leave();
        if !full {
            self.activity();
        }
    }

    /// Does what follows the announcement of an entry.
    fn told(&mut self, pending: Pending, full: bool) {
        match &pending.draft.entry.frame {
            EntryFrame::Message(message) if !full => self.note_newest(&message.from, message.seq),
            EntryFrame::Membership(membership) => {
                membership.removed.iter().for_each(|user| self.close_for(user));
            }
            _ => {}
        }
        let took_us = self.node.clock.monotonic_us().saturating_sub(pending.decided_us);
        self.node.figures.delivery_duration_s.record(Duration::from_micros(took_us));
        self.answer(pending);
    }

    /// The sessions on this node that wait for an answer about one of these entries and get later ones as well. They
    /// get the entries one at a time between the answers, so that no session gets `message` n+1 before its `sent` n.
    fn held_back(&self, run: &Run, full: bool) -> Held {
        let [waiting @ .., _] = &run.pending[..] else { return Held::new() };
        let placement = self.node.placement();
        let mut held = Held::new();
        for pending in waiting {
            let Some(id) = &pending.session else { continue };
            let key = super::user_in(&self.key, &pending.actor);
            let from_here = match full {
                true => placement.home(&key).incarnation == self.node.me,
                false => self.sessions.has(&self.node.me, &key.user, id),
            };
            if from_here && !held.iter().any(|session| session.id == *id) {
                held.extend(self.node.users.session(&key, id));
            }
        }
        held
    }

    /// In a large group, the users whom an entry concerns get it in full, even if they do not have the conversation
    /// open.
    fn tell_concerned(&mut self, pending: &Pending, mut frame: Outgoing, mut note: Note) {
        let mut concerned = concerned_by(pending);
        if concerned.is_empty() {
            return;
        }
        concerned.sort();
        concerned.dedup();
        frame.skip.open = Some(self.key.conversation.clone());
        note.users = user_notes(pending);
        let users = fan_out_order(&self.key.tenant, concerned.iter());
        self.tell_homes(&users, &[frame], Some(&note));
    }

    /// Gives frames to all sessions that have the conversation open, except those held back.
    fn tell_open_but(&mut self, held: &Held, frames: &[Outgoing]) {
        for (at, sessions) in self.sessions.open(|(_, id)| !held.iter().any(|session| session.id == *id)) {
            self.tell_sessions(&at, sessions, frames.to_vec());
        }
    }

    /// Gives frames to single sessions of one node. Sessions that no longer exist are removed.
    pub(super) fn tell_sessions(&mut self, at: &Incarnation, sessions: OpenSessions, frames: Vec<Outgoing>) {
        if *at == self.node.me {
            for (user, session) in self.node.to_sessions(&self.key, &sessions, &frames) {
                self.sessions.remove(at, &user, &session);
            }
        } else {
            self.node.links.send(at, Envelope::ToSessions { conversation: self.key.clone(), sessions, frames });
        }
    }

    /// Sends one delivery to each home, however many of the users it has.
    pub(super) fn tell_homes(&mut self, users: &Arc<[UserId]>, frames: &[Outgoing], note: Option<&Note>) {
        self.tell_homes_but(&Held::new(), users, frames, note);
        self.node.links.leave();
    }

    /// The same, but sessions held back get no frames, and what goes to other nodes is only queued: an answer behind it
    /// then leaves in the same packet.
    fn tell_homes_but(&mut self, held: &Held, users: &Arc<[UserId]>, frames: &[Outgoing], note: Option<&Note>) {
        let by_home = self.by_home(users);
        self.node.trace_announced(&self.key, frames, &by_home);
        let alone = by_home.len() == 1;
        for (home, users) in by_home {
            let note = note.map(|note| if alone { note.clone() } else { part_of(note, &users) });
            let owed = note.is_some();
            let deliver = Deliver { conversation: self.key.clone(), users, frames: frames.to_vec(), note };
            let number = self.tell_home(&home, deliver, held);
            if owed {
                self.node.links.owe(&home, number);
                self.announced.told.insert(home, number);
                self.announced.told_in = self.announced.told_in.or(self.announced.planned_in());
            }
        }
    }

    fn tell_home(&self, home: &Incarnation, deliver: Deliver, held: &Held) -> u64 {
        if *home == self.node.me {
            let pushed = self.node.deliver(&deliver, held);
            self.node.told_myself(&deliver, &pushed)
        } else {
            self.node.links.queue(home, Envelope::Deliver(deliver))
        }
    }

    /// The users by home. The last result is kept, as a conversation's entries mostly go to the same users.
    fn by_home(&mut self, users: &Arc<[UserId]>) -> ByHome {
        let placement = self.node.placement();
        if let Some(plan) = &self.announced.plan
            && plan.view == placement.view.number
            && Arc::ptr_eq(&plan.users, users)
        {
            return plan.by_home.clone();
        }
        let mut homes: BTreeMap<Incarnation, Vec<UserId>> = BTreeMap::new();
        for user in users.iter() {
            let home = placement.home(&super::user_in(&self.key, user));
            homes.entry(home.incarnation.clone()).or_default().push(user.clone());
        }
        let by_home: ByHome = if homes.len() == 1 {
            homes.into_keys().map(|home| (home, users.clone())).collect()
        } else {
            homes.into_iter().map(|(home, users)| (home, users.into())).collect()
        };
        let (view, users) = (placement.view.number, users.clone());
        self.announced.plan = Some(Plan { view, users, by_home: by_home.clone() });
        by_home
    }

    /// Answers the sender of an entry, and everyone who repeated the send.
    fn answer(&self, pending: Pending) {
        let Pending { draft, replies, actor, .. } = pending;
        for reply in replies {
            let answer = match &draft.answer {
                Answering::Sent(sent) => Ok(Answer::Created(ServerFrame::Sent(sent.clone()))),
                Answering::Ok => Ok(Answer::ok(draft.entry.seq)),
                Answering::Conversation => self.conversation_of(&actor).map(Answer::Created),
            };
            reply.send(&self.node, answer.map(LocalReply::Answer));
        }
    }

    fn conversation_of(&self, user: &UserId) -> Result<ServerFrame, ProtocolError> {
        let log = self.log.as_ref().ok_or_else(ProtocolError::internal)?;
        log.conversation(&self.key, user, self.node.options().push_members_max).map(ServerFrame::Conversation)
    }
}

/// Whether two entries go to the same users in the same way.
fn go_together(a: &Pending, b: &Pending) -> bool {
    Arc::ptr_eq(&a.users, &b.users) && !a.draft.to_all && !b.draft.to_all
}

/// Advances the durable state by an entry. `next` is announced together with it; the preview is left to that if it is a
/// message.
fn advance(log: &mut Log, pending: &Pending, next: Option<&Pending>) {
    let entry = &pending.draft.entry;
    log.outline.advance(&entry.frame);
    log.durable = entry.seq;
    log.durable_messages = entry.messages;
    let message_id = match &entry.frame {
        EntryFrame::Message(message) => {
            if !next.is_some_and(|next| next.draft.is_message()) {
                log.preview = Some(Preview {
                    seq: message.seq,
                    from: message.from.clone(),
                    text: message.content.preview().unwrap_or_default(),
                    timestamp: message.timestamp,
                });
            }
            if let Some(sender) = log.members.get_mut(&message.from) {
                let cursor = &mut sender.cursor;
                cursor.delivered_seq = cursor.delivered_seq.max(entry.seq);
                cursor.read_seq = cursor.read_seq.max(entry.seq);
                cursor.read_messages = cursor.read_messages.max(entry.messages);
            }
            for user in &pending.draft.mentioned {
                if let Some(member) = log.members.get_mut(user) {
                    member.cursor.mentioned_seq = entry.seq;
                }
            }
            Some(message.message_id)
        }
        EntryFrame::MessageUpdated(update) => {
            if let Some(preview) = log.preview.as_mut().filter(|preview| preview.seq == update.target_seq) {
                preview.text = update.content.as_ref().and_then(|content| content.preview()).unwrap_or_default();
            }
            None
        }
        _ => None,
    };
    log.mark(entry.seq, entry.messages, message_id);
}

/// The frame of an entry, which is not sent to the session that made it, since the answer counts as the entry. It is
/// sent there too if nobody waits for the answer any more, or if a waiter on another node may have given up by the time
/// it arrives.
fn outgoing(key: &ConversationKey, pending: &Pending, is_late: bool) -> Outgoing {
    let entry = &pending.draft.entry;
    let delivery = undroppable(entry.frame.type_name(), entry.json.clone());
    let position = Some(LogPosition::new(&key.conversation, entry.seq));
    let mut frame = Outgoing::new(delivery::Delivery { position, ..delivery });
    if !is_late && !pending.replies.iter().all(ReplyTo::is_given_up) {
        frame.skip.session = pending.session.clone();
    }
    frame
}

/// The users whom an entry concerns: they get it in full even in a large group.
fn concerned_by(pending: &Pending) -> Vec<UserId> {
    match &pending.draft.entry.frame {
        EntryFrame::Membership(membership) => membership.added.iter().chain(&membership.removed).cloned().collect(),
        EntryFrame::Message(message) => {
            pending.draft.mentioned.iter().chain(std::iter::once(&message.from)).cloned().collect()
        }
        _ => Vec::new(),
    }
}
