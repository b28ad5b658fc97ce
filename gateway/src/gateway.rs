//! The state that all connections of this node share. Owns the settings that SIGHUP replaces; the rest is set once.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use switchboard_clock::{Clock, Generator};
use switchboard_config::{BusKind, Config, Http, Push, Session};
use switchboard_protocol::{NodeId, ProtocolError, StoreId};
use switchboard_router::{RedisBus, Router};
use switchboard_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::auth::{Identity, SigningKey};
use crate::http::UserRates;
use crate::settings::Settings;
use crate::ws::Timers;

/// The time after which a client should retry that came before the node was ready, or while it drains.
pub(crate) const UNREADY_RETRY_MS: u64 = 2_000;

/// The longest wait for a dependency's state.
const CHECK_MS_MAX: u64 = 1_000;

/// See the module.
pub(crate) struct Gateway {
    pub(crate) node_id: NodeId,
    pub(crate) http: Http,
    pub(crate) session: Session,
    pub(crate) push: Push,
    /// Development mode: the key that signs a token for anyone. `None`: that endpoint is absent.
    pub(crate) dev_key: Option<SigningKey>,
    pub(crate) clock: Clock,
    pub(crate) generator: Generator,
    pub(crate) timers: Timers,
    pub(crate) admission: Arc<Admission>,
    pub(crate) user_rates: UserRates,
    /// The tasks of sessions.
    pub(crate) sessions: TaskTracker,
    /// The tasks of HTTP connections.
    pub(crate) http_connections: TaskTracker,
    /// Cancelled when the node begins to drain.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the connections that are still open have to close.
    pub(crate) closing: CancellationToken,
    settings: ArcSwap<Settings>,
    bus_kind: BusKind,
    store: OnceLock<Arc<dyn Store>>,
    redis: ArcSwapOption<RedisBus>,
    router: OnceLock<Router>,
}

impl Gateway {
    pub(crate) fn new(
        config: &Config,
        node_id: NodeId,
        settings: Settings,
        dev_key: Option<SigningKey>,
        clock: Clock,
        generator: Generator,
    ) -> Self {
        Self {
            node_id,
            http: config.http.clone(),
            session: config.session.clone(),
            push: config.push.clone(),
            dev_key,
            timers: Timers::new(clock.clone()),
            clock,
            generator,
            admission: Arc::default(),
            user_rates: UserRates::default(),
            sessions: TaskTracker::new(),
            http_connections: TaskTracker::new(),
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            settings: ArcSwap::from_pointee(settings),
            bus_kind: config.bus.kind,
            store: OnceLock::new(),
            redis: ArcSwapOption::empty(),
            router: OnceLock::new(),
        }
    }

    pub(crate) fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Replaces the settings.
    pub(crate) fn replace_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
        self.admission.look_again();
        self.give_options();
    }

    fn give_options(&self) {
        if let Some(router) = self.session_router() {
            router.set_options(self.settings().options);
        }
    }

    /// Makes the store available, once it is open.
    pub(crate) fn set_store(&self, store: Arc<dyn Store>) {
        // It is opened once.
        let _ = self.store.set(store);
    }

    /// Sets the bus of this life of the node.
    pub(crate) fn set_redis(&self, redis: Option<RedisBus>) {
        self.redis.store(redis.map(Arc::new));
    }

    /// Opens the node: from now on it accepts sessions and requests.
    pub(crate) fn open(&self, router: Router, redis: Option<RedisBus>) {
        self.set_redis(redis);
        // It is opened once.
        let _ = self.router.set(router);
        // The settings may have been replaced meanwhile.
        self.give_options();
    }

    /// The state of each dependency of the node, in a word or two.
    pub(crate) async fn dependencies(&self) -> Vec<(&'static str, &'static str)> {
        let store = match self.store.get() {
            None => "opening",
            Some(store) => state_of(store.check()).await,
        };
        let redis = || match self.redis.load_full() {
            None => "opening",
            Some(redis) if redis.is_connected() => "ok",
            Some(_) => "unavailable",
        };
        let mut dependencies = vec![("store", store)];
        if self.bus_kind == BusKind::Redis {
            dependencies.push(("redis", redis()));
        }
        dependencies
    }

    /// The store, for reads that need no owner.
    ///
    /// # Errors
    /// `unavailable` while the node starts.
    pub(crate) fn store(&self) -> Result<&Arc<dyn Store>, ProtocolError> {
        self.store.get().ok_or_else(|| ProtocolError::unavailable(UNREADY_RETRY_MS))
    }

    /// The router, while the node accepts sessions and requests.
    ///
    /// # Errors
    /// `unavailable` while it starts or drains.
    pub(crate) fn router(&self) -> Result<&Router, ProtocolError> {
        let router = self.session_router().filter(|_| !self.draining.is_cancelled());
        router.ok_or_else(|| ProtocolError::unavailable(UNREADY_RETRY_MS))
    }

    /// The router, for open sessions, which continue while the node drains. `None` while it starts.
    pub(crate) fn session_router(&self) -> Option<&Router> {
        self.router.get()
    }

    /// The id of the store.
    pub(crate) fn store_id(&self) -> StoreId {
        let store_id = self.store.get().map_or("none", |store| store.store_id());
        store_id.parse().expect("a store names itself with an id")
    }

    /// The identity of a token.
    ///
    /// # Errors
    /// `unauthorized`.
    pub(crate) fn verify(&self, token: &str) -> Result<Identity, ProtocolError> {
        Ok(self.settings().keys.verify(token, self.clock.wall_ms())?)
    }
}

/// The word for the outcome of a check.
async fn state_of(check: impl Future<Output = Result<(), StoreError>>) -> &'static str {
    match tokio::time::timeout(Duration::from_millis(CHECK_MS_MAX), check).await {
        Ok(Ok(())) => "ok",
        Ok(Err(_)) => "unavailable",
        Err(_) => "no answer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_holds_nobody_up() {
        assert_eq!(state_of(std::future::pending()).await, "no answer");
        assert_eq!(state_of(std::future::ready(Ok(()))).await, "ok");
        assert_eq!(state_of(std::future::ready(Err(StoreError::unavailable("x")))).await, "unavailable");
    }
}
