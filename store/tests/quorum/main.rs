//! The log protocol (`store/src/quorum.rs`) under all kinds of faults, over three simulated replicas: writes and
//! messages are lost, late, repeated and partial, outcomes stay open, nodes stop between any two steps and resume much
//! later, crash, take over from each other, all at once. What has been promised or shown must hold for ever
//! (`oracle.rs`).
//!
//! This runs the protocol's own code; each of its quorum operations is a future that the schedule completes. A schedule
//! is determined by its seed: `SWITCHBOARD_SEED=n` runs that one, `SWITCHBOARD_SCHEDULES=n` runs that many. Each rule
//! of the protocol is left out once (`broken.rs`), and that must be detected (`rules.rs`).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod broken;
mod directed;
mod driver;
mod executor;
mod node;
mod oracle;
mod plan;
mod replica;
mod rules;
mod schedule;
mod store;

use oracle::Counts;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Schedules without `SWITCHBOARD_SCHEDULES`.
const SCHEDULES: u64 = 100_000;

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

#[test]
fn all_rules_kept_what_is_durable_stays_and_all_see_one_log() {
    if let Some(seed) = variable("SWITCHBOARD_SEED") {
        let outcome = schedule::run(seed, None, |plan| plan.traced = true);
        assert!(outcome.violations.is_empty(), "seed {seed}: {outcome:#?}");
        return;
    }
    let schedules = variable("SWITCHBOARD_SCHEDULES").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(1);
    let total = Mutex::new(Counts::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut counts = Counts::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > schedules {
                        break;
                    }
                    let outcome = schedule::run(seed, None, |_| {});
                    assert!(outcome.violations.is_empty(), "SWITCHBOARD_SEED={seed} replays {outcome:#?}");
                    counts.add(outcome.counts);
                }
                total.lock().unwrap().add(counts);
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{schedules} schedules: {total:?}");
    // Schedules in which little happens find little.
    assert!(total.durable > 4 * schedules && total.terms > 4 * schedules && total.shown > 10 * schedules, "{total:?}");
}

#[test]
fn one_seed_is_one_schedule() {
    for seed in 1..=50 {
        assert_eq!(schedule::run(seed, None, |_| {}), schedule::run(seed, None, |_| {}), "seed {seed}");
    }
}
