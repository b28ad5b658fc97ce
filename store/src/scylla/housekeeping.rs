//! Background work: writes projections and raises ends. Correctness never depends on when it happens; after an error,
//! the next round makes up for it.

use super::terms::UNAPPLIED_MAX;
use super::{Core, ScyllaOptions};
use crate::StoreError;
use crate::quorum::Raise;
use std::sync::Arc;
use switchboard_clock::Clock;
use tokio::task::JoinSet;

/// Conversations whose projections are written concurrently.
const APPLIED_AT_ONCE: usize = 16;

/// Delay before the next round after a failed one.
const AGAIN_MS: u64 = 1_000;

/// Starts the tasks; they end when the set is dropped.
pub(super) fn start(core: &Arc<Core>, options: &ScyllaOptions, clock: &Clock) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(apply(core.clone(), clock.clone(), options.apply_interval_ms));
    tasks.spawn(raise_full(core.clone()));
    tasks.spawn(raise_aged(core.clone(), clock.clone(), options.raise_interval_ms));
    tasks
}

/// Writes projections: periodically for all conversations, and immediately for those that have accumulated many
/// unprojected entries.
async fn apply(core: Arc<Core>, clock: Clock, interval_ms: u64) {
    let mut due_ms = clock.monotonic_ms() + interval_ms;
    loop {
        let applied = tokio::select! {
            biased;
            () = clock.sleep_until_ms(due_ms) => {
                due_ms = clock.monotonic_ms() + interval_ms;
                apply_all(&core).await
            }
            () = core.terms.wait_for_many() => apply_those_with(&core, UNAPPLIED_MAX).await,
        };
        let failed = applied.is_err();
        note(applied);
        if failed {
            clock.sleep_ms(AGAIN_MS).await;
        }
    }
}

/// Writes the projections of all terms that run, and forgets the others: those of a fenced life, or those that another
/// node has taken over. The next owner writes their projections.
///
/// # Errors
/// See [`apply_those_with`].
pub(super) async fn apply_all(core: &Arc<Core>) -> Result<(), StoreError> {
    for (conversation, term) in core.terms.unapplied(0) {
        if core.log.end_here(&conversation).is_none_or(|(running, _)| running != term.number) {
            core.terms.forget(&conversation, term.number);
        }
    }
    apply_those_with(core, 1).await
}

/// Writes the projections of all terms with at least this many unprojected entries, up to what is durable now. A
/// failure of one does not stop the others.
///
/// # Errors
/// The first one.
async fn apply_those_with(core: &Arc<Core>, unapplied_min: u64) -> Result<(), StoreError> {
    let applications = core.terms.unapplied(unapplied_min).into_iter().map(|(conversation, term)| {
        let core = core.clone();
        async move { core.apply(&conversation, &term).await }
    });
    all_of(applications, APPLIED_AT_ONCE).await
}

/// Runs all of `work`, at most `at_once` at a time, even if some of it fails.
///
/// # Errors
/// The first one.
pub(super) async fn all_of<F>(work: impl Iterator<Item = F>, at_once: usize) -> Result<(), StoreError>
where
    F: Future<Output = Result<(), StoreError>> + Send + 'static,
{
    results_of(work, at_once).await.into_iter().collect()
}

/// Runs all of `work`, at most `at_once` at a time, and returns the results in order.
pub(super) async fn results_of<F, T>(work: impl Iterator<Item = F>, at_once: usize) -> Vec<Result<T, StoreError>>
where
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
    T: Send + 'static,
{
    let mut under_way = JoinSet::new();
    let mut results = Vec::new();
    for (at, work) in work.enumerate() {
        if under_way.len() >= at_once
            && let Some(Ok((at, result))) = under_way.join_next().await
        {
            results[at] = result;
        }
        results.push(Err(StoreError::unavailable("a task of the store's broke off")));
        under_way.spawn(async move { (at, work.await) });
    }
    while let Some(done) = under_way.join_next().await {
        if let Ok((at, result)) = done {
            results[at] = result;
        }
    }
    results
}

async fn raise_full(core: Arc<Core>) {
    loop {
        core.log.bucket_filled().await;
        note(core.log.raise_ends(Raise::FullBuckets).await);
    }
}

async fn raise_aged(core: Arc<Core>, clock: Clock, interval_ms: u64) {
    loop {
        clock.sleep_ms(interval_ms).await;
        note(core.log.raise_ends(Raise::Aged).await);
    }
}

fn note(outcome: Result<(), StoreError>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "written behind later");
    }
}
