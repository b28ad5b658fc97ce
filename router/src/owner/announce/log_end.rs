//! Announcing the end of the log, with everything that inboxes keep of it: to all homes when a term begins, and again to a home
//! that may have missed an announcement.

use crate::envelope::Note;
use crate::owner::log::fan_out_order;
use crate::owner::notes::{member_note, newest, removed_note};
use crate::owner::task::Conversation;
use crate::owner::{Done, user_in};
use std::sync::Arc;
use switchboard_protocol::server::Delivery;
use switchboard_protocol::{Seq, UserId};
use switchboard_store::Incarnation;

impl Conversation {
    /// Announces the log's durable end, with everything that inboxes keep, to all members.
    pub(in crate::owner) fn announce_end(&mut self) {
        self.announce_end_to(None);
    }

    /// The same, to the users of one home or to all.
    fn announce_end_to(&mut self, only: Option<&Incarnation>) {
        // A conversation with an empty log (its creator did not get further) exists for nobody.
        let Some(log) = self.log.as_ref().filter(|log| log.durable > Seq::ZERO) else { return };
        let placement = self.node.placement();
        let concerns =
            |user: &&UserId| only.is_none_or(|only| placement.home(&user_in(&self.key, user)).incarnation == *only);
        let members = fan_out_order(&self.key.tenant, log.durable_members().filter(concerns));
        let gone = fan_out_order(&self.key.tenant, log.durably_removed().filter(concerns));
        let last = Some(Arc::new(log.last(self.node.options().push_members_max)));
        let activity = log.delivery(self.node.options().push_members_max) == Delivery::Activity;
        let news = newest(log, activity);
        let note_of = |users: &[UserId]| {
            let users = users.iter().filter_map(|user| member_note(log, user)).collect();
            Note { last: last.clone(), users, news: news.clone() }
        };
        // Frame and note go together, so that neither is lost without the other. Sessions that have it open get the
        // frame as well, since earlier entries may have been lost on the way to them.
        let told = self.activity_for(&members).into_iter();
        let of_members: Vec<_> = told.map(|(users, frame)| (note_of(&users), users, frame)).collect();
        // Removed members learn nothing of what came after their removal.
        let users = gone.iter().filter_map(|user| removed_note(log, user)).collect();
        let of_gone = Note { last: None, users, news: None };
        for (note, users, frame) in of_members {
            self.tell_homes(&users, &[frame], Some(&note));
        }
        self.tell_homes(&gone, &[], Some(&of_gone));
    }

    /// A node has missed something: repeats what it is owed, if anything. `done` is dropped when that is sent.
    pub(in crate::owner) async fn repeat(&mut self, to: &Incarnation, done: Done) {
        let links = &self.node.links;
        if self.announced.told.get(to).is_none_or(|number| links.is_confirmed(to, *number)) {
            return;
        }
        if self.log.is_some() {
            self.announce_end_to(Some(to));
        } else if self.node.owns(&self.key) {
            // The term is over: the next one announces.
            self.on_take_over(None, None, Some(done)).await;
        } else {
            self.leaves = true;
            self.untold.push(done);
        }
    }

    /// After a view change: announces what a former home has not confirmed to the users' new homes.
    pub(in crate::owner) fn tell_new_homes(&mut self) {
        if self.announced.told_in == Some(self.node.placement().view.number) {
            // Everything was announced in this view already.
            return;
        }
        let owes = !self.announced.told.iter().all(|(home, number)| self.node.links.is_confirmed(home, *number));
        self.announced.told.clear();
        self.announced.told_in = None;
        if owes {
            self.announce_end();
        }
    }
}
