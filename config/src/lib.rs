//! The configuration: typed, with all mistakes at once (OPERATING, "Binary" and "Keys").
//!
//! A leaf: it knows no other crate of the project. Each component is given its own section and reads no other. Every
//! key is declared once, in `sections.rs`; the defaults, the known keys, their ranges and `docs/configuration.md`
//! come from there.

mod auth_key;
mod check;
mod choice;
mod config;
mod file;
mod given;
mod load;
mod mistake;
mod nearest;
mod redis_url;
mod reference;
#[cfg(test)]
mod round_trip;
mod secret;
mod section;
mod sections;
mod text;
mod value;

pub use auth_key::{AuthKey, KeyMaterial, PublicKey};
pub use choice::{BusKind, LogFormat, LogLevel, StoreKind};
pub use config::Config;
pub use ipnet::IpNet;
pub use load::{Loaded, Reload, Sources};
pub use mistake::{Mistake, Mistakes, Problem};
pub use redis_url::RedisUrl;
pub use reference::reference;
pub use secret::Secret;
pub use sections::{
    Apns, Auth, Bus, Changes, Cluster, Drain, Fanout, Fcm, Http, Limits, Log, Metrics, Node, Presence, Push, Redis,
    Retention, Scylla, Session, Store, Tls, Topics, WebPush, Webhook,
};
pub use text::{AdvertiseUrl, HostPort, Keyspace, NodeName, Origin, RedisPrefix, TenantDays};
