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
        "From an entry's decision at its owner, through its durability, to its hand-over to the homes"
    );
    describe_gauge!("switchboard_conversations_active", "Conversations whose owner is active on this node");
    describe_gauge!(
        "switchboard_conversations_untold",
        "Conversations that this node is to take over or hand over, and whose part of the store does not answer"
    );
    describe_gauge!(
        "switchboard_take_overs_waiting",
        "Conversations of dead or draining nodes that this node is to take over and that wait for their turn"
    );
    describe_gauge!("switchboard_view_members", "Nodes in this node's view");
    describe_gauge!("switchboard_owed_announcements", "Announcements that homes have not confirmed as flushed");
    describe_counter!("switchboard_bus_publishes_total", "Packets given to the bus");
    describe_counter!("switchboard_bus_gaps_total", "Holes noticed in the numbers of another node's envelopes");
    describe_counter!(
        "switchboard_bus_gaps_seen_to_total",
        "Times that what was in such holes was asked for again: at most once per node and heartbeat"
    );
    describe_counter!("switchboard_bus_refused_total", "Packets that were none, or of another version");
    describe_counter!(
        "switchboard_bus_dropped_total",
        "Envelopes that did not leave (queue: too much waits for the node; bus: not taken), or that a full home did not take"
    );
    describe_counter!(
        "switchboard_relays_late_total",
        "Users whose sessions were not given frames of a former home, which came after it was taken out of the view"
    );
    describe_gauge!("switchboard_home_dirty_bytes", "Inbox changes that wait to be written");
    describe_gauge!("switchboard_newest_entries_bytes", "Last entries of active conversations that are kept in memory");
    describe_gauge!("switchboard_trace_bytes", "What is kept in memory of what became of messages");
    describe_counter!(
        "switchboard_trace_events_left_out_total",
        "Events that traces were asked for and had no room for"
    );
    describe_counter!("switchboard_last_seen_dropped_total", "Last-seen times that were left out as too many wait");
    describe_counter!(
        "switchboard_receipts_dropped_total",
        "Receipts that nobody waits for and their owner did not hear, beyond limits.home_dirty_max"
    );
    describe_counter!("switchboard_overloaded_total", "What was refused with overloaded, by what had no room");
    describe_counter!("switchboard_resyncs_total", "Sessions told to sync because events may have been lost");
    describe_counter!("switchboard_terms_total", "Terms begun, by whether the one before had been ended");
    describe_counter!(
        "switchboard_fenced_total",
        "Times that this process was taken for dead by others, and had to go on as a new incarnation"
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
