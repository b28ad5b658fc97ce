//! `conversation_activity`: what members of a large group get instead of its entries while they do not have it open, at
//! most once a second (PROTOCOL §3, "Large groups").

use crate::delivery::undroppable;
use crate::envelope::{Note, Outgoing};
use crate::owner::log::fan_out_order;
use crate::owner::task::Conversation;
use std::collections::BTreeMap;
use std::sync::Arc;
use switchboard_protocol::server::{ConversationActivity, Frame as _};
use switchboard_protocol::{Seq, UserId};

/// "at most one per second and conversation" (PROTOCOL §3, "Large groups").
const ACTIVITY_INTERVAL_MS: u64 = 1_000;

impl Conversation {
    /// Something happened in a large group: members who do not have it open are told, at most once a second.
    pub(super) fn activity(&mut self) {
        let now_ms = self.node.clock.monotonic_ms();
        let earliest = self.announced.activity_sent_ms.map_or(now_ms, |sent| sent + ACTIVITY_INTERVAL_MS);
        self.announced.activity_due_ms.get_or_insert(earliest.max(now_ms));
        self.announce_activity(now_ms);
    }

    /// Sends the `conversation_activity` that is due.
    pub(in crate::owner) fn announce_activity(&mut self, now_ms: u64) {
        if self.announced.activity_due_ms.is_none_or(|due_ms| now_ms < due_ms) {
            return;
        }
        self.announced.activity_due_ms = None;
        self.announced.activity_sent_ms = Some(now_ms);
        let Some(log) = &self.log else { return };
        for (users, mut frame) in self.activity_for(&log.everyone) {
            // Sessions that have it open get the entries instead.
            frame.skip.open = Some(self.key.conversation.clone());
            // An empty note changes nothing, but the home confirms it, so a lost announcement is repeated.
            self.tell_homes(&users, &[frame], Some(&Note::default()));
        }
    }

    /// The `conversation_activity` for those of these users who are members. It is encoded once for all users with the
    /// same `mentioned_seq`.
    pub(super) fn activity_for(&self, users: &Arc<[UserId]>) -> Vec<(Arc<[UserId]>, Outgoing)> {
        let Some(log) = &self.log else { return Vec::new() };
        let mut by_mention: BTreeMap<Seq, Vec<&UserId>> = BTreeMap::new();
        let known = users.iter().filter_map(|user| log.members.get_key_value(user));
        for (user, member) in known.filter(|(_, member)| member.joined_seq <= log.durable) {
            by_mention.entry(member.cursor.mentioned_seq).or_default().push(user);
        }
        let all_alike = by_mention.values().any(|alike| alike.len() == users.len());
        let for_alike = |(mentioned_seq, alike): (Seq, Vec<&UserId>)| {
            let conversation_id = self.key.conversation.clone();
            let frame = ConversationActivity { conversation_id, last_seq: log.durable, mentioned_seq };
            let alike = if all_alike { users.clone() } else { fan_out_order(&self.key.tenant, alike.into_iter()) };
            (alike, Outgoing::new(undroppable("conversation_activity", frame.encode(None))))
        };
        by_mention.into_iter().map(for_alike).collect()
    }
}
