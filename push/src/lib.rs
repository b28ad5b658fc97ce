//! Push: who is told of a message that reached none of his devices, and when (DESIGN §7).
//!
//! The [`Arbiter`] decides it for one user, as a plain value at the user's home: nothing in it waits, spawns, sends or
//! reads a clock. What it decides comes out as [`Output`]s, for the durable queue and the trace. By what way a device is
//! told is the matter of `push/providers`, of which nothing is known here.

mod arbiter;
mod channel;
mod invalid;
mod preferences;
mod quiet_hours;
mod rate;

pub use arbiter::output::{Delay, Notification, Output, Step, Why};
pub use arbiter::{Arbiter, Message, Now, Occasion, Rules};
pub use invalid::InvalidField;
pub use preferences::{Groups, Preferences};
pub use quiet_hours::QuietHours;
pub use switchboard_store::Receipt;
