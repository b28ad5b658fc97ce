//! The store's statements, as the servers count them by operation (`switchboard_store_statements_total`).

use std::collections::BTreeMap;

use crate::meter::metrics_page::Series;
use crate::report::figure::Figure;
use crate::report::round::Phase;

/// Smaller values are not significant.
const SHOWN_MIN: f64 = 0.01;

/// Operations of a ScyllaDB store that no send waits for: projections of its entry, and the background work of a node.
/// An operation that is not listed counts as waited for.
const BEHIND: &[&str] = &[
    "active",
    "active_partitions",
    "check",
    "first_inbox_epoch",
    "inbox_epoch",
    "inbox_epoch_serial",
    "inbox_row",
    "next_inbox_epoch",
    "put_conversation_state",
    "put_inbox",
    "put_last_seen",
    "put_members",
    "put_message_states",
    "remove_active",
];

/// The count of each operation.
pub(super) fn by_operation(counters: &Series) -> BTreeMap<&str, f64> {
    let named = counters.iter().filter_map(|(name, count)| {
        let op = name.strip_prefix(r#"switchboard_store_statements_total{op=""#)?.strip_suffix(r#""}"#)?;
        Some((op, *count))
    });
    named.collect()
}

/// A figure for each operation that was done for `things`, each called a `thing`.
pub(super) fn per(phase: &Phase, things: f64, thing: &str) -> Vec<Option<Figure>> {
    let each = by_operation(&phase.server_counters).into_iter().map(|(op, count)| (op, count / things));
    let told = each.filter(|(_, share)| share.is_finite() && *share >= SHOWN_MIN);
    told.map(|(op, share)| Figure::new(&format!("store statements per {thing}: {op}"), "", Some(share))).collect()
}

/// The number of statements that sends may have waited for. `None`: the servers do not report it.
pub(super) fn waited_for(phase: &Phase) -> Option<f64> {
    let all = by_operation(&phase.server_counters);
    let waited = all.iter().filter(|(op, _)| !BEHIND.contains(op) && !op.starts_with("push_"));
    (!all.is_empty()).then(|| waited.map(|(_, count)| count).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase() -> Phase {
        let counters = [("insert_entry", 10.0), ("is_live", 1.0), ("put_inbox", 4.0), ("check", 0.01)];
        let named = |(op, count)| (format!(r#"switchboard_store_statements_total{{op="{op}"}}"#), count);
        let mut server_counters: Series = counters.map(named).into();
        server_counters.insert("switchboard_bus_publishes_total".to_owned(), 9.0);
        Phase { server_counters, ..Phase::default() }
    }

    #[test]
    fn statements_are_counted_by_operation() {
        let phase = phase();
        assert_eq!(by_operation(&phase.server_counters)["put_inbox"], 4.0);
        let shown: Vec<(String, f64)> =
            per(&phase, 10.0, "message").into_iter().flatten().map(|figure| (figure.name, figure.value)).collect();
        let named = |op: &str| format!("store statements per message: {op}");
        assert_eq!(shown, [(named("insert_entry"), 1.0), (named("is_live"), 0.1), (named("put_inbox"), 0.4)]);
        assert!(per(&phase, 0.0, "message").is_empty());
    }

    #[test]
    fn what_is_written_behind_was_not_waited_for() {
        assert_eq!(waited_for(&phase()), Some(11.0));
        assert_eq!(waited_for(&Phase::default()), None);
    }
}
