//! Begins a term: claims the conversation in the store and loads its state.

use super::group::refuse_too_many_members;
use super::log::Log;
use super::newest::Newest;
use super::recent::{RECENT_ENTRIES_MAX, RECENT_MS};
use super::task::Conversation;
use super::{CommandInput, user_in};
use crate::api::Command;
use crate::blocks::blocked_of;
use crate::node::unavailable;
use crate::take_over::{Fate, LET_GO_MS};
use crate::view::{direct_conversation, group_conversation};
use switchboard_protocol::client::SendTarget;
use switchboard_protocol::server::Delivery;
use switchboard_protocol::{ProtocolError, Timestamp, UserId};
use switchboard_store::{Begun, Claim, Kind, Member, NewConversation, Previous, RecentWindow, StoreError};

impl Conversation {
    /// Makes sure that a term runs, so that `input` can be decided.
    pub(super) async fn begin_if_needed(&mut self, input: &CommandInput) -> Result<(), ProtocolError> {
        if self.log.is_some() {
            return Ok(());
        }
        match self.creation(input) {
            Some(creation) => {
                self.refuse_creation(input).await?;
                self.begin(Some(creation)).await.map(drop)
            }
            None => self.begin_for(&input.actor.user.user).await,
        }
    }

    /// Makes sure that a term runs, for a member: nobody else may activate a conversation at rest. If the last term was
    /// not ended, the store may not know yet who has been added.
    pub(super) async fn begin_for(&mut self, user: &UserId) -> Result<(), ProtocolError> {
        if self.log.is_some() {
            return Ok(());
        }
        // A term may have ended between the first two reads; the third then sees the members that it added.
        if self.stored_member(user).await?.is_none()
            && self.is_at_rest().await?
            && self.stored_member(user).await?.is_none()
        {
            return Err(ProtocolError::not_found());
        }
        self.begin(None).await?;
        self.log.as_ref().ok_or_else(ProtocolError::not_found)?.member(user).map(drop)
    }

    /// Whether no term runs, on this node or another.
    async fn is_at_rest(&mut self) -> Result<bool, ProtocolError> {
        let head = self.node.store.head(&self.key).await.map_err(|error| unavailable(&self.node, &error))?;
        Ok(head.is_none_or(|head| head.ended))
    }

    async fn stored_member(&mut self, user: &UserId) -> Result<Option<Member>, ProtocolError> {
        self.node.store.member(&self.key, user).await.map_err(|error| unavailable(&self.node, &error))
    }

    /// A command that would be refused anyway creates nothing.
    async fn refuse_creation(&mut self, input: &CommandInput) -> Result<(), ProtocolError> {
        let user = &input.actor.user;
        match &input.command {
            Command::ConversationCreate(create) => refuse_too_many_members(&user.user, create),
            Command::Send(send) => {
                let SendTarget::To(peer) = &send.target else { return Ok(()) };
                if self.stored_member(&user.user).await?.is_some() {
                    return Ok(());
                }
                let record = self.node.store.user(user).await.map_err(|error| unavailable(&self.node, &error))?;
                let blocked = blocked_of(&record).contains_key(peer);
                if blocked { Err(ProtocolError::blocked()) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    /// Whether the inboxes of the members may not know yet that this is a large group, whose owner must be asked,
    /// because `fanout.push_members_max` was lowered since. All rows were written together, so one member's row is
    /// enough.
    async fn is_new_to_inboxes(&mut self) -> bool {
        let Some(log) = &self.log else { return false };
        if log.delivery(self.node.options().push_members_max) == Delivery::Full {
            return false;
        }
        let Some(user) = log.members.keys().next().map(|user| user_in(&self.key, user)) else { return false };
        let row = self.node.store.inbox_row(&user, &self.key.conversation).await;
        row.is_ok_and(|row| row.is_none_or(|row| !row.last.ask_owner))
    }

    /// The conversation that the command would create, if it may create this one.
    fn creation(&self, input: &CommandInput) -> Option<NewConversation> {
        let user = &input.actor.user.user;
        let created_at = Timestamp::from_unix_ms(self.node.clock.wall_ms());
        match &input.command {
            Command::Send(send) => {
                let SendTarget::To(peer) = &send.target else { return None };
                let kind = direct_kind(user, peer);
                let is_this = direct_conversation(&self.key.tenant, user, peer) == self.key.conversation;
                is_this.then_some(NewConversation { kind, title: None, custom: None, created_at })
            }
            Command::ConversationCreate(create) => {
                let is_this = group_conversation(&self.key.tenant, user, &create.client_id) == self.key.conversation;
                let (title, custom) = (create.title.clone(), create.custom.clone());
                is_this.then_some(NewConversation { kind: Kind::Group, title, custom, created_at })
            }
            _ => None,
        }
    }

    /// Begins a term; whether the conversation exists. Announces the log's end if something may be unannounced.
    pub(super) async fn begin(&mut self, create: Option<NewConversation>) -> Result<bool, ProtocolError> {
        if self.log.is_none() && self.node.clock.monotonic_ms() < self.kept_until_ms {
            return Err(self.node.unavailable());
        }
        self.begin_after(Previous::Unknown, create).await
    }

    /// The same, with what is known about the last owner.
    pub(super) async fn begin_after(
        &mut self,
        previous: Previous,
        create: Option<NewConversation>,
    ) -> Result<bool, ProtocolError> {
        if self.log.is_some() {
            return Ok(true);
        }
        let Some(begun) = self.take_term(previous, create).await? else {
            self.node.settling.told(&self.key);
            return Ok(false);
        };
        self.parting.forget();
        let untold = begun.untold;
        begun.recent.iter().for_each(|send| self.note_newest(&send.from, send.seq));
        let figures = &self.node.figures;
        let terms = if untold { &figures.terms_taken_over } else { &figures.terms_begun };
        terms.increment(1);
        self.log = Some(Log::new(&self.key, begun, Newest::new(&self.node.newest_bytes)));
        self.audience_at_rest = None;
        if untold || self.is_new_to_inboxes().await {
            self.announce_end();
        }
        self.node.settling.told(&self.key);
        Ok(true)
    }
}

impl Conversation {
    /// Has the store begin a term. A former owner releases it first, or is fenced.
    async fn take_term(
        &mut self,
        mut previous: Previous,
        create: Option<NewConversation>,
    ) -> Result<Option<Begun>, ProtocolError> {
        let node = self.node.clone();
        let mut deadline_ms = None;
        loop {
            let since = Timestamp::from_unix_ms(node.clock.wall_ms().saturating_sub(RECENT_MS));
            let recent = RecentWindow { entries_max: RECENT_ENTRIES_MAX, since };
            let claim = Claim { by: node.me.clone(), create: create.clone(), recent, previous };
            let begun = node.store.begin_term(&self.key, claim).await;
            // The begin may have succeeded all the same. Then this node has to announce what an earlier term has not.
            self.begin_in_doubt = matches!(begun, Err(StoreError::Unavailable { .. }));
            previous = match begun {
                Ok(begun) => return Ok(begun),
                Err(StoreError::Owned { by, term, end }) => {
                    let deadline_ms = *deadline_ms.get_or_insert(node.clock.monotonic_ms() + LET_GO_MS);
                    let fate = node.fate_of(&self.key, &by, term, deadline_ms).await;
                    if fate.is_err() {
                        self.kept_until_ms = node.clock.monotonic_ms() + node.options().retry_after_ms;
                    }
                    match fate? {
                        Fate::Gone => Previous::GoneFrom { owner: by, term, end },
                        Fate::Released(release) => Previous::Released(release),
                        Fate::Ended => Previous::Unknown,
                    }
                }
                Err(error) => return Err(unavailable(&node, &error)),
            };
        }
    }
}

fn direct_kind(a: &UserId, b: &UserId) -> Kind {
    if a <= b { Kind::Direct(a.clone(), b.clone()) } else { Kind::Direct(b.clone(), a.clone()) }
}
