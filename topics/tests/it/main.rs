//! Topics against an independent calculation from all the events that there were, and each rule of PROTOCOL §5 by
//! itself.

#![expect(clippy::unwrap_used, reason = "this is all test code")]

mod copies;
mod naive;
mod random;
mod rules;
