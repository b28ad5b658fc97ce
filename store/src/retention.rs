//! How long entries are kept, per tenant. Removes nothing itself.

use std::collections::BTreeMap;
use switchboard_protocol::{TenantId, Timestamp};

/// Seconds after which entries may be removed; for ever by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    default_s: u32,
    tenants: BTreeMap<TenantId, u32>,
}

impl Retention {
    /// A default in seconds, and the values of particular tenants. 0: for ever.
    pub fn new(default_s: u32, tenants: impl IntoIterator<Item = (TenantId, u32)>) -> Self {
        Self { default_s, tenants: tenants.into_iter().collect() }
    }

    /// How long a tenant's entries are kept, in seconds; `None`: for ever.
    pub fn seconds_of(&self, tenant: &TenantId) -> Option<u32> {
        Some(self.tenants.get(tenant).copied().unwrap_or(self.default_s)).filter(|seconds| *seconds > 0)
    }

    /// At `now`, entries older than this may be removed; `None`: no entries.
    pub fn cutoff_of(&self, tenant: &TenantId, now: Timestamp) -> Option<Timestamp> {
        let ms = i64::from(self.seconds_of(tenant)?) * 1_000;
        Some(Timestamp::from_unix_ms(now.unix_ms().saturating_sub(ms)))
    }

    /// Whether no tenant's entries expire.
    pub fn is_for_ever(&self) -> bool {
        self.default_s == 0 && self.tenants.values().all(|seconds| *seconds == 0)
    }
}
