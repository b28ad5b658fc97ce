//! Checks a history. It knows nothing of a running system: operations in, violations out.
//!
//! The rules are in files by subject. Each names the promise of PROTOCOL or DESIGN, and the exceptions for clients that
//! did not get it.

use super::evidence::Evidence;
use super::rules::{answers, log, pushes, sends, sessions, unread, windows};
use super::{Operation, Verdict, What};

/// Checks operations, which are ordered by time.
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
