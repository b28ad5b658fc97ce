//! Tests of topics against an independent calculation from all events, and of each rule of PROTOCOL §5 by itself.

#![expect(clippy::unwrap_used, reason = "this is all test code")]

mod copies;
mod naive;
mod random;
mod rules;
mod state;

use switchboard_protocol::Window;
use switchboard_protocol::client::TopicWatch;

/// A request for the windows of the last `range_s` seconds.
fn watch(window: Window, range_s: u32) -> TopicWatch {
    TopicWatch { topic: "sales".parse().unwrap(), window, range_s, before_ms: None }
}
