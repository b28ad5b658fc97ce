//! All sections together.

use toml::Value as Toml;

use crate::given::Given;
use crate::section::{Described, Section};
use crate::sections::{
    Apns, Auth, Bus, Changes, Cluster, Drain, Fanout, Fcm, Http, Limits, Log, Metrics, Node, Presence, Push, Redis,
    Retention, Scylla, Session, Store, Tls, Topics, Trace, WebPush, Webhook,
};

macro_rules! config {
    ($( $(#[doc = $doc:literal])+ $field:ident: $Section:ident, )+) => {
        /// The whole configuration, one field per section.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Config {
            $( $(#[doc = $doc])+ pub $field: $Section, )+
        }

        impl Config {
            /// Descriptions of all sections.
            pub(crate) fn sections() -> Vec<Described> {
                vec![$($Section::describe(),)+]
            }

            /// Takes all given values; the others get their defaults.
            pub(crate) fn read(given: &mut Given) -> Self {
                Self { $($field: $Section::read(given),)+ }
            }

            /// The whole configuration as nested tables, with the secrets hidden.
            fn to_table(&self) -> toml::Table {
                let mut root = toml::Table::new();
                $( self.$field.write(table_at(&mut root, $Section::NAME)); )+
                root
            }
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
    /// `store.scylla`
    scylla: Scylla,
    /// `bus`
    bus: Bus,
    /// `redis`
    redis: Redis,
    /// `cluster`
    cluster: Cluster,
    /// `fanout`
    fanout: Fanout,
    /// `changes`
    changes: Changes,
    /// `retention`
    retention: Retention,
    /// `presence`
    presence: Presence,
    /// `topics`
    topics: Topics,
    /// `push`
    push: Push,
    /// `push.web_push`
    web_push: WebPush,
    /// `push.fcm`
    fcm: Fcm,
    /// `push.apns`
    apns: Apns,
    /// `push.webhook`
    webhook: Webhook,
    /// `trace`
    trace: Trace,
    /// `drain`
    drain: Drain,
    /// `session`
    session: Session,
    /// `limits`
    limits: Limits,
    /// `log`
    log: Log,
}

/// The sections that a running server reloads on SIGHUP.
pub(crate) const RELOADED: [&str; 7] =
    ["node.tls", "auth", "push.web_push", "push.fcm", "push.apns", "push.webhook", "limits"];

impl Config {
    /// Whether no token key is set, so that the server creates its own and gives anyone a token (OPERATING,
    /// "Development mode").
    pub fn is_development(&self) -> bool {
        self.auth.hs256_secret.is_none() && self.auth.keys.is_empty()
    }

    /// The whole configuration as TOML, with the secrets hidden. Keys that are not set are left out.
    pub fn render(&self) -> String {
        self.to_table().to_string()
    }

    /// Takes over the sections named in [`RELOADED`]. TLS is neither switched on nor off.
    pub(crate) fn take_reloadable(&mut self, new: &Self) {
        if self.tls.cert.is_some() == new.tls.cert.is_some() {
            self.tls = new.tls.clone();
        }
        self.auth = new.auth.clone();
        self.web_push = new.web_push.clone();
        self.fcm = new.fcm.clone();
        self.apns = new.apns.clone();
        self.webhook = new.webhook.clone();
        self.limits = new.limits.clone();
    }

    /// The keys whose values differ. A change from one hidden secret to another does not show.
    pub(crate) fn keys_that_differ(&self, other: &Self) -> Vec<String> {
        let (these, others) = (self.to_table(), other.to_table());
        let names = Self::sections().into_iter().flat_map(|section| section.keys).map(|key| key.name);
        names.filter(|name| value_at(&these, name) != value_at(&others, name)).collect()
    }
}

/// The table of a section such as `node.tls`; created if it is missing.
fn table_at<'a>(root: &'a mut toml::Table, section: &str) -> &'a mut toml::Table {
    section.split('.').fold(root, |table, name| {
        let below = table.entry(name).or_insert_with(|| Toml::Table(toml::Table::new()));
        below.as_table_mut().expect("no section has the name of a key")
    })
}

fn value_at<'a>(root: &'a toml::Table, key: &str) -> Option<&'a Toml> {
    let (section, name) = key.rsplit_once('.')?;
    let table = section.split('.').try_fold(root, |table, name| table.get(name)?.as_table())?;
    table.get(name)
}
