//! Measuring: time, the schedule of sends, latencies, counters, and resource use of processes.
//!
//! Nothing here knows the protocol or a scenario.

pub(crate) mod latency;
pub(crate) mod metrics_page;
pub(crate) mod pace;
pub(crate) mod process;
pub(crate) mod recorder;
pub(crate) mod timer;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the machine's monotonic clock, which all processes share, so that times of different workers can be
/// compared. (`Clock` of `switchboard-clock` starts at its own zero in each process.)
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

pub(crate) const NS_PER_S: u64 = 1_000_000_000;
