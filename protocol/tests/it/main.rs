//! The wire protocol as its users see it: golden examples, limits, properties, fuzzing.

#![expect(clippy::unwrap_used, reason = "this is all test code")]

mod content;
mod fuzz;
mod golden;
mod http;
mod limits;
mod round_trip;
