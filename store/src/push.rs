//! The storage for push (DESIGN §6, §7): how users are reached, their preferences, and the queue of notifications. What
//! goes into the queue is decided elsewhere; the store makes sure that no job is lost, and none is given to two workers
//! at once.
//!
//! `push/place.rs` has the rules of the queue, which every backend runs.

mod letter;
mod place;

pub(crate) use letter::DeadLetterRow;
pub(crate) use place::{JobRow, QueuePlace, ShownRow};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use switchboard_protocol::{ConversationId, DeviceId, Seq, TenantId, Timestamp};

use crate::{StoreError, UserKey};

/// A way to reach devices: one per provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A browser's push service (RFC 8030).
    WebPush,
    /// Firebase Cloud Messaging, HTTP v1.
    Fcm,
    /// Apple's push notification service.
    Apns,
    /// The application's own server.
    Webhook,
}

impl Channel {
    /// Every one of them.
    pub const ALL: [Self; 4] = [Self::WebPush, Self::Fcm, Self::Apns, Self::Webhook];

    /// The word in configuration, metrics and HTTP bodies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebPush => "web_push",
            Self::Fcm => "fcm",
            Self::Apns => "apns",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// What is no message.
    Low,
    /// A message in a group.
    Normal,
    /// A direct message, or one that mentions the user.
    High,
}

/// How one device is reached.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushDevice {
    /// By which provider.
    pub channel: Channel,
    /// What the provider knows it by, as JSON. A secret: who has it can send to the device.
    pub target: String,
    /// When it was registered last.
    pub registered_at: Timestamp,
}

/// Without the target.
impl fmt::Debug for PushDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PushDevice({})", self.channel)
    }
}

/// What a user's devices say of all messages up to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Receipt {
    /// A device has them.
    Delivered,
    /// The user has read them.
    Read,
}

/// A place in the queue: there is one job for each at the most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PushKey {
    /// Who is told.
    pub user: UserKey,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// By which way.
    pub channel: Channel,
}

/// What is to be sent to a user's devices of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushJob {
    /// Its place.
    pub key: PushKey,
    /// The newest message that it is about.
    pub up_to_seq: Seq,
    /// How many messages the notification tells of; `None`: what the devices show is taken back.
    pub count: Option<u32>,
    /// Of two that are due the higher one is taken first.
    pub priority: Priority,
    /// Not to be taken before.
    pub not_before: Timestamp,
}

/// A job that a worker has until its lease runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedJob {
    /// What is to be done.
    pub job: PushJob,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Names this state of the job: another one has another number.
    pub number: u64,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEnd {
    /// A provider has it.
    Sent,
    /// There is nobody left to send it to.
    Dropped,
    /// It failed, and is to be taken again.
    Retry {
        /// When.
        at: Timestamp,
        /// Why, without what was sent.
        reason: String,
    },
    /// It failed, and is not taken again unless an administrator says so.
    Dead {
        /// Why, without what was sent.
        reason: String,
    },
}

/// A notification that could not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Names it within its tenant; newer ones have greater ones.
    pub id: u64,
    /// What was to be sent.
    pub job: PushJob,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed last.
    pub reason: String,
    /// When that was.
    pub died_at: Timestamp,
}

/// Devices, preferences, the durable queue of pushes, and its dead letters.
///
/// A job is given out until it has ended, at least once: to one worker at a time, as long as the workers' clocks agree
/// better than a lease lasts. Everything is durable when it is answered, but for what only saves a repeat.
#[async_trait]
pub trait PushStore: Send + Sync {
    /// Registers a device, in place of what it was registered as.
    async fn put_device(&self, user: &UserKey, device: &DeviceId, registered: PushDevice) -> Result<(), StoreError>;

    /// Unregisters a device; with `target` only if that is still what it is registered as. Whether it was.
    async fn remove_device(
        &self,
        user: &UserKey,
        device: &DeviceId,
        target: Option<String>,
    ) -> Result<bool, StoreError>;

    /// A user's devices, in the order of their ids.
    async fn devices(&self, user: &UserKey) -> Result<Vec<(DeviceId, PushDevice)>, StoreError>;

    /// Keeps a user's notification preferences, JSON.
    async fn put_notification_preferences(&self, user: &UserKey, preferences: String) -> Result<(), StoreError>;

    /// A user's notification preferences, as they were put; `None` if he has put none.
    async fn notification_preferences(&self, user: &UserKey) -> Result<Option<String>, StoreError>;

    /// Puts jobs into their places, with all attempts before them, unless the one there is about a newer message, or the
    /// devices show what it tells of: so two homes at once make one notification, and a repeat none. If a worker has the
    /// one there, the new one waits until it has ended. Of an error, some of it may have been done.
    async fn enqueue_pushes(&self, jobs: Vec<PushJob>) -> Result<(), StoreError>;

    /// Removes the conversation's jobs up to `up_to_seq` from the queue, on all channels; jobs that a worker has leased stay.
    /// After [`Receipt::Read`], a notification that the devices show, or are about to show, is withdrawn by a job of its
    /// own, due `at`. Only what exists now is withdrawn: a larger `up_to_seq` has no effect on jobs that are put later.
    async fn withdraw_pushes(
        &self,
        user: &UserKey,
        conversation: &ConversationId,
        up_to_seq: Seq,
        receipt: Receipt,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// At most `limit` jobs of a channel that are due at `now`, those of a higher priority first, then those that were due
    /// first. Nobody else gets them until `lease_until`.
    async fn take_pushes(
        &self,
        channel: Channel,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<LeasedJob>, StoreError>;

    /// A worker's attempt has ended, `at`. If the job has changed since it was taken, what it is now is due at once.
    async fn finish_push(&self, leased: LeasedJob, end: PushEnd, at: Timestamp) -> Result<(), StoreError>;

    /// A user's notifications that wait in the queue, or that his devices show: first those, with the time at which they
    /// were sent, then the others.
    async fn outstanding_pushes(&self, user: &UserKey) -> Result<Vec<PushJob>, StoreError>;

    /// When the job of a channel became due that has waited longest; `None` if none waits.
    async fn oldest_push(&self, channel: Channel) -> Result<Option<Timestamp>, StoreError>;

    /// A tenant's dead letters with an id above `after`, in ascending order. Of more than [`DEAD_LETTERS_MAX`] the oldest
    /// are forgotten.
    async fn dead_letters(&self, tenant: &TenantId, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// Puts a dead letter back into the queue, due `at`. Whether it was there.
    async fn retry_dead_letter(&self, tenant: &TenantId, id: u64, at: Timestamp) -> Result<bool, StoreError>;
}

/// Dead letters of one tenant that are kept.
pub const DEAD_LETTERS_MAX: u64 = 1_000;
