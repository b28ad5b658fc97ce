//! Push: who is told of a message that reached none of his devices, when, and by what way (DESIGN §7).
//!
//! The [`Arbiter`] decides it for one user, as a plain value at the user's home: nothing in it waits, spawns, sends or
//! reads a clock. What it decides comes out as [`Output`]s, for the durable queue and the trace.

mod arbiter;
mod channel;
mod preferences;
mod quiet_hours;
mod rate;

pub use arbiter::output::{Delay, Notification, Output, Step, Why};
pub use arbiter::{Arbiter, Message, Now, Occasion, Outstanding, Priority, Receipt, Rules};
pub use channel::Channel;
pub use preferences::{Groups, Preferences};
pub use quiet_hours::{InvalidQuietHours, QuietHours};
