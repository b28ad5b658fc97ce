//! Push: which users are notified of a message that reached none of their devices, and when (DESIGN §7).
//!
//! The [`Arbiter`] decides this for one user, as a plain value at the user's home: nothing in it waits, spawns, sends or
//! reads a clock. Its decisions are [`Output`]s, for the durable queue and the trace. Devices are reached by
//! `push/providers`, on which this crate does not depend.

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
