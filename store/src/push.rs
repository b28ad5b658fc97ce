//! The storage for push (DESIGN §6, §7): users' devices and preferences, and the queue of notifications. What goes into
//! the queue is decided elsewhere; the store makes sure that no job is lost, and none is given to two workers at once.
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
    /// All channels.
    pub const ALL: [Self; 4] = [Self::WebPush, Self::Fcm, Self::Apns, Self::Webhook];

    /// The name in configuration, metrics and HTTP bodies.
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
    /// Anything that is not a message.
    Low,
    /// A message in a group.
    Normal,
    /// A direct message, or one that mentions the user.
    High,
}

/// A registered device.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushDevice {
    /// Its provider.
    pub channel: Channel,
    /// The provider's address of the device, as JSON. A secret: it allows sending to the device.
    pub target: String,
    /// When it was last registered.
    pub registered_at: Timestamp,
}

/// Omits the target.
impl fmt::Debug for PushDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PushDevice({})", self.channel)
    }
}

/// What a user's devices report of all messages up to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Receipt {
    /// A device has received them.
    Delivered,
    /// The user has read them.
    Read,
}

/// A place in the queue, which holds at most one job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PushKey {
    /// The recipient.
    pub user: UserKey,
    /// The conversation.
    pub conversation: ConversationId,
    /// The channel.
    pub channel: Channel,
}

/// A notification for a user's devices of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushJob {
    /// Its place.
    pub key: PushKey,
    /// The newest message that it covers.
    pub up_to_seq: Seq,
    /// The number of messages in the notification; `None`: the shown notification is withdrawn.
    pub count: Option<u32>,
    /// Of the due jobs, those with a higher priority are taken first.
    pub priority: Priority,
    /// Must not be taken earlier.
    pub not_before: Timestamp,
}

/// A job leased to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedJob {
    /// The job.
    pub job: PushJob,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Identifies this state of the job: it changes with each new state.
    pub number: u64,
}

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEnd {
    /// The provider has accepted it.
    Sent,
    /// There is no device left to send it to.
    Dropped,
    /// It failed, and will be tried again.
    Retry {
        /// When.
        at: Timestamp,
        /// Why, without the content.
        reason: String,
    },
    /// It failed, and will not be tried again unless an administrator asks for it.
    Dead {
        /// Why, without the content.
        reason: String,
    },
}

/// A notification that could not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Identifies it within its tenant; ids grow.
    pub id: u64,
    /// What was to be sent.
    pub job: PushJob,
    /// How often it was tried.
    pub attempts: u32,
    /// The last failure.
    pub reason: String,
    /// When it failed for good.
    pub died_at: Timestamp,
}

/// Devices, preferences, the durable queue of pushes, and its dead letters.
///
/// A job is handed out at least once, until it has ended, and to one worker at a time, as long as the workers' clocks
/// differ by less than a lease. Everything is durable when it is answered, except what only avoids a repeat.
#[async_trait]
pub trait PushStore: Send + Sync {
    /// Registers a device, replacing its previous registration.
    async fn put_device(&self, user: &UserKey, device: &DeviceId, registered: PushDevice) -> Result<(), StoreError>;

    /// Unregisters a device; with `target`, only if that is still its registered one. Returns whether it was
    /// registered.
    async fn remove_device(
        &self,
        user: &UserKey,
        device: &DeviceId,
        target: Option<String>,
    ) -> Result<bool, StoreError>;

    /// A user's devices, ordered by id.
    async fn devices(&self, user: &UserKey) -> Result<Vec<(DeviceId, PushDevice)>, StoreError>;

    /// Stores a user's notification preferences, as JSON.
    async fn put_notification_preferences(&self, user: &UserKey, preferences: String) -> Result<(), StoreError>;

    /// A user's notification preferences, as stored; `None` if there are none.
    async fn notification_preferences(&self, user: &UserKey) -> Result<Option<String>, StoreError>;

    /// Puts jobs into their places, replacing earlier ones with their attempts, unless the job there covers a newer
    /// message, or the devices already show what the new one covers: so two homes at once make one notification, and a
    /// repeat makes none. If a worker has the job there, the new one waits until that has ended. After an error, some
    /// of it may have been done.
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

    /// At most `limit` jobs of a channel that are due at `now`, by priority, then by due time. Nobody else gets them
    /// until `lease_until`.
    async fn take_pushes(
        &self,
        channel: Channel,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<LeasedJob>, StoreError>;

    /// Ends a worker's attempt, `at`. If the job has changed since it was taken, the new job is due at once.
    async fn finish_push(&self, leased: LeasedJob, end: PushEnd, at: Timestamp) -> Result<(), StoreError>;

    /// A user's notifications that the devices show, with the time at which they were sent, followed by those that wait
    /// in the queue.
    async fn outstanding_pushes(&self, user: &UserKey) -> Result<Vec<PushJob>, StoreError>;

    /// The due time of the channel's job that has waited longest; `None` if none waits.
    async fn oldest_push(&self, channel: Channel) -> Result<Option<Timestamp>, StoreError>;

    /// A tenant's dead letters with an id above `after`, ascending. Beyond [`DEAD_LETTERS_MAX`], the oldest are
    /// dropped.
    async fn dead_letters(&self, tenant: &TenantId, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError>;

    /// Puts a dead letter back into the queue, due `at`. Returns whether it existed.
    async fn retry_dead_letter(&self, tenant: &TenantId, id: u64, at: Timestamp) -> Result<bool, StoreError>;
}

/// Dead letters kept per tenant.
pub const DEAD_LETTERS_MAX: u64 = 1_000;
