//! Turns a delivery into events for push: new messages for some of its users, receipts, and users who left.

use crate::envelope::{Deliver, Envelope, UserNote};
use crate::node::Node;
use crate::push::Ticket;
use crate::push::user::{Event, NewMessage, ReceiptSource};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_protocol::{ConversationId, Seq, Timestamp, UserId};
use switchboard_push::{Message, Occasion, Receipt};
use switchboard_store::UserKey;

/// The log's end is announced repeatedly: nobody is notified of a message older than this because of it.
const TOLD_LATE_MS: i64 = 86_400_000;

/// The messages of a delivery's note, for push.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct News {
    pub(crate) is_direct: bool,
    /// Each with its sender, in ascending order.
    pub(crate) messages: Vec<(Seq, UserId)>,
    /// Set when the log's end is announced: the only message is the newest one, and users may have been notified of it.
    #[serde(default)]
    pub(crate) again: Option<Again>,
}

/// See [`News`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Again {
    /// The number of messages in the log.
    pub(crate) messages: u64,
    /// The time of the newest message.
    pub(crate) at: Timestamp,
    /// In a large group, only mentioned users are notified.
    pub(crate) only_mentioned: bool,
}

impl Node {
    /// Turns a delivery into events for those of its users who may have a device.
    pub(crate) fn push_delivered(&self, deliver: &Deliver, users: &[UserId], ticket: &Arc<Ticket>) {
        let Some(note) = &deliver.note else { return };
        let mut about: BTreeMap<&UserId, Vec<&UserNote>> = BTreeMap::new();
        for noted in &note.users {
            about.entry(&noted.user).or_default().push(noted);
        }
        let conversation = &deliver.conversation.conversation;
        let again = note.news.as_ref().and_then(|news| news.again);
        for id in users {
            let about = about.get(id).map_or(&[][..], |about| about);
            let mut events: Vec<Event> =
                about.iter().filter_map(|noted| read_event(conversation, noted, again)).collect();
            events.extend(about.iter().filter_map(|noted| gone_event(conversation, noted)));
            if let Some(news) = &note.news {
                let messages = match news.again {
                    None => news_for(conversation, news, id, about),
                    Some(again) => {
                        about.iter().filter_map(|noted| self.missed(conversation, news, again, noted)).collect()
                    }
                };
                events.extend(messages.into_iter().map(|message| Event::Message(message, ticket.clone())));
            }
            self.push_events(&UserKey { tenant: deliver.conversation.tenant.clone(), user: id.clone() }, events);
        }
    }

    /// The newest message as an event for a user who has not got it, when the log's end is announced.
    fn missed(&self, conversation: &ConversationId, news: &News, again: Again, noted: &UserNote) -> Option<NewMessage> {
        let (seq, from) = news.messages.first()?;
        let (read_seq, read_messages) = noted.read?;
        let has = noted.delivered.max(read_seq);
        let is_mentioned = noted.mentioned_seq > has;
        let is_late = self.now().unix_ms() - again.at.unix_ms() > TOLD_LATE_MS;
        if *seq <= has || is_late || (again.only_mentioned && !is_mentioned) {
            return None;
        }
        let unread = u32::try_from(again.messages.saturating_sub(read_messages)).unwrap_or(u32::MAX);
        let occasion = occasion(news.is_direct, is_mentioned);
        Some(new_message(conversation, *seq, occasion, Some(unread), from))
    }

    /// Sends a receipt to the user's home, before the owner gets it.
    pub(crate) fn tell_home_of_receipt(
        &self,
        user: &UserKey,
        conversation: &ConversationId,
        upto: Seq,
        receipt: Receipt,
    ) {
        let home = self.placement().home(user).incarnation.clone();
        if home == self.me {
            return self.on_push_receipt(user, conversation, upto, receipt);
        }
        let read = receipt == Receipt::Read;
        let (user, conversation) = (user.clone(), conversation.clone());
        self.links.send(&home, Envelope::Receipt { user, conversation, upto, read });
    }

    /// Takes a receipt at the user's home.
    pub(crate) fn on_push_receipt(&self, user: &UserKey, conversation: &ConversationId, upto: Seq, receipt: Receipt) {
        if self.users.may_be_reached(user, self.placement().view.number) {
            self.push_events(
                user,
                vec![Event::Receipt {
                    conversation: conversation.clone(),
                    upto,
                    receipt,
                    source: ReceiptSource::AtOnce,
                }],
            );
        }
    }

    /// The user has changed how long a conversation is muted.
    pub(crate) fn on_push_muted(&self, user: &UserKey, conversation: &ConversationId, until: Option<Timestamp>) {
        if self.users.may_be_reached(user, self.placement().view.number) {
            self.push_events(user, vec![Event::Muted { conversation: conversation.clone(), until }]);
        }
    }
}

fn read_event(conversation: &ConversationId, noted: &UserNote, again: Option<Again>) -> Option<Event> {
    let (upto, _) = noted.read.filter(|(seq, _)| *seq > Seq::ZERO)?;
    let source = match again {
        None => ReceiptSource::AtOnce,
        Some(again) if again.only_mentioned && noted.mentioned_seq == Seq::ZERO => ReceiptSource::AgainByMany,
        Some(_) => ReceiptSource::Again,
    };
    Some(Event::Receipt { conversation: conversation.clone(), upto, receipt: Receipt::Read, source })
}

fn gone_event(conversation: &ConversationId, noted: &UserNote) -> Option<Event> {
    let (seq, _) = noted.membership.filter(|(_, is_member)| !is_member)?;
    Some(Event::Gone { conversation: conversation.clone(), seq })
}

/// New messages, except the user's own.
fn news_for(conversation: &ConversationId, news: &News, user: &UserId, about: &[&UserNote]) -> Vec<NewMessage> {
    let others = news.messages.iter().filter(|(_, from)| from != user);
    let messages = others.map(|(seq, from)| {
        let is_mentioned = about.iter().any(|noted| noted.mentioned_seq == *seq);
        new_message(conversation, *seq, occasion(news.is_direct, is_mentioned), None, from)
    });
    messages.collect()
}

fn occasion(is_direct: bool, is_mentioned: bool) -> Occasion {
    match (is_direct, is_mentioned) {
        (true, _) => Occasion::Direct,
        (false, true) => Occasion::Mention,
        (false, false) => Occasion::Group,
    }
}

fn new_message(
    conversation: &ConversationId,
    seq: Seq,
    occasion: Occasion,
    unread: Option<u32>,
    from: &UserId,
) -> NewMessage {
    let conversation = conversation.clone();
    NewMessage { message: Message { conversation, seq, occasion, unread, muted_until: None }, from: from.clone() }
}
