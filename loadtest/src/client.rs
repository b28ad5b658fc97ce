//! A cheap client of PROTOCOL.md: it shares the machine's CPU with the server that it measures.
//!
//! Frames are not decoded on the hot path; [`scan`] finds the few fields that are needed. An idle client holds no
//! buffer. It knows nothing of scenarios and reports. With `--verify`, `follow.rs` makes each client follow PROTOCOL §3
//! and record what it sees.

pub(crate) mod address;
mod catch_up;
pub(crate) mod closed_loop;
pub(crate) mod connect;
pub(crate) mod crowd;
pub(crate) mod device;
pub(crate) mod dial;
mod follow;
pub(crate) mod group;
pub(crate) mod network;
pub(crate) mod reader;
pub(crate) mod scan;
pub(crate) mod session;
pub(crate) mod token;
pub(crate) mod wire;
