//! Tests of the state: what does not fit into one answer comes in the next.

use std::collections::BTreeMap;

use switchboard_protocol::limits::{ANSWER_BYTES_MAX, FRAME_ID_BYTES_MAX};
use switchboard_protocol::server::{Frame, TopicState};
use switchboard_protocol::topic::{Event, Window};
use switchboard_protocol::{FrameId, Number, Tags};
use switchboard_topics::{CopyCursor, Counter, Topic, TopicLimits};

use crate::watch;

const NOW_MS: i64 = 1_767_323_040_000;
const LIMITS: TopicLimits = TopicLimits { lateness_ms: 2_000, series_max: 10_000 };

fn event(series: usize) -> Event {
    let tags: Tags = serde_json::from_str(r#"{"country":"NL","status":"\u0001\u0002"}"#).unwrap();
    // A number of the maximum length, so that few fit.
    let value = Number::saturating(-1.234_567_890_123_456_7e-300 * series as f64);
    Event { series: format!("series {series}").parse().unwrap(), value, timestamp: None, tags }
}

/// Reads all windows, and counts the answers that it takes.
fn read_all(topic: &mut Topic, window: Window, now_ms: i64) -> (BTreeMap<(String, i64), u64>, usize) {
    let id: FrameId = "\u{1}".repeat(FRAME_ID_BYTES_MAX).parse().unwrap();
    let (mut windows, mut asked) = (BTreeMap::new(), watch(window, 3_600));
    for answers in 1.. {
        let state = topic.state(&asked, now_ms);
        assert!(state.encode(Some(&id)).len() <= ANSWER_BYTES_MAX);
        let before = windows.len();
        let points = points(&state);
        let count = points.len();
        windows.extend(points);
        assert_eq!(windows.len(), before + count, "each window comes once");
        asked.before_ms = state.series.iter().map(|series| series.points[0].start_ms).min();
        if !state.more {
            return (windows, answers);
        }
    }
    unreachable!("there is always another answer")
}

fn points(state: &TopicState) -> Vec<((String, i64), u64)> {
    let of = |series: &switchboard_protocol::SeriesPoints| {
        let name = series.series.as_str().to_owned();
        series.points.iter().map(move |point| ((name.clone(), point.start_ms), point.count)).collect::<Vec<_>>()
    };
    state.series.iter().flat_map(of).collect()
}

#[test]
fn an_hour_of_many_series_is_read_answer_by_answer() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    for second in 0..3_600_i64 {
        // First all series in each second, then each series at its own interval.
        let due = (0..20).filter(|series| second < 600 || second % (series + 1) == 0);
        let events = due.map(|series| event(usize::try_from(series).unwrap())).collect();
        topic.publish(events, NOW_MS + second * 1_000).unwrap();
    }
    let now_ms = NOW_MS + 3_599_999;
    let (windows, answers) = read_all(&mut topic, Window::Second, now_ms);
    let expected: usize =
        (0..20).map(|series| 600 + (600..3_600).filter(|second| second % (series + 1) == 0).count()).sum();
    assert_eq!((windows.len(), windows.values().sum::<u64>()), (expected, expected as u64));
    assert!(answers > 2);
    assert_eq!(read_all(&mut topic, Window::Minute, now_ms).1, 1);
    // The same windows at a topic that has received them from another counter.
    let mut heir = Topic::new(Counter(2), LIMITS, now_ms);
    heir.publish(vec![event(0)], now_ms).unwrap();
    let mut place = Some(CopyCursor::default());
    while let Some(from) = place {
        let (parts, next) = topic.parts(from, 4_096);
        heir.absorb(parts, now_ms);
        place = next;
    }
    assert_eq!(read_all(&mut heir, Window::Second, now_ms).0.values().sum::<u64>(), expected as u64 + 1);
}

#[test]
fn the_newest_windows_come_however_many_series_have_them() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    for second in 0..3 {
        topic.publish((0..10_000).map(event).collect(), NOW_MS + second * 1_000).unwrap();
    }
    let mut asked = watch(Window::Second, 3_600);
    for (second, more) in [(2, true), (1, true), (0, false)] {
        let state = topic.state(&asked, NOW_MS + 2_000);
        let start_ms = NOW_MS + second * 1_000;
        assert_eq!((state.series.len(), state.more), (10_000, more));
        assert!(state.series.iter().all(|series| series.points.len() == 1 && series.points[0].start_ms == start_ms));
        asked.before_ms = Some(start_ms);
    }
    assert_eq!(topic.state(&asked, NOW_MS + 2_000).series, []);
}

#[test]
fn what_is_before_the_range_is_not_more() {
    let mut topic = Topic::new(Counter(1), LIMITS, NOW_MS);
    topic.publish(vec![event(0)], NOW_MS).unwrap();
    topic.publish(vec![event(0)], NOW_MS + 10_000).unwrap();
    let state = topic.state(&watch(Window::Second, 5), NOW_MS + 10_000);
    assert_eq!((points(&state).len(), state.more), (1, false));
    let beyond = switchboard_protocol::client::TopicWatch { before_ms: Some(NOW_MS - 1), ..watch(Window::Second, 5) };
    assert_eq!(topic.state(&beyond, NOW_MS + 10_000).series, []);
}
