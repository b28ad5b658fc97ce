//! Tests of the arbiter: of each rule by itself, and of random interleavings against a naive model.

#![expect(clippy::unwrap_used, reason = "this is all test code")]

mod naive;
mod random;
mod rules;
