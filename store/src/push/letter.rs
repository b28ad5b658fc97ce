//! The stored form of a dead letter.

use super::{Channel, DeadLetter, Priority, PushJob, PushKey};
use crate::UserKey;
use serde::{Deserialize, Serialize};
use switchboard_protocol::{ConversationId, Seq, TenantId, Timestamp, UserId};

/// One dead letter, under its tenant and id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeadLetterRow {
    pub(crate) user: UserId,
    pub(crate) conversation: ConversationId,
    pub(crate) channel: Channel,
    pub(crate) up_to_seq: Seq,
    pub(crate) count: u32,
    pub(crate) priority: Priority,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
    pub(crate) died_at: Timestamp,
}

impl DeadLetterRow {
    pub(crate) fn new(job: PushJob, attempts: u32, reason: String, died_at: Timestamp) -> Self {
        let PushJob { key: PushKey { user, conversation, channel }, up_to_seq, count, priority, .. } = job;
        let (user, count) = (user.user, count.unwrap_or(0));
        Self { user, conversation, channel, up_to_seq, count, priority, attempts, reason, died_at }
    }

    pub(crate) fn of(self, tenant: &TenantId, id: u64) -> DeadLetter {
        let Self { user, conversation, channel, up_to_seq, count, priority, attempts, reason, died_at } = self;
        let key = PushKey { user: UserKey { tenant: tenant.clone(), user }, conversation, channel };
        let job = PushJob { key, up_to_seq, count: Some(count), priority, not_before: died_at };
        DeadLetter { id, job, attempts, reason, died_at }
    }
}
