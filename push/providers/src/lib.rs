//! The push providers (DESIGN §7).
//!
//! [`WebPush`], [`Fcm`], [`Apns`] and [`Webhook`] send a push to one device and return an [`Outcome`]. They own only
//! their credentials and connections. [`Target`] is a device's registration. [`Lane`] and [`retry::next`] decide when
//! requests may begin. Who is notified of what, and when, is decided in `push/`.

mod apns;
mod breaker;
mod client;
mod fcm;
mod guard;
mod jwt;
mod lane;
mod payload;
mod provider;
pub mod retry;
mod target;
mod web_push;
mod webhook;

pub use apns::{Apns, ApnsOptions};
pub use client::{Client, Roots};
pub use fcm::Fcm;
pub use guard::Guard;
pub use lane::{Busy, Lane, Pass};
pub use provider::{Body, Outcome, Push, Reason, SetupError};
pub use target::Target;
pub use web_push::{Subscription, WebPush};
pub use webhook::{REPLAY_WINDOW_S, Webhook};
