//! The HTTP API (PROTOCOL §6): the connections, the routes and their answers, one file per group of routes.

mod address;
mod admin;
mod answer;
mod call;
mod connection;
mod conversations;
mod dev;
mod listener;
mod messages;
mod metrics_page;
mod node;
mod page;
mod patience;
mod push;
mod respond;
mod route;
mod slots;
mod topics;
mod trace;
mod user_rates;
mod users;

pub(crate) use answer::{Answer, Response, no_such_method};
pub(crate) use listener::{Listening, bind, serve};
pub(crate) use metrics_page::serve_metrics;
pub(crate) use respond::bearer;
pub(crate) use user_rates::UserRates;
