//! The metrics of dashboards. As in `crate::figures`, each is exported from the start, and no label holds a tenant or
//! topic.

use crate::figures::shown;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// The metrics of one node.
pub(crate) struct TopicFigures {
    pub(crate) active: Gauge,
    pub(crate) copies: Gauge,
    pub(crate) copies_refused: Counter,
    pub(crate) bytes: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) late: Counter,
    pub(crate) ahead: Counter,
    pub(crate) no_series: Counter,
    pub(crate) updates: Counter,
    pub(crate) overloaded: Counter,
}

impl Default for TopicFigures {
    fn default() -> Self {
        describe_gauge!("switchboard_topics_active", "Dashboard topics owned by this node");
        describe_gauge!("switchboard_topics_copies", "Copies of dashboard topics owned by other nodes");
        describe_counter!(
            "switchboard_topic_copies_refused_total",
            "Parts of such copies not kept because topics.memory_bytes, or a tenant's share of it, was used up"
        );
        describe_gauge!("switchboard_topics_bytes", "Approximate memory of all these topics, in bytes");
        describe_counter!(
            "switchboard_topic_events_total",
            "Dashboard events by outcome; a refused event (ahead, no_series) counts with its whole batch"
        );
        describe_counter!("switchboard_topic_updates_total", "Dashboard updates, one per watching node");
        let events = |outcome| shown(counter!("switchboard_topic_events_total", "outcome" => outcome));
        Self {
            active: gauge!("switchboard_topics_active"),
            copies: gauge!("switchboard_topics_copies"),
            copies_refused: shown(counter!("switchboard_topic_copies_refused_total")),
            bytes: gauge!("switchboard_topics_bytes"),
            accepted: events("accepted"),
            late: events("late"),
            ahead: events("ahead"),
            no_series: events("no_series"),
            updates: shown(counter!("switchboard_topic_updates_total")),
            overloaded: shown(counter!("switchboard_overloaded_total", "queue" => "topics")),
        }
    }
}
