//! Receipts at the owner (PROTOCOL §3, "Receipts and unread"): they move members' cursors, the cursors are written to the
//! store, and the other members are told. Owns the cursors that are not written yet and the receipts that are not sent yet.

use super::log::Log;
use super::lookup::Place;
use super::notes::empty_note;
use super::task::Conversation;
use super::{CommandInput, LocalReply, ReplyTo};
use crate::api::{Answer, Command};
use crate::delivery::undroppable;
use crate::envelope::{Note, Outgoing, UserNote};
use crate::node::unavailable;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use switchboard_protocol::server::{
    Delivery, DeliveryReceipt, Frame as _, ReadMarker, ReadReceipt, ReceiptCounts, Receipts, UserReceipt,
};
use switchboard_protocol::{MessageId, ProtocolError, Seq, SessionId, Timestamp, UserId};
use switchboard_store::{Cursor, Receipt, StoreError};

/// "without one it is durable within a second", and "at most one frame per second and conversation" (PROTOCOL §3).
const INTERVAL_MS: u64 = 1_000;

/// A cursor that nobody waits for is written after this time, which leaves the rest of the second to the write.
const WRITE_AFTER_MS: u64 = 500;

/// Senders whose newest message's receipts are counted in a large group.
const SENDERS_MAX: usize = 256;

/// Cursors on their way to the store, and receipts on their way to other members.
#[derive(Default)]
pub(super) struct CursorWrites {
    dirty: BTreeMap<UserId, Cursor>,
    waiting: Vec<ReplyTo>,
    write_due_ms: Option<u64>,
    under_way: Option<UnderWay>,
    /// Group: the members whose cursors have moved since the last `receipts`.
    moved: BTreeMap<UserId, Timestamp>,
    tell_due_ms: Option<u64>,
    told_ms: Option<u64>,
    /// Large group: the newest message of each recent sender.
    newest: BTreeMap<UserId, Newest>,
}

/// A sender's newest message in a large group.
struct Newest {
    seq: Seq,
    /// The counts that the sender was sent last.
    counts: Counts,
}

/// How many members, other than its sender, have a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    delivered: u32,
    read: u32,
}

struct UnderWay {
    write: BoxFuture<'static, Result<(), StoreError>>,
    cursors: BTreeMap<UserId, Cursor>,
    waiting: Vec<ReplyTo>,
}

impl CursorWrites {
    /// Whether the store has all cursors.
    pub(super) fn is_empty(&self) -> bool {
        self.dirty.is_empty() && self.under_way.is_none()
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        [self.write_due_ms.filter(|_| self.under_way.is_none()), self.tell_due_ms].into_iter().flatten().min()
    }

    /// The outcome of the write under way; pending forever if there is none.
    pub(super) async fn written(&mut self) -> Result<(), StoreError> {
        match &mut self.under_way {
            Some(under_way) => (&mut under_way.write).await,
            None => std::future::pending().await,
        }
    }
}

/// A cursor that has moved.
struct Moved {
    user: UserId,
    session: Option<SessionId>,
    cursor: Cursor,
    receipt: Receipt,
    /// Direct conversation: the newest message that it covers.
    message_id: Option<MessageId>,
    at: Timestamp,
}

/// What a command is a receipt for.
fn receipt_of(input: &CommandInput) -> Option<(Seq, Receipt)> {
    match &input.command {
        Command::Read(entry) => Some((entry.seq, Receipt::Read)),
        Command::Delivered(entry) => Some((entry.seq, Receipt::Delivered)),
        _ => None,
    }
}

impl Conversation {
    pub(super) fn on_receipt(&mut self, input: CommandInput) {
        let Some((seq, receipt)) = receipt_of(&input) else { return };
        match self.place_of(&input.actor.user.user, seq, receipt) {
            Ok((_, Some(place))) => self.take_receipt(input, place),
            Ok((seq, None)) => self.look_up(seq, input),
            Err(error) => input.reply.send(&self.node, Err(error)),
        }
    }

    /// The entry that a receipt is about, at the durable end at most. `None` where the log must be read first.
    fn place_of(&self, user: &UserId, seq: Seq, receipt: Receipt) -> Result<(Seq, Option<Place>), ProtocolError> {
        let log = self.log.as_ref().ok_or_else(ProtocolError::not_found)?;
        let cursor = log.member(user)?.cursor;
        let seq = seq.min(log.durable);
        let counts = receipt == Receipt::Read && seq > cursor.read_seq;
        let names = log.is_direct() && (counts || seq > cursor.delivered_seq);
        let mark = log.marked(seq);
        let (messages, message_id) = (mark.map(|mark| mark.messages), mark.and_then(|mark| mark.message_id));
        let is_known = (!counts || messages.is_some()) && (!names || message_id.is_some());
        Ok((seq, is_known.then_some(Place { seq, messages, message_id })))
    }

    /// Takes a receipt whose entry is known.
    pub(super) fn take_receipt(&mut self, input: CommandInput, place: Place) {
        let Some((_, receipt)) = receipt_of(&input) else { return };
        let CommandInput { actor, reply, .. } = input;
        match self.move_cursor(&actor.user.user, place, receipt) {
            Ok(Some((cursor, at))) => {
                self.node.trace_receipt(&self.key, &actor.user.user, place.seq, receipt);
                let Place { message_id, .. } = place;
                let moved = Moved { user: actor.user.user, session: actor.session, cursor, receipt, message_id, at };
                self.note_cursor(&moved.user, moved.cursor);
                self.tell_moved(&moved);
            }
            Ok(None) => {}
            Err(error) => return reply.send(&self.node, Err(error)),
        }
        if actor.awaited {
            self.cursors.waiting.push(reply);
            self.write_cursors(u64::MAX);
        } else {
            reply.send(&self.node, Ok(LocalReply::Answer(Answer::done())));
        }
    }

    /// Moves a member's cursors, forward only; `None` if they stay.
    fn move_cursor(
        &mut self,
        user: &UserId,
        place: Place,
        receipt: Receipt,
    ) -> Result<Option<(Cursor, Timestamp)>, ProtocolError> {
        let log = self.log.as_ref().ok_or_else(ProtocolError::not_found)?;
        let before = log.member(user)?.cursor;
        let mut after = before;
        after.delivered_seq = after.delivered_seq.max(place.seq);
        if receipt == Receipt::Read && place.seq > before.read_seq {
            after.read_seq = place.seq;
            after.read_messages = place.messages.ok_or_else(ProtocolError::internal)?;
        }
        if after == before {
            return Ok(None);
        }
        let at = Timestamp::from_unix_ms(self.node.clock.wall_ms());
        if let Some(member) = self.log.as_mut().and_then(|log| log.members.get_mut(user)) {
            member.cursor = after;
        }
        Ok(Some((after, at)))
    }

    /// Notes the cursors of members whom a durable message mentions, to be written: the log tells of a mention only for
    /// a while.
    pub(super) fn note_mentions(&mut self, mentioned: &[UserId]) {
        for user in mentioned {
            if let Some(cursor) = self.log.as_ref().and_then(|log| log.members.get(user)).map(|member| member.cursor) {
                self.note_cursor(user, cursor);
            }
        }
    }

    fn note_cursor(&mut self, user: &UserId, cursor: Cursor) {
        self.cursors.dirty.insert(user.clone(), cursor);
        let due_ms = self.node.clock.monotonic_ms() + WRITE_AFTER_MS;
        self.cursors.write_due_ms.get_or_insert(due_ms);
    }

    /// Writes cursors that are due, or that somebody waits for.
    pub(super) fn write_cursors(&mut self, now_ms: u64) {
        let cursors = &mut self.cursors;
        let due = cursors.write_due_ms.is_some_and(|due_ms| due_ms <= now_ms) || !cursors.waiting.is_empty();
        if cursors.under_way.is_some() || !due {
            return;
        }
        cursors.write_due_ms = None;
        let (dirty, waiting) = (std::mem::take(&mut cursors.dirty), std::mem::take(&mut cursors.waiting));
        let (node, key, rows) = (self.node.clone(), self.key.clone(), dirty.clone().into_iter().collect::<Vec<_>>());
        // The owner of a term that began before the write may have announced an older cursor.
        let term = self.log.as_ref().map(|log| log.term).filter(|_| !waiting.is_empty());
        let write = Box::pin(async move {
            if !rows.is_empty() {
                node.store.put_cursors(&key, rows).await?;
            }
            let Some(term) = term else { return Ok(()) };
            let is_newest = node.store.head(&key).await?.is_some_and(|head| head.term == term);
            if is_newest { Ok(()) } else { Err(StoreError::unavailable("the term is over")) }
        });
        cursors.under_way = Some(UnderWay { write, cursors: dirty, waiting });
    }

    pub(super) fn on_cursors_written(&mut self, written: Result<(), StoreError>) {
        let Some(under_way) = self.cursors.under_way.take() else { return };
        let result = written.map_err(|error| unavailable(&self.node, &error));
        if result.is_err() {
            // They are written together with later ones; each value only grows.
            for (user, cursor) in under_way.cursors {
                self.cursors.dirty.entry(user).or_insert(cursor);
            }
            self.cursors.write_due_ms = Some(self.node.clock.monotonic_ms() + INTERVAL_MS);
            self.name_untold();
        }
        for reply in under_way.waiting {
            reply.send(&self.node, result.clone().map(|()| LocalReply::Answer(Answer::done())));
        }
        self.write_cursors(0);
    }

    /// Sends `read_marker` to the reader's other sessions, and the receipt to the other members.
    fn tell_moved(&mut self, moved: &Moved) {
        if moved.receipt == Receipt::Read {
            self.tell_reader(moved);
        }
        let Some(log) = &self.log else { return };
        if let Some(peer) = log.peer(&moved.user).cloned() {
            self.tell_peer(moved, peer);
            return;
        }
        let earliest = self.cursors.told_ms.map_or(0, |told_ms| told_ms + INTERVAL_MS);
        let now_ms = self.node.clock.monotonic_ms();
        self.cursors.moved.insert(moved.user.clone(), moved.at);
        self.cursors.tell_due_ms.get_or_insert(earliest.max(now_ms));
        self.tell_receipts(now_ms);
    }

    /// Sends `read_marker`, and updates the inbox row.
    fn tell_reader(&mut self, moved: &Moved) {
        let Some(log) = &self.log else { return };
        let Cursor { read_seq, read_messages, .. } = moved.cursor;
        let marker = ReadMarker {
            conversation_id: self.key.conversation.clone(),
            read_seq,
            unread: log.durable_messages.saturating_sub(read_messages),
        };
        let mut frame = Outgoing::new(undroppable("read_marker", marker.encode(None)));
        frame.skip.session = moved.session.clone();
        let about = UserNote { read: Some((read_seq, read_messages)), ..empty_note(&moved.user) };
        let note = Note { last: None, users: vec![about], news: None };
        self.tell_homes(&Arc::from([moved.user.clone()]), &[frame], Some(&note));
    }

    /// Direct conversation: sends the receipt to the other user at once.
    fn tell_peer(&mut self, moved: &Moved, peer: UserId) {
        let seq = match moved.receipt {
            Receipt::Delivered => moved.cursor.delivered_seq,
            Receipt::Read => moved.cursor.read_seq,
        };
        // Where no message is left, the other user sees the cursor when they ask for the members.
        let Some(message_id) = moved.message_id else { return };
        let (conversation_id, user, at) = (self.key.conversation.clone(), moved.user.clone(), moved.at);
        let (kind, json) = match moved.receipt {
            Receipt::Delivered => {
                let receipt =
                    DeliveryReceipt { conversation_id, message_id, seq, delivered_to: user, delivered_at: at };
                ("delivery_receipt", receipt.encode(None))
            }
            Receipt::Read => {
                let receipt = ReadReceipt { conversation_id, message_id, seq, read_by: user, read_at: at };
                ("read_receipt", receipt.encode(None))
            }
        };
        self.tell_homes(&Arc::from([peer]), &[Outgoing::new(undroppable(kind, json))], None);
    }

    /// Groups: sends the cursors that have moved to sessions that have the conversation open.
    pub(super) fn tell_receipts(&mut self, now_ms: u64) {
        if self.cursors.tell_due_ms.is_none_or(|due_ms| now_ms < due_ms) {
            return;
        }
        self.cursors.tell_due_ms = None;
        self.cursors.told_ms = Some(now_ms);
        let moved = std::mem::take(&mut self.cursors.moved);
        let Some(log) = &self.log else { return };
        if log.delivery(self.node.options().push_members_max) == Delivery::Activity {
            self.tell_counts();
        } else {
            self.tell_group(&user_receipts(log, &moved));
        }
    }

    /// Sends both cursors of everyone who moved to each open session, without the reader's own.
    fn tell_group(&mut self, receipts: &[UserReceipt]) {
        // All of these users may have left since.
        if receipts.is_empty() {
            return;
        }
        let conversation_id = self.key.conversation.clone();
        let frame = |receipts: Vec<UserReceipt>| {
            let frame = Receipts { conversation_id: conversation_id.clone(), users: receipts };
            Outgoing::new(undroppable("receipts", frame.encode(None)))
        };
        let readers: BTreeSet<&UserId> = receipts.iter().map(|receipt| &receipt.user_id).collect();
        let for_others = frame(receipts.to_vec());
        for (at, others) in self.sessions.open(|(user, _)| !readers.contains(user)) {
            self.tell_sessions(&at, others, vec![for_others.clone()]);
        }
        for (at, sessions) in self.sessions.open(|(user, _)| readers.contains(user)) {
            for session in sessions {
                let rest: Vec<_> = receipts.iter().filter(|receipt| receipt.user_id != session.0).cloned().collect();
                if !rest.is_empty() {
                    self.tell_sessions(&at, vec![session], vec![frame(rest)]);
                }
            }
        }
    }

    /// Large groups: sends each sender the counts for their newest message.
    fn tell_counts(&mut self) {
        let Some(log) = &self.log else { return };
        let reached = Reached::new(log.members.values().map(|member| member.cursor));
        let mut told = BTreeMap::new();
        for (sender, Newest { seq, counts }) in &mut self.cursors.newest {
            let own = log.members.get(sender).map(|member| member.cursor);
            let now = reached.by_others(own, *seq);
            if now != *counts {
                *counts = now;
                let Counts { delivered, read } = now;
                let conversation_id = self.key.conversation.clone();
                let frame = ReceiptCounts { conversation_id, seq: *seq, delivered, read };
                told.insert(sender.clone(), Outgoing::new(undroppable("receipt_counts", frame.encode(None))));
            }
        }
        for (at, sessions) in self.sessions.open(|(user, _)| told.contains_key(user)) {
            // A user's sessions follow each other.
            for own in sessions.chunk_by(|(a, _), (b, _)| a == b) {
                let frames = told.get(&own[0].0).cloned().into_iter().collect();
                self.tell_sessions(&at, own.to_vec(), frames);
            }
        }
    }

    /// Notes a sender's newest message, for the counts of a large group.
    pub(super) fn note_newest(&mut self, sender: &UserId, seq: Seq) {
        let newest = &mut self.cursors.newest;
        newest.insert(sender.clone(), Newest { seq, counts: Counts::default() });
        if newest.len() > SENDERS_MAX
            && let Some(oldest) = newest.iter().min_by_key(|(_, newest)| newest.seq).map(|(sender, _)| sender.clone())
        {
            newest.remove(&oldest);
        }
    }
}

fn user_receipts(log: &Log, moved: &BTreeMap<UserId, Timestamp>) -> Vec<UserReceipt> {
    let receipt = |(user, at): (&UserId, &Timestamp)| {
        let cursor = log.members.get(user)?.cursor;
        Some(UserReceipt {
            user_id: user.clone(),
            delivered_seq: cursor.delivered_seq,
            read_seq: cursor.read_seq,
            at: *at,
        })
    };
    moved.iter().filter_map(receipt).collect()
}

/// All members' cursors in ascending order, since many senders' counts are taken from them.
struct Reached {
    delivered: Vec<Seq>,
    read: Vec<Seq>,
}

impl Reached {
    fn new(cursors: impl Iterator<Item = Cursor>) -> Self {
        let seqs = cursors.map(|cursor| (cursor.delivered_seq, cursor.read_seq));
        let (mut delivered, mut read): (Vec<Seq>, Vec<Seq>) = seqs.unzip();
        delivered.sort_unstable();
        read.sort_unstable();
        Self { delivered, read }
    }

    /// How many have the message at `seq`, without its sender, whose cursors are `own`.
    fn by_others(&self, own: Option<Cursor>, seq: Seq) -> Counts {
        let count = |seqs: &[Seq], own: Option<Seq>| {
            let all = seqs.len() - seqs.partition_point(|reached| *reached < seq);
            let others = all - usize::from(own.is_some_and(|own| own >= seq));
            u32::try_from(others).unwrap_or(u32::MAX)
        };
        Counts {
            delivered: count(&self.delivered, own.map(|own| own.delivered_seq)),
            read: count(&self.read, own.map(|own| own.read_seq)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_a_message_are_counted_without_its_sender() {
        let cursor = |delivered, read| Cursor {
            delivered_seq: Seq::new(delivered),
            read_seq: Seq::new(read),
            ..Cursor::default()
        };
        let cursors = [cursor(9, 9), cursor(7, 2), cursor(3, 3), cursor(0, 0)];
        let reached = Reached::new(cursors.into_iter());
        let by_others = |own, seq| {
            let Counts { delivered, read } = reached.by_others(own, Seq::new(seq));
            (delivered, read)
        };
        assert_eq!(by_others(None, 3), (3, 2));
        assert_eq!(by_others(Some(cursors[0]), 3), (2, 1));
        assert_eq!(by_others(Some(cursors[3]), 3), (3, 2), "he has not got it himself");
        assert_eq!(by_others(Some(cursors[1]), 2), (2, 2));
        assert_eq!(by_others(None, 10), (0, 0));
    }
}
