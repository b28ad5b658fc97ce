//! How rows are named. A key is its table's byte and then its parts: texts with their length before them, so that no two
//! different lists of parts make the same key or prefix, and numbers big-endian, so that they sort. A text that is a
//! key's last part stands without its length, so that rows sort by it.

use crate::{Channel, ConversationKey, Incarnation, Priority, PushKey, StoreError, UserKey};
use std::ops::Range;
use switchboard_protocol::{ConversationId, DeviceId, Emoji, Seq, TenantId, Timestamp, UserId};

/// The tables, by the first byte of their keys. A number is never given to another table.
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
    /// By incarnation and conversation: what is to be taken over.
    Active = 7,
    /// By user and version: inbox rows.
    Inbox = 8,
    /// By user and conversation: the version of the inbox row.
    InboxVersion = 9,
    /// By user: [`super::values::UserRow`].
    User = 10,
    /// By user and the one he blocks: since when.
    Block = 11,
    /// By user and the one who blocks him: since when.
    BlockedBy = 12,
    /// By user and conversation: the inbox rows whose owners must be asked.
    InboxAsked = 13,
    /// By user and device: how it is reached by push.
    PushDevice = 14,
    /// By user: his notification preferences.
    NotificationPreferences = 15,
    /// By user, channel and conversation: [`crate::push::JobRow`].
    PushJob = 16,
    /// By channel, priority (the highest first), time, user and conversation: the jobs in the order in which they are due.
    PushDue = 17,
    /// By user, channel and conversation: [`crate::push::ShownRow`].
    PushShown = 18,
    /// By tenant: [`super::values::DeadLettersRow`].
    DeadLetters = 19,
    /// By tenant and id: [`crate::push::DeadLetterRow`].
    DeadLetter = 20,
}

/// A key or the prefix of one, part by part.
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

    /// Every key that begins with this one.
    pub(crate) fn prefixed(self) -> Range<Vec<u8>> {
        let end = next_prefix(&self.0);
        self.0..end
    }
}

/// The first key after all that begin with `prefix`. There is one, since no table's byte is 255.
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

/// The entries with a seq from `first` to `last`, both included.
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

/// Everything about the messages from `first` to `last`, both included.
pub(crate) fn states(conversation: &ConversationKey, first: Seq, last: Seq) -> Range<Vec<u8>> {
    entries(Table::State, conversation, first, last)
}

/// What a row of [`Table::State`] is about.
pub(crate) enum StateKey {
    Change(Seq),
    Reaction(Seq, String, UserId),
}

pub(crate) fn parse_state(key: &[u8]) -> Result<StateKey, StoreError> {
    let mut parts = Parts::new(key);
    parts.text()?;
    parts.text()?;
    let target = Seq::new(parts.number()?);
    match parts.byte()? {
        STATE_CHANGE => Ok(StateKey::Change(target)),
        STATE_REACTION => Ok(StateKey::Reaction(target, parts.text()?.to_owned(), parts.last()?)),
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

/// The rows with a version from `first` up to and without `end`.
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

/// Everything of a user in a table whose keys begin with him.
pub(crate) fn of_user(table: Table, user: &UserKey) -> Key {
    Key::new(table).user(user)
}

pub(crate) fn push_devices(user: &UserKey) -> Key {
    of_user(Table::PushDevice, user)
}

pub(crate) fn push_device(user: &UserKey, device: &DeviceId) -> Key {
    push_devices(user).last(device.as_str())
}

/// The device at the end of a key of [`Table::PushDevice`].
pub(crate) fn parse_last_device(key: &[u8]) -> Result<DeviceId, StoreError> {
    let mut parts = Parts::new(key);
    parts.text()?;
    parts.text()?;
    parts.last()
}

pub(crate) fn notification_preferences(user: &UserKey) -> Key {
    of_user(Table::NotificationPreferences, user)
}

/// A channel's number in keys. One is never given to another channel.
fn channel_byte(channel: Channel) -> u8 {
    match channel {
        Channel::WebPush => 1,
        Channel::Fcm => 2,
        Channel::Apns => 3,
        Channel::Webhook => 4,
    }
}

fn priority_byte(priority: Priority) -> u8 {
    match priority {
        Priority::High => 1,
        Priority::Normal => 2,
        Priority::Low => 3,
    }
}

/// Times before 1970 are as good as 1970.
fn time_number(at: Timestamp) -> u64 {
    u64::try_from(at.unix_ms()).unwrap_or(0)
}

fn push_place(table: Table, of: &PushKey) -> Key {
    of_user(table, &of.user).byte(channel_byte(of.channel)).last(of.conversation.as_str())
}

pub(crate) fn push_job(of: &PushKey) -> Key {
    push_place(Table::PushJob, of)
}

pub(crate) fn push_shown(of: &PushKey) -> Key {
    push_place(Table::PushShown, of)
}

/// The place of a key of [`Table::PushJob`] or [`Table::PushShown`].
pub(crate) fn parse_push_key(key: &[u8]) -> Result<PushKey, StoreError> {
    let mut parts = Parts::new(key);
    let user = UserKey { tenant: parts.id()?, user: parts.id()? };
    let channel = parts.channel()?;
    Ok(PushKey { user, conversation: parts.last()?, channel })
}

fn push_due_at(channel: Channel, priority: Priority, due: u64) -> Key {
    Key::new(Table::PushDue).byte(channel_byte(channel)).byte(priority_byte(priority)).number(due)
}

pub(crate) fn push_due(of: &PushKey, priority: Priority, due: Timestamp) -> Key {
    push_due_at(of.channel, priority, time_number(due)).user(&of.user).last(of.conversation.as_str())
}

/// What is due at `now` or was before.
pub(crate) fn push_due_until(channel: Channel, priority: Priority, now: Timestamp) -> Range<Vec<u8>> {
    push_due_at(channel, priority, 0).into_bytes()..push_due_at(channel, priority, time_number(now) + 1).into_bytes()
}

/// When the job of a key of [`Table::PushDue`] is due, and its place.
pub(crate) fn parse_push_due(key: &[u8]) -> Result<(Timestamp, PushKey), StoreError> {
    let mut parts = Parts::new(key);
    let channel = parts.channel()?;
    parts.byte()?;
    let due = Timestamp::from_unix_ms(i64::try_from(parts.number()?).unwrap_or(i64::MAX));
    let user = UserKey { tenant: parts.id()?, user: parts.id()? };
    Ok((due, PushKey { user, conversation: parts.last()?, channel }))
}

pub(crate) fn dead_letters(tenant: &TenantId) -> Key {
    Key::new(Table::DeadLetters).text(tenant.as_str())
}

pub(crate) fn dead_letter(tenant: &TenantId, id: u64) -> Key {
    Key::new(Table::DeadLetter).text(tenant.as_str()).number(id)
}

pub(crate) fn dead_letters_after(tenant: &TenantId, after: u64) -> Range<Vec<u8>> {
    let start = dead_letter(tenant, after.saturating_add(1)).into_bytes();
    let end = Key::new(Table::DeadLetter).text(tenant.as_str()).prefixed().end;
    start..end
}

/// The id of a key of [`Table::DeadLetter`].
pub(crate) fn parse_dead_letter(key: &[u8]) -> Result<u64, StoreError> {
    let mut parts = Parts::new(key);
    parts.text()?;
    parts.number()
}

/// Takes a key apart, in the order in which it was put together.
struct Parts<'a> {
    key: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    fn new(key: &'a [u8]) -> Self {
        Self { key, rest: key.get(1..).unwrap_or_default() }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], StoreError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.unreadable())?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, StoreError> {
        Ok(self.take(1)?[0])
    }

    fn channel(&mut self) -> Result<Channel, StoreError> {
        let byte = self.byte()?;
        let channel = Channel::ALL.into_iter().find(|channel| channel_byte(*channel) == byte);
        channel.ok_or_else(|| self.unreadable())
    }

    fn number(&mut self) -> Result<u64, StoreError> {
        let bytes = self.take(8)?.try_into().map_err(|_| self.unreadable())?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Result<&'a str, StoreError> {
        let len = usize::from(self.byte()?);
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).map_err(|_| self.unreadable())
    }

    fn id<T: TryFrom<&'a str>>(&mut self) -> Result<T, StoreError> {
        T::try_from(self.text()?).map_err(|_| self.unreadable())
    }

    fn last<T: TryFrom<&'a str>>(&mut self) -> Result<T, StoreError> {
        let bytes = self.take(self.rest.len())?;
        std::str::from_utf8(bytes).ok().and_then(|text| T::try_from(text).ok()).ok_or_else(|| self.unreadable())
    }

    fn unreadable(&self) -> StoreError {
        StoreError::Unreadable { what: format!("key {}", self.key.escape_ascii()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            StateKey::Reaction(target, text, user) => assert_eq!((target.get(), text.as_str(), user), (3, "👍", bob)),
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
