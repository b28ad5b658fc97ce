//! Judges a history. It knows nothing of a running system: operations in, violations out.
//!
//! The rules are in files by what they look at. Each says what PROTOCOL or DESIGN promises, and what excuses a client
//! that did not get it.

use super::evidence::Evidence;
use super::rules::{answers, log, pushes, sends, sessions, unread, windows};
use super::{Operation, Verdict, What};

/// Checks operations that are in the order of time.
pub(crate) fn check(operations: &[Operation]) -> Verdict {
    let evidence = Evidence::of(operations);
    let is_acknowledged = |operation: &&Operation| matches!(operation.what, What::Ok { .. });
    let mut verdict = Verdict {
        operations: operations.len() as u64,
        acknowledged: operations.iter().filter(is_acknowledged).count() as u64,
        shown: evidence.shown,
        read_back: evidence.conversations.values().filter(|one| !one.final_logs.is_empty()).count() as u64,
        ..Verdict::default()
    };
    log::check(operations, &evidence, &mut verdict);
    sends::check(operations, &evidence, &mut verdict);
    sessions::check(&evidence, &mut verdict);
    answers::check(operations, &evidence, &mut verdict);
    unread::check(&evidence, &mut verdict);
    windows::check(operations, &evidence, &mut verdict);
    pushes::check(operations, &evidence, &mut verdict);
    verdict
}
