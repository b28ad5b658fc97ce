//! Notifications on their way out: from the durable queue in the store to the providers (DESIGN §7). What gets into the
//! queue is decided at the users' homes.

mod compose;
mod delivered;
mod dev_key;
mod providers;
mod worker;

pub(crate) use dev_key::with_dev_key;
pub(crate) use providers::Providers;
pub(crate) use worker::Worker;
