//! The topic `$node` (PROTOCOL §5): this node's own metrics, each second, tagged with its name. All nodes publish to
//! the same topic, so a watcher sees all of them. The values are taken from the metrics page.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use switchboard_protocol::{Event, NodeId, Number, Tags, TopicId};

use crate::gateway::Gateway;

const INTERVAL_MS: u64 = 1_000;

/// What a figure's value is made of.
#[derive(Clone, Copy)]
enum Value {
    /// As it is now.
    Now,
    /// How much more than a second ago.
    More,
    /// The mean of what a histogram was given in the last second, in ms; none without anything.
    MeanMs,
    /// The bound of the bucket in which the 99th percentile of the same is, in ms.
    P99Ms,
}

/// The series, and the metric that each comes from, all its labels together.
const FIGURES: &[(&str, &str, Value)] = &[
    ("connections", "switchboard_connections", Value::Now),
    ("connects", "switchboard_connects_total", Value::More),
    ("disconnects", "switchboard_disconnects_total", Value::More),
    ("sends", "switchboard_sends_total", Value::More),
    ("deliveries", "switchboard_delivery_duration_seconds_count", Value::More),
    ("send_duration_ms", "switchboard_send_duration_seconds", Value::MeanMs),
    ("send_p99_ms", "switchboard_send_duration_seconds", Value::P99Ms),
    ("delivery_duration_ms", "switchboard_delivery_duration_seconds", Value::MeanMs),
    ("delivery_p99_ms", "switchboard_delivery_duration_seconds", Value::P99Ms),
    ("frames_sent", "switchboard_frames_sent_total", Value::More),
    ("frames_dropped", "switchboard_frames_dropped_total", Value::More),
    ("session_queue_bytes", "switchboard_session_queue_bytes", Value::Now),
    ("conversations_active", "switchboard_conversations_active", Value::Now),
    ("owed_announcements", "switchboard_owed_announcements", Value::Now),
    ("overloaded", "switchboard_overloaded_total", Value::More),
    ("topic_events", "switchboard_topic_events_total", Value::More),
];

/// Publishes until the node closes. What can't be published now is left out: the next second has its own.
pub(crate) async fn publish_figures(gateway: Arc<Gateway>, figures: PrometheusHandle) {
    let tags = tags_of(&gateway.node_id);
    let topic: TopicId = "$node".parse().expect("it is an id");
    let mut page = Vec::new();
    let mut before = sums(rendered(&figures, &mut page));
    let stop = gateway.closing.clone();
    while stop.run_until_cancelled(gateway.clock.sleep_to_next_ms(INTERVAL_MS)).await.is_some() {
        let now = sums(rendered(&figures, &mut page));
        let events = events(&before, &now, &tags);
        before = now;
        if let Some(router) = gateway.session_router()
            && let Err(error) = router.publish_own(topic.clone(), events).await
        {
            tracing::debug!(%error, "the node's figures were not published");
        }
    }
}

fn tags_of(node_id: &NodeId) -> Tags {
    serde_json::from_value(serde_json::json!({ "node": node_id })).expect("a node's name is a tag's value")
}

/// The metrics page, in memory that is kept from second to second: all else of an idle node is cheaper than new pages.
fn rendered<'a>(figures: &PrometheusHandle, page: &'a mut Vec<u8>) -> &'a str {
    page.clear();
    // Writing to a vector does not fail.
    let _ = figures.render_to_write(page);
    std::str::from_utf8(page).unwrap_or_default()
}

/// The values of each metric that is shown, with its labels and summed over them.
fn sums(page: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((head, value)) = line.rsplit_once(' ') else { continue };
        let name = head.split_once('{').map_or(head, |(name, _)| name);
        if !is_shown(name) {
            continue;
        }
        let value = value.parse::<f64>().unwrap_or_default();
        if name != head {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
        *sums.entry(head.to_owned()).or_insert(0.0) += value;
    }
    sums
}

fn is_shown(name: &str) -> bool {
    let is_part = |part: &str| ["", "_sum", "_count", "_bucket"].contains(&part);
    FIGURES.iter().any(|(_, metric, _)| name.strip_prefix(metric).is_some_and(is_part))
}

fn events(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>, tags: &Tags) -> Vec<Event> {
    let more = |name: &str| now.get(name).copied().unwrap_or(0.0) - before.get(name).copied().unwrap_or(0.0);
    let value = |metric: &str, value: Value| match value {
        Value::Now => now.get(metric).copied(),
        Value::More => Some(more(metric)),
        Value::MeanMs => {
            let given = more(&format!("{metric}_count"));
            (given > 0.0).then(|| more(&format!("{metric}_sum")) / given * 1_000.0)
        }
        Value::P99Ms => {
            let given = more(&format!("{metric}_count"));
            (given > 0.0).then(|| bound_s(now, metric, |bucket| more(bucket) >= 0.99 * given) * 1_000.0)
        }
    };
    let event = |(series, metric, kind): &(&str, &str, Value)| {
        let value = Number::saturating(value(metric, *kind)?);
        Some(Event { series: series.parse().ok()?, value, timestamp: None, tags: tags.clone() })
    };
    FIGURES.iter().filter_map(event).collect()
}

/// The upper bound of the first bucket of which this holds; the highest one of what is beyond all.
fn bound_s(page: &BTreeMap<String, f64>, metric: &str, holds: impl Fn(&str) -> bool) -> f64 {
    let head = format!("{metric}_bucket{{");
    let bounds = page.keys().filter_map(|name| {
        let bound = name.strip_prefix(&head)?.strip_prefix("le=\"")?.strip_suffix("\"}")?;
        Some((bound.parse::<f64>().ok().filter(|bound| bound.is_finite())?, name))
    });
    let mut bounds: Vec<(f64, &String)> = bounds.collect();
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let first = bounds.iter().find(|(_, bucket)| holds(bucket)).or(bounds.last());
    first.map_or(0.0, |(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_made_of_the_metrics_page() {
        let page = |sends, seconds, count, slow| {
            format!(
                "# HELP x y\nswitchboard_connections{{transport=\"websocket\"}} 3\n\
                 switchboard_sends_total{{result=\"ok\"}} {sends}\nswitchboard_sends_total{{result=\"duplicate\"}} 1\n\
                 switchboard_send_duration_seconds_sum {seconds}\nswitchboard_send_duration_seconds_count {count}\n\
                 switchboard_send_duration_seconds_bucket{{le=\"0.01\"}} {quick}\n\
                 switchboard_send_duration_seconds_bucket{{le=\"0.1\"}} {count}\n\
                 switchboard_send_duration_seconds_bucket{{le=\"+Inf\"}} {count}\n",
                quick = count - slow,
            )
        };
        let (before, after) = (page(5, 1.0, 1, 0), page(9, 11.0, 201, 2));
        let values = |before: &str, after: &str| -> BTreeMap<String, f64> {
            let events = events(&sums(before), &sums(after), &tags_of(&"n1".parse().unwrap()));
            assert!(events.iter().all(|event| event.tags.iter().eq([("node", "n1")])));
            events.into_iter().map(|event| (event.series.to_string(), event.value.get())).collect()
        };
        let told = values(&before, &after);
        assert_eq!((told["connections"], told["sends"], told["send_duration_ms"]), (3.0, 4.0, 50.0));
        assert_eq!(told["send_p99_ms"], 10.0);
        assert_eq!(values(&before, &page(9, 11.0, 201, 3))["send_p99_ms"], 100.0, "3 of 200");
        assert!(!values(&after, &after).contains_key("send_duration_ms"), "nothing was sent");
        assert!(!told.contains_key("owed_announcements"), "what is not there is not told");
    }
}
