//! The places of the queue: reading them, and changing them by compare-and-set.

use super::queue::Hint;
use super::{KEPT_S, channel};
use crate::kv::values::decode_at;
use crate::push::QueuePlace;
use crate::scylla::Core;
use crate::scylla::client::unreadable;
use crate::scylla::housekeeping::results_of;
use crate::scylla::quorum::bigint;
use crate::{PushKey, StoreError, UserKey};
use std::collections::BTreeSet;
use std::sync::Arc;
use switchboard_protocol::{ConversationId, Timestamp};

/// Users whose places are read or changed at once.
const USERS_AT_ONCE: usize = 32;

/// A hint that its place does not bear out (yet) is left to who wrote it for this long after the time that it names.
const UNFINISHED_MS: i64 = 60_000;

/// A place as it was read, and as it is to be.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) key: PushKey,
    /// The number of `before`; 0 if there is no row.
    number: u64,
    pub(super) before: QueuePlace,
    pub(super) after: QueuePlace,
}

impl Change {
    fn new(key: PushKey, found: Option<(i64, String)>) -> Result<Self, StoreError> {
        let (number, place) = match found {
            Some((number, place)) => (number.cast_unsigned(), decode_at(b"push_deliveries place", place.as_bytes())?),
            None => (0, QueuePlace::default()),
        };
        let after = QueuePlace::clone(&place);
        Ok(Self { key, number, before: place, after })
    }

    /// Of the change; also the timestamp of what is written in the queue along with it.
    pub(super) fn number_after(&self) -> u64 {
        self.number + 1
    }

    /// Where the job is to stand in the queue, if it does not yet.
    fn hint_after(&self) -> Option<Hint> {
        let (priority, due) = self.after.due().filter(|due| Some(*due) != self.before.due())?;
        Some(Hint { key: self.key.clone(), priority, due, number: self.number_after() })
    }

    /// Where it stands and is not to stand any more.
    fn hint_before(&self) -> Option<Hint> {
        let (priority, due) = self.before.due().filter(|due| Some(*due) != self.after.due())?;
        Some(Hint { key: self.key.clone(), priority, due, number: self.number_after() })
    }
}

impl Core {
    async fn read_place(&self, key: PushKey) -> Result<Change, StoreError> {
        let PushKey { user, conversation, channel } = &key;
        let values = (user.tenant.as_str(), user.user.as_str(), conversation.as_str(), channel.as_str());
        let found = self.client.row(&self.statements.places.one, values).await?;
        Change::new(key, found)
    }

    pub(super) async fn read_places(
        self: &Arc<Self>,
        keys: impl Iterator<Item = PushKey>,
    ) -> Result<Vec<Change>, StoreError> {
        let reads = keys.map(|key| {
            let core = self.clone();
            async move { core.read_place(key).await }
        });
        results_of(reads, USERS_AT_ONCE).await.into_iter().collect()
    }

    pub(super) async fn places_of_conversation(
        &self,
        user: &UserKey,
        conversation: &ConversationId,
    ) -> Result<Vec<Change>, StoreError> {
        let values = (user.tenant.as_str(), user.user.as_str(), conversation.as_str());
        let found: Vec<(String, i64, String)> =
            self.client.rows(&self.statements.places.of_conversation, values).await?;
        let change = |(name, number, place): (String, i64, String)| {
            let (user, conversation) = (user.clone(), conversation.clone());
            Change::new(PushKey { user, conversation, channel: channel(&name)? }, Some((number, place)))
        };
        found.into_iter().map(change).collect()
    }

    pub(super) async fn places_of_user(&self, user: &UserKey) -> Result<Vec<Change>, StoreError> {
        let values = (user.tenant.as_str(), user.user.as_str());
        let found: Vec<(String, String, i64, String)> =
            self.client.rows(&self.statements.places.of_user, values).await?;
        let change = |(id, name, number, place): (String, String, i64, String)| {
            let (user, conversation) = (user.clone(), id.parse().map_err(unreadable)?);
            Change::new(PushKey { user, conversation, channel: channel(&name)? }, Some((number, place)))
        };
        found.into_iter().map(change).collect()
    }

    /// The places that hints name, where these are right. What they are not any more is removed.
    pub(super) async fn hinted(self: &Arc<Self>, hints: Vec<Hint>, now: Timestamp) -> Result<Vec<Change>, StoreError> {
        let reads = hints.into_iter().map(|hint| {
            let core = self.clone();
            async move {
                let change = core.read_place(hint.key.clone()).await?;
                if change.before.due() == Some((hint.priority, hint.due)) {
                    return Ok(Some(change));
                }
                core.settle(change, hint, now).await.map(|()| None)
            }
        });
        let found: Result<Vec<_>, StoreError> = results_of(reads, USERS_AT_ONCE).await.into_iter().collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// Deals with a hint that its place does not bear out. It is of an earlier state, or who wrote it has not got to the
    /// place yet; if he died in between, he is made to find that he comes too late, should he live after all.
    async fn settle(&self, place: Change, hint: Hint, now: Timestamp) -> Result<(), StoreError> {
        let is_over = hint.number <= place.number;
        if is_over {
            return self.remove_hint(&Hint { number: place.number, ..hint }).await;
        }
        let is_overdue = hint.due.unix_ms().saturating_add(UNFINISHED_MS) < now.unix_ms();
        if is_overdue && self.swap(&place, hint.number).await? {
            return self.remove_hint(&hint).await;
        }
        Ok(())
    }

    /// Changes places, each unless somebody else has changed it since it was read, in which case it is as if this had not
    /// been asked for. The places that are now as they were to be, and whether it is known of all.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        changes: Vec<Change>,
    ) -> (BTreeSet<PushKey>, Result<(), StoreError>) {
        let (mut changes, same): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| change.after != change.before);
        let mut done: BTreeSet<PushKey> = same.into_iter().map(|change| change.key).collect();
        if let Err(error) = self.put_hints(changes.iter().filter_map(Change::hint_after).collect()).await {
            return (done, Err(error));
        }
        // Those of one user one after the other: they are one partition, and would stand in each other's way.
        changes.sort_by(|one, other| one.key.cmp(&other.key));
        let of_users = changes.chunk_by(|one, other| one.key.user == other.key.user).map(<[Change]>::to_vec);
        let swaps = of_users.map(|changes| {
            let core = self.clone();
            async move { Ok(core.carry_out_of_user(changes).await) }
        });
        let mut outcome = Ok(());
        for of_user in results_of(swaps.collect::<Vec<_>>().into_iter(), USERS_AT_ONCE).await {
            match of_user {
                Ok((some, known)) => {
                    done.extend(some);
                    outcome = outcome.and(known);
                }
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        (done, outcome)
    }

    async fn carry_out_of_user(&self, changes: Vec<Change>) -> (Vec<PushKey>, Result<(), StoreError>) {
        let mut done = Vec::with_capacity(changes.len());
        for change in changes {
            match self.swap(&change, change.number_after()).await {
                Ok(true) => {}
                // The hint stays: it may be another's too by now. If not, it is removed when it is due.
                Ok(false) => continue,
                Err(error) => return (done, Err(error)),
            }
            if let Some(hint) = change.hint_before()
                && let Err(error) = self.remove_hint(&hint).await
            {
                tracing::debug!(%error, "a hint is left to who finds it");
            }
            done.push(change.key);
        }
        (done, Ok(()))
    }

    /// Puts the place, as it is to be and with this number, in place of what was read; whether that was still there.
    async fn swap(&self, change: &Change, number: u64) -> Result<bool, StoreError> {
        let statements = &self.statements;
        let PushKey { user, conversation, channel } = &change.key;
        let (tenant, user, channel) = (user.tenant.as_str(), user.user.as_str(), channel.as_str());
        let (conversation, number) = (conversation.as_str(), bigint(number));
        let place = serde_json::to_string(&change.after).map_err(unreadable)?;
        if change.number == 0 {
            let values = (number, place, tenant, user, conversation, channel, KEPT_S);
            return self.client.compare_and_set(&statements.places.first, values).await;
        }
        let values = (KEPT_S, number, place, tenant, user, conversation, channel, bigint(change.number));
        self.client.compare_and_set(&statements.places.next, values).await
    }
}
