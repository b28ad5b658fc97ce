//! One conversation's final log in the store, and all that follows from it.

use bytes::Bytes;
use std::collections::BTreeMap;
use switchboard_protocol::server::Message;
use switchboard_protocol::{EntryFrame, Role, Seq, UserId};
use switchboard_store::{ConversationKey, Head, Kind, Log};

/// A message after some entries, as one user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageNow {
    pub(crate) from: UserId,
    /// `None`: deleted.
    pub(crate) content: Option<String>,
    /// The count, and whether the user is included.
    pub(crate) reactions: BTreeMap<String, (u32, bool)>,
}

/// Messages by `seq`.
pub(crate) type Messages = BTreeMap<u64, MessageNow>;

/// Applies an entry to messages.
pub(crate) fn apply(messages: &mut Messages, entry: &EntryFrame, me: &UserId) {
    match entry {
        EntryFrame::Message(message) => {
            let content = Some(message.content.as_str().to_owned());
            let now = MessageNow { from: message.from.clone(), content, reactions: BTreeMap::new() };
            messages.insert(message.seq.get(), now);
        }
        EntryFrame::MessageUpdated(update) => {
            if let Some(message) = messages.get_mut(&update.target_seq.get()) {
                message.content = update.content.as_ref().map(|content| content.as_str().to_owned());
            }
        }
        EntryFrame::Reaction(reaction) => {
            let Some(message) = messages.get_mut(&reaction.target_seq.get()) else { return };
            let (count, mine) = message.reactions.entry(reaction.emoji.as_str().to_owned()).or_default();
            *count = if reaction.added { *count + 1 } else { count.saturating_sub(1) };
            if reaction.user_id == *me {
                *mine = reaction.added;
            }
            message.reactions.retain(|_, (count, _)| *count > 0);
        }
        EntryFrame::Membership(_) | EntryFrame::ConversationUpdated(_) => {}
    }
}

pub(crate) struct Truth {
    head: Head,
    entries: Vec<(Bytes, EntryFrame)>,
    /// Per user, the entries that changed the membership.
    comings: BTreeMap<UserId, Vec<(Seq, bool)>>,
    roles: BTreeMap<UserId, Role>,
}

impl Truth {
    /// Reads a whole log; the error names the violated rule.
    pub(crate) async fn read(store: &impl Log, key: &ConversationKey) -> Result<Self, String> {
        let head = store.head(key).await.map_err(|error| error.to_string())?;
        let head = head.ok_or_else(|| format!("{key:?} has no head"))?;
        let stored = store.read(key, Seq::ZERO, head.end, usize::MAX, usize::MAX).await;
        let mut truth = Self { head, entries: Vec::new(), comings: BTreeMap::new(), roles: BTreeMap::new() };
        if let Kind::Direct(a, b) = &truth.head.meta.kind {
            for user in [a, b] {
                truth.comings.insert(user.clone(), vec![(Seq::ZERO, true)]);
                truth.roles.insert(user.clone(), Role::Member);
            }
        }
        for stored in stored.map_err(|error| error.to_string())? {
            let expected = Seq::new(truth.entries.len() as u64 + 1);
            let text = std::str::from_utf8(&stored.json).map_err(|error| error.to_string())?;
            let (_, entry) = EntryFrame::decode(text).map_err(|error| error.to_string())?;
            if stored.seq != expected || entry.seq() != expected {
                return Err(format!("{key:?} has {} where {expected} is due", stored.seq));
            }
            truth.note_members(&entry);
            truth.entries.push((stored.json, entry));
        }
        if truth.end() != truth.head.end {
            return Err(format!("{key:?} ends at {}, its head says {}", truth.end(), truth.head.end));
        }
        Ok(truth)
    }

    fn note_members(&mut self, entry: &EntryFrame) {
        let EntryFrame::Membership(membership) = entry else { return };
        for user in &membership.added {
            self.comings.entry(user.clone()).or_default().push((membership.seq, true));
            self.roles.insert(user.clone(), Role::Member);
        }
        for (user, role) in &membership.roles {
            self.roles.insert(user.clone(), *role);
        }
        for user in &membership.removed {
            self.comings.entry(user.clone()).or_default().push((membership.seq, false));
            self.roles.remove(user);
        }
    }

    pub(crate) fn end(&self) -> Seq {
        Seq::new(self.entries.len() as u64)
    }

    pub(crate) fn json(&self, seq: Seq) -> Option<&Bytes> {
        let index = usize::try_from(seq.get().checked_sub(1)?).ok()?;
        self.entries.get(index).map(|(json, _)| json)
    }

    pub(crate) fn entry(&self, seq: Seq) -> Option<&EntryFrame> {
        let index = usize::try_from(seq.get().checked_sub(1)?).ok()?;
        self.entries.get(index).map(|(_, entry)| entry)
    }

    pub(crate) fn sends(&self) -> impl Iterator<Item = &Message> {
        self.entries.iter().filter_map(|(_, entry)| match entry {
            EntryFrame::Message(message) => Some(message),
            _ => None,
        })
    }

    /// All messages in their current state.
    pub(crate) fn messages(&self, me: &UserId) -> Messages {
        let mut messages = Messages::new();
        self.entries.iter().for_each(|(_, entry)| apply(&mut messages, entry, me));
        messages
    }

    /// The members now.
    pub(crate) fn members(&self) -> &BTreeMap<UserId, Role> {
        &self.roles
    }

    /// Whether the user is a member as of `seq`.
    pub(crate) fn is_member(&self, user: &UserId, seq: Seq) -> bool {
        let comings = self.comings.get(user).into_iter().flatten();
        comings.take_while(|(at, _)| *at <= seq).last().is_some_and(|(_, member)| *member)
    }

    /// Whether the user was a member by then, or is about to be.
    pub(crate) fn was_member(&self, user: &UserId, seq: Seq) -> bool {
        self.comings.get(user).into_iter().flatten().any(|(at, member)| *member && *at <= seq)
    }

    /// The maximum number of members from `seq` on.
    pub(crate) fn members_most_after(&self, seq: Seq) -> usize {
        let at = |at: Seq| self.comings.keys().filter(|user| self.is_member(user, at)).count();
        (seq.get()..=self.end().get()).map(|seq| at(Seq::new(seq))).max().unwrap_or(0)
    }

    pub(crate) fn leaves_after(&self, user: &UserId, seq: Seq) -> bool {
        self.comings.get(user).into_iter().flatten().any(|(at, member)| !*member && *at > seq)
    }

    /// The last entry that removed the user; the end if the user never was a member.
    pub(crate) fn last_removal(&self, user: &UserId) -> Seq {
        let comings = self.comings.get(user).into_iter().flatten();
        comings.filter(|(_, member)| !*member).map(|(at, _)| *at).next_back().unwrap_or_else(|| self.end())
    }

    pub(crate) fn messages_between(&self, after: Seq, upto: Seq) -> u64 {
        self.sends().filter(|message| message.seq > after && message.seq <= upto).count() as u64
    }

    /// The newest message up to `upto` that mentions a member, after the join.
    pub(crate) fn mentioned(&self, user: &UserId, upto: Seq) -> Seq {
        let comings = self.comings.get(user).into_iter().flatten().filter(|(at, member)| *member && *at <= upto);
        let added = comings.map(|(at, _)| *at).next_back().unwrap_or_default();
        let mentions = self.sends().filter(|message| {
            message.seq > added
                && message.seq <= upto
                && message.from != *user
                && message.content.mentions().contains(user)
                && self.is_member(user, message.seq)
        });
        mentions.last().map_or(Seq::ZERO, |message| message.seq)
    }

    /// How far a user has read by sending and by being added.
    pub(crate) fn own_read(&self, user: &UserId) -> Seq {
        let sent = self.sends().filter(|message| message.from == *user).map(|message| message.seq).last();
        let added =
            self.comings.get(user).into_iter().flatten().filter(|(_, member)| *member).map(|(at, _)| *at).next_back();
        sent.max(added).unwrap_or(Seq::ZERO)
    }

    /// The newest message's seq and preview.
    pub(crate) fn preview(&self) -> Option<(Seq, String)> {
        let newest = self.sends().last()?;
        let now = self.messages(&newest.from).remove(&newest.seq.get())?;
        let text = now.content.and_then(|content| {
            switchboard_protocol::Content::from_stored(content).ok().and_then(|content| content.preview())
        });
        Some((newest.seq, text.unwrap_or_default()))
    }
}
