//! Background work: writes projections and raises ends. Correctness never depends on when it happens; after an error,
//! the next round makes up for it.

use super::terms::{LocalTerm, UNAPPLIED_MAX};
use super::{Core, ScyllaOptions};
use crate::quorum::Raise;
use crate::{ConversationKey, StoreError};
use std::sync::Arc;
use switchboard_clock::Clock;
use tokio::task::JoinSet;

/// Conversations whose projections are written concurrently.
const APPLIED_AT_ONCE: usize = 16;

/// Time between two parts of a round.
const PART_MS: u64 = 100;

/// Pause after a failure.
const AGAIN_MS: u64 = 1_000;

/// Starts the tasks; they end when the set is dropped.
pub(super) fn start(core: &Arc<Core>, options: &ScyllaOptions, clock: &Clock) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(apply(core.clone(), clock.clone(), options.apply_interval_ms));
    tasks.spawn(raise_full(core.clone()));
    tasks.spawn(raise_aged(core.clone(), clock.clone(), options.raise_interval_ms));
    tasks
}

/// Writes projections: of each conversation once per interval, and immediately of those that have accumulated many
/// unprojected entries. The conversations are spread over the interval: the statements of all at once would be a burst, and
/// live appends would wait behind it.
async fn apply(core: Arc<Core>, clock: Clock, interval_ms: u64) {
    let mut round_ms = clock.monotonic_ms();
    loop {
        let terms = core.terms.unapplied(0);
        let parts = usize::try_from(interval_ms / PART_MS).map_or(1, |parts| parts.max(1));
        let part_ms = interval_ms / parts as u64;
        for (number, part) in (1..).zip(terms.chunks(terms.len().div_ceil(parts).max(1))) {
            apply_many_until(&core, &clock, round_ms + number * part_ms).await;
            let applied = apply_those(&core, part).await;
            note_and_pause(applied, &clock).await;
        }
        round_ms = (round_ms + interval_ms).max(clock.monotonic_ms());
        apply_many_until(&core, &clock, round_ms).await;
    }
}

/// Until then, writes the projections of those that have accumulated many unprojected entries.
async fn apply_many_until(core: &Arc<Core>, clock: &Clock, until_ms: u64) {
    loop {
        tokio::select! {
            biased;
            () = clock.sleep_until_ms(until_ms) => return,
            () = core.terms.wait_for_many() => {}
        }
        let applied = apply_those(core, &core.terms.unapplied(UNAPPLIED_MAX)).await;
        note_and_pause(applied, clock).await;
    }
}

async fn note_and_pause(applied: Result<(), StoreError>, clock: &Clock) {
    let has_failed = applied.is_err();
    note(applied);
    if has_failed {
        clock.sleep_ms(AGAIN_MS).await;
    }
}

/// Writes the projections of all terms that run.
///
/// # Errors
/// See [`apply_those`].
pub(super) async fn apply_all(core: &Arc<Core>) -> Result<(), StoreError> {
    apply_those(core, &core.terms.unapplied(0)).await
}

/// Writes the projections of those that run, up to what is durable now. A failure of one does not stop the others.
/// Forgets the rest: terms of a fenced life, or that another node has taken over. The next owner writes their projections.
///
/// # Errors
/// The first one.
async fn apply_those(core: &Arc<Core>, terms: &[(ConversationKey, Arc<LocalTerm>)]) -> Result<(), StoreError> {
    let (running, over): (Vec<_>, Vec<_>) = terms.iter().partition(|(conversation, term)| {
        core.log.end_here(conversation).is_some_and(|(running, _)| running == term.number)
    });
    over.iter().for_each(|(conversation, term)| core.terms.forget(conversation, term.number));
    let unapplied = running.into_iter().filter(|(_, term)| term.unapplied() > 0);
    let applications = unapplied.map(|(conversation, term)| {
        let (core, conversation, term) = (core.clone(), conversation.clone(), term.clone());
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
