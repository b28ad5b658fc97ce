//! Presence and typing (PROTOCOL §4): the state machines, as plain values.
//!
//! The router embeds one [`UserPresence`] per user at the user's home, one [`Typing`] per active conversation at its
//! owner, and one [`WatchTable`] per node. It does the locking, the delivery and the timers: nothing here waits,
//! spawns, sends or reads a clock. Every method that depends on time takes it as an argument, monotonic (`now_ms`) for
//! deadlines and wall (`at`) for what is shown, so a run can be replayed from its inputs.
//!
//! Timers are lazy. A deadline never has to be cancelled: a call that comes too early, or for something that has
//! passed, changes nothing.
//!
//! Signals need no state here: a newer one replaces an older one in a slow reader's queue, which the gateway owns.

mod typing;
mod user;
mod visibility;
mod watch;

pub use typing::{TYPING_EXPIRY_MS, TYPING_INTERVAL_MS, TYPISTS_MAX, Typing};
pub use user::{SavedPresence, UserPresence};
pub use visibility::{Shown, first_block, seen};
pub use watch::{Asking, TooManyWatched, WatchTable};
