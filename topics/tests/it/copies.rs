//! Tests of copies: whatever is lost, repeated or late on the way, a topic that has received everything in the end has the
//! counts of all topics, and nothing twice.

use std::collections::BTreeMap;

use proptest::prelude::*;
use switchboard_protocol::topic::{Event, Window};
use switchboard_protocol::{Number, Tags, Timestamp};
use switchboard_topics::{CopyCursor, Counter, Part, Topic, TopicLimits};

use crate::naive::{HOUR_MS, Key, Naive, key};
use crate::watch;

const BEGIN_MS: i64 = 1_767_323_045_678;
const LIMITS: TopicLimits = TopicLimits { lateness_ms: 2_000, series_max: 100 };
const TOPICS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Publish {
        at: usize,
        series: usize,
        values: Vec<u16>,
        ago_ms: i64,
    },
    Wait(i64),
    /// One topic sends another its changes since its last changes were taken; they may be lost, or arrive twice.
    Changes {
        from: usize,
        to: usize,
        is_lost: bool,
        is_repeated: bool,
    },
    /// One topic sends another everything, in pieces of this many windows.
    Everything {
        from: usize,
        to: usize,
        points: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let topic = 0..TOPICS;
    prop_oneof![
        5 => (topic.clone(), 0usize..4, prop::collection::vec(any::<u16>(), 1..5), 0i64..4_000)
            .prop_map(|(at, series, values, ago_ms)| Step::Publish { at, series, values, ago_ms }),
        3 => prop_oneof![6 => 0i64..2_000, 1 => 0i64..HOUR_MS].prop_map(Step::Wait),
        4 => (topic.clone(), topic.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(from, to, is_lost, is_repeated)| Step::Changes { from, to, is_lost, is_repeated }),
        2 => (topic.clone(), topic, 1usize..5).prop_map(|(from, to, points)| Step::Everything { from, to, points }),
    ]
}

fn everything(topic: &Topic, points: usize) -> Vec<Vec<Part>> {
    let (mut pieces, mut from) = (Vec::new(), Some(CopyCursor::default()));
    while let Some(place) = from {
        let (parts, next) = topic.parts(place, points);
        assert!(next.is_none_or(|next| next != place), "the position advances");
        pieces.push(parts);
        from = next;
    }
    pieces
}

fn event(series: usize, value: f64, at_ms: i64) -> Event {
    Event {
        series: format!("s{series}").parse().unwrap(),
        value: Number::saturating(value),
        timestamp: Some(Timestamp::from_unix_ms(at_ms)),
        tags: Tags::default(),
    }
}

/// The numbers of each window that can be merged exactly: all but the percentiles.
type Sums = BTreeMap<(Key, i64), (u64, f64, f64, f64)>;

fn sums(topic: &mut Topic, window: Window, now_ms: i64) -> Sums {
    let mut sums = Sums::new();
    for series in topic.state(&watch(window, 3_600), now_ms).series {
        assert!(series.points.is_sorted_by(|a, b| a.start_ms < b.start_ms), "each window once: {series:?}");
        for point in series.points {
            assert!(point.min <= point.p50 && point.p50 <= point.p99 && point.p99 <= point.max, "{point:?}");
            let values = (point.count, point.sum.get(), point.min.get(), point.max.get());
            sums.insert((key(series.series.as_str(), &series.tags), point.start_ms), values);
        }
    }
    sums
}

fn naive_sums(naive: &Naive, window: Window) -> Sums {
    let of_one = |values: Vec<f64>| {
        let (min, max) = values.iter().fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(*v), max.max(*v)));
        (values.len() as u64, values.iter().sum::<f64>(), min, max)
    };
    naive.windows(window, 3_600).into_iter().map(|(at, values)| (at, of_one(values))).collect()
}

fn run(steps: &[Step]) {
    let mut now_ms = BEGIN_MS;
    let mut topics: Vec<Topic> = (0..TOPICS).map(|n| Topic::new(Counter(n as u64), LIMITS, now_ms)).collect();
    let mut naive = Naive::new(2_000, now_ms);
    for step in steps {
        match step {
            Step::Wait(ms) => now_ms += ms,
            Step::Publish { at, series, values, ago_ms } => {
                let events: Vec<_> =
                    values.iter().map(|value| event(*series, f64::from(*value), now_ms - ago_ms)).collect();
                let late = naive.publish(&events, now_ms);
                assert_eq!(topics[*at].publish(events, now_ms).unwrap().late, late);
            }
            Step::Changes { from, to, is_lost, is_repeated } => {
                for window in Window::ALL {
                    let Some(changes) = topics[*from].take_changes(window, now_ms) else { continue };
                    let times = if *is_lost { 0 } else { 1 + usize::from(*is_repeated) };
                    for time in 0..times {
                        let is_new = topics[*to].absorb(vec![changes.own.clone()], now_ms);
                        assert!(!is_new || time == 0, "a repeat changes nothing");
                    }
                }
            }
            Step::Everything { from, to, points } => {
                for parts in everything(&topics[*from], *points) {
                    topics[*to].absorb(parts, now_ms);
                }
            }
        }
    }
    // A new topic receives everything from each one, the last piece first, and from the first one again.
    let mut last = Topic::new(Counter(99), LIMITS, now_ms);
    for from in (0..TOPICS).chain([0]) {
        for parts in everything(&topics[from], 3).into_iter().rev() {
            last.absorb(parts, now_ms);
        }
    }
    // It can pass on what it has received, and a topic does not count its own part of that twice.
    for parts in everything(&last, 2) {
        topics[0].absorb(parts, now_ms);
    }
    naive.advance(now_ms);
    for window in Window::ALL {
        let expected = naive_sums(&naive, window);
        assert_eq!(sums(&mut last, window, now_ms), expected);
        assert_eq!(sums(&mut topics[0], window, now_ms), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn who_was_told_everything_knows_what_all_have_counted(steps in prop::collection::vec(step(), 1..60)) {
        run(&steps);
    }
}

fn points(topic: &mut Topic, now_ms: i64) -> Vec<(i64, u64)> {
    let state = topic.state(&watch(Window::Second, 3_600), now_ms);
    state.series.iter().flat_map(|series| &series.points).map(|point| (point.start_ms - now_ms, point.count)).collect()
}

#[test]
fn an_update_tells_a_window_with_what_others_have_counted_in_it() {
    let now_ms = BEGIN_MS / 1_000 * 1_000;
    let (mut former, mut owner) = (Topic::new(Counter(1), LIMITS, now_ms), Topic::new(Counter(2), LIMITS, now_ms));
    former.publish(vec![event(0, 5.0, now_ms), event(0, 7.0, now_ms)], now_ms).unwrap();
    owner.absorb(former.parts(CopyCursor::default(), 100).0, now_ms);
    owner.publish(vec![event(0, 9.0, now_ms)], now_ms).unwrap();
    let changes = owner.take_changes(Window::Second, now_ms).unwrap();
    let (told, own) = (changes.series[0].points[0], changes.own.series[0].points[0]);
    assert_eq!((told.count, told.sum.get(), told.min.get(), told.max.get()), (3, 21.0, 5.0, 9.0));
    assert_eq!((own.count, own.sum.get()), (1, 9.0), "a copy gets only this topic's own counts");
    assert_eq!((told.p50, told.p99), (former_p50(&mut former, now_ms), told.p95), "those of the larger counter");
    // A copied window is closed by this topic's clock, which is a change although nothing was counted here.
    let mut idle = Topic::new(Counter(3), LIMITS, now_ms);
    idle.absorb(former.parts(CopyCursor::default(), 100).0, now_ms);
    assert_eq!(idle.take_changes(Window::Second, now_ms), None);
    let closed = idle.take_changes(Window::Second, now_ms + 3_000).unwrap();
    assert_eq!((closed.version, closed.closed_until_ms, closed.series.len()), (1, now_ms + 1_000, 0));
}

fn former_p50(former: &mut Topic, now_ms: i64) -> Number {
    former.state(&watch(Window::Second, 1), now_ms).series[0].points[0].p50
}

#[test]
fn what_was_absorbed_leaves_after_its_hour_and_gives_its_memory_back() {
    let now_ms = BEGIN_MS / 60_000 * 60_000;
    let mut former = Topic::new(Counter(1), LIMITS, now_ms);
    former.publish(vec![event(0, 5.0, now_ms)], now_ms).unwrap();
    let mut copy = Topic::new(Counter(2), LIMITS, now_ms);
    let empty = copy.bytes();
    copy.absorb(former.parts(CopyCursor::default(), 100).0, now_ms);
    assert!(copy.bytes() > empty && !copy.is_empty());
    assert_eq!(points(&mut copy, now_ms), [(0, 1)]);
    copy.advance(now_ms + 2 * HOUR_MS);
    assert_eq!((copy.bytes(), copy.is_empty()), (empty, true));
    assert!(!copy.absorb(former.parts(CopyCursor::default(), 100).0, now_ms), "and does not come back");
}

#[test]
fn versions_go_on_from_those_of_a_former_owner() {
    let mut topic = Topic::new(Counter(1), LIMITS, BEGIN_MS);
    topic.raise_version(Window::Second, 812);
    topic.raise_version(Window::Second, 7);
    topic.publish(vec![event(0, 1.0, BEGIN_MS)], BEGIN_MS).unwrap();
    assert_eq!(topic.take_changes(Window::Second, BEGIN_MS).unwrap().version, 813);
    assert_eq!((topic.version(Window::Second), topic.version(Window::Minute)), (813, 0));
}
