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
        let users = log.everyone.clone();
        self.tell_activity(&users, true);
    }

    /// Sends `conversation_activity` to these users. It is encoded once for all users with the same `mentioned_seq`.
    pub(super) fn tell_activity(&mut self, users: &Arc<[UserId]>, owed: bool) {
        let Some(log) = &self.log else { return };
        let mut by_mention: BTreeMap<Seq, Vec<&UserId>> = BTreeMap::new();
        let known = users.iter().filter_map(|user| log.members.get_key_value(user));
        for (user, member) in known.filter(|(_, member)| member.joined_seq <= log.durable) {
            by_mention.entry(member.cursor.mentioned_seq).or_default().push(user);
        }
        let all_alike = by_mention.len() == 1 && by_mention.values().all(|alike| alike.len() == users.len());
        let mut tellings = Vec::new();
        for (mentioned_seq, alike) in by_mention {
            let conversation_id = self.key.conversation.clone();
            let frame = ConversationActivity { conversation_id, last_seq: log.durable, mentioned_seq };
            let mut frame = Outgoing::new(undroppable("conversation_activity", frame.encode(None)));
            if owed {
                // Sessions that have it open get the entries instead. When the log's end is announced they get it as
                // well, since earlier entries may have been lost on the way to them.
                frame.skip.open = Some(self.key.conversation.clone());
            }
            let alike = if all_alike { users.clone() } else { fan_out_order(&self.key.tenant, alike.into_iter()) };
            tellings.push((alike, frame));
        }
        for (users, frame) in tellings {
            // An empty note changes nothing, but the home confirms it, so a lost announcement is repeated.
            self.tell_homes(&users, &[frame], owed.then(Note::default).as_ref());
        }
    }
}
