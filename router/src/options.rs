//! The router's part of the configuration.

use std::sync::Arc;
use switchboard_config::Config;

/// The `retry_after_ms` of `unavailable` and `overloaded` where nothing better is known.
pub const RETRY_AFTER_MS: u64 = 1_000;

/// The router's part of the configuration; the keys' meanings are in `docs/configuration.md`.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `fanout.push_members_max`
    pub push_members_max: usize,
    /// `changes.max`
    pub changes_max: u64,
    /// `presence.batch_ms`
    pub presence_batch_ms: u64,
    /// `presence.grace_ms`
    pub presence_grace_ms: u64,
    /// `drain.spread_ms`
    pub drain_spread_ms: u64,
    /// `limits.connections_per_user`
    pub connections_per_user: u32,
    /// `limits.requests_waiting_max`
    pub requests_waiting_max: usize,
    /// `limits.send_timeout_ms`
    pub send_timeout_ms: u64,
    /// `limits.conversation_queue_max`
    pub conversation_queue_max: usize,
    /// `limits.conversation_queue_bytes`
    pub conversation_queue_bytes: usize,
    /// `limits.resend_search_max`
    pub resend_search_max: u64,
    /// `limits.conversations_active_max`
    pub conversations_active_max: usize,
    /// `limits.conversation_idle_ms`
    pub conversation_idle_ms: u64,
    /// `bus.queue_bytes`
    pub bus_queue_bytes: usize,
    /// `limits.home_dirty_max`
    pub home_dirty_max: usize,
    /// `limits.home_dirty_bytes`
    pub home_dirty_bytes: usize,
    /// `limits.inbox_flush_ms`
    pub inbox_flush_ms: u64,
    /// `limits.newest_entries_bytes`
    pub newest_entries_bytes: usize,
    /// `limits.message_states_bytes`
    pub message_states_bytes: usize,
    /// `limits.blocks_per_user`
    pub blocks_per_user: usize,
    /// `limits.reactions_per_message_max`
    pub reactions_per_message_max: usize,
    /// `topics.lateness_ms`
    pub topics_lateness_ms: u32,
    /// `topics.series_max`
    pub topics_series_max: usize,
    /// `topics.update_ms`
    pub topics_update_ms: u64,
    /// `topics.memory_bytes`
    pub topics_memory_bytes: usize,
    /// `topics.tenant_percent`
    pub topics_tenant_percent: usize,
    /// `trace.bytes`
    pub trace_bytes: usize,
    /// `trace.kept_s`, in milliseconds
    pub trace_kept_ms: u64,
    /// `trace.sessions_max`
    pub trace_sessions_max: usize,
    /// `push.hold_ms`
    pub push_hold_ms: u64,
    /// `push.collapse_ms`
    pub push_collapse_ms: u64,
    /// `push.per_hour`
    pub push_per_hour: usize,
    /// `push.conversations_max`
    pub push_conversations_max: usize,
    /// `push.messages_max`
    pub push_messages_max: usize,
    /// `push.users_max`
    pub push_users_max: usize,
    /// `push.devices_max`
    pub push_devices_max: usize,
    /// The `retry_after_ms` of `unavailable` and `overloaded`.
    pub retry_after_ms: u64,
}

impl From<&Config> for Options {
    fn from(config: &Config) -> Self {
        let limits = &config.limits;
        Self {
            push_members_max: config.fanout.push_members_max,
            changes_max: config.changes.max as u64,
            presence_batch_ms: config.presence.batch_ms,
            presence_grace_ms: config.presence.grace_ms,
            drain_spread_ms: config.drain.spread_ms,
            connections_per_user: limits.connections_per_user,
            requests_waiting_max: limits.requests_waiting_max,
            send_timeout_ms: limits.send_timeout_ms,
            conversation_queue_max: limits.conversation_queue_max,
            conversation_queue_bytes: limits.conversation_queue_bytes,
            resend_search_max: limits.resend_search_max,
            conversations_active_max: limits.conversations_active_max,
            conversation_idle_ms: limits.conversation_idle_ms,
            bus_queue_bytes: config.bus.queue_bytes,
            home_dirty_max: limits.home_dirty_max,
            home_dirty_bytes: limits.home_dirty_bytes,
            inbox_flush_ms: limits.inbox_flush_ms,
            newest_entries_bytes: limits.newest_entries_bytes,
            message_states_bytes: limits.message_states_bytes,
            blocks_per_user: limits.blocks_per_user,
            reactions_per_message_max: limits.reactions_per_message_max,
            topics_lateness_ms: config.topics.lateness_ms,
            topics_series_max: config.topics.series_max,
            topics_update_ms: config.topics.update_ms,
            topics_memory_bytes: config.topics.memory_bytes,
            topics_tenant_percent: config.topics.tenant_percent,
            trace_bytes: config.trace.bytes,
            trace_kept_ms: u64::from(config.trace.kept_s) * 1_000,
            trace_sessions_max: config.trace.sessions_max,
            push_hold_ms: config.push.hold_ms,
            push_collapse_ms: config.push.collapse_ms,
            push_per_hour: config.push.per_hour,
            push_conversations_max: config.push.conversations_max,
            push_messages_max: config.push.messages_max,
            push_users_max: config.push.users_max,
            push_devices_max: config.push.devices_max,
            retry_after_ms: RETRY_AFTER_MS,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::from(&Config::default())
    }
}

/// A node's URL for clients: the base of `/v1/connect` and `reconnect`.
pub type Url = Arc<str>;
