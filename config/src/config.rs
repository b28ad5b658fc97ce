//! All sections together.

use crate::sections::{
    Auth, Bus, Changes, Cluster, Drain, Fanout, Http, Limits, Log, Metrics, Node, Presence, Session, Store, Tls,
};

macro_rules! config {
    ($( $(#[doc = $doc:literal])+ $field:ident: $Section:ident, )+) => {
        /// The whole configuration, one field per section.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Config {
            $( $(#[doc = $doc])+ pub $field: $Section, )+
        }
    };
}

config! {
    /// `node`
    node: Node,
    /// `node.tls`
    tls: Tls,
    /// `metrics`
    metrics: Metrics,
    /// `http`
    http: Http,
    /// `auth`
    auth: Auth,
    /// `store`
    store: Store,
    /// `bus`
    bus: Bus,
    /// `cluster`
    cluster: Cluster,
    /// `fanout`
    fanout: Fanout,
    /// `changes`
    changes: Changes,
    /// `presence`
    presence: Presence,
    /// `drain`
    drain: Drain,
    /// `session`
    session: Session,
    /// `limits`
    limits: Limits,
    /// `log`
    log: Log,
}

impl Config {
    /// Whether no key is set that tokens could be checked with, so that the server makes its own and gives anyone a
    /// token (OPERATING, development mode).
    pub fn is_development(&self) -> bool {
        self.auth.hs256_secret.is_none() && self.auth.keys.is_empty()
    }
}
