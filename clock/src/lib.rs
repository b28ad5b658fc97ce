//! Injected time and randomness, and the timer wheel shared by everything with many deadlines.
//!
//! Nothing else in the workspace reads the system's clock (`clippy.toml` bans it), and the simulated code has no other
//! source of time and randomness (a test bans them). So the routing core runs under a paused tokio clock and a seeded
//! generator, and a failing run can be replayed from its seed.
//!
//! This crate owns no state beyond what its values hold, and knows no concepts of the gateway.

mod generator;
mod wheel;

pub use generator::Generator;
pub use wheel::Wheel;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Wall time and monotonic time. Cheap to clone.
///
/// Monotonic time is tokio's, which a test pauses and advances; wall time is the system's or, in a simulation, derived
/// from the monotonic one with a skew that the test sets. Correctness never depends on wall time (DESIGN §3).
#[derive(Clone)]
pub struct Clock {
    origin: tokio::time::Instant,
    wall: Wall,
}

#[derive(Clone)]
enum Wall {
    System,
    Simulated { origin_ms: i64, skew_ms: Arc<AtomicI64> },
    Set(Arc<AtomicI64>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { origin: tokio::time::Instant::now(), wall: Wall::System }
    }

    /// A clock that starts at `origin_ms` (Unix milliseconds) and follows tokio's time, which a test may pause.
    /// `skew_ms` is added to wall time and may change, and so jump, at any time.
    pub fn simulated(origin_ms: i64, skew_ms: Arc<AtomicI64>) -> Self {
        Self { origin: tokio::time::Instant::now(), wall: Wall::Simulated { origin_ms, skew_ms } }
    }

    /// A clock whose wall time is what the test sets (Unix milliseconds), and nothing else, while monotonic time goes on:
    /// for what is signed or expires by wall time, in tests that run in real time.
    pub fn set_by(wall_ms: Arc<AtomicI64>) -> Self {
        Self { origin: tokio::time::Instant::now(), wall: Wall::Set(wall_ms) }
    }

    /// Wall time in Unix milliseconds. May jump in either direction.
    pub fn wall_ms(&self) -> i64 {
        match &self.wall {
            Wall::System => system_wall_ms(),
            Wall::Simulated { origin_ms, skew_ms } => {
                let elapsed = i64::try_from(self.monotonic_ms()).unwrap_or(i64::MAX);
                origin_ms.saturating_add(elapsed).saturating_add(skew_ms.load(Ordering::Relaxed))
            }
            Wall::Set(wall_ms) => wall_ms.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since this clock was made. Never goes back.
    pub fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Microseconds since this clock was made, for measuring durations.
    pub fn monotonic_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Waits until [`Clock::monotonic_ms`] is at least `deadline_ms`.
    pub async fn sleep_until_ms(&self, deadline_ms: u64) {
        tokio::time::sleep_until(self.origin + Duration::from_millis(deadline_ms)).await;
    }

    /// Waits until [`Clock::monotonic_ms`] is next a multiple of `interval_ms`, for periodic work: all waiters with the
    /// same interval wake together, so an idle process wakes less often than if each had its own phase.
    pub async fn sleep_to_next_ms(&self, interval_ms: u64) {
        let interval_ms = interval_ms.max(1);
        self.sleep_until_ms((self.monotonic_ms() / interval_ms + 1) * interval_ms).await;
    }

    /// Waits for `ms` milliseconds.
    pub async fn sleep_ms(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({} ms)", self.monotonic_ms())
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn system_wall_ms() -> i64 {
    let now = std::time::SystemTime::now();
    match now.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wall_time_that_is_set_does_not_go_on() {
        let wall_ms = Arc::new(AtomicI64::new(5));
        let clock = Clock::set_by(wall_ms.clone());
        clock.sleep_ms(1_000).await;
        assert_eq!((clock.wall_ms(), clock.monotonic_ms()), (5, 1_000));
        wall_ms.store(7, Ordering::Relaxed);
        assert_eq!(clock.wall_ms(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_follows_paused_time_and_its_skew() {
        let skew = Arc::new(AtomicI64::new(0));
        let clock = Clock::simulated(1_000_000, skew.clone());
        assert_eq!(clock.wall_ms(), 1_000_000);
        clock.sleep_ms(2_500).await;
        assert_eq!((clock.wall_ms(), clock.monotonic_ms()), (1_002_500, 2_500));
        skew.store(-60_000, Ordering::Relaxed);
        assert_eq!(clock.wall_ms(), 942_500, "wall time may jump back");
        clock.sleep_until_ms(3_000).await;
        assert_eq!(clock.monotonic_ms(), 3_000, "monotonic time never does");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_next_multiple_wakes_with_the_others() {
        let clock = Clock::simulated(0, Arc::default());
        clock.sleep_ms(130).await;
        tokio::join!(clock.sleep_to_next_ms(50), clock.sleep_to_next_ms(50));
        assert_eq!(clock.monotonic_ms(), 150);
        clock.sleep_to_next_ms(50).await;
        assert_eq!(clock.monotonic_ms(), 200, "never at once");
    }
}
