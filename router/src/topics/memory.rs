//! The memory that topics take on this node, in total and per tenant.
//!
//! A batch is refused when the limit has been reached, so the limit is exceeded by at most one batch per thread that
//! counts.

use super::TopicKey;
use crate::node::lock;
use crate::options::Options;
use std::collections::BTreeMap;
use std::sync::Mutex;
use switchboard_protocol::TenantId;

#[derive(Default)]
pub(super) struct Memory(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    bytes: usize,
    by_tenant: BTreeMap<TenantId, usize>,
}

impl Memory {
    /// Whether a topic may grow. The gateway's own topics always may: they are small, and the first thing that
    /// operators look at.
    pub(super) fn has_room(&self, key: &TopicKey, options: &Options) -> bool {
        let taken = lock(&self.0);
        let of_tenant = taken.by_tenant.get(&key.tenant).copied().unwrap_or(0);
        let share = options.topics_memory_bytes / 100 * options.topics_tenant_percent;
        key.topic.is_own() || (taken.bytes < options.topics_memory_bytes && of_tenant < share)
    }

    /// Counts a topic's new size.
    pub(super) fn note(&self, key: &TopicKey, before: usize, now: usize) {
        if before == now {
            return;
        }
        let mut taken = lock(&self.0);
        taken.bytes = taken.bytes + now - before;
        if !key.topic.is_own() {
            let of_tenant = taken.by_tenant.entry(key.tenant.clone()).or_default();
            *of_tenant = *of_tenant + now - before;
            if *of_tenant == 0 {
                taken.by_tenant.remove(&key.tenant);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        lock(&self.0).bytes
    }

    pub(super) fn swap(&self, other: &Self) {
        std::mem::swap(&mut *lock(&self.0), &mut *lock(&other.0));
    }
}
