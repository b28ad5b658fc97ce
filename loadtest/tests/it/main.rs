//! The harness as a program, against real nodes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod chaos;
mod cluster;
mod control;
mod planted;
mod proxy;
mod scenarios;
mod support;
