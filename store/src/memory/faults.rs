//! The faults that a test may inject into a [`super::MemoryStore`]. All are drawn from one generator, so that a run can
//! be repeated from its seed.

use crate::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use switchboard_clock::Generator;

/// A handle; clones control the same store.
#[derive(Clone, Debug)]
pub struct Faults {
    generator: Generator,
    settings: Arc<FaultSettings>,
}

#[derive(Debug, Default)]
struct FaultSettings {
    unavailable: AtomicBool,
    delay_ms_max: AtomicU64,
    unknown_percent: AtomicU64,
}

/// The outcome of a faulty write.
pub(super) enum Outcome {
    Done,
    /// It is done, but the caller gets an error.
    DoneUnsaid,
    /// It is not done.
    Lost,
}

impl Faults {
    pub(super) fn new(generator: Generator) -> Self {
        Self { generator, settings: Arc::default() }
    }

    /// With `true`, every operation fails without being done, until a call with `false`.
    pub fn unavailable(&self, unavailable: bool) {
        self.settings.unavailable.store(unavailable, Ordering::Relaxed);
    }

    /// Delays each operation by a random time of up to this many milliseconds before it is carried out, and again
    /// before its answer, so concurrent operations may overtake each other. 0: no delay.
    pub fn delay_ms_max(&self, delay_ms_max: u64) {
        self.settings.delay_ms_max.store(delay_ms_max, Ordering::Relaxed);
    }

    /// This percentage of writes ends with an error whose outcome is open: half of them are done.
    pub fn unknown_percent(&self, percent: u64) {
        self.settings.unknown_percent.store(percent, Ordering::Relaxed);
    }

    pub(super) async fn delay(&self) {
        let delay_ms_max = self.settings.delay_ms_max.load(Ordering::Relaxed);
        if delay_ms_max > 0 {
            tokio::time::sleep(Duration::from_millis(self.generator.below(delay_ms_max + 1))).await;
        }
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.settings.unavailable.load(Ordering::Relaxed) {
            return Err(StoreError::unavailable("switched off by a test"));
        }
        Ok(())
    }

    pub(super) fn outcome_of_write(&self) -> Result<Outcome, StoreError> {
        self.check()?;
        let unknown_percent = self.settings.unknown_percent.load(Ordering::Relaxed);
        if unknown_percent == 0 || !self.generator.percent(unknown_percent) {
            return Ok(Outcome::Done);
        }
        Ok(if self.generator.percent(50) { Outcome::DoneUnsaid } else { Outcome::Lost })
    }
}

pub(super) fn unknown(op: &str) -> StoreError {
    StoreError::unavailable(format!("outcome of {op} unknown, by a test's will"))
}
