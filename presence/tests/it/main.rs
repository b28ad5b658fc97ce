//! Random interleavings against oracles that say the same in another way: without timers, throttles or batches, from
//! the whole history.

mod typing;
mod user;
mod watch;
