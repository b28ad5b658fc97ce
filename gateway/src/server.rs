//! The life of the server process: configuration, listeners, store, router, then waiting for a signal, then the drain.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use switchboard_clock::{Clock, Generator};
use switchboard_config::{BusKind, Config, Loaded, Sources};
use switchboard_protocol::NodeId;
use switchboard_router::{Life, NodeEntry, Router, Start};
use switchboard_store::{Incarnation, Store};
use tokio::task::JoinSet;

use crate::admission::Kind;
use crate::auth::{DevKey, Keys, SigningKey};
use crate::backends::{Others, keep_expiring, open_store};
use crate::capacity::Capacity;
use crate::cli::{Demo, UsageError};
use crate::commands::print;
use crate::demo::publish_orders;
use crate::failure::Failure;
use crate::gateway::Gateway;
use crate::http::{Listening, bind, serve, serve_metrics};
use crate::node_topic::publish_figures;
use crate::push::Worker;
use crate::reload::reload_at_hangups;
use crate::settings::Settings;
use crate::signals::{StopSignals, hangups};
use crate::tls::Tls;
use crate::ws::MOVE_GRACE_MS;
use crate::{logs, metrics};

/// Shares of `drain.timeout_ms`: clients move, remaining connections are closed, everything is flushed.
const MOVE_PERCENT: u64 = 80;
const CLOSE_PERCENT: u64 = 90;
/// The remaining HTTP connections get at most this time when the sessions have gone.
const CLOSE_MS_MAX: u64 = 1_000;

/// Runs the server until it is told to stop.
pub(crate) fn run(sources: Sources, demo: Demo) -> Result<(), Failure> {
    let loaded = Config::load(sources)?;
    if demo == Demo::On && !loaded.config.is_development() {
        return Err(UsageError::of("--demo is for development mode, without auth.* keys").into());
    }
    logs::start(&loaded.config.log);
    let clock = Clock::system();
    let parts = Parts::new(&loaded.config, &clock)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let result = runtime.block_on(serve_until_stopped(loaded, parts, clock, demo));
    // What still runs is nothing that a client or the store waits for.
    runtime.shutdown_background();
    result
}

/// Everything built from the configuration before anything runs, so that a mistake in it is found at once.
struct Parts {
    capacity: Capacity,
    settings: Settings,
    dev_key: Option<SigningKey>,
    tls: Option<Arc<Tls>>,
}

impl Parts {
    fn new(config: &Config, clock: &Clock) -> Result<Self, Failure> {
        let capacity = Capacity::of_process();
        let (mut settings, tls) = Settings::for_server(config, capacity, clock)?;
        let mut dev_key = None;
        if config.is_development() {
            let key = DevKey::load_or_make(&config.store.path).map_err(|error| Failure::CantHave(error.to_string()))?;
            tracing::warn!("development mode: no auth key is set, so anyone gets a token for any name");
            settings.keys = Arc::new(Keys::development(key.expose()));
            dev_key = Some(SigningKey::unnamed(key.expose()));
        }
        tracing::info!(
            descriptors = capacity.descriptors,
            memory_mib = capacity.memory_bytes.map(|bytes| bytes / 1_048_576),
            connections_max = settings.connections_max,
            "capacity"
        );
        Ok(Self { capacity, settings, dev_key, tls: tls.map(|server| Arc::new(Tls::new(server))) })
    }
}

async fn serve_until_stopped(loaded: Loaded, parts: Parts, clock: Clock, demo: Demo) -> Result<(), Failure> {
    let mut stop_signals = StopSignals::new().map_err(anyhow::Error::from)?;
    let hangups = hangups().map_err(anyhow::Error::from)?;
    let config = loaded.config.clone();
    let clients = bind_or_say_why(config.node.listen, "node.listen")?;
    let scrapers = bind_or_say_why(config.metrics.listen, "metrics.listen")?;
    let figures = metrics::start().map_err(anyhow::Error::from)?;

    let node_id: NodeId = config.node.id.as_str().parse().map_err(anyhow::Error::from)?;
    let Parts { capacity, settings, dev_key, tls } = parts;
    let generator = Generator::from_entropy();
    let gateway = Arc::new(Gateway::new(&config, node_id, settings, dev_key, clock.clone(), generator));

    // These tasks live as long as the process; one that ends by itself ends the process.
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(clients.listener, gateway.clone(), tls.clone()));
    tasks.spawn(serve_metrics(scrapers.listener, figures.clone(), gateway.closing.clone()));
    tasks.spawn(publish_figures(gateway.clone(), figures.clone()));
    if demo == Demo::On {
        tasks.spawn(publish_orders(gateway.clone()));
    }
    tasks.spawn(metrics::upkeep(figures, clock, gateway.closing.clone()));
    tasks.spawn({
        let gateway = gateway.clone();
        async move { gateway.timers.run(gateway.closing.clone()).await }
    });
    tasks.spawn(reload_at_hangups(hangups, loaded, gateway.clone(), tls, capacity));

    let mut open = tokio::select! {
        open = open(&config, &gateway, clients.address) => open?,
        () = stop_signals.recv() => return Ok(()),
    };
    tasks.spawn(open.worker.clone().run(gateway.closing.clone()));
    tasks.spawn(open.worker.clone().keep_figures(gateway.closing.clone()));
    tasks.spawn(keep_expiring(open.store.clone(), gateway.clock.clone(), gateway.closing.clone()));
    say_ready(&gateway, clients.address, scrapers.address)?;

    let is_asked_by_signal = tokio::select! {
        () = stop_signals.recv() => true,
        () = gateway.draining.cancelled() => false,
        failure = open.stay(&config, &gateway, clients.address) => return Err(failure),
        ended = tasks.join_next() => {
            return Err(anyhow::anyhow!("a part of the server ended by itself: {ended:?}").into());
        }
    };
    tasks.spawn(async move {
        if !is_asked_by_signal {
            // Already draining, as asked over HTTP: the first signal changes nothing, and only a second one cuts the
            // drain short.
            stop_signals.recv().await;
        }
        stop_signals.exit_at_next().await;
    });
    drain(&config, &gateway, open).await;
    Ok(())
}

fn bind_or_say_why(address: SocketAddr, key: &str) -> Result<Listening, Failure> {
    bind(address).map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => "stop what listens there, or set another address",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: take a higher one",
            _ => "set an address of this machine",
        };
        Failure::CantHave(format!("{key}: can't listen on {address}: {error}; {advice}"))
    })
}

/// What has to be ended in order.
struct Open {
    router: Router,
    store: Arc<dyn Store>,
    worker: Arc<Worker>,
    others: Others,
}

/// Opens the store and joins the other nodes, both of which may take a while, and starts the router on them.
async fn open(config: &Config, gateway: &Arc<Gateway>, clients: SocketAddr) -> Result<Open, Failure> {
    let store = open_store(config, &gateway.clock, &gateway.generator).await?;
    gateway.set_store(store.clone());
    let entry = new_life(config, gateway, clients);
    let others = Others::join(config, entry.clone(), &gateway.clock).await?;
    let router = Router::start(Start {
        me: entry.incarnation,
        options: gateway.settings().options,
        clock: gateway.clock.clone(),
        generator: gateway.generator.clone(),
        store: store.clone(),
        bus: others.bus(),
        views: others.views(),
    });
    gateway.open(router.clone(), others.redis());
    let worker = Arc::new(Worker::new(gateway.clone(), store.clone(), router.clone()));
    Ok(Open { router, store, worker, others })
}

/// This node, as a new incarnation.
fn new_life(config: &Config, gateway: &Gateway, clients: SocketAddr) -> NodeEntry {
    NodeEntry {
        incarnation: Incarnation { node: gateway.node_id.clone(), life: gateway.generator.u64() },
        weight: u16::try_from(config.node.weight).unwrap_or(u16::MAX),
        url: own_url(config, clients).into(),
    }
}

impl Open {
    /// Keeps the node a member, if need be as another incarnation; returns when that is impossible.
    async fn stay(&mut self, config: &Config, gateway: &Gateway, clients: SocketAddr) -> Failure {
        loop {
            let over = tokio::select! {
                over = self.others.taken_for_dead() => over,
                () = self.router.fenced() => Ok(()),
            };
            if let Err(failure) = over {
                return failure;
            }
            if let Err(failure) = self.go_on(config, gateway, clients).await {
                return failure;
            }
        }
    }

    /// Other nodes have fenced this incarnation, or have taken it for dead: the node goes on as another one, with its
    /// sessions.
    async fn go_on(&mut self, config: &Config, gateway: &Gateway, clients: SocketAddr) -> Result<(), Failure> {
        if config.bus.kind == BusKind::Memory {
            let why = "bus.kind: another process works on the same store; several nodes need redis";
            return Err(Failure::CantHave(why.to_owned()));
        }
        self.others.end().await;
        let entry = new_life(config, gateway, clients);
        self.others = Others::join(config, entry.clone(), &gateway.clock).await?;
        gateway.set_redis(self.others.redis());
        let life = Life { me: entry.incarnation, bus: self.others.bus(), views: self.others.views() };
        self.router.go_on(life).await;
        Ok(())
    }
}

/// The address at which clients reach this node.
fn own_url(config: &Config, clients: SocketAddr) -> String {
    let scheme = if config.tls.cert.is_some() { "wss" } else { "ws" };
    match &config.node.advertise_url {
        Some(url) => url.websocket_url(),
        None => format!("{scheme}://{clients}/v1/ws"),
    }
}

fn say_ready(gateway: &Gateway, clients: SocketAddr, scrapers: SocketAddr) -> Result<(), Failure> {
    tracing::info!(node_id = %gateway.node_id, listen = %clients, metrics = %scrapers, "ready");
    let ready = Ready { ready: true, node_id: &gateway.node_id, listen: clients, metrics: scrapers };
    let line = serde_json::to_string(&ready).map_err(anyhow::Error::from)?;
    print(&format!("{line}\n"))
}

/// The line on stdout (OPERATING, "Output").
#[derive(Serialize)]
struct Ready<'a> {
    ready: bool,
    node_id: &'a NodeId,
    listen: SocketAddr,
    metrics: SocketAddr,
}

/// Drains: asks clients to move, releases conversations, flushes everything. What takes too long is cut off.
async fn drain(config: &Config, gateway: &Gateway, mut open: Open) {
    let timeout_ms = config.drain.timeout_ms;
    let begun_ms = gateway.clock.monotonic_ms();
    let left_ms = |percent: u64| {
        let deadline_ms = begun_ms + timeout_ms * percent / 100;
        deadline_ms.saturating_sub(gateway.clock.monotonic_ms())
    };
    tracing::info!(connections = gateway.admission.taken(Kind::WebSocket), timeout_ms, "draining");
    gateway.draining.cancel();
    gateway.sessions.close();
    gateway.http_connections.close();
    // From now on the other nodes do this node's work, and it hands over what it has.
    open.others.leave();
    let moved = async {
        open.router.drain(left_ms(MOVE_PERCENT).saturating_sub(MOVE_GRACE_MS)).await;
        gateway.sessions.wait().await;
    };
    if within(left_ms(MOVE_PERCENT), moved).await.is_none() {
        tracing::warn!(connections = gateway.admission.taken(Kind::WebSocket), "closing the remaining sessions");
    }
    gateway.closing.cancel();
    within(left_ms(CLOSE_PERCENT), gateway.sessions.wait()).await;
    within(left_ms(CLOSE_PERCENT).min(CLOSE_MS_MAX), gateway.http_connections.wait()).await;
    // What a provider has not answered by then is sent again when its lease has expired.
    within(left_ms(CLOSE_PERCENT), open.worker.finish()).await;
    let finished = async {
        open.router.finish().await;
        open.router.shutdown().await;
        let closed = open.store.close().await;
        open.others.end().await;
        closed
    };
    match within(left_ms(100), finished).await {
        Some(Ok(())) => tracing::info!("stopped"),
        Some(Err(error)) => tracing::error!(%error, "stopped, but the store failed to close"),
        None => tracing::error!("stopped before everything was flushed; what was acknowledged is durable"),
    }
}

/// The future's result, unless it takes longer than `ms`.
async fn within<T>(ms: u64, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(Duration::from_millis(ms), future).await.ok()
}
