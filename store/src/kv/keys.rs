//! The keys of rows. A key is its table's byte, then its parts: texts are prefixed with their length, so that different
//! lists of parts never give the same key or prefix, and numbers are big-endian, so that they sort. A text at the end
//! of a key has no length, so that rows sort by it.

mod parts;
mod push;

pub(crate) use push::{
    dead_letter, dead_letters, dead_letters_after, notification_preferences, parse_dead_letter, parse_last_device,
    parse_push_due, parse_push_key, push_device, push_devices, push_due, push_due_until, push_job, push_shown,
};

use self::parts::Parts;
use crate::{ConversationKey, Incarnation, StoreError, UserKey};
use std::ops::Range;
use switchboard_protocol::{ConversationId, Emoji, Seq, TenantId, UserId};

/// The tables, by the first byte of their keys. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Table {
    /// One row: [`super::Meta`].
    Meta = 1,
    /// By conversation: [`super::values::HeadRow`].
    Head = 2,
    /// By conversation and seq: the entries that are messages.
    Message = 3,
    /// By conversation and seq: all other entries. Together with the messages they are the log.
    Entry = 4,
    /// By conversation and user.
    Member = 5,
    /// By conversation and message: edit and deletion; below it, reactions.
    State = 6,
    /// By incarnation and conversation: what must be taken over.
    Active = 7,
    /// By user and version: inbox rows.
    Inbox = 8,
    /// By user and conversation: the version of the inbox row.
    InboxVersion = 9,
    /// By user: [`super::values::UserRow`].
    User = 10,
    /// By user and blocked user: since when.
    Block = 11,
    /// By user and blocking user: since when.
    BlockedBy = 12,
    /// By user and conversation: the inbox rows whose owners must be asked.
    InboxAsked = 13,
    /// By user and device: the push registration.
    PushDevice = 14,
    /// By user: the notification preferences.
    NotificationPreferences = 15,
    /// By user, channel and conversation: [`crate::push::JobRow`].
    PushJob = 16,
    /// By channel, priority (highest first), time, user and conversation: the jobs in the order in which they are due.
    PushDue = 17,
    /// By user, channel and conversation: [`crate::push::ShownRow`].
    PushShown = 18,
    /// By tenant: [`super::values::DeadLettersRow`].
    DeadLetters = 19,
    /// By tenant and id: [`crate::push::DeadLetterRow`].
    DeadLetter = 20,
}

/// A key or the prefix of one, built part by part.
#[derive(Clone, Debug)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    fn new(table: Table) -> Self {
        let mut bytes = Vec::with_capacity(80);
        bytes.push(table as u8);
        Self(bytes)
    }

    /// Ids and emojis have at most 128 bytes, by their types.
    fn text(mut self, text: &str) -> Self {
        debug_assert!(text.len() <= usize::from(u8::MAX));
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.last(text)
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    fn last(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn conversation(self, of: &ConversationKey) -> Self {
        self.text(of.tenant.as_str()).text(of.conversation.as_str())
    }

    fn user(self, of: &UserKey) -> Self {
        self.text(of.tenant.as_str()).text(of.user.as_str())
    }

    /// The key of a row that was read.
    pub(crate) fn of_row(key: &[u8]) -> Self {
        Self(key.to_vec())
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// All keys that begin with this one.
    pub(crate) fn prefixed(self) -> Range<Vec<u8>> {
        let end = next_prefix(&self.0);
        self.0..end
    }
}

/// The first key after all that begin with `prefix`. It exists, since no table's byte is 255.
fn next_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

pub(crate) fn meta() -> Key {
    Key::new(Table::Meta)
}

pub(crate) fn heads() -> Key {
    Key::new(Table::Head)
}

pub(crate) fn head(conversation: &ConversationKey) -> Key {
    heads().conversation(conversation)
}

pub(crate) fn parse_head(key: &[u8]) -> Result<ConversationKey, StoreError> {
    let mut parts = Parts::new(key);
    Ok(ConversationKey { tenant: parts.id()?, conversation: parts.id()? })
}

/// `table`: [`Table::Message`] or [`Table::Entry`].
pub(crate) fn entry(table: Table, conversation: &ConversationKey, seq: Seq) -> Key {
    Key::new(table).conversation(conversation).number(seq.get())
}

/// The entries with a seq from `first` to `last`, inclusive.
pub(crate) fn entries(table: Table, conversation: &ConversationKey, first: Seq, last: Seq) -> Range<Vec<u8>> {
    let start = entry(table, conversation, first).into_bytes();
    let end = entry(table, conversation, last).prefixed().end;
    if start < end { start..end } else { start.clone()..start }
}

pub(crate) fn members(conversation: &ConversationKey) -> Key {
    Key::new(Table::Member).conversation(conversation)
}

pub(crate) fn member(conversation: &ConversationKey, user: &UserId) -> Key {
    members(conversation).last(user.as_str())
}

const STATE_CHANGE: u8 = 0;
const STATE_REACTION: u8 = 1;

/// The message's edit or deletion.
pub(crate) fn message_change(conversation: &ConversationKey, target: Seq) -> Key {
    Key::new(Table::State).conversation(conversation).number(target.get()).byte(STATE_CHANGE)
}

pub(crate) fn reaction(conversation: &ConversationKey, target: Seq, emoji: &Emoji, user: &UserId) -> Key {
    Key::new(Table::State)
        .conversation(conversation)
        .number(target.get())
        .byte(STATE_REACTION)
        .text(emoji.as_str())
        .last(user.as_str())
}

/// Everything about the messages from `first` to `last`, inclusive.
pub(crate) fn states(conversation: &ConversationKey, first: Seq, last: Seq) -> Range<Vec<u8>> {
    entries(Table::State, conversation, first, last)
}

/// What a row of [`Table::State`] is about.
pub(crate) enum StateKey {
    Change(Seq),
    Reaction { target: Seq, emoji: String, user: UserId },
}

pub(crate) fn parse_state(key: &[u8]) -> Result<StateKey, StoreError> {
    let mut parts = Parts::new(key);
    parts.text()?;
    parts.text()?;
    let target = Seq::new(parts.number()?);
    match parts.byte()? {
        STATE_CHANGE => Ok(StateKey::Change(target)),
        STATE_REACTION => Ok(StateKey::Reaction { target, emoji: parts.text()?.to_owned(), user: parts.last()? }),
        _ => Err(parts.unreadable()),
    }
}

/// The seq of an entry's key.
pub(crate) fn parse_seq(key: &[u8]) -> Result<Seq, StoreError> {
    let mut parts = Parts::new(key);
    parts.text()?;
    parts.text()?;
    Ok(Seq::new(parts.number()?))
}

/// The user at the end of a key of [`Table::Member`], [`Table::Block`] or [`Table::BlockedBy`].
pub(crate) fn parse_last_user(key: &[u8]) -> Result<UserId, StoreError> {
    let mut parts = Parts::new(key);
    parts.text()?;
    parts.text()?;
    parts.last()
}

pub(crate) fn all_active() -> Key {
    Key::new(Table::Active)
}

pub(crate) fn active(by: &Incarnation, conversation: &ConversationKey) -> Key {
    all_active().text(by.node.as_str()).number(by.life).conversation(conversation)
}

pub(crate) fn parse_active(key: &[u8]) -> Result<(Incarnation, ConversationKey), StoreError> {
    let mut parts = Parts::new(key);
    let node = parts.id()?;
    let life = parts.number()?;
    let tenant: TenantId = parts.id()?;
    let conversation: ConversationId = parts.id()?;
    Ok((Incarnation { node, life }, ConversationKey { tenant, conversation }))
}

pub(crate) fn inbox(user: &UserKey, version: u64) -> Key {
    Key::new(Table::Inbox).user(user).number(version)
}

/// The rows with versions from `first` (inclusive) to `end` (exclusive).
pub(crate) fn inbox_versions(user: &UserKey, first: u64, end: u64) -> Range<Vec<u8>> {
    inbox(user, first).into_bytes()..inbox(user, end.max(first)).into_bytes()
}

pub(crate) fn inbox_version(user: &UserKey, conversation: &ConversationId) -> Key {
    Key::new(Table::InboxVersion).user(user).last(conversation.as_str())
}

pub(crate) fn all_inbox_asked(user: &UserKey) -> Key {
    Key::new(Table::InboxAsked).user(user)
}

pub(crate) fn inbox_asked(user: &UserKey, conversation: &ConversationId) -> Key {
    all_inbox_asked(user).last(conversation.as_str())
}

/// The conversation at the end of a key of [`Table::InboxAsked`].
pub(crate) fn parse_last_conversation(key: &[u8]) -> Result<ConversationId, StoreError> {
    let mut parts = Parts::new(key);
    parts.text()?;
    parts.text()?;
    parts.last()
}

pub(crate) fn user(user: &UserKey) -> Key {
    Key::new(Table::User).user(user)
}

/// `table`: [`Table::Block`] or [`Table::BlockedBy`].
pub(crate) fn blocks(table: Table, user: &UserKey) -> Key {
    Key::new(table).user(user)
}

pub(crate) fn block(table: Table, user: &UserKey, other: &UserId) -> Key {
    blocks(table, user).last(other.as_str())
}

/// All rows of a user in a table whose keys begin with the user.
pub(crate) fn of_user(table: Table, user: &UserKey) -> Key {
    Key::new(table).user(user)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Channel, Priority, PushKey};
    use switchboard_protocol::Timestamp;

    fn conversation(tenant: &str, conversation: &str) -> ConversationKey {
        ConversationKey { tenant: tenant.parse().unwrap(), conversation: conversation.parse().unwrap() }
    }

    #[test]
    fn parts_that_join_to_the_same_text_are_different_keys() {
        let (a, b) = (conversation("ab", "c"), conversation("a", "bc"));
        assert_ne!(head(&a).into_bytes(), head(&b).into_bytes());
        let prefix = members(&conversation("t", "g")).prefixed();
        let other = member(&conversation("t", "g1"), &"bob".parse().unwrap()).into_bytes();
        assert!(!prefix.contains(&other), "a longer id's rows lie outside of a shorter one's prefix");
    }

    #[test]
    fn numbers_sort_and_ranges_include_both_ends() {
        let of = conversation("t", "g");
        let keys: Vec<_> =
            [1, 255, 256, u64::MAX].map(|seq| entry(Table::Entry, &of, Seq::new(seq)).into_bytes()).into();
        assert!(keys.is_sorted());
        let range = entries(Table::Entry, &of, Seq::new(255), Seq::new(256));
        assert_eq!(keys.iter().filter(|key| range.contains(*key)).count(), 2);
        assert!(entries(Table::Entry, &of, Seq::new(5), Seq::new(4)).is_empty());
        assert!(entries(Table::Entry, &of, Seq::new(1), Seq::new(u64::MAX)).contains(&keys[3]));
    }

    #[test]
    fn keys_are_taken_apart_as_they_were_put_together() {
        let of = conversation("t", "g:1");
        let by = Incarnation { node: "n1".parse().unwrap(), life: u64::MAX };
        assert_eq!(parse_active(active(&by, &of).as_bytes()).unwrap(), (by, of.clone()));
        assert_eq!(parse_head(head(&of).as_bytes()).unwrap(), of);
        assert_eq!(parse_seq(entry(Table::Message, &of, Seq::new(7)).as_bytes()).unwrap(), Seq::new(7));
        let bob: UserId = "bob".parse().unwrap();
        assert_eq!(parse_last_user(member(&of, &bob).as_bytes()).unwrap(), bob);
        let emoji: Emoji = "👍".parse().unwrap();
        match parse_state(reaction(&of, Seq::new(3), &emoji, &bob).as_bytes()).unwrap() {
            StateKey::Reaction { target, emoji, user } => {
                assert_eq!((target.get(), emoji.as_str(), user), (3, "👍", bob));
            }
            StateKey::Change(_) => panic!("a reaction"),
        }
        let user = UserKey { tenant: "t".parse().unwrap(), user: "carl".parse().unwrap() };
        let place = PushKey { user, conversation: of.conversation.clone(), channel: Channel::Apns };
        assert_eq!(parse_push_key(push_job(&place).as_bytes()).unwrap(), place);
        let (due, tenant) = (Timestamp::from_unix_ms(1_767_323_045_678), &of.tenant);
        let key = push_due(&place, Priority::Low, due).into_bytes();
        assert_eq!(parse_push_due(&key).unwrap(), (due, place));
        assert!(push_due_until(Channel::Apns, Priority::Low, due).contains(&key));
        assert!(
            !push_due_until(Channel::Apns, Priority::Low, Timestamp::from_unix_ms(due.unix_ms() - 1)).contains(&key)
        );
        assert_eq!(parse_dead_letter(dead_letter(tenant, 9).as_bytes()).unwrap(), 9);
        assert!(!dead_letters_after(tenant, 9).contains(&dead_letter(tenant, 9).into_bytes()));
        assert!(matches!(parse_state(b"\x06\x01t"), Err(StoreError::Unreadable { .. })));
    }
}
