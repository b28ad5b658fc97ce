//! A message's trace: records what this node does with a message, and assembles the answer from the store and the
//! records of all nodes.

use super::kept::{Bounds, GivenTo, Record, What};
use super::{Outcome, Trace, TraceEvent, TraceQuery, TraceStep, TracedRecipient};
use crate::delivery::EntryRun;
use crate::envelope::{Ask, Encoded, Outgoing, Reply, Roll, RollAsked};
use crate::node::{Node, unavailable};
use crate::session::Held;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use std::borrow::Cow;
use std::sync::Arc;
use switchboard_protocol::server::Message;
use switchboard_protocol::{ProtocolError, Seq, Timestamp, UserId};
use switchboard_store::{ConversationKey, HistoryRange, Incarnation, Member, Receipt, UserKey};

/// Events that one node returns for one page of recipients.
const EVENTS_MAX: usize = 2_000;

/// Recipients whose devices are read concurrently.
const DEVICES_AT_ONCE: usize = 16;

/// The recipient had no session.
const NOT_CONNECTED: &str = "not_connected";

impl Node {
    // Noting

    pub(crate) fn trace_bounds(&self) -> Bounds {
        let options = self.options();
        Bounds {
            bytes: options.trace_bytes,
            kept_ms: i64::try_from(options.trace_kept_ms).unwrap_or(i64::MAX),
            sessions_max: options.trace_sessions_max,
        }
    }

    /// Notes what happened to entries, unless tracing is off.
    fn note_trace(&self, conversation: &ConversationKey, entries: EntryRun, what: impl FnOnce() -> What) {
        let bounds = self.trace_bounds();
        if bounds.bytes > 0 {
            let record = Record { at: self.now(), conversation: conversation.clone(), entries, what: what() };
            self.traces.note(record, bounds);
        }
    }

    /// The entries among these frames have been given to these sessions.
    pub(crate) fn trace_given(&self, conversation: &ConversationKey, frames: &[Outgoing], to: GivenTo) {
        if let Some(entries) = entries_of(frames).filter(|_| !to.is_nobody()) {
            self.note_trace(conversation, entries, || What::Given(to));
        }
    }

    /// The entries among these frames have been announced to these homes.
    pub(crate) fn trace_announced(
        &self,
        conversation: &ConversationKey,
        frames: &[Outgoing],
        homes: &[(Incarnation, Arc<[UserId]>)],
    ) {
        let Some(entries) = entries_of(frames) else { return };
        let count = |users: &[UserId]| u32::try_from(users.len()).unwrap_or(u32::MAX);
        let homes = homes.iter().map(|(home, users)| (home.node.clone(), count(users)));
        self.note_trace(conversation, entries, || What::Announced(homes.collect()));
    }

    /// A frame has been given to sessions that a delivery left out.
    pub(crate) fn trace_held(&self, conversation: &ConversationKey, frame: &Outgoing, held: &Held) {
        let mut given = GivenTo::nobody(self.trace_bounds());
        held.iter().for_each(|session| given.add(session));
        self.trace_given(conversation, std::slice::from_ref(frame), given);
    }

    /// A user's receipt for everything up to an entry has come.
    pub(crate) fn trace_receipt(&self, conversation: &ConversationKey, user: &UserId, up_to: Seq, receipt: Receipt) {
        self.note_trace(conversation, EntryRun::one(up_to), || What::Receipt(user.clone(), receipt));
    }

    /// Something else has happened to a message.
    pub(crate) fn trace_step(&self, conversation: &ConversationKey, seq: Seq, user: Option<&UserId>, step: TraceStep) {
        let entries = if step.is_up_to() { EntryRun { first: Seq::ZERO, last: seq } } else { EntryRun::one(seq) };
        self.note_trace(conversation, entries, || What::Step(user.cloned(), Box::new(step)));
    }

    // Asking

    /// The trace of a message.
    ///
    /// # Errors
    /// `not_found` if the entry is not a message; `unavailable` if the store or a node does not answer.
    pub(crate) async fn trace(
        self: &Arc<Self>,
        key: &ConversationKey,
        seq: Seq,
        query: &TraceQuery,
    ) -> Result<Trace, ProtocolError> {
        let Roll { end, members, more } = self.roll(key, asked_roll(query)).await?;
        let newest = self.store.history(key, HistoryRange::Before(seq.next()), end, 1, usize::MAX).await;
        let newest = newest.map_err(|error| unavailable(self, &error))?.messages.pop();
        let newest = newest.ok_or_else(ProtocolError::not_found)?;
        let Message { seq: found, message_id, from, timestamp: stored_at, .. } =
            serde_json::from_slice(&newest.json).map_err(|_| ProtocolError::internal())?;
        if found != seq {
            return Err(ProtocolError::not_found());
        }
        let (page, more) = page(members, more, &from, query);
        let users: Vec<UserId> = page.iter().map(|(user, _)| user.clone()).collect();
        let mut events = self.trace_events(key, seq, &users);
        let ask = || Ask::Trace { conversation: key.clone(), seq, users: users.clone() };
        for reply in self.ask_all(ask).await? {
            let Reply::Trace(Encoded(noted)) = reply else { return Err(ProtocolError::internal()) };
            let noted: Vec<TraceEvent> = serde_json::from_str(&noted).map_err(|_| ProtocolError::internal())?;
            events.extend(noted);
        }
        events.sort_by_key(|event| event.at);
        let (mut of_users, of_all): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event.user_id.is_some());
        let is_kept = self.is_still_kept(stored_at);
        let recipients = page.into_iter().map(|(user, member)| {
            let own = news(of_users.extract_if(.., |event| event.user_id.as_ref() == Some(&user)));
            recipient(user, member, seq, own, is_kept)
        });
        let recipients: Vec<_> = recipients.collect();
        let recipients = stream::iter(recipients).map(|one| self.trace_devices(key, one)).buffered(DEVICES_AT_ONCE);
        let recipients = recipients.try_collect().await?;
        Ok(Trace { message_id, from, stored_at, recipients, events: of_all, more })
    }

    /// A recipient who was not connected may also have no device for notifications.
    async fn trace_devices(
        &self,
        key: &ConversationKey,
        recipient: TracedRecipient,
    ) -> Result<TracedRecipient, ProtocolError> {
        if recipient.why.as_deref() != Some(NOT_CONNECTED) {
            return Ok(recipient);
        }
        let user = UserKey { tenant: key.tenant.clone(), user: recipient.user_id.clone() };
        let devices = self.store.devices(&user).await.map_err(|error| unavailable(self, &error))?;
        let why = if devices.is_empty() { "no_device" } else { NOT_CONNECTED };
        Ok(TracedRecipient { why: Some(Cow::Borrowed(why)), ..recipient })
    }

    /// The events that this node has noted.
    pub(crate) fn trace_events(&self, key: &ConversationKey, seq: Seq, users: &[UserId]) -> Vec<TraceEvent> {
        let mut events = self.traces.of(key, seq, |user| users.contains(user), &self.me.node);
        let left_out = events.len().saturating_sub(EVENTS_MAX);
        events.truncate(EVENTS_MAX);
        self.figures.trace_events_left_out.increment(left_out as u64);
        events
    }

    /// Whether records of a message stored at that time are still kept.
    fn is_still_kept(&self, stored_at: Timestamp) -> bool {
        let Bounds { bytes, kept_ms, .. } = self.trace_bounds();
        bytes > 0 && self.now().unix_ms().saturating_sub(stored_at.unix_ms()) < kept_ms
    }
}

/// The entries among frames.
fn entries_of(frames: &[Outgoing]) -> Option<EntryRun> {
    let mut seqs = frames.iter().filter_map(Outgoing::seq);
    let first = seqs.next()?;
    Some(EntryRun { first, last: seqs.next_back().unwrap_or(first) })
}

/// The page without the sender, who may be among the first.
fn asked_roll(query: &TraceQuery) -> RollAsked {
    RollAsked { user: query.user.clone(), after: query.after.clone(), limit: query.limit.saturating_add(1) }
}

/// The members that the query asks about, and whether there are more.
fn page(
    members: Vec<(UserId, Member)>,
    more: bool,
    from: &UserId,
    query: &TraceQuery,
) -> (Vec<(UserId, Option<Member>)>, bool) {
    if let Some(user) = &query.user {
        return (vec![(user.clone(), members.first().map(|(_, member)| *member))], false);
    }
    let mut rest = members.into_iter().filter(|(user, _)| user != from);
    let page = rest.by_ref().take(query.limit).map(|(user, member)| (user, Some(member))).collect();
    (page, more || rest.next().is_some())
}

/// The events of one recipient, ordered by time, that are about this message. Each node leaves out what it knows to be
/// about other messages, but another node may have recorded it.
fn news(own: impl Iterator<Item = TraceEvent>) -> Vec<TraceEvent> {
    let mut events = Vec::new();
    for event in own {
        if event.is_news_after(&events) {
            events.push(event);
        }
    }
    events
}

fn recipient(
    user_id: UserId,
    member: Option<Member>,
    seq: Seq,
    events: Vec<TraceEvent>,
    is_kept: bool,
) -> TracedRecipient {
    let of_store = match &member {
        Some(member) if member.joined_seq < seq => match member.cursor {
            cursor if cursor.read_seq >= seq => Outcome::Read,
            cursor if cursor.delivered_seq >= seq => Outcome::Delivered,
            _ => Outcome::Stored,
        },
        _ => Outcome::NotAMember,
    };
    let is_on_the_way = |step: &&TraceStep| step.outcome() >= Outcome::Given;
    let arrived = events.iter().map(|event| &event.step).filter(is_on_the_way).map(TraceStep::outcome).max();
    // The last push step counts; but a user with a notification on one device has been notified.
    let is_told = events.iter().any(|event| matches!(event.step, TraceStep::Notified { .. }));
    let counts = |step: &&TraceStep| !(is_on_the_way(step) || is_told && step.is_failure());
    let push = events.iter().map(|event| &event.step).rfind(counts);
    let outcome = of_store.max(arrived.unwrap_or(of_store)).max(push.map_or(of_store, TraceStep::outcome));
    let why = match outcome {
        Outcome::NotAMember => Some(Cow::Borrowed("not_a_member_then")),
        Outcome::Stored if events.is_empty() && is_kept => Some(Cow::Borrowed(NOT_CONNECTED)),
        Outcome::Stored if events.is_empty() => Some(Cow::Borrowed("no_longer_kept")),
        Outcome::NotNotified | Outcome::NotificationWaits => push.and_then(TraceStep::why),
        _ => None,
    };
    TracedRecipient { user_id, outcome, why, events }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::client::Role;
    use switchboard_store::{Channel, Cursor};

    fn member(joined: u64, delivered: u64, read: u64) -> Member {
        let cursor = Cursor { delivered_seq: Seq::new(delivered), read_seq: Seq::new(read), ..Cursor::default() };
        Member { role: Role::Member, joined_at: Timestamp::from_unix_ms(0), joined_seq: Seq::new(joined), cursor }
    }

    fn event(step: TraceStep) -> TraceEvent {
        let (node_id, user_id) = ("n1".parse().unwrap(), Some("bob".parse().unwrap()));
        TraceEvent { at: Timestamp::from_unix_ms(1), node_id, user_id, step }
    }

    fn told(member: Option<Member>, steps: Vec<TraceStep>, is_kept: bool) -> (Outcome, Option<String>) {
        let events = news(steps.into_iter().map(event));
        let told = recipient("bob".parse().unwrap(), member, Seq::new(5), events, is_kept);
        (told.outcome, told.why.map(Cow::into_owned))
    }

    fn given() -> TraceStep {
        TraceStep::Given { session_id: "s".parse().unwrap(), device_id: "phone".parse().unwrap() }
    }

    fn failed(again_at: Option<Timestamp>) -> TraceStep {
        TraceStep::Failed { provider: Channel::Fcm, device_id: None, reason: "503".to_owned(), again_at }
    }

    #[test]
    fn the_store_knows_who_was_a_member_and_what_arrived() {
        assert_eq!(told(None, vec![], true).0, Outcome::NotAMember);
        assert_eq!(told(Some(member(5, 0, 0)), vec![], true).0, Outcome::NotAMember);
        assert_eq!(told(Some(member(4, 5, 4)), vec![], false), (Outcome::Delivered, None));
        assert_eq!(told(Some(member(4, 5, 5)), vec![given()], true), (Outcome::Read, None));
    }

    #[test]
    fn who_was_not_there_is_told_apart_from_what_nobody_remembers() {
        let why = |is_kept| told(Some(member(0, 0, 0)), vec![], is_kept).1.unwrap();
        assert_eq!((why(true).as_str(), why(false).as_str()), ("not_connected", "no_longer_kept"));
    }

    #[test]
    fn of_push_the_last_word_counts() {
        let waits = TraceStep::Held { until: Timestamp::from_unix_ms(9) };
        let bob = || Some(member(0, 0, 0));
        let later = Some(Timestamp::from_unix_ms(9));
        assert_eq!(told(bob(), vec![waits.clone(), failed(later)], true).0, Outcome::NotificationWaits);
        let dead = told(bob(), vec![waits.clone(), failed(later), failed(None)], true);
        assert_eq!(dead, (Outcome::NotNotified, Some("503".to_owned())));
        let muted = TraceStep::NotNotified { why: Cow::Borrowed("muted") };
        assert_eq!(told(bob(), vec![muted.clone()], true), (Outcome::NotNotified, Some("muted".to_owned())));
        // A later notification is about another message, unless this one was held again.
        let (provider, device_id) = (Channel::Fcm, "phone".parse().unwrap());
        let notified = TraceStep::Notified { provider, device_id };
        for decided in [muted.clone(), TraceStep::ArrivedInTime, TraceStep::Withdrawn] {
            let outcome = decided.outcome();
            assert_eq!(told(bob(), vec![decided.clone(), notified.clone()], true).0, outcome);
            assert_eq!(told(bob(), vec![decided, waits.clone(), notified.clone()], true).0, Outcome::Notified);
        }
        assert_eq!(told(bob(), vec![notified, failed(None)], true), (Outcome::Notified, None));
        // A session got it, so it does not matter that the user was not notified as well.
        assert_eq!(told(bob(), vec![given(), muted], true), (Outcome::Given, None));
    }
}
