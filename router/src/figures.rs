//! The router's metrics. Each is registered once, so that counting costs one addition, and is exported from the start
//! with the value 0. No label holds a user, a tenant or a conversation.

use crate::push::PushFigures;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// The metrics of one node.
pub(crate) struct Figures {
    pub(crate) delivery_duration_s: Histogram,
    pub(crate) conversations_active: Gauge,
    pub(crate) conversations_untold: Gauge,
    pub(crate) take_overs_waiting: Gauge,
    pub(crate) view_members: Gauge,
    pub(crate) owed_announcements: Gauge,
    pub(crate) bus_publishes: Counter,
    pub(crate) bus_gaps: Counter,
    pub(crate) bus_gaps_seen_to: Counter,
    pub(crate) bus_refused: Counter,
    pub(crate) bus_dropped_queue: Counter,
    pub(crate) bus_dropped_bus: Counter,
    pub(crate) bus_dropped_home: Counter,
    pub(crate) relays_late: Counter,
    pub(crate) home_dirty_bytes: Gauge,
    pub(crate) newest_entries_bytes: Gauge,
    pub(crate) trace_bytes: Gauge,
    pub(crate) trace_events_left_out: Counter,
    pub(crate) last_seen_dropped: Counter,
    pub(crate) receipts_dropped: Counter,
    pub(crate) overloaded_conversation: Counter,
    pub(crate) overloaded_home: Counter,
    pub(crate) overloaded_requests: Counter,
    pub(crate) resyncs_of_gaps: Counter,
    pub(crate) resyncs_of_owners: Counter,
    pub(crate) resyncs_of_moves: Counter,
    pub(crate) terms_begun: Counter,
    pub(crate) terms_taken_over: Counter,
    pub(crate) fenced: Counter,
    pub(crate) push: PushFigures,
}

impl Figures {
    pub(crate) fn new() -> Self {
        describe();
        let resyncs = |reason| shown(counter!("switchboard_resyncs_total", "reason" => reason));
        let terms = |reason| shown(counter!("switchboard_terms_total", "reason" => reason));
        let dropped = |reason| shown(counter!("switchboard_bus_dropped_total", "reason" => reason));
        let overloaded = |queue| shown(counter!("switchboard_overloaded_total", "queue" => queue));
        Self {
            delivery_duration_s: histogram!("switchboard_delivery_duration_seconds"),
            conversations_active: gauge!("switchboard_conversations_active"),
            conversations_untold: gauge!("switchboard_conversations_untold"),
            take_overs_waiting: gauge!("switchboard_take_overs_waiting"),
            view_members: gauge!("switchboard_view_members"),
            owed_announcements: gauge!("switchboard_owed_announcements"),
            bus_publishes: shown(counter!("switchboard_bus_publishes_total")),
            bus_gaps: shown(counter!("switchboard_bus_gaps_total")),
            bus_gaps_seen_to: shown(counter!("switchboard_bus_gaps_seen_to_total")),
            bus_refused: shown(counter!("switchboard_bus_refused_total")),
            bus_dropped_queue: dropped("queue"),
            bus_dropped_bus: dropped("bus"),
            bus_dropped_home: dropped("home"),
            relays_late: shown(counter!("switchboard_relays_late_total")),
            home_dirty_bytes: gauge!("switchboard_home_dirty_bytes"),
            newest_entries_bytes: gauge!("switchboard_newest_entries_bytes"),
            trace_bytes: gauge!("switchboard_trace_bytes"),
            trace_events_left_out: shown(counter!("switchboard_trace_events_left_out_total")),
            last_seen_dropped: shown(counter!("switchboard_last_seen_dropped_total")),
            receipts_dropped: shown(counter!("switchboard_receipts_dropped_total")),
            overloaded_conversation: overloaded("conversation"),
            overloaded_home: overloaded("home"),
            overloaded_requests: overloaded("requests"),
            resyncs_of_gaps: resyncs("bus_gap"),
            resyncs_of_owners: resyncs("owner_unavailable"),
            resyncs_of_moves: resyncs("home_moved"),
            terms_begun: terms("idle"),
            terms_taken_over: terms("takeover"),
            fenced: shown(counter!("switchboard_fenced_total")),
            push: PushFigures::new(),
        }
    }
}

/// Descriptions for the metrics page.
fn describe() {
    describe_histogram!(
        "switchboard_delivery_duration_seconds",
        "Time from an entry's decision at its owner until it is durable and handed over to the homes"
    );
    describe_gauge!("switchboard_conversations_active", "Conversations whose owner is active on this node");
    describe_gauge!(
        "switchboard_conversations_untold",
        "Conversations to take over or hand over whose part of the store does not answer"
    );
    describe_gauge!(
        "switchboard_take_overs_waiting",
        "Conversations of dead or draining nodes waiting for this node to take them over"
    );
    describe_gauge!("switchboard_view_members", "Nodes in this node's view");
    describe_gauge!(
        "switchboard_owed_announcements",
        "Announcements that homes have not yet confirmed as written to their inboxes"
    );
    describe_counter!("switchboard_bus_publishes_total", "Packets published on the bus");
    describe_counter!("switchboard_bus_gaps_total", "Gaps noticed in the numbering of another node's envelopes");
    describe_counter!(
        "switchboard_bus_gaps_seen_to_total",
        "Recoveries after such gaps, at most one per node and heartbeat"
    );
    describe_counter!(
        "switchboard_bus_refused_total",
        "Packets refused because they were unreadable or of another version"
    );
    describe_counter!(
        "switchboard_bus_dropped_total",
        "Envelopes dropped (queue: full for that node; bus: not accepted; home: a full home refused them)"
    );
    describe_counter!(
        "switchboard_relays_late_total",
        "Users whose sessions were not given a former home's frames because it had left the view"
    );
    describe_gauge!("switchboard_home_dirty_bytes", "Bytes of inbox changes waiting to be written");
    describe_gauge!(
        "switchboard_newest_entries_bytes",
        "Bytes of the newest entries of active conversations kept in memory"
    );
    describe_gauge!("switchboard_trace_bytes", "Bytes of message traces kept in memory");
    describe_counter!("switchboard_trace_events_left_out_total", "Trace events left out because there was no room");
    describe_counter!("switchboard_last_seen_dropped_total", "Last-seen times dropped because too many were waiting");
    describe_counter!(
        "switchboard_receipts_dropped_total",
        "Receipts dropped because their owner did not answer and limits.home_dirty_max was reached"
    );
    describe_counter!("switchboard_overloaded_total", "Requests refused with overloaded, by the queue that was full");
    describe_counter!("switchboard_resyncs_total", "Sessions sent resync because events may have been lost");
    describe_counter!("switchboard_terms_total", "Terms begun (idle: the one before had ended; takeover: it had not)");
    describe_counter!(
        "switchboard_fenced_total",
        "Times this process was taken for dead and continued as a new incarnation"
    );
}

/// Exported from the start: an alert on a missing series would not see its first increment.
pub(crate) fn shown(counter: Counter) -> Counter {
    counter.increment(0);
    counter
}

/// A number as a gauge's value.
pub(crate) fn count(number: usize) -> f64 {
    // Exact, far beyond what fits into memory.
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}
