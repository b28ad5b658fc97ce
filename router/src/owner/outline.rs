//! The part of a conversation that inbox rows carry (title, custom data, roles), so that `sync` need not read the head
//! of every conversation.
//!
//! Like [`super::log::Log`], but only up to the durable end, since inbox rows contain only what has happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_protocol::{EntryFrame, Role, UserId};
use switchboard_store::{ConversationMeta, Member, Outline};

/// What an outline may take of each member's row; a longer one is left out, and read where it is wanted.
const OUTLINE_BYTES_MAX: usize = 512;

/// What a role is taken to need besides its user's id.
const ROLE_BYTES: usize = 16;

/// See the file's comment.
pub(super) struct Outlined {
    whole: Outline,
    short: Option<Arc<Outline>>,
}

impl Outlined {
    pub(super) fn new(meta: &ConversationMeta, members: &BTreeMap<UserId, Member>) -> Self {
        let others = members.iter().filter(|(_, member)| member.role != Role::Member);
        let roles = others.map(|(user, member)| (user.clone(), member.role)).collect();
        let meta = ConversationMeta { members_count: count(members.len()), ..meta.clone() };
        let whole = Outline { meta, roles };
        Self { short: short(&whole), whole }
    }

    /// As rows carry it; none if it is too long.
    pub(super) fn short(&self) -> Option<Arc<Outline>> {
        self.short.clone()
    }

    /// How many members there are: what decides how entries are delivered.
    pub(super) fn members(&self) -> usize {
        usize::try_from(self.whole.meta.members_count).unwrap_or(usize::MAX)
    }

    /// The entry is durable.
    pub(super) fn advance(&mut self, entry: &EntryFrame) {
        let Outline { meta, roles } = &mut self.whole;
        match entry {
            EntryFrame::Membership(membership) => {
                let members = meta.members_count.saturating_add(count(membership.added.len()));
                meta.members_count = members.saturating_sub(count(membership.removed.len()));
                roles.extend(membership.roles.iter().map(|(user, role)| (user.clone(), *role)));
                roles.retain(|user, role| *role != Role::Member && !membership.removed.contains(user));
            }
            EntryFrame::ConversationUpdated(update) => {
                meta.title = update.title.clone().or(meta.title.take());
                meta.custom = update.custom.clone().or(meta.custom.take());
            }
            _ => return,
        }
        self.short = short(&self.whole);
    }
}

fn short(whole: &Outline) -> Option<Arc<Outline>> {
    let Outline { meta, roles } = whole;
    let title = meta.title.as_ref().map_or(0, |title| title.as_str().len());
    let custom = meta.custom.as_ref().map_or(0, |custom| custom.as_str().len());
    let roles: usize = roles.keys().map(|user| user.as_str().len() + ROLE_BYTES).sum();
    (title + custom + roles <= OUTLINE_BYTES_MAX).then(|| Arc::new(whole.clone()))
}

fn count(members: usize) -> u32 {
    u32::try_from(members).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::server::{ConversationUpdated, Membership};
    use switchboard_protocol::{Seq, Timestamp};
    use switchboard_store::Kind;

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    fn group() -> Outlined {
        let created_at = Timestamp::from_unix_ms(0);
        let meta = ConversationMeta { kind: Kind::Group, title: None, custom: None, created_at, members_count: 0 };
        Outlined::new(&meta, &BTreeMap::new())
    }

    fn membership(added: &[&str], removed: &[&str], roles: &[(&str, Role)]) -> EntryFrame {
        EntryFrame::Membership(Membership {
            conversation_id: "g:1".parse().unwrap(),
            seq: Seq::new(1),
            added: added.iter().map(|name| user(name)).collect(),
            removed: removed.iter().map(|name| user(name)).collect(),
            roles: roles.iter().map(|(name, role)| (user(name), *role)).collect(),
            by: user("alice"),
            timestamp: Timestamp::from_unix_ms(0),
        })
    }

    fn update(title: Option<&str>, custom: Option<&str>) -> EntryFrame {
        EntryFrame::ConversationUpdated(ConversationUpdated {
            conversation_id: "g:1".parse().unwrap(),
            seq: Seq::new(2),
            title: title.map(|title| title.parse().unwrap()),
            custom: custom.map(|custom| serde_json::from_str(custom).unwrap()),
            by: user("alice"),
            timestamp: Timestamp::from_unix_ms(0),
        })
    }

    #[test]
    fn it_follows_the_entries() {
        let mut group = group();
        group.advance(&membership(&["alice", "bob", "carol"], &[], &[("alice", Role::Owner)]));
        group.advance(&update(Some("one"), None));
        group.advance(&update(None, Some(r#"{"a":1}"#)));
        group.advance(&membership(&[], &["alice"], &[("bob", Role::Owner)]));
        let outline = group.short().unwrap();
        assert_eq!((outline.meta.members_count, group.members()), (2, 2));
        assert_eq!(outline.meta.title.as_ref().map(|title| title.as_str()), Some("one"));
        assert!(outline.meta.custom.is_some());
        assert_eq!(outline.roles, BTreeMap::from([(user("bob"), Role::Owner)]));
        group.advance(&membership(&["dave"], &[], &[("dave", Role::Moderator), ("bob", Role::Member)]));
        assert_eq!(group.short().unwrap().roles, BTreeMap::from([(user("dave"), Role::Moderator)]));
    }

    #[test]
    fn a_long_one_is_left_out_until_it_is_short_again() {
        let mut group = group();
        let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(OUTLINE_BYTES_MAX));
        group.advance(&update(Some("one"), Some(&long)));
        assert_eq!(group.short(), None);
        group.advance(&update(None, Some("{}")));
        assert!(group.short().is_some());
        let many: Vec<String> = (0..100).map(|number| format!("moderator-{number}")).collect();
        let roles: Vec<_> = many.iter().map(|name| (name.as_str(), Role::Moderator)).collect();
        group.advance(&membership(&[], &[], &roles));
        assert_eq!(group.short(), None);
    }
}
