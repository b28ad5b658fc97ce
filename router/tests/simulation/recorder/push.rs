//! What push keeps goes to the store as it is. The oracle hears of what is to be told.

use super::Recorder;
use async_trait::async_trait;
use switchboard_protocol::{ConversationId, DeviceId, Seq, TenantId, Timestamp};
use switchboard_store::{
    Channel, DeadLetter, LeasedJob, PushDevice, PushEnd, PushJob, PushStore, Receipt, StoreError, UserKey,
};

#[async_trait]
impl PushStore for Recorder {
    async fn put_device(&self, user: &UserKey, device: &DeviceId, registered: PushDevice) -> Result<(), StoreError> {
        self.store.put_device(user, device, registered).await
    }

    async fn remove_device(
        &self,
        user: &UserKey,
        device: &DeviceId,
        target: Option<String>,
    ) -> Result<bool, StoreError> {
        self.store.remove_device(user, device, target).await
    }

    async fn devices(&self, user: &UserKey) -> Result<Vec<(DeviceId, PushDevice)>, StoreError> {
        self.store.devices(user).await
    }

    async fn put_notification_preferences(&self, user: &UserKey, preferences: String) -> Result<(), StoreError> {
        self.store.put_notification_preferences(user, preferences).await
    }

    async fn notification_preferences(&self, user: &UserKey) -> Result<Option<String>, StoreError> {
        self.store.notification_preferences(user).await
    }

    async fn enqueue_pushes(&self, jobs: Vec<PushJob>) -> Result<(), StoreError> {
        self.oracle.enqueued(&jobs);
        self.store.enqueue_pushes(jobs).await
    }

    async fn withdraw_pushes(
        &self,
        user: &UserKey,
        conversation: &ConversationId,
        up_to_seq: Seq,
        receipt: Receipt,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.store.withdraw_pushes(user, conversation, up_to_seq, receipt, at).await
    }

    async fn take_pushes(
        &self,
        channel: Channel,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<LeasedJob>, StoreError> {
        self.store.take_pushes(channel, now, lease_until, limit).await
    }

    async fn finish_push(&self, leased: LeasedJob, end: PushEnd, at: Timestamp) -> Result<(), StoreError> {
        self.store.finish_push(leased, end, at).await
    }

    async fn outstanding_pushes(&self, user: &UserKey) -> Result<Vec<PushJob>, StoreError> {
        self.store.outstanding_pushes(user).await
    }

    async fn oldest_push(&self, channel: Channel) -> Result<Option<Timestamp>, StoreError> {
        self.store.oldest_push(channel).await
    }

    async fn dead_letters(&self, tenant: &TenantId, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.store.dead_letters(tenant, after, limit).await
    }

    async fn retry_dead_letter(&self, tenant: &TenantId, id: u64, at: Timestamp) -> Result<bool, StoreError> {
        self.store.retry_dead_letter(tenant, id, at).await
    }
}
