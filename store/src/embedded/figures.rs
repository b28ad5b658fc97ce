//! The embedded store's metrics, registered once, so that counting an operation is a single addition.

use crate::kv::OPERATIONS;
use metrics::{Counter, Histogram, counter, histogram};
use std::collections::HashMap;

/// The metrics of one store.
pub(super) struct Figures {
    operations: HashMap<&'static str, Operation>,
    pub(super) commit_writes: Histogram,
}

struct Operation {
    duration_s: Histogram,
    statements: Counter,
}

/// The `op` of a synced batch, which is counted in addition to its operations.
pub(super) const COMMIT: &str = "commit";

impl Figures {
    pub(super) fn new() -> Self {
        let operation = |op| Operation {
            duration_s: histogram!("switchboard_store_operation_duration_seconds", "op" => op),
            statements: counter!("switchboard_store_statements_total", "op" => op),
        };
        let operations = OPERATIONS.into_iter().chain([COMMIT]).map(|op| (op, operation(op))).collect();
        Self { operations, commit_writes: histogram!("switchboard_store_commit_writes") }
    }

    /// Counts one operation with its duration.
    pub(super) fn observe(&self, op: &'static str, duration_us: u64) {
        let Some(operation) = self.operations.get(op) else {
            debug_assert!(false, "{op} is not among the operations");
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "a duration of microseconds within a process's life")]
        operation.duration_s.record(duration_us as f64 / 1e6);
        operation.statements.increment(1);
    }
}
