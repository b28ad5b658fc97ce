//! The arbiter: each rule by itself, and random interleavings against a naive account of the same.

#![expect(clippy::unwrap_used, reason = "this is all test code")]

mod naive;
mod random;
mod rules;
