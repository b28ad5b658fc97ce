//! Decisions about groups: creating, settings, members and roles (PROTOCOL §3).

use super::decide::{Answering, Context, Decided, Draft, unchanged};
use super::log::{Log, delivery_to};
use crate::api::Answer;
use std::collections::BTreeMap;
use switchboard_protocol::client::{ConversationCreate, ConversationUpdate, MemberAdd, MemberRemove, MemberRole};
use switchboard_protocol::limits::{ANSWER_ITEMS_BYTES_MAX, GROUP_MEMBERS_MAX};
use switchboard_protocol::server::{ConversationUpdated, Membership};
use switchboard_protocol::{Custom, EntryFrame, ErrorCode, ProtocolError, Role, Seq, ServerFrame, Timestamp, UserId};
use switchboard_store::{Cursor, Member};

/// The bytes of the ids of one membership entry as JSON. The rest is below 1 KiB, and the entry must fit into an
/// answer.
const IDS_BYTES_MAX: usize = ANSWER_ITEMS_BYTES_MAX - 1_024;

/// The first entry of a group adds its members; a group with an entry exists already.
pub(super) fn create(
    context: &Context<'_>,
    log: &mut Log,
    user: &UserId,
    create: &ConversationCreate,
) -> Result<Decided, ProtocolError> {
    if log.end > Seq::ZERO {
        let conversation = log.conversation(context.key, user, context.node.options().push_members_max)?;
        return Ok(Decided::Answer(Answer::Frame(ServerFrame::Conversation(conversation))));
    }
    refuse_too_many_members(user, create)?;
    let mut added: Vec<UserId> = create.members.iter().filter(|member| *member != user).cloned().collect();
    added.push(user.clone());
    added.sort();
    let change = Change { added, roles: BTreeMap::from([(user.clone(), Role::Owner)]), ..Change::default() };
    let mut decided = change.decide(context, log, user, "members")?;
    if let Decided::Entry(draft) = &mut decided {
        draft.answer = Answering::Conversation;
    }
    Ok(decided)
}

pub(super) fn update(
    context: &Context<'_>,
    log: &mut Log,
    user: &UserId,
    update: ConversationUpdate,
) -> Result<Decided, ProtocolError> {
    let role = log.member(user)?.role;
    refuse_direct(log)?;
    if role == Role::Member {
        return Err(ProtocolError::forbidden("only owners and moderators may change the conversation"));
    }
    let title = update.title.filter(|title| log.meta.title.as_ref() != Some(title));
    let custom = update.custom.filter(|custom| log.meta.custom.as_ref().unwrap_or(&Custom::default()) != custom);
    if title.is_none() && custom.is_none() {
        return Ok(unchanged(log));
    }
    let at = context.now(log);
    log.meta.title = title.clone().or(log.meta.title.take());
    log.meta.custom = custom.clone().or(log.meta.custom.take());
    let frame = ConversationUpdated {
        conversation_id: context.key.conversation.clone(),
        seq: log.end.next(),
        title,
        custom,
        by: user.clone(),
        timestamp: at,
    };
    Ok(context.plain(log, EntryFrame::ConversationUpdated(frame), at))
}

pub(super) fn add(
    context: &Context<'_>,
    log: &mut Log,
    user: &UserId,
    add: &MemberAdd,
) -> Result<Decided, ProtocolError> {
    let role = log.member(user)?.role;
    refuse_direct(log)?;
    match (role, add.role) {
        (Role::Owner, _) | (Role::Moderator, Role::Member) => {}
        (Role::Moderator, _) => return Err(ProtocolError::forbidden("only owners may give roles")),
        (Role::Member, _) => return Err(ProtocolError::forbidden("only owners and moderators may add members")),
    }
    let added: Vec<UserId> = add.user_ids.iter().filter(|id| !log.members.contains_key(*id)).cloned().collect();
    refuse_too_many(log.members.len() + added.len(), "user_ids")?;
    let roles = match add.role {
        Role::Member => BTreeMap::new(),
        role => added.iter().map(|id| (id.clone(), role)).collect(),
    };
    Change { added, roles, ..Change::default() }.decide(context, log, user, "user_ids")
}

pub(super) fn remove(
    context: &Context<'_>,
    log: &mut Log,
    user: &UserId,
    remove: &MemberRemove,
) -> Result<Decided, ProtocolError> {
    let role = log.member(user)?.role;
    refuse_direct(log)?;
    let removed: Vec<UserId> = remove.user_ids.iter().filter(|id| log.members.contains_key(*id)).cloned().collect();
    for id in removed.iter().filter(|id| *id != user) {
        let theirs = log.member(id)?.role;
        let may = match role {
            Role::Owner => true,
            Role::Moderator => theirs == Role::Member,
            Role::Member => false,
        };
        if !may {
            return Err(ProtocolError::forbidden("only owners, and moderators for members, may remove others"));
        }
    }
    let roles = successor(log, &removed);
    Change { removed, roles, ..Change::default() }.decide(context, log, user, "user_ids")
}

pub(super) fn role(
    context: &Context<'_>,
    log: &mut Log,
    user: &UserId,
    role: &MemberRole,
) -> Result<Decided, ProtocolError> {
    let own = log.member(user)?.role;
    refuse_direct(log)?;
    if own != Role::Owner {
        return Err(ProtocolError::forbidden("only owners may give roles"));
    }
    let current = log.member(&role.user_id)?.role;
    if current == role.role {
        return Ok(unchanged(log));
    }
    if current == Role::Owner && log.owners() == 1 {
        return Err(ProtocolError::conflict("the last owner stays owner: make another one first"));
    }
    let roles = BTreeMap::from([(role.user_id.clone(), role.role)]);
    Change { roles, ..Change::default() }.decide(context, log, user, "user_id")
}

/// When the last owner leaves, the longest-standing member becomes owner.
fn successor(log: &Log, removed: &[UserId]) -> BTreeMap<UserId, Role> {
    let stays = |id: &UserId| removed.binary_search(id).is_err();
    let owner_stays = log.members.iter().any(|(id, member)| member.role == Role::Owner && stays(id));
    if owner_stays || removed.is_empty() {
        return BTreeMap::new();
    }
    let longest = log
        .members
        .iter()
        .filter(|(id, _)| stays(id))
        .min_by(|(a_id, a), (b_id, b)| (a.joined_seq, a_id).cmp(&(b.joined_seq, b_id)));
    longest.map(|(id, _)| (id.clone(), Role::Owner)).into_iter().collect()
}

fn refuse_direct(log: &Log) -> Result<(), ProtocolError> {
    if log.is_direct() { Err(ProtocolError::forbidden("a direct conversation has its two members")) } else { Ok(()) }
}

fn refuse_too_many(members: usize, field: &'static str) -> Result<(), ProtocolError> {
    if members > GROUP_MEMBERS_MAX {
        return Err(ProtocolError::bad_request(field, "a group has at most 10000 members"));
    }
    Ok(())
}

/// Refuses a group with too many members from the start.
pub(super) fn refuse_too_many_members(creator: &UserId, create: &ConversationCreate) -> Result<(), ProtocolError> {
    let others = create.members.iter().filter(|member| *member != creator).count();
    refuse_too_many(others + 1, "members")
}

/// The content of a membership entry.
#[derive(Default)]
struct Change {
    added: Vec<UserId>,
    removed: Vec<UserId>,
    roles: BTreeMap<UserId, Role>,
}

impl Change {
    /// # Errors
    /// `too_large`, naming the `field` with the ids: the entry would not fit into an answer.
    fn decide(
        self,
        context: &Context<'_>,
        log: &mut Log,
        by: &UserId,
        field: &'static str,
    ) -> Result<Decided, ProtocolError> {
        if self.added.is_empty() && self.removed.is_empty() && self.roles.is_empty() {
            return Ok(unchanged(log));
        }
        if self.ids_bytes() > IDS_BYTES_MAX {
            let error = ProtocolError::new(ErrorCode::TooLarge, "too many ids for one entry: add fewer at once");
            return Err(error.with_detail(field, format!("must take at most {IDS_BYTES_MAX} bytes as JSON")));
        }
        let at = context.now(log);
        let seq = log.end.next();
        let push_members_max = context.node.options().push_members_max;
        let before = log.members.len();
        self.apply(context, log, seq, at);
        let to_all = delivery_to(before, push_members_max) != delivery_to(log.members.len(), push_members_max);
        let removed = self.removed.clone();
        let frame = Membership {
            conversation_id: context.key.conversation.clone(),
            seq,
            added: self.added,
            removed: self.removed,
            roles: self.roles,
            by: by.clone(),
            timestamp: at,
        };
        let entry = context.entry(log, EntryFrame::Membership(frame), at);
        Ok(Decided::Entry(Box::new(Draft { removed, to_all, ..Draft::new(entry, Answering::Ok) })))
    }

    /// The bytes of the ids in the entry, as JSON.
    fn ids_bytes(&self) -> usize {
        /// Quotes, colons and commas, and the longest role.
        const ROLE_BYTES: usize = r#""":"moderator","#.len();
        let ids = self.added.iter().chain(&self.removed).map(|id| id.as_str().len() + r#""","#.len());
        let roles = self.roles.keys().map(|id| id.as_str().len() + ROLE_BYTES);
        ids.chain(roles).sum()
    }

    /// Like the projection in the store.
    fn apply(&self, context: &Context<'_>, log: &mut Log, seq: Seq, at: Timestamp) {
        for id in &self.removed {
            log.members.remove(id);
            log.removed.insert(id.clone(), seq);
        }
        for id in &self.added {
            let cursor = Cursor { delivered_seq: seq, read_seq: seq, read_messages: log.messages, ..Cursor::default() };
            let member = Member { role: Role::Member, joined_at: at, joined_seq: seq, cursor };
            log.members.insert(id.clone(), member);
            log.removed.remove(id);
        }
        for (id, role) in &self.roles {
            if let Some(member) = log.members.get_mut(id) {
                member.role = *role;
            }
        }
        log.members_changed(&context.key.tenant);
    }
}
