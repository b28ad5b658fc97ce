//! The routing core: who owns what, what is owed to whom, and how a message gets from one socket to all others.

mod api;
mod delivery;

pub use api::{Actor, Answer, BlockInfo, Command, NewSession, OrderKey, Place, SessionInfo};
pub use delivery::{Class, Delivery, Socket};
