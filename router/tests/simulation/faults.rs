//! A bus that drops, repeats and delays packets, and can cut nodes off. Its behaviour is drawn from one generator.
//!
//! Packets of one sender for one receiver keep their order unless they are repeated, as `Bus` promises.

use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use switchboard_clock::{Clock, Generator};
use switchboard_router::{Bus, BusError, InProcessBus, Packets};
use switchboard_store::Incarnation;
use tokio::sync::Notify;

/// How bad the bus is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BusFaults {
    pub(crate) drop_percent: u64,
    pub(crate) repeat_percent: u64,
    pub(crate) delay_ms_max: u64,
}

/// A packet under way: its arrival time, its number, its receiver.
type OnItsWay = Reverse<(u64, u64, Incarnation, Bytes)>;

#[derive(Default)]
struct Waiting {
    faults: BusFaults,
    packets: BinaryHeap<OnItsWay>,
    number: u64,
    /// The arrival time of each pair's last packet.
    last_ms: BTreeMap<(Incarnation, Incarnation), u64>,
    cut_off: BTreeSet<Incarnation>,
    /// Pairs of sender and receiver between whom everything is lost.
    lost: BTreeSet<(Incarnation, Incarnation)>,
    /// Pairs between whom everything is held back.
    held: BTreeMap<(Incarnation, Incarnation), Vec<Bytes>>,
}

/// The bus of all nodes; each sends through its own [`Port`].
pub(crate) struct FaultyBus {
    inner: InProcessBus,
    clock: Clock,
    generator: Generator,
    waiting: Mutex<Waiting>,
    more: Notify,
    /// Immediate delivery, in the sender's own call: the plain in-process bus.
    plain: AtomicBool,
}

impl FaultyBus {
    pub(crate) fn new(clock: Clock, generator: Generator, plain: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: InProcessBus::default(),
            clock,
            generator,
            waiting: Mutex::default(),
            more: Notify::new(),
            plain: AtomicBool::new(plain),
        })
    }

    pub(crate) fn set_faults(&self, faults: BusFaults) {
        self.waiting.lock().unwrap().faults = faults;
    }

    /// Drops everything from and to the node, until a call with `false`.
    pub(crate) fn cut_off(&self, node: &Incarnation, cut_off: bool) {
        let mut waiting = self.waiting.lock().unwrap();
        if cut_off {
            waiting.cut_off.insert(node.clone());
        } else {
            waiting.cut_off.remove(node);
        }
    }

    /// Drops everything that one node sends to another, until a call with `false`; the sender does not notice.
    pub(crate) fn lose(&self, from: &Incarnation, to: &Incarnation, lost: bool) {
        let mut waiting = self.waiting.lock().unwrap();
        let pair = (from.clone(), to.clone());
        if lost {
            waiting.lost.insert(pair);
        } else {
            waiting.lost.remove(&pair);
        }
    }

    /// Holds back everything that one node sends to another, until a call with `false`, which also delivers it.
    pub(crate) fn hold(&self, from: &Incarnation, to: &Incarnation, held: bool) {
        let mut waiting = self.waiting.lock().unwrap();
        let pair = (from.clone(), to.clone());
        if held {
            waiting.held.entry(pair).or_default();
        } else {
            for packet in waiting.held.remove(&pair).into_iter().flatten() {
                self.inner.publish(to, packet).unwrap();
            }
        }
    }

    /// Delivers packets at their time; never returns.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let due_ms = {
                let mut waiting = self.waiting.lock().unwrap();
                let now_ms = self.clock.monotonic_ms();
                while waiting.packets.peek().is_some_and(|Reverse((at_ms, ..))| *at_ms <= now_ms) {
                    let Some(Reverse((_, _, to, packet))) = waiting.packets.pop() else { break };
                    // Full: lost, as on any bus.
                    drop(self.inner.publish(&to, packet));
                }
                waiting.packets.peek().map(|Reverse((at_ms, ..))| *at_ms)
            };
            tokio::select! {
                biased;
                () = self.more.notified() => {}
                () = self.clock.sleep_until_ms(due_ms.unwrap_or(u64::MAX / 1_000_000)) => {}
            }
        }
    }

    fn send(&self, from: &Incarnation, to: &Incarnation, packet: Bytes) -> Result<(), BusError> {
        let mut waiting = self.waiting.lock().unwrap();
        if waiting.cut_off.contains(from) || waiting.cut_off.contains(to) {
            return Err(BusError::Down("cut off by a test".to_owned()));
        }
        let pair = (from.clone(), to.clone());
        if waiting.lost.contains(&pair) {
            return Ok(());
        }
        if let Some(held) = waiting.held.get_mut(&pair) {
            held.push(packet);
            return Ok(());
        }
        if self.plain.load(Ordering::Relaxed) {
            return self.inner.publish(to, packet);
        }
        let faults = waiting.faults;
        if self.generator.percent(faults.drop_percent) {
            return Ok(());
        }
        let now_ms = self.clock.monotonic_ms();
        let earliest_ms = waiting.last_ms.get(&pair).copied().unwrap_or(0);
        let at_ms = (now_ms + self.generator.below(faults.delay_ms_max + 1)).max(earliest_ms);
        waiting.last_ms.insert(pair, at_ms);
        waiting.number += 1;
        let number = waiting.number;
        waiting.packets.push(Reverse((at_ms, number, to.clone(), packet.clone())));
        if self.generator.percent(faults.repeat_percent) {
            let again_ms = at_ms + self.generator.below(faults.delay_ms_max * 4 + 1);
            waiting.number += 1;
            let number = waiting.number;
            waiting.packets.push(Reverse((again_ms, number, to.clone(), packet)));
        }
        self.more.notify_one();
        Ok(())
    }
}

/// One node's end of the bus.
pub(crate) struct Port {
    pub(crate) bus: Arc<FaultyBus>,
    pub(crate) me: Incarnation,
}

impl Bus for Port {
    fn publish(&self, to: &Incarnation, packet: Bytes) -> Result<(), BusError> {
        self.bus.send(&self.me, to, packet)
    }

    fn subscribe(&self, me: &Incarnation) -> Packets {
        self.bus.inner.subscribe(me)
    }
}
