//! Sends notifications: from the durable queue in the store to the providers (DESIGN §7). The users' homes decide what
//! goes into the queue.

mod compose;
mod delivered;
mod dev_key;
mod providers;
mod worker;

pub(crate) use dev_key::with_dev_key;
pub(crate) use providers::Providers;
pub(crate) use worker::Worker;
