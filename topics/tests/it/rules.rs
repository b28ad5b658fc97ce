//! Tests of each rule at its limit, and one past it.

use switchboard_protocol::topic::{Event, Window};
use switchboard_protocol::{ErrorCode, Number, ProtocolError, Tags, Timestamp, TopicId};
use switchboard_topics::{Counter, PublishError, Published, Topic, TopicLimits, merge};

use crate::watch;

/// A whole minute.
const NOW_MS: i64 = 1_767_323_040_000;
const LIMITS: TopicLimits = TopicLimits { lateness_ms: 2_000, series_max: 3 };

fn event(series: &str, at_ms: i64) -> Event {
    let timestamp = Some(Timestamp::from_unix_ms(at_ms));
    Event { series: series.parse().unwrap(), value: Number::saturating(1.0), timestamp, tags: Tags::default() }
}

fn id() -> TopicId {
    "sales".parse().unwrap()
}

fn counts(topic: &mut Topic, window: Window, now_ms: i64) -> Vec<(i64, u64)> {
    let state = topic.state(&watch(window, 3_600), now_ms);
    let points = state.series.iter().flat_map(|series| &series.points);
    points.map(|point| (point.start_ms - NOW_MS, point.count)).collect()
}

#[test]
fn a_window_closes_lateness_ms_after_its_end_and_not_a_millisecond_before() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    let in_time = topic.publish(vec![event("s", NOW_MS + 999)], NOW_MS + 2_999).unwrap();
    let late = topic.publish(vec![event("s", NOW_MS + 999), event("s", NOW_MS + 1_000)], NOW_MS + 3_000).unwrap();
    assert_eq!(in_time, Published { accepted: 1, late: 0 });
    assert_eq!(late, Published { accepted: 1, late: 1 });
    assert_eq!(counts(&mut topic, Window::Second, NOW_MS + 3_000), [(0, 1), (1_000, 1)]);
    assert_eq!(counts(&mut topic, Window::Minute, NOW_MS + 3_000), [(0, 2)], "late for one is late for both");
}

#[test]
fn an_event_is_at_most_60_s_in_the_future() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    topic.publish(vec![event("s", NOW_MS + 60_000)], NOW_MS).unwrap();
    let error = topic.publish(vec![event("s", NOW_MS), event("s", NOW_MS + 60_001)], NOW_MS).unwrap_err();
    assert_eq!(error, PublishError::Ahead { index: 1 });
    let error = ProtocolError::from(error);
    assert_eq!((error.code(), error.details()[0].field.as_ref()), (ErrorCode::BadRequest, "events[1].timestamp"));
    assert_eq!(counts(&mut topic, Window::Second, NOW_MS), [(60_000, 1)], "no event of the batch is counted");
}

#[test]
fn a_topic_has_at_most_series_max_series_and_a_refused_batch_leaves_nothing_behind() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    topic.publish(vec![event("a", NOW_MS), event("b", NOW_MS)], NOW_MS).unwrap();
    let batch = vec![event("a", NOW_MS), event("c", NOW_MS), event("c", NOW_MS), event("d", NOW_MS)];
    let error = topic.publish(batch, NOW_MS).unwrap_err();
    assert_eq!(error, PublishError::TooManySeries { index: 3, series_max: 3 });
    let error = ProtocolError::from(error);
    assert_eq!((error.code(), error.details()[0].field.as_ref()), (ErrorCode::Conflict, "events[3].series"));
    assert_eq!((topic.series_count(), counts(&mut topic, Window::Second, NOW_MS)), (2, vec![(0, 1), (0, 1)]));
    topic.publish(vec![event("e", NOW_MS), event("a", NOW_MS)], NOW_MS).unwrap();
    // A late event needs no series.
    assert_eq!(topic.publish(vec![event("f", NOW_MS - 10_000)], NOW_MS).unwrap().late, 1);
}

#[test]
fn a_series_leaves_with_its_last_window() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    topic.publish(["a", "b", "c"].map(|series| event(series, NOW_MS)).to_vec(), NOW_MS).unwrap();
    let hour_ms = 3_600_000;
    assert_eq!(counts(&mut topic, Window::Second, NOW_MS + hour_ms + 999).len(), 3);
    assert_eq!(counts(&mut topic, Window::Second, NOW_MS + hour_ms + 1_000).len(), 0);
    assert_eq!(topic.series_count(), 3, "the minute is still within the hour");
    topic.advance(NOW_MS + hour_ms + 60_000);
    assert!(topic.is_empty());
    topic.publish(["d", "e", "f"].map(|series| event(series, NOW_MS + hour_ms + 60_000)).to_vec(), NOW_MS).unwrap();
}

#[test]
fn versions_grow_by_one_with_each_update_and_by_none_without() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    assert_eq!(topic.take_changes(Window::Second, NOW_MS), None);
    topic.publish(vec![event("s", NOW_MS)], NOW_MS).unwrap();
    let first = topic.take_changes(Window::Second, NOW_MS).unwrap();
    assert_eq!((first.version, first.closed_until_ms, first.series[0].points.len()), (1, NOW_MS - 2_000, 1));
    assert_eq!(topic.take_changes(Window::Second, NOW_MS + 2_999), None, "no event came and no window closed");
    let closed = topic.take_changes(Window::Second, NOW_MS + 3_000).unwrap();
    assert_eq!((closed.version, closed.closed_until_ms, closed.series.len()), (2, NOW_MS + 1_000, 0));
    assert_eq!(topic.take_changes(Window::Second, NOW_MS + 30_000), None, "windows without events are left out");
    assert_eq!(topic.state(&watch(Window::Second, 60), NOW_MS + 30_000).version, 2);
    assert_eq!(topic.state(&watch(Window::Minute, 60), NOW_MS + 30_000).version, 0, "each length has its own versions");
}

#[test]
fn only_what_changed_is_told_and_whole() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    topic.publish(vec![event("a", NOW_MS), event("b", NOW_MS)], NOW_MS).unwrap();
    topic.take_changes(Window::Second, NOW_MS).unwrap();
    topic.publish(vec![event("b", NOW_MS), event("b", NOW_MS + 1_000)], NOW_MS).unwrap();
    let changes = topic.take_changes(Window::Second, NOW_MS).unwrap();
    assert_eq!(changes.series.len(), 1);
    let points: Vec<_> = changes.series[0].points.iter().map(|point| (point.start_ms - NOW_MS, point.count)).collect();
    assert_eq!((changes.series[0].series.as_str(), points), ("b", vec![(0, 2), (1_000, 1)]));
}

#[test]
fn merged_updates_have_the_newest_state_of_each_window() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    let mut publish = |batch: Vec<Event>| {
        topic.publish(batch, NOW_MS).unwrap();
        topic.take_changes(Window::Second, NOW_MS).unwrap().of(id())
    };
    let first = publish(vec![event("a", NOW_MS), event("a", NOW_MS + 2_000)]);
    let second = publish(vec![event("a", NOW_MS), event("a", NOW_MS + 1_000), event("b", NOW_MS)]);
    let merged = merge(first, &second);
    let points =
        |at: usize| merged.series[at].points.iter().map(|p| (p.start_ms - NOW_MS, p.count)).collect::<Vec<_>>();
    assert_eq!((merged.version, merged.closed_until_ms), (2, second.closed_until_ms));
    assert_eq!((points(0), points(1)), (vec![(0, 2), (1_000, 1), (2_000, 1)], vec![(0, 1)]));
}

#[test]
fn a_clock_that_goes_backwards_opens_nothing_again() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    topic.publish(vec![event("s", NOW_MS)], NOW_MS).unwrap();
    topic.advance(NOW_MS + 3_000);
    assert_eq!(topic.publish(vec![event("s", NOW_MS)], NOW_MS).unwrap().late, 1);
    let untimed = Event { timestamp: None, ..event("s", 0) };
    assert_eq!(topic.publish(vec![untimed], NOW_MS).unwrap().late, 0, "an event without a timestamp is never late");
}

#[test]
fn a_higher_lateness_opens_nothing_again() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    topic.set_limits(TopicLimits { lateness_ms: 60_000, ..LIMITS });
    assert_eq!(topic.publish(vec![event("s", NOW_MS - 2_001)], NOW_MS).unwrap().late, 1);
    assert_eq!(topic.publish(vec![event("s", NOW_MS - 2_000)], NOW_MS + 50_000).unwrap().late, 0);
}

#[test]
fn what_an_hour_costs() {
    let mut topic = Topic::new(Counter(1), TopicLimits { lateness_ms: 2_000, series_max: 10 }, NOW_MS);
    for second in 0..4_000 {
        let at_ms = NOW_MS + second * 1_000;
        topic.publish((0..10).map(|n| event(&format!("s{n}"), at_ms)).collect(), at_ms).unwrap();
        topic.skip_changes(Window::Second);
        topic.skip_changes(Window::Minute);
    }
    let per_series = topic.bytes() / 10;
    assert!((3_600 * 64..300_000).contains(&per_series), "{per_series} bytes per series and hour");
    let mut sparse = Topic::new(Counter(1), LIMITS, NOW_MS);
    for minute in 0..60 {
        sparse.publish(vec![event("s", NOW_MS + minute * 60_000)], NOW_MS + minute * 60_000).unwrap();
    }
    assert!(sparse.bytes() < 16_384, "{} bytes for an event a minute", sparse.bytes());
}
