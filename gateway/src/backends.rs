//! A node's store and its membership among the other nodes, opened as configured. If one of them is not reachable yet,
//! the start waits for it; if it can't work, the error names the configuration key.

use std::path::Path;
use std::sync::Arc;
use std::{panic, process};

use switchboard_clock::{Clock, Generator};
use switchboard_config::{
    BusKind, Config, Redis as RedisKeys, Retention as RetentionKeys, Scylla, Secret, StoreKind, TenantDays,
};
use switchboard_protocol::Timestamp;
use switchboard_router::{Bus, Ended, InProcessBus, NodeEntry, Redis, RedisBus, RedisError, RedisOptions, View};
use switchboard_store::{EmbeddedOptions, EmbeddedStore, Retention, ScyllaOptions, ScyllaStore, Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Time between two attempts to reach a store that does not answer.
const STORE_AGAIN_MS: u64 = 1_000;

/// Time between two searches for expired entries, each of which reads two rows of every conversation.
const EXPIRE_AGAIN_MS: u64 = 3_600_000;

const DAY_S: u32 = 86_400;

/// Opens the store.
///
/// # Errors
/// If it can't be opened, or not as configured. A store that does not answer yet is no error: it is waited for.
pub(crate) async fn open_store(
    config: &Config,
    clock: &Clock,
    generator: &Generator,
) -> Result<Arc<dyn Store>, Failure> {
    match config.store.kind {
        StoreKind::Embedded => open_embedded(config, clock, generator).await,
        StoreKind::Scylla => open_scylla(config, clock, generator).await,
    }
}

async fn open_embedded(config: &Config, clock: &Clock, generator: &Generator) -> Result<Arc<dyn Store>, Failure> {
    let options = EmbeddedOptions {
        cache_bytes: config.store.cache_bytes,
        reserve_bytes: config.store.reserve_bytes,
        reads_max: config.store.reads_max,
        reads_waiting_max: config.store.reads_waiting_max,
        queue_writes_max: config.store.queue_max,
        queue_bytes_max: config.store.queue_bytes,
        retention: retention(&config.retention)?,
        ..EmbeddedOptions::new(&config.store.path)
    };
    let (clock, generator) = (clock.clone(), generator.clone());
    let open = move || taking_panics_for_damage(&options.path, || EmbeddedStore::open(&options, clock, &generator));
    let opened = tokio::task::spawn_blocking(open).await;
    let store = opened.map_err(anyhow::Error::from)?.map_err(|error| match error {
        StoreError::Locked { .. } | StoreError::Foreign { .. } | StoreError::Folder { .. } => {
            Failure::CantHave(format!("store.path: {error}"))
        }
        error => Failure::Other(error.into()),
    })?;
    Ok(Arc::new(store))
}

/// A panic ends the process (`Cargo.toml`), and its message would not help an operator. While the store is opened, it
/// means that the database can't read its files.
fn taking_panics_for_damage<T>(path: &Path, open: impl FnOnce() -> T) -> T {
    let usual = panic::take_hook();
    let path = path.display().to_string();
    panic::set_hook(Box::new(move |panic| {
        let why = panic.payload_as_str().unwrap_or_default().lines().next().unwrap_or_default();
        let failure = Failure::CantHave(format!(
            "store.path: {path}: the store is damaged: its database can't be opened ({why}). Restore it from a backup"
        ));
        eprintln!("{failure}");
        process::exit(failure.exit_code().into());
    }));
    let opened = open();
    panic::set_hook(usual);
    opened
}

async fn open_scylla(config: &Config, clock: &Clock, generator: &Generator) -> Result<Arc<dyn Store>, Failure> {
    let options = ScyllaOptions { retention: retention(&config.retention)?, ..scylla_options(&config.scylla) };
    let opener = generator.u64();
    let mut formed_by_ms = None;
    loop {
        match ScyllaStore::open(&options, clock.clone(), opener).await {
            Ok(store) => return Ok(Arc::new(store)),
            Err(StoreError::Setup(error)) => {
                let now_ms = clock.monotonic_ms();
                let formed_by_ms = *formed_by_ms.get_or_insert(now_ms + config.scylla.forming_timeout_ms);
                if !error.may_pass() || now_ms >= formed_by_ms {
                    return Err(error.into());
                }
                tracing::warn!(%error, "waiting for the store, which may still be forming");
                clock.sleep_ms(STORE_AGAIN_MS).await;
            }
            Err(StoreError::Unavailable { reason, .. }) => {
                tracing::warn!(nodes = ?options.nodes, reason, "waiting for the store");
                clock.sleep_ms(STORE_AGAIN_MS).await;
            }
            Err(error) => return Err(Failure::CantHave(format!("store.scylla: {error}"))),
        }
    }
}

fn scylla_options(keys: &Scylla) -> ScyllaOptions {
    ScyllaOptions {
        nodes: keys.nodes.iter().map(|node| node.as_str().to_owned()).collect(),
        keyspace: keys.keyspace.as_str().to_owned(),
        replication_factor: keys.replication_factor,
        credentials: keys.username.clone().zip(keys.password.as_ref().map(text)),
        request_timeout_ms: keys.request_timeout_ms,
        speculate_after_ms: keys.speculate_after_ms,
        statements_max: keys.statements_max,
        statements_waiting_max: keys.statements_waiting_max,
        apply_interval_ms: keys.apply_interval_ms,
        raise_interval_ms: keys.raise_interval_ms,
        inbox_writers_max: keys.inbox_writers_max,
        inbox_rows_bytes: keys.inbox_rows_bytes,
        retention: Retention::default(),
    }
}

/// How long entries are kept.
///
/// # Errors
/// A tenant's name that is not valid; the configuration accepts none.
fn retention(keys: &RetentionKeys) -> Result<Retention, Failure> {
    let tenants = keys.tenants.iter().map(|TenantDays { tenant, days }| anyhow::Ok((tenant.parse()?, days * DAY_S)));
    let tenants = tenants.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Retention::new(keys.days * DAY_S, tenants))
}

/// Removes expired entries, until the node closes.
pub(crate) async fn keep_expiring(store: Arc<dyn Store>, clock: Clock, closing: CancellationToken) {
    loop {
        match store.expire(Timestamp::from_unix_ms(clock.wall_ms())).await {
            Ok(0) => {}
            Ok(entries) => tracing::info!(entries, "removed expired entries"),
            Err(error) => tracing::warn!(%error, "expired entries could not be removed yet"),
        }
        if closing.run_until_cancelled(clock.sleep_ms(EXPIRE_AGAIN_MS)).await.is_none() {
            return;
        }
    }
}

/// A password in the form that the client libraries take.
fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}

/// A node's membership among the others, with the bus.
pub(crate) enum Others {
    /// It runs alone.
    Alone { bus: InProcessBus, views: watch::Sender<View> },
    /// It shares a Redis with others.
    Redis {
        bus: RedisBus,
        views: watch::Receiver<View>,
        leaving: CancellationToken,
        stop: CancellationToken,
        /// The heartbeat. Ends after `stop`, when the others have taken this life of the node for dead, or when another
        /// process has taken the node's name.
        running: JoinSet<Result<Ended, RedisError>>,
    },
}

impl Others {
    /// Joins the other nodes, which see it from now on.
    ///
    /// # Errors
    /// If it can't be one of them. A Redis that does not answer yet is no error: it is waited for.
    pub(crate) async fn join(config: &Config, me: NodeEntry, clock: &Clock) -> Result<Self, Failure> {
        if config.bus.kind == BusKind::Memory {
            let views = watch::Sender::new(View::alone(me.incarnation, me.url));
            return Ok(Self::Alone { bus: InProcessBus::new(config.bus.queue_bytes), views });
        }
        let options = redis_options(&config.redis, config.cluster.heartbeat_ttl_ms);
        tracing::info!(node_id = %me.incarnation.node, "joining the other nodes over Redis");
        let redis = Redis::join(&options, me, clock.clone()).await.map_err(failure)?;
        let (bus, views, leaving) = (redis.bus(), redis.views(), redis.leaving());
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(redis.run(stop.clone()));
        Ok(Self::Redis { bus, views, leaving, stop, running })
    }

    pub(crate) fn bus(&self) -> Arc<dyn Bus> {
        match self {
            Self::Alone { bus, .. } => Arc::new(bus.clone()),
            Self::Redis { bus, .. } => Arc::new(bus.clone()),
        }
    }

    pub(crate) fn redis(&self) -> Option<RedisBus> {
        match self {
            Self::Alone { .. } => None,
            Self::Redis { bus, .. } => Some(bus.clone()),
        }
    }

    pub(crate) fn views(&self) -> watch::Receiver<View> {
        match self {
            Self::Alone { views, .. } => views.subscribe(),
            Self::Redis { views, .. } => views.clone(),
        }
    }

    /// Returns when the others have taken this life of the node for dead.
    ///
    /// # Errors
    /// If this node can't be one of them any more.
    pub(crate) async fn taken_for_dead(&mut self) -> Result<(), Failure> {
        let Self::Redis { running, .. } = self else { return std::future::pending().await };
        match running.join_next().await {
            Some(Ok(Ok(Ended::TakenForDead))) => {
                tracing::warn!("this process did not run: the other nodes have taken it for dead");
                Ok(())
            }
            Some(Ok(Err(error))) => Err(failure(error)),
            ended => Err(anyhow::anyhow!("the heartbeat ended by itself: {ended:?}").into()),
        }
    }

    /// Tells the other nodes to do this node's work from now on.
    pub(crate) fn leave(&self) {
        if let Self::Redis { leaving, .. } = self {
            leaving.cancel();
        }
    }

    /// Leaves: the other nodes no longer see it.
    pub(crate) async fn end(&mut self) {
        if let Self::Redis { stop, running, .. } = self {
            stop.cancel();
            while running.join_next().await.is_some() {}
        }
    }
}

fn redis_options(keys: &RedisKeys, heartbeat_ttl_ms: u64) -> RedisOptions {
    RedisOptions {
        url: keys.url.as_ref().map(|url| url.expose().to_owned()).unwrap_or_default(),
        username: keys.username.clone(),
        password: keys.password.as_ref().map(text),
        prefix: keys.prefix.as_str().to_owned(),
        timeout_ms: keys.timeout_ms,
        queue_bytes: keys.queue_bytes,
        heartbeat_ttl_ms,
    }
}

/// A name that is taken is like an address that is taken; everything else is wrong configuration.
fn failure(error: RedisError) -> Failure {
    match error {
        RedisError::Namesake { .. } => Failure::CantHave(error.to_string()),
        error => Failure::Redis(error),
    }
}
