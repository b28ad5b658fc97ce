//! Push: who is told of a message that reached none of his devices, when, and by what way (DESIGN §7).
//!
//! The [`Arbiter`] decides it for one user, as a plain value at the user's home: nothing in it waits, spawns, sends or
//! reads a clock. What it decides comes out as [`Output`]s, for the durable queue and the trace.
//!
//! [`WebPush`], [`Fcm`], [`Apns`] and [`Webhook`] send to one device each, and say what became of it as an [`Outcome`].
//! They keep nothing but their credentials and connections. [`Target`] is what a device registers with them. [`Lane`] and
//! [`retry::next`] say when to ask which of them.

mod apns;
mod arbiter;
mod channel;
mod fcm;
mod invalid;
mod preferences;
mod provider;
mod quiet_hours;
mod rate;
mod target;
mod web_push;
mod webhook;

pub use apns::{Apns, ApnsOptions};
pub use arbiter::output::{Delay, Notification, Output, Step, Why};
pub use arbiter::{Arbiter, Message, Now, Occasion, Receipt, Rules};
pub use fcm::Fcm;
pub use invalid::InvalidField;
pub use preferences::{Groups, Preferences};
pub use provider::breaker::Breaker;
pub use provider::client::{Client, Roots};
pub use provider::guard::Guard;
pub use provider::lane::{Busy, Lane, Pass};
pub use provider::{Body, Outcome, Push, Reason, SetupError, retry};
pub use quiet_hours::QuietHours;
pub use target::Target;
pub use web_push::{Subscription, WebPush};
pub use webhook::{REPLAY_WINDOW_S, Webhook};
