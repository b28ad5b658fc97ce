//! Signals (OPERATING, "Signals").

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a drain that was cut short.
const CUT_SHORT: i32 = 130;

/// SIGTERM and SIGINT.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Ends the process at the next one.
    pub(crate) async fn exit_at_next(mut self) -> ! {
        self.recv().await;
        tracing::warn!("a second signal cuts the drain short");
        process::exit(CUT_SHORT)
    }
}

/// SIGHUP.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}
