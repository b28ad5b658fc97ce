//! The server as its clients and operators see it: the real binary, over real sockets, killed for real.
//!
//! Each test starts its own server on free ports and in its own folder, and waits for what it expects, never for time
//! to pass.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]
#![expect(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]

mod support;

mod architecture;
mod authentication;
mod blocks;
mod bounds;
mod catching_up;
mod cluster;
mod cluster_faults;
mod cluster_members;
mod cluster_start;
mod cluster_topics;
mod command_line;
mod crashes;
mod deploy;
mod ephemeral;
mod frames;
mod groups;
mod groups_members;
mod groups_strangers;
mod handshake;
mod http_api;
mod http_connections;
mod http_limits;
mod large_groups;
mod lifecycle;
mod long_logs;
mod message_changes;
mod messages;
mod operations;
mod page;
mod presence;
mod push;
mod push_providers;
mod rates;
mod reading;
mod receipts;
mod reload;
mod sessions;
mod settings;
mod slow_readers;
mod store_away;
mod tls;
mod topics;
mod trace;
mod typing;
mod unread;
