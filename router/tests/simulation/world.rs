//! Five nodes in one process, which of them are alive, and the faults. Owns the nodes; everything is drawn from one
//! generator, so a run can be repeated from its seed.

use crate::faults::{BusFaults, FaultyBus, Port};
use crate::oracle::Oracle;
use crate::recorder::{ExactFaults, Recorder};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use switchboard_clock::{Clock, Generator};
use switchboard_router::{Life, NodeEntry, Options, Router, Start, View};
use switchboard_store::{Incarnation, MemoryNode, MemoryStore};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) const NODES: usize = 5;

/// 2026-01-01T00:00:00Z
const ORIGIN_MS: i64 = 1_767_225_600_000;

/// How long a node is missing before it is removed from the view.
const TTL_MS: u64 = 3_000;

/// The maximum delay until a node sees a view.
const VIEW_DELAY_MS: u64 = 700;

/// How long after views differed nodes may still act on outdated ones.
const SPLIT_ECHO_MS: u64 = 15_000;

/// What clients should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Chaos = 0,
    /// Only complete what is under way.
    Quiet = 1,
    Over = 2,
}

/// The faults that may happen in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// The plain in-process bus, or one that drops, repeats and delays.
    pub(crate) plain_bus: bool,
    /// Nodes may be cut off, or be taken for dead while they live.
    pub(crate) splits: bool,
}

/// A running node.
#[derive(Clone)]
pub(crate) struct Up {
    pub(crate) me: Incarnation,
    pub(crate) router: Router,
    /// Its sessions' sockets break.
    pub(crate) killed: CancellationToken,
    draining: bool,
}

struct Slot {
    skew_ms: Arc<AtomicI64>,
    up: Option<Up>,
    views: watch::Sender<View>,
}

struct Inner {
    slots: Vec<Slot>,
    /// The living nodes, according to their keys with a TTL.
    alive: BTreeMap<Incarnation, NodeEntry>,
    /// The draining nodes.
    leaving: Vec<Incarnation>,
    view_number: u64,
    /// Views that nodes have not seen yet: time, node, view.
    coming: Vec<(u64, usize, View)>,
    /// Dead nodes that still count as alive, until this time.
    missed: Vec<(u64, Incarnation)>,
    lives: u64,
}

pub(crate) struct World {
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) generator: Generator,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) bus: Arc<FaultyBus>,
    pub(crate) exact: Arc<ExactFaults>,
    options: Options,
    phase: AtomicU8,
    inner: Mutex<Inner>,
}

pub(crate) fn options() -> Options {
    Options {
        push_members_max: 4,
        changes_max: 60,
        send_timeout_ms: 2_000,
        conversation_idle_ms: 3_000,
        inbox_flush_ms: 300,
        presence_grace_ms: 1_000,
        presence_batch_ms: 200,
        drain_spread_ms: 500,
        retry_after_ms: 200,
        ..Options::default()
    }
}

impl World {
    pub(crate) fn new(seed: u64, plain_bus: bool, options: Options) -> Arc<Self> {
        let generator = Generator::from_seed(seed);
        let clock = Clock::simulated(ORIGIN_MS, Arc::default());
        let store = Arc::new(MemoryStore::with_generator("simulated", generator.fork()));
        let bus = FaultyBus::new(clock.clone(), generator.fork(), plain_bus);
        let oracle = Arc::new(Oracle::new(clock.clone()));
        let nobody = View::new(0, Vec::new());
        let slot = |_| Slot { skew_ms: Arc::default(), up: None, views: watch::Sender::new(nobody.clone()) };
        let inner = Inner {
            slots: (0..NODES).map(slot).collect(),
            alive: BTreeMap::new(),
            leaving: Vec::new(),
            view_number: 0,
            coming: Vec::new(),
            missed: Vec::new(),
            lives: 0,
        };
        let phase = AtomicU8::new(Phase::Chaos as u8);
        Arc::new(Self {
            oracle,
            generator,
            clock,
            store,
            bus,
            exact: Arc::default(),
            options,
            phase,
            inner: Mutex::new(inner),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Chaos,
            1 => Phase::Quiet,
            _ => Phase::Over,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// A node for a client to connect to.
    pub(crate) fn pick(&self, generator: &Generator) -> Option<Up> {
        let inner = self.inner.lock().unwrap();
        let ready: Vec<&Up> =
            inner.slots.iter().filter_map(|slot| slot.up.as_ref()).filter(|up| !up.draining).collect();
        let index = usize::try_from(generator.below(ready.len() as u64)).unwrap_or(0);
        ready.get(index).map(|up| (*up).clone())
    }

    /// A running node.
    pub(crate) fn node(&self, index: usize) -> Option<Up> {
        self.inner.lock().unwrap().slots[index].up.clone()
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        let inner = self.inner.lock().unwrap();
        (0..NODES).filter(|index| inner.slots[*index].up.is_some()).collect()
    }

    // Lives

    /// Starts a node as a new incarnation. The others see it a little later; the former life is gone at once.
    pub(crate) fn start(&self, index: usize) {
        self.start_with(index, self.options);
    }

    /// The same, but this life has its own options.
    pub(crate) fn start_with(&self, index: usize, options: Options) {
        let mut inner = self.inner.lock().unwrap();
        let Life { me, bus, views } = self.next_life(&mut inner, index);
        let slot = &mut inner.slots[index];
        let router = Router::start(Start {
            me: me.clone(),
            options,
            clock: Clock::simulated(
                ORIGIN_MS + i64::try_from(self.clock.monotonic_ms()).unwrap(),
                slot.skew_ms.clone(),
            ),
            generator: self.generator.fork(),
            store: Arc::new(Recorder {
                store: MemoryNode::new(self.store.clone()),
                oracle: self.oracle.clone(),
                exact: self.exact.clone(),
            }),
            bus,
            views,
        });
        self.oracle.trace(format_args!("{me} starts"));
        slot.up = Some(Up { me, router, killed: CancellationToken::new(), draining: false });
    }

    /// A life of a node that has not been used.
    fn next_life(&self, inner: &mut Inner, index: usize) -> Life {
        inner.lives += 1;
        let me = Incarnation { node: format!("n{index}").parse().unwrap(), life: inner.lives };
        let url = format!("ws://n{index}").into();
        inner.alive.retain(|other, _| other.node != me.node);
        inner.leaving.retain(|other| other.node != me.node);
        inner.missed.retain(|(_, other)| other.node != me.node);
        inner.alive.insert(me.clone(), NodeEntry { incarnation: me.clone(), weight: 1, url });
        let view = next_view(inner);
        let (sender, views) = watch::channel(view.clone());
        inner.slots[index].views = sender;
        self.spread(inner, &view);
        Life { bus: Arc::new(Port { bus: self.bus.clone(), me: me.clone() }), me, views }
    }

    /// Fenced nodes continue as new incarnations.
    async fn keep_lives(&self) {
        for index in 0..NODES {
            let going_on = {
                let mut inner = self.inner.lock().unwrap();
                let fenced = |up: &Up| up.router.is_fenced() && !up.draining;
                if inner.slots[index].up.as_ref().is_some_and(fenced) {
                    let life = self.next_life(&mut inner, index);
                    let up = inner.slots[index].up.as_mut().unwrap();
                    self.oracle.trace(format_args!("{} is fenced and goes on as {}", up.me, life.me));
                    up.me = life.me.clone();
                    Some((up.router.clone(), life))
                } else {
                    None
                }
            };
            if let Some((router, life)) = going_on {
                self.oracle.count(|counts| counts.fenced += 1);
                router.go_on(life).await;
            }
        }
    }

    /// Stops a node at once, with everything that is under way.
    pub(crate) async fn crash(&self, index: usize) {
        let Some(up) = self.inner.lock().unwrap().slots[index].up.take() else { return };
        self.oracle.trace(format_args!("{} crashes", up.me));
        up.killed.cancel();
        self.stop(&up).await;
        let due_ms = self.clock.monotonic_ms() + TTL_MS;
        self.inner.lock().unwrap().missed.push((due_ms, up.me));
    }

    async fn stop(&self, up: &Up) {
        if tokio::time::timeout(Duration::from_secs(60), up.router.shutdown()).await.is_err() {
            self.oracle.violated(format!("{} does not stop", up.me));
        }
    }

    /// Takes a node out of service: no new sessions, out of the view, its conversations handed over. Returns whether
    /// that completed in time.
    pub(crate) async fn drain(&self, index: usize) -> bool {
        let up = {
            let mut inner = self.inner.lock().unwrap();
            let Some(up) = inner.slots[index].up.as_mut() else { return true };
            up.draining = true;
            let up = up.clone();
            inner.alive.remove(&up.me);
            inner.leaving.push(up.me.clone());
            let view = next_view(&mut inner);
            self.spread(&mut inner, &view);
            up
        };
        self.oracle.trace(format_args!("{} drains", up.me));
        up.router.drain(u64::MAX).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let in_time = tokio::time::timeout(Duration::from_secs(15), up.router.finish()).await.is_ok();
        self.oracle.trace(format_args!("{} has drained: {in_time}", up.me));
        // What stays is closed.
        up.killed.cancel();
        self.stop(&up).await;
        let mut inner = self.inner.lock().unwrap();
        inner.slots[index].up = None;
        inner.leaving.retain(|other| *other != up.me);
        let view = next_view(&mut inner);
        self.spread(&mut inner, &view);
        in_time
    }

    // Views

    /// Schedules each node's update to a view.
    fn spread(&self, inner: &mut Inner, view: &View) {
        let now_ms = self.clock.monotonic_ms();
        for index in 0..NODES {
            let at_ms = now_ms + self.generator.below(VIEW_DELAY_MS + 1);
            inner.coming.push((at_ms, index, view.clone()));
        }
    }

    /// A newer view without these nodes; no node has seen it yet.
    pub(crate) fn view_without(&self, gone: &[usize]) -> View {
        let mut inner = self.inner.lock().unwrap();
        inner.view_number += 1;
        let is_gone = |node: &&NodeEntry| {
            let me = |index: &usize| inner.slots[*index].up.as_ref().map(|up| &up.me);
            gone.iter().any(|index| me(index) == Some(&node.incarnation))
        };
        let nodes = inner.alive.values().filter(|node| !is_gone(node)).cloned().collect();
        View::new(inner.view_number, nodes).with_leaving(inner.leaving.clone())
    }

    /// A newer view in which a node drains; no node has seen it yet.
    pub(crate) fn view_leaving(&self, index: usize) -> View {
        let leaving = self.node(index).expect("it runs").me;
        self.view_without(&[index]).with_leaving(vec![leaving])
    }

    /// Shows a view to some nodes now.
    pub(crate) fn show(&self, view: &View, to: &[usize]) {
        let inner = self.inner.lock().unwrap();
        to.iter().for_each(|index| drop(inner.slots[*index].views.send_replace(view.clone())));
    }

    /// Removes nodes that nobody has seen for a TTL, and shows due views to nodes.
    pub(crate) fn keep_views(&self) {
        let now_ms = self.clock.monotonic_ms();
        let mut inner = self.inner.lock().unwrap();
        let gone: Vec<_> = inner.missed.extract_if(.., |(due_ms, _)| *due_ms <= now_ms).collect();
        if !gone.is_empty() {
            gone.iter().for_each(|(_, node)| drop(inner.alive.remove(node)));
            inner.leaving.retain(|node| !gone.iter().any(|(_, gone)| gone == node));
            let view = next_view(&mut inner);
            self.spread(&mut inner, &view);
        }
        for (_, index, view) in inner.coming.extract_if(.., |(at_ms, ..)| *at_ms <= now_ms).collect::<Vec<_>>() {
            // Views overtake each other on their way, but no node returns to an older one.
            inner.slots[index].views.send_if_modified(|current| {
                let newer = view.number > current.number;
                if newer {
                    *current = view;
                }
                newer
            });
        }
    }

    /// Some nodes believe for a while that a living node is gone; then it is seen again.
    fn forget_for_a_while(&self, index: usize, believers: &[usize], for_ms: u64) {
        let now_ms = self.clock.monotonic_ms();
        let mut inner = self.inner.lock().unwrap();
        let Some(up) = inner.slots[index].up.clone() else { return };
        inner.view_number += 1;
        let number = inner.view_number;
        let rest = inner.alive.values().filter(|node| node.incarnation != up.me).cloned().collect();
        let wrong = View::new(number, rest).with_leaving(inner.leaving.clone());
        for believer in believers.iter().filter(|believer| **believer != index) {
            inner.coming.push((now_ms, *believer, wrong.clone()));
        }
        inner.view_number += 1;
        let right = view_of_all(&inner);
        for believer in 0..NODES {
            let at_ms = now_ms + for_ms + self.generator.below(VIEW_DELAY_MS + 1);
            inner.coming.push((at_ms, believer, right.clone()));
        }
        self.oracle.split_until(now_ms + for_ms + SPLIT_ECHO_MS);
        self.oracle.trace(format_args!("{} is taken for dead for {for_ms} ms", up.me));
    }

    // What goes wrong

    /// Injects or ends a fault.
    pub(crate) async fn something_happens(self: &Arc<Self>, weather: Weather) {
        self.oracle.count(|counts| counts.faults += 1);
        let index = usize::try_from(self.generator.below(NODES as u64)).unwrap_or(0);
        let up = self.node(index);
        let many = self.running().len() > 2;
        match (self.generator.below(100), up) {
            (0..18, Some(_)) if many => self.crash(index).await,
            (18..26, Some(up)) if many && !up.draining => {
                // Views change meanwhile.
                tokio::select! {
                    _ = self.drain(index) => {}
                    () = self.pass(60_000) => {}
                }
            }
            (0..60, None) => self.start(index),
            (60..70, _) => self.store.faults().delay_ms_max(self.generator.below(60)),
            (70..74, _) => self.store_is_away(true),
            (74..84, _) => self.store_is_away(false),
            (84..90, _) => self.store_is_vague(self.generator.below(20)),
            (90..94, Some(_)) => self.jump(index),
            (94..100, Some(up)) if weather.splits => self.split(index, &up.me).await,
            _ => self.change_bus(weather),
        }
    }

    fn store_is_away(&self, away: bool) {
        self.store.faults().unavailable(away);
        self.oracle.store_is(|state| state.away = away);
    }

    /// The percentage of operations whose outcome it leaves open.
    fn store_is_vague(&self, percent: u64) {
        self.store.faults().unknown_percent(percent);
        self.oracle.store_is(|state| state.vague = percent > 0);
    }

    /// A node's wall clock jumps.
    fn jump(&self, index: usize) {
        let skew_ms = i64::try_from(self.generator.below(240_000)).unwrap_or(0) - 120_000;
        self.set_skew(index, skew_ms);
    }

    /// Sets the error of a node's wall clock.
    pub(crate) fn set_skew(&self, index: usize, skew_ms: i64) {
        self.inner.lock().unwrap().slots[index].skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    fn change_bus(&self, weather: Weather) {
        if !weather.plain_bus {
            self.bus.set_faults(BusFaults {
                drop_percent: self.generator.below(12),
                repeat_percent: self.generator.below(15),
                delay_ms_max: self.generator.below(120),
            });
        }
    }

    /// Loses a tenth of the packets from now on.
    pub(crate) fn lose_packets(&self, weather: Weather) {
        if !weather.plain_bus {
            self.bus.set_faults(BusFaults { drop_percent: 10, repeat_percent: 5, delay_ms_max: 40 });
        }
    }

    /// A living node is cut off from the bus, or taken for dead by some.
    async fn split(&self, index: usize, me: &Incarnation) {
        if self.generator.percent(50) {
            let believers: Vec<usize> = (0..NODES).filter(|_| self.generator.percent(60)).collect();
            return self.forget_for_a_while(index, &believers, 500 + self.generator.below(4_000));
        }
        let for_ms = 300 + self.generator.below(6_000);
        self.oracle.trace(format_args!("{me} is cut off for {for_ms} ms"));
        self.bus.cut_off(me, true);
        if for_ms > TTL_MS {
            self.forget_for_a_while(index, &[0, 1, 2, 3, 4], for_ms);
        }
        self.pass(for_ms).await;
        self.bus.cut_off(me, false);
    }

    /// Ends all faults, and runs all nodes.
    pub(crate) fn heal(&self) {
        self.bus.set_faults(BusFaults::default());
        self.store_is_away(false);
        self.store_is_vague(0);
        self.store.faults().delay_ms_max(3);
        self.all_run();
        self.oracle.trace(format_args!("all is well"));
    }

    /// Starts the nodes that are not running.
    pub(crate) fn all_run(&self) {
        for index in 0..NODES {
            if self.node(index).is_none() {
                self.start(index);
            }
        }
    }

    /// Lets time pass while views are kept.
    pub(crate) async fn pass(&self, ms: u64) {
        let until_ms = self.clock.monotonic_ms() + ms;
        while self.clock.monotonic_ms() < until_ms {
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.keep_views();
            self.keep_lives().await;
        }
    }
}

/// The view of the living nodes.
fn next_view(inner: &mut Inner) -> View {
    inner.view_number += 1;
    view_of_all(inner)
}

fn view_of_all(inner: &Inner) -> View {
    View::new(inner.view_number, inner.alive.values().cloned().collect()).with_leaving(inner.leaving.clone())
}
