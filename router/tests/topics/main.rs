//! Dashboards over several nodes: whoever publishes where, whoever watches where; when a topic's owner goes; and nothing
//! crosses a tenant.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod memory;
mod nodes;
mod owners;
mod watching;
