//! Sessions over WebSocket (PROTOCOL §1, §2): from the upgrade to the close.

#[cfg(test)]
mod asleep;
mod close;
mod deadlines;
mod frames;
mod line;
mod outbox;
mod requests;
mod session;
mod sign_in;
#[cfg(test)]
mod tests;
mod timers;
mod upgrade;
mod wire;

pub(crate) use line::{Line, Tcp};
pub(crate) use session::{MOVE_GRACE_MS, Session};
pub(crate) use timers::Timers;
pub(crate) use upgrade::{Upgrade, upgrade};
