//! The wire protocol as its users meet it: golden examples, every limit, properties, fuzzing.

#![expect(clippy::unwrap_used, reason = "this is all test code")]

mod content;
mod fuzz;
mod golden;
mod http;
mod limits;
mod round_trip;
