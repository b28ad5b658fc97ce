//! A closed loop: a client that sends the next message when the last one is answered, with a fixed number under way.
//!
//! It finds the maximum throughput. Its latencies are meaningless: a slow server gets fewer requests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Result;

use super::reader::OnFrame;
use super::scan;
use super::session::Client;
use crate::meter::now_ns;
use crate::meter::recorder::Counter;
use crate::worker::PhaseWork;

/// One client's loop. Nothing is sent before [`ClosedLoop::begin`], or after the switch is off.
pub(crate) struct ClosedLoop {
    client: OnceLock<Client>,
    place: OnceLock<String>,
    text: String,
    /// Shared by all loops of a worker.
    is_on: Arc<AtomicBool>,
    said: AtomicU64,
    sends: Counter,
}

impl ClosedLoop {
    pub(crate) fn new(text: &str, is_on: &Arc<AtomicBool>, sends: &Counter) -> Arc<Self> {
        Arc::new(Self {
            client: OnceLock::new(),
            place: OnceLock::new(),
            text: text.to_owned(),
            is_on: is_on.clone(),
            said: AtomicU64::new(0),
            sends: sends.clone(),
        })
    }

    /// Called by the session: an answer makes room for the next send.
    pub(crate) fn on_frame(self: &Arc<Self>) -> OnFrame {
        let own = self.clone();
        Box::new(move |kind, json, _| {
            if kind == "sent" || (kind == "error" && scan::text(json, "client_id").is_some()) {
                own.next();
            }
        })
    }

    /// Sets the client and the destination, as [`Client::send`] takes it. Only the first call counts.
    pub(crate) fn attach(&self, client: &Client, place: &str) {
        self.client.get_or_init(|| client.clone());
        self.place.get_or_init(|| place.to_owned());
    }

    /// Puts this many sends under way.
    pub(crate) fn begin(&self, under_way: usize) {
        (0..under_way).for_each(|_| self.next());
    }

    /// The number of sends so far.
    pub(crate) fn said(&self) -> u64 {
        self.said.load(Ordering::Relaxed)
    }

    fn next(&self) {
        if let (true, Some(client), Some(place)) =
            (self.is_on.load(Ordering::Relaxed), self.client.get(), self.place.get())
        {
            client.send(place, self.said.fetch_add(1, Ordering::Relaxed), now_ns(), &self.text);
            self.sends.add(1);
        }
    }
}

/// The loops of all clients of a worker.
pub(crate) struct Flood {
    loops: Vec<Arc<ClosedLoop>>,
    is_on: Arc<AtomicBool>,
}

impl Flood {
    /// `is_on` is the loops' switch.
    pub(crate) fn new(loops: Vec<Arc<ClosedLoop>>, is_on: Arc<AtomicBool>) -> Self {
        Self { loops, is_on }
    }

    /// Keeps this many sends of each client under way for a while, and waits for all answers. Returns the number of
    /// sends so far, in all phases.
    ///
    /// # Errors
    /// As [`PhaseWork::hold`].
    pub(crate) async fn run(&mut self, phase: &mut PhaseWork<'_>, under_way: usize, duration_s: f64) -> Result<u64> {
        let meters = phase.meters().clone();
        let answered = || meters.sent.total() + meters.send_errors.total();
        // Other sends, which have all been answered.
        let before = answered().saturating_sub(self.said());
        self.is_on.store(true, Ordering::Relaxed);
        self.loops.iter().for_each(|closed| closed.begin(under_way));
        phase.hold(duration_s).await?;
        self.is_on.store(false, Ordering::Relaxed);
        let said = self.said();
        phase.drain(|| answered() >= before + said).await;
        Ok(said)
    }

    fn said(&self) -> u64 {
        self.loops.iter().map(|closed| closed.said()).sum()
    }
}
