//! The places of the queue: read, and changed by compare-and-set.

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

/// Users whose places are read or changed concurrently.
const USERS_AT_ONCE: usize = 32;

/// For this long after its due time, a hint that does not match its place is left to its writer, who may not be done
/// yet.
const UNFINISHED_MS: i64 = 60_000;

/// A place as it was read, and as it should become.
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

    /// The number of the changed place; also the timestamp of the hint written with it.
    pub(super) fn number_after(&self) -> u64 {
        self.number + 1
    }

    /// The hint that the change needs and that is not there yet.
    fn hint_after(&self) -> Option<Hint> {
        let (priority, due) = self.after.due().filter(|due| Some(*due) != self.before.due())?;
        Some(Hint { key: self.key.clone(), priority, due, number: self.number_after() })
    }

    /// The hint that the change makes obsolete.
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

    /// The places named by hints, where the hints are right. Stale hints are removed.
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

    /// Resolves a hint that does not match its place. Either it belongs to an earlier state, or its writer has not
    /// written the place yet. If the writer died in between, the place's number is raised, so that the write fails
    /// should it still come.
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

    /// Applies changes to places. A change is dropped if somebody else has changed its place since it was read. Returns
    /// the places that were changed, and an error if any outcome is unknown.
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
        // The places of one user in sequence: they share a partition, and concurrent compare-and-sets would conflict.
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
                // The hint stays: it may belong to another change by now. If not, it is removed when it is due.
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

    /// Replaces the place that was read by the new one, with this number. Returns whether it was still unchanged.
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
