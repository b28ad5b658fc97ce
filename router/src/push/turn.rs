//! Reads what a user's arbiter needs from the store: devices, preferences and blocks, and, before it notifies, whether
//! the message has reached the user meanwhile. Users take turns.

use crate::home::shown_settings;
use crate::node::{Node, lock};
use crate::push::user::{Asked, Load, Loaded, PushUser, Reached, Round};
use crate::push::write::Write;
use futures_util::stream::{self, StreamExt as _};
use std::sync::Arc;
use switchboard_protocol::{ConversationId, Seq};
use switchboard_push::{Output, Preferences};
use switchboard_store::{ConversationKey, StoreError, UserKey};

/// Users whose turns run at the same time.
const TURNS_AT_ONCE: usize = 32;

/// Pause before the store is asked again after an error.
pub(super) const ASK_STORE_AGAIN_MS: u64 = 500;

/// What the store returned for a turn.
struct Read {
    /// If it had to be read.
    loaded: Option<Loaded>,
    reached: Vec<Reached>,
}

impl Node {
    /// Gives each waiting user a turn.
    pub(crate) async fn keep_pushes(self: Arc<Self>) {
        let turns = stream::unfold(&self, async |node| Some((node.pushes.next_turn().await, node)));
        turns.for_each_concurrent(TURNS_AT_ONCE, |user| self.push_turn(user)).await;
    }

    async fn push_turn(&self, user: UserKey) {
        while self.pushes.writes.is_full() {
            self.clock.sleep_ms(crate::node::TICK_MS).await;
        }
        if let Err(error) = self.try_push_turn(&user).await {
            tracing::debug!(%error, "can't read what push goes by; asking again");
            self.clock.sleep_ms(ASK_STORE_AGAIN_MS).await;
            if let Some(known) = lock(self.pushes.shard(&user)).get_mut(&user)
                && !std::mem::replace(&mut known.is_queued, true)
            {
                self.pushes.queue(&user);
            }
        }
    }

    async fn try_push_turn(&self, user: &UserKey) -> Result<(), StoreError> {
        // A change of the user's devices or settings comes before the turn or after it.
        let _one_at_a_time = self.turns_of(user).lock().await;
        let (view, round) = (self.placement().view.number, self.push_round(user));
        let begun = lock(self.pushes.shard(user)).get_mut(user).map(|known| known.begin_turn(&round));
        let Some(asked) = begun else { return Ok(()) };
        let read = self.read_for_push(user, asked, round.changes).await?;
        if self.end_push_turn(user, read, &round) {
            self.users.note_unreachable(user, view, self.options().push_users_max);
        }
        Ok(())
    }

    /// Whether the user has no device.
    fn end_push_turn(&self, user: &UserKey, Read { loaded, reached }: Read, round: &Round) -> bool {
        let mut out = Vec::new();
        let mut users = lock(self.pushes.shard(user));
        if loaded.as_ref().is_some_and(|loaded| loaded.channels.is_empty()) {
            if let Some(known) = users.remove(user) {
                known.end_without_device(round, &mut out);
                self.push_forgotten(user, out);
            }
            return true;
        }
        let Some(known) = users.get_mut(user) else { return false };
        known.end_turn(loaded, reached, round, &mut out);
        self.push_decided(user, known, out, round);
        if self.is_decided_elsewhere(known, round, user) {
            users.remove(user);
        }
        false
    }

    /// Whether everything is in the queue, and another node continues with this user.
    fn is_decided_elsewhere(&self, known: &PushUser, round: &Round, user: &UserKey) -> bool {
        round.hands_over && known.undecided() == 0 && self.placement().home(user).incarnation != self.me
    }

    /// Handles the decisions about a user who is forgotten.
    fn push_forgotten(&self, user: &UserKey, out: Vec<Output>) {
        out.iter().for_each(|output| self.note_push_step(user, output));
        let outputs: Vec<Output> = out.into_iter().filter(|output| !matches!(output, Output::Trace { .. })).collect();
        if !outputs.is_empty() {
            self.pushes.writes.push(Write { user: user.clone(), outputs, tickets: Vec::new() });
        }
    }

    async fn read_for_push(&self, user: &UserKey, asked: Asked, changes: u64) -> Result<Read, StoreError> {
        let loaded = match asked.load {
            Some(load) => Some(self.load_for_push(user, load, changes).await?),
            None => None,
        };
        let mut reached = Vec::new();
        for (conversation, held_up_to) in asked.held {
            reached.push(self.reached(user, conversation, held_up_to).await?);
        }
        Ok(Read { loaded, reached })
    }

    async fn load_for_push(&self, user: &UserKey, load: Load, changes: u64) -> Result<Loaded, StoreError> {
        let mut channels: Vec<_> =
            self.store.devices(user).await?.into_iter().map(|(_, device)| device.channel).collect();
        channels.sort();
        channels.dedup();
        let mut loaded = Loaded {
            channels,
            preferences: Preferences::default(),
            blocks: [].into(),
            changes,
            outstanding: Vec::new(),
        };
        if loaded.channels.is_empty() {
            return Ok(loaded);
        }
        if let Some(preferences) = self.store.notification_preferences(user).await? {
            // They may be of a later version. If they can't be read, the defaults apply.
            loaded.preferences = serde_json::from_str(&preferences).unwrap_or_default();
        }
        loaded.blocks = self.store.user(user).await?.blocks.into_iter().map(|(other, _)| other).collect();
        if load == Load::First {
            loaded.outstanding = self.store.outstanding_pushes(user).await?;
        }
        Ok(loaded)
    }

    /// How far the user has got in a conversation, and whether it is muted.
    async fn reached(
        &self,
        user: &UserKey,
        conversation: ConversationId,
        held_up_to: Seq,
    ) -> Result<Reached, StoreError> {
        let key = ConversationKey { tenant: user.tenant.clone(), conversation: conversation.clone() };
        let member = self.store.member(&key, &user.user).await?;
        let row = self.store.inbox_row(user, &conversation).await?;
        Ok(Reached {
            conversation,
            held_up_to,
            // While another process owns the conversation, the store may not show a new member.
            cursor: member.map(|member| member.cursor).unwrap_or_default(),
            has_gone: row.as_ref().is_some_and(|row| !row.member),
            muted_until: row.and_then(|row| shown_settings(&row.settings).muted_until),
        })
    }
}
