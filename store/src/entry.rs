//! The values that stores take and return.

use crate::quorum::Previous;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use switchboard_protocol::{
    ClientId, Content, ConversationId, Custom, EntryFrame, NodeId, Role, Seq, TenantId, Timestamp, Title, UserId,
};

/// A conversation, tenant included: ids are only unique within a tenant (DESIGN §5.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConversationKey {
    /// The conversation's tenant.
    pub tenant: TenantId,
    /// Its id.
    pub conversation: ConversationId,
}

/// A user, tenant included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserKey {
    /// The user's tenant.
    pub tenant: TenantId,
    /// The user's id.
    pub user: UserId,
}

/// One life of one gateway process: each start is a new incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation {
    /// The configured `node.id`.
    pub node: NodeId,
    /// Random, drawn at start.
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

/// An entry to be appended.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the log.
    pub seq: Seq,
    /// Messages in the log up to and including this entry. Unread counts are differences of these.
    pub messages: u64,
    /// The entry as a typed frame, from which projections are made.
    pub frame: EntryFrame,
    /// The same, encoded: exactly the JSON that clients get, live and by `changes`. This is what is stored.
    pub json: Bytes,
}

/// An entry read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its place in the log.
    pub seq: Seq,
    /// See [`Entry::messages`].
    pub messages: u64,
    /// The frame as it was sent live.
    pub json: Bytes,
}

/// The kind of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Two users, in the order of their ids.
    Direct(UserId, UserId),
    /// 1 to 10,000 members.
    Group,
}

/// A conversation's facts, except its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationMeta {
    /// Direct or group.
    pub kind: Kind,
    /// The displayed name (groups).
    pub title: Option<Title>,
    /// The application's own object.
    pub custom: Option<Custom>,
    /// When its first term began.
    pub created_at: Timestamp,
    /// A projection of the membership entries.
    pub members_count: u32,
}

/// A conversation to be created with its first term.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewConversation {
    /// Direct: both users are members from the start. Group: the first entry, a membership, adds them.
    pub kind: Kind,
    /// Groups only.
    pub title: Option<Title>,
    /// Groups only.
    pub custom: Option<Custom>,
    /// The creation time.
    pub created_at: Timestamp,
}

/// A conversation's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest term.
    pub term: TermNumber,
    /// The log's end, as far as this head knows it.
    pub end: Seq,
    /// Messages up to `end`.
    pub messages: u64,
    /// The conversation's facts.
    pub meta: ConversationMeta,
    /// The newest message up to `end`.
    pub last_message: Option<Preview>,
    /// Whether the newest term has been ended: then `end` is the log's end, for every reader, until the next term
    /// begins.
    pub ended: bool,
}

/// A request to begin a term.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The new owner.
    pub by: Incarnation,
    /// Set if the conversation may be created.
    pub create: Option<NewConversation>,
    /// How far back [`Begun::recent`] must reach.
    pub recent: RecentWindow,
    /// What is known of the owner that the head names. Unused by stores of a single process.
    pub previous: Previous,
}

/// "24 hours or the last 10,000 entries, whichever ends first" (PROTOCOL §3).
#[derive(Clone, Copy, Debug)]
pub struct RecentWindow {
    /// Only this many of the log's last entries are examined.
    pub entries_max: u64,
    /// Entries before this time are left out.
    pub since: Timestamp,
}

/// A term that has begun: all that its owner needs.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Its number.
    pub term: TermNumber,
    /// The log's end, for every reader, for ever: nothing beyond it is in the log.
    pub end: Seq,
    /// Messages up to `end`.
    pub messages: u64,
    /// Title, custom, kind.
    pub meta: ConversationMeta,
    /// Ordered by id.
    pub members: Vec<(UserId, Member)>,
    /// The sends within the claim's window, ascending.
    pub recent: Vec<RecentSend>,
    /// Every send after this `seq` is in `recent`.
    pub recent_after: Seq,
    /// The newest message.
    pub last_message: Option<Preview>,
    /// Users who were removed within the claim's window and are not members now, with the entry that removed them.
    pub removed: Vec<(UserId, Seq)>,
    /// Whether an earlier term was not ended by [`crate::Log::end_term`]: some of its entries may be unannounced, so
    /// the log's end must be announced.
    pub untold: bool,
}

/// A stored member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The member's permissions.
    pub role: Role,
    /// When the user was last added.
    pub joined_at: Timestamp,
    /// The entry that added the user (0: a direct conversation's participant).
    pub joined_seq: Seq,
    /// The member's receipts.
    pub cursor: Cursor,
}

/// Receipt cursors and the values that go with them; they only grow while the user stays a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Delivered up to here.
    pub delivered_seq: Seq,
    /// Read up to here.
    pub read_seq: Seq,
    /// [`Entry::messages`] at `read_seq`; grows with it.
    pub read_messages: u64,
    /// The newest message since the join that mentions the member; 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mentioned_seq: Seq,
}

fn is_zero(seq: &Seq) -> bool {
    *seq == Seq::ZERO
}

/// A send, kept to recognise its repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentSend {
    /// Sender.
    pub from: UserId,
    /// The id that the sender gave it.
    pub client_id: ClientId,
    /// Where it is.
    pub seq: Seq,
    /// When it was sent.
    pub at: Timestamp,
    /// The users it mentions (as sent; members or not).
    pub mentions: Vec<UserId>,
}

/// A conversation's last message, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// Its place.
    pub seq: Seq,
    /// Its sender.
    pub from: UserId,
    /// The first 200 characters of `content.text`, or of its newest edit; empty if there is no text, or the message was
    /// deleted.
    pub text: String,
    /// When it was sent.
    pub timestamp: Timestamp,
}

/// The messages that a history page should contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryRange {
    /// The newest ones below this `seq`.
    Before(Seq),
    /// The oldest ones above it.
    After(Seq),
    /// The newest ones of all.
    Newest,
}

/// Messages in ascending order.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The messages.
    pub messages: Vec<StoredMessage>,
    /// Whether there are more in the requested direction.
    pub more: bool,
    /// The log's end that this page is as of: no message and no state in it is newer.
    pub end: Seq,
}

/// A message and its current state.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// Its place.
    pub seq: Seq,
    /// Its `message` frame as it was sent.
    pub json: Bytes,
    /// What later entries changed; `None` for most messages.
    pub state: Option<Box<MessageState>>,
}

/// What later entries changed about a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageState {
    /// The newest edit.
    pub edited: Option<(Content, Timestamp)>,
    /// Deleted: it no longer has content.
    pub deleted: bool,
    /// Ordered by each emoji's oldest reaction that still stands.
    pub reactions: Vec<ReactionState>,
}

/// The users who reacted with one emoji.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactionState {
    /// The emoji.
    pub emoji: String,
    /// Ordered by id.
    pub users: Vec<UserId>,
}

/// A user's own settings for a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// No push until then.
    pub muted_until: Option<Timestamp>,
    /// Archived.
    pub archived: bool,
    /// Pinned to the top.
    pub pinned: bool,
}

/// A change to one inbox row. Each part replaces the row's only if it is newer by that part's own order, so a change
/// may be repeated or come late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxChange {
    /// Which row.
    pub conversation: ConversationId,
    /// `last_seq` and what goes with it; newer by `last_seq`. Shared by all members to whom an entry is announced.
    pub last: Option<Arc<InboxLast>>,
    /// Newest message that mentions the user; only grows. 0: none.
    pub mentioned_seq: Seq,
    /// `read_seq` and the messages up to there; newer by `read_seq`.
    pub read: Option<(Seq, u64)>,
    /// The user was added (true) or removed (false) by the entry at this `seq`; newer by it.
    pub membership: Option<(Seq, bool)>,
    /// All of the user's settings; newer by their number (1 above the row's).
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
    /// Set in a conversation with delivery `activity`: entries do not update this row, so ask the owner.
    pub ask_owner: bool,
    /// The conversation's outline as of `last_seq`, if it is short: otherwise it is read from the head and the member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outline: Option<Arc<Outline>>,
}

/// What lists show of a conversation besides its log; each change of it is an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    /// Kind, title, custom, number of members.
    pub meta: ConversationMeta,
    /// The members with a role other than `member`.
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
    /// The entry that last added or removed the user (0: member since the start).
    pub membership_seq: Seq,
    /// Whether the user is a member.
    pub member: bool,
    /// How often the settings were set.
    pub settings_number: u64,
    /// The settings.
    pub settings: Settings,
}

/// Versions strictly between the two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxRange {
    /// Exclusive; 0: from the oldest.
    pub after: u64,
    /// Exclusive; `None`: up to the newest.
    pub below: Option<u64>,
}

/// Rows, newest first.
#[derive(Clone, Debug)]
pub struct InboxPage {
    /// The rows.
    pub rows: Vec<InboxRow>,
    /// The next `after`: below every version that this user's rows will get from now on, and at least every version
    /// they had at the time of the read, except those that a power failure may undo.
    pub top: u64,
    /// Whether the range holds more.
    pub more: bool,
    /// The conversations that have [`InboxLast::ask_owner`] and the user as a member, whatever the range, ordered by
    /// id.
    pub asked: Vec<ConversationId>,
}

/// A stored user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRecord {
    /// Tokens issued in or before this second are refused.
    pub revoked_at: Option<Timestamp>,
    /// When the user's last session ended.
    pub last_seen_at: Option<Timestamp>,
    /// The name shown to others in notifications, if any was given.
    pub name: Option<String>,
    /// The users whom this one blocks, and since when.
    pub blocks: Vec<(UserId, Timestamp)>,
    /// The users who block this one, and since when.
    pub blocked_by: Vec<(UserId, Timestamp)>,
}
