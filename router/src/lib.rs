//! The routing core: which node owns what, what is owed to whom, and how a message gets from one socket to all others.
//!
//! Owners, homes and sessions interact only through commands, envelopes and the `Bus`, `Store`, clock and generator. So
//! a single node runs the same code path as several, and five nodes run in one deterministic process (`tests/`). This
//! crate knows neither WebSocket nor HTTP nor any database.

mod api;
mod arrivals;
mod blocks;
mod bus;
mod calls;
mod cursor;
mod delivery;
mod dirty;
mod envelope;
mod fan_out;
mod figures;
mod flush;
mod home;
mod link;
mod node;
mod opening;
mod options;
mod owner;
mod push;
mod read;
mod receipts;
mod receive;
mod redis;
mod requests;
mod router;
mod session;
mod settle;
mod sync;
mod take_over;
mod topics;
mod trace;
mod users;
mod view;
mod view_change;
mod watching;
mod wire;

pub use api::{Actor, Answer, BlockInfo, Command, HomeNode, NewSession, OrderKey, SessionInfo};
pub use bus::{Bus, BusError, InProcessBus, Packets};
pub use delivery::{Class, Delivery, LogPosition, Socket};
pub use options::{Options, RETRY_AFTER_MS, Url};
pub use redis::{Ended, Redis, RedisBus, RedisError, RedisOptions};
pub use router::{Connected, Life, OPEN_MAX, Router, Start};
pub use topics::TOPICS_WATCHED_MAX;
pub use trace::{Outcome, Trace, TraceEvent, TraceQuery, TraceStep, TracedRecipient};
pub use view::{NodeEntry, Placement, View};
