//! The values that go into and come out of a store.

use crate::quorum::Previous;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use switchboard_protocol::{
    ClientId, Content, ConversationId, Custom, EntryFrame, NodeId, Role, Seq, TenantId, Timestamp, Title, UserId,
};

/// A conversation, everywhere: ids are only unique within a tenant (DESIGN §5.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConversationKey {
    /// Whose conversation.
    pub tenant: TenantId,
    /// Which one.
    pub conversation: ConversationId,
}

/// A user, everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserKey {
    /// Whose user.
    pub tenant: TenantId,
    /// Which one.
    pub user: UserId,
}

/// One life of one gateway process: a new start is a new incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation {
    /// The configured `node.id`.
    pub node: NodeId,
    /// Drawn at start.
    pub life: u64,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{:x}", self.node, self.life)
    }
}

/// The number of a term; each conversation counts its own from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TermNumber(pub u64);

/// An entry on its way into the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the log.
    pub seq: Seq,
    /// How many messages the log holds up to and including this entry. Unread counts are differences of these.
    pub messages: u64,
    /// What happened, typed: what projections are made from.
    pub frame: EntryFrame,
    /// The same, encoded: exactly the JSON that clients get, live and by `changes`. This is what is stored.
    pub json: Bytes,
}

/// An entry out of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place in the log.
    pub seq: Seq,
    /// See [`Entry::messages`].
    pub messages: u64,
    /// The frame as it was sent live.
    pub json: Bytes,
}

/// What a conversation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Two users, in the order of their ids.
    Direct(UserId, UserId),
    /// 1 to 10,000 members.
    Group,
}

/// A conversation's facts other than its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationMeta {
    /// Direct or group.
    pub kind: Kind,
    /// Shown name (groups).
    pub title: Option<Title>,
    /// The application's own object.
    pub custom: Option<Custom>,
    /// When its first term began.
    pub created_at: Timestamp,
    /// A projection of the membership entries.
    pub members_count: u32,
}

/// What creates a conversation at its first term.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewConversation {
    /// Direct: both users are members from the start. Group: the first entry, a membership, adds them.
    pub kind: Kind,
    /// Groups only.
    pub title: Option<Title>,
    /// Groups only.
    pub custom: Option<Custom>,
    /// The creator's time.
    pub created_at: Timestamp,
}

/// A conversation's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest term.
    pub term: TermNumber,
    /// The log's end as far as this head knows it.
    pub end: Seq,
    /// Messages up to `end`.
    pub messages: u64,
    /// What it is.
    pub meta: ConversationMeta,
    /// The newest message up to `end`.
    pub last_message: Option<Preview>,
    /// Whether the newest term has been ended: then `end` is the log's end, for every reader, until the next begins.
    pub ended: bool,
}

/// Who begins a term, and with what.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The owner-to-be.
    pub by: Incarnation,
    /// Set when the conversation may be created by this.
    pub create: Option<NewConversation>,
    /// How far back [`Begun::recent`] must reach.
    pub recent: RecentWindow,
    /// What is known of the owner whom the head names. A store of one process has no use for it.
    pub previous: Previous,
}

/// "24 hours or the last 10,000 entries, whichever ends first" (PROTOCOL §3).
#[derive(Clone, Copy, Debug)]
pub struct RecentWindow {
    /// At most so many of the log's last entries are looked at.
    pub entries_max: u64,
    /// Entries before this time are left out.
    pub since: Timestamp,
}

/// A term that has begun: all that an owner needs to go on.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Its number.
    pub term: TermNumber,
    /// The log's end, for every reader, for ever: what lies beyond is not in the log.
    pub end: Seq,
    /// Messages up to `end`.
    pub messages: u64,
    /// Title, custom, kind.
    pub meta: ConversationMeta,
    /// In the order of their ids.
    pub members: Vec<(UserId, Member)>,
    /// The sends within the claim's window, ascending.
    pub recent: Vec<RecentSend>,
    /// Every send after this `seq` is in `recent`.
    pub recent_after: Seq,
    /// The newest message.
    pub last_message: Option<Preview>,
    /// Who was removed within the claim's window and is no member now, with the entry that did it.
    pub removed: Vec<(UserId, Seq)>,
    /// Whether an earlier term was not ended by [`crate::Log::end_term`]: something of it may not have been told to
    /// everyone, so the log's end is to be announced.
    pub untold: bool,
}

/// What is kept of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What he may do.
    pub role: Role,
    /// When he was added last.
    pub joined_at: Timestamp,
    /// The entry that added him (0: a direct conversation's).
    pub joined_seq: Seq,
    /// His receipts.
    pub cursor: Cursor,
}

/// Receipt cursors, and what is known with them; they only grow while the member stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Delivered up to here.
    pub delivered_seq: Seq,
    /// Read up to here.
    pub read_seq: Seq,
    /// [`Entry::messages`] at `read_seq`; grows with it.
    pub read_messages: u64,
    /// The newest message that mentions the member since he was added; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mentioned_seq: Seq,
}

fn is_zero(seq: &Seq) -> bool {
    *seq == Seq::ZERO
}

/// A send, for recognising its repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentSend {
    /// Sender.
    pub from: UserId,
    /// The sender's name for it.
    pub client_id: ClientId,
    /// Where it is.
    pub seq: Seq,
    /// When it was sent.
    pub at: Timestamp,
    /// Whom it mentions (as written; members or not).
    pub mentions: Vec<UserId>,
}

/// A conversation's last message as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Its place.
    pub seq: Seq,
    /// Its sender.
    pub from: UserId,
    /// The first 200 characters of `content.text`, of its newest edit if there is one; empty where there is none, and
    /// when the message was deleted.
    pub text: String,
    /// When.
    pub timestamp: Timestamp,
}

/// Which messages a history page wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryRange {
    /// The newest below this `seq`.
    Before(Seq),
    /// The oldest above it.
    After(Seq),
    /// The newest of all.
    Newest,
}

/// Messages in ascending order.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The messages.
    pub messages: Vec<StoredMessage>,
    /// Whether there are more in the direction asked for.
    pub more: bool,
    /// The log's end as of which this is: no message and no state in it is newer.
    pub end: Seq,
}

/// A message and what has become of it.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its place.
    pub seq: Seq,
    /// Its `message` frame as it was sent.
    pub json: Bytes,
    /// What came after; `None` for the most.
    pub state: Option<Box<MessageState>>,
}

/// What later entries made of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageState {
    /// The newest edit.
    pub edited: Option<(Content, Timestamp)>,
    /// Deleted: it has no content any more.
    pub deleted: bool,
    /// In the order of each emoji's oldest reaction that stands.
    pub reactions: Vec<ReactionState>,
}

/// Who reacted with one emoji.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactionState {
    /// The emoji.
    pub emoji: String,
    /// In the order of their ids.
    pub users: Vec<UserId>,
}

/// A user's own settings of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// No push until then.
    pub muted_until: Option<Timestamp>,
    /// Put away.
    pub archived: bool,
    /// Kept on top.
    pub pinned: bool,
}

/// A change to one inbox row. Each part replaces what the row has only if it is newer by that part's own order, so that
/// it can be repeated and come late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxChange {
    /// Which row.
    pub conversation: ConversationId,
    /// `last_seq` and what goes with it; newer by `last_seq`. One for all members whom an entry is told to.
    pub last: Option<Arc<InboxLast>>,
    /// Newest message that mentions the user; only grows. 0: none.
    pub mentioned_seq: Seq,
    /// `read_seq` and the messages up to there; newer by `read_seq`.
    pub read: Option<(Seq, u64)>,
    /// Being added (true) or removed (false) by the entry at this `seq`; newer by it.
    pub membership: Option<(Seq, bool)>,
    /// The user's settings as a whole; newer by the number before them (1 above the row's).
    pub settings: Option<(u64, Settings)>,
}

/// See [`InboxChange::last`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxLast {
    /// The log's end.
    pub last_seq: Seq,
    /// Messages up to there.
    pub messages: u64,
    /// The newest message up to there.
    pub preview: Option<Preview>,
    /// True in a conversation with delivery `activity`: this row is not raised by each entry, ask the owner.
    pub ask_owner: bool,
    /// What the conversation is as of `last_seq`, where that is short: else it is read from the head and the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outline: Option<Arc<Outline>>,
}

/// What lists show of a conversation besides its log; every change of it is an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Kind, title, custom, number of members.
    pub meta: ConversationMeta,
    /// Members whose role is another than `member`.
    pub roles: BTreeMap<UserId, Role>,
}

/// One row of an inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRow {
    /// The conversation.
    pub conversation: ConversationId,
    /// Raised with every change; unique per user.
    pub version: u64,
    /// The end and what goes with it.
    pub last: InboxLast,
    /// Newest message that mentions the user; 0: none.
    pub mentioned_seq: Seq,
    /// Read up to here.
    pub read_seq: Seq,
    /// Messages up to there: unread = `last.messages - read_messages`.
    pub read_messages: u64,
    /// The entry that added or removed the user last (0: member since the start).
    pub membership_seq: Seq,
    /// Whether he is a member.
    pub member: bool,
    /// How often the settings were set.
    pub settings_number: u64,
    /// The settings.
    pub settings: Settings,
}

/// Versions strictly between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxRange {
    /// Exclusive; 0 for everything.
    pub after: u64,
    /// Exclusive; `None` from the newest.
    pub below: Option<u64>,
}

/// Rows, newest first.
#[derive(Clone, Debug)]
pub struct InboxPage {
    /// The rows.
    pub rows: Vec<InboxRow>,
    /// Below every version that this user's rows will get from now on, and at least every one they had when this was read,
    /// but for those that a power failure may take back: where the next `after` begins.
    pub top: u64,
    /// Whether the range holds more.
    pub more: bool,
    /// The conversations of which the user is a member and that have [`InboxLast::ask_owner`], whatever the range, in the
    /// order of their ids.
    pub asked: Vec<ConversationId>,
}

/// What is kept of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRecord {
    /// Tokens issued up to and in this second are refused.
    pub revoked_at: Option<Timestamp>,
    /// When his last session ended.
    pub last_seen_at: Option<Timestamp>,
    /// What others are shown of him in a notification, if anyone said.
    pub name: Option<String>,
    /// Whom he blocks, with the time.
    pub blocks: Vec<(UserId, Timestamp)>,
    /// Who blocks him, with the time.
    pub blocked_by: Vec<(UserId, Timestamp)>,
}
