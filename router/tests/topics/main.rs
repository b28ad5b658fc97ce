//! Dashboards over several nodes: independent of where events are published and watched, when a topic's owner goes, and
//! isolated between tenants.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod memory;
mod nodes;
mod owners;
mod watching;
