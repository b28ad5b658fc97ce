//! Random runs: batches with late and early events and some without a timestamp, a clock that also goes backwards, gaps
//! of hours.

use std::collections::BTreeMap;

use proptest::prelude::*;
use switchboard_protocol::server::{TopicState, TopicUpdate};
use switchboard_protocol::topic::{Event, SeriesPoints, Window};
use switchboard_protocol::{Number, Point, Tags, Timestamp};
use switchboard_topics::{Counter, Topic, TopicLimits, merge};

use crate::naive::{HOUR_MS, Key, Naive, assert_same, key};
use crate::watch;

const BEGIN_MS: i64 = 1_767_323_045_678;

#[derive(Debug, Clone)]
enum Step {
    Publish(Vec<Drawn>),
    Wait(i64),
    Update { watched: bool },
}

/// An event whose time of arrival is not decided yet.
#[derive(Debug, Clone)]
struct Drawn {
    series: &'static str,
    tags: &'static str,
    /// Its timestamp, relative to its arrival; `None` without a timestamp.
    offset_ms: Option<i64>,
    value: f64,
}

fn event() -> impl Strategy<Value = Drawn> {
    let offset_ms = prop_oneof![
        2 => Just(None),
        6 => (-3_500i64..=1_000).prop_map(Some),
        1 => (-200_000i64..=60_000).prop_map(Some),
    ];
    let value = prop_oneof![
        6 => (0u32..1_000).prop_map(f64::from),
        3 => -1.0e3..1.0e3,
        // Within the 17 orders of magnitude for which the error of percentiles is guaranteed.
        1 => prop::sample::select(vec![0.0, 1.0e-8, -1.0e-8, 1.0e8, -1.0e8]),
    ];
    let tags = prop::sample::select(vec!["{}", r#"{"a":"1"}"#, r#"{"a":"2"}"#, r#"{"a":"1","b":"1"}"#]);
    (prop::sample::select(vec!["clicks", "sales"]), tags, offset_ms, value)
        .prop_map(|(series, tags, offset_ms, value)| Drawn { series, tags, offset_ms, value })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(event(), 1..12).prop_map(Step::Publish),
        5 => prop_oneof![6 => 0i64..3_000, 1 => -5_000i64..0, 1 => 0i64..200_000, 1 => 0i64..2 * HOUR_MS]
            .prop_map(Step::Wait),
        3 => any::<bool>().prop_map(|watched| Step::Update { watched }),
    ]
}

fn at(drawn: &Drawn, now_ms: i64) -> Event {
    Event {
        series: drawn.series.parse().unwrap(),
        value: Number::saturating(drawn.value),
        timestamp: drawn.offset_ms.map(|offset_ms| Timestamp::from_unix_ms(now_ms + offset_ms)),
        tags: serde_json::from_str::<Tags>(drawn.tags).unwrap(),
    }
}

/// The windows that a watcher knows.
type Mirror = BTreeMap<(Key, i64), Point>;

fn apply(mirror: &mut Mirror, series: &[SeriesPoints]) {
    for series in series {
        for point in &series.points {
            mirror.insert((key(series.series.as_str(), &series.tags), point.start_ms), *point);
        }
    }
}

/// A watcher of one window length: reads each update, or several merged ones.
struct Watcher {
    window: Window,
    version: u64,
    mirror: Mirror,
    waiting: Option<TopicUpdate>,
}

impl Watcher {
    fn new(state: &TopicState) -> Self {
        let mut mirror = Mirror::new();
        apply(&mut mirror, &state.series);
        Self { window: state.window, version: state.version, mirror, waiting: None }
    }

    fn get(&mut self, update: TopicUpdate, reads: bool) {
        let update = match self.waiting.take() {
            Some(older) => merge(older, &update),
            None => update,
        };
        if !reads {
            self.waiting = Some(update);
            return;
        }
        assert!(update.version > self.version);
        self.version = update.version;
        apply(&mut self.mirror, &update.series);
    }
}

fn run(steps: &[Step], lateness_ms: u32) {
    let mut now_ms = BEGIN_MS;
    let mut latest_ms = now_ms;
    let mut topic = Topic::new(Counter(1), TopicLimits { lateness_ms, series_max: 100 }, now_ms);
    let mut naive = Naive::new(i64::from(lateness_ms), now_ms);
    let mut watchers: Vec<Watcher> = Vec::new();
    for step in steps {
        match step {
            Step::Wait(ms) => now_ms += ms,
            Step::Publish(events) => {
                latest_ms = latest_ms.max(now_ms);
                let events: Vec<_> = events.iter().map(|event| at(event, now_ms)).collect();
                let late = naive.publish(&events, now_ms);
                let published = topic.publish(events.clone(), now_ms).unwrap();
                assert_eq!((published.accepted, published.late), (events.len() as u32 - late, late));
            }
            Step::Update { watched } => {
                latest_ms = latest_ms.max(now_ms);
                naive.advance(now_ms);
                topic.advance(now_ms);
                for window in Window::ALL {
                    if watchers.iter().all(|watcher| watcher.window != window) {
                        topic.skip_changes(window);
                        if *watched {
                            watchers.push(Watcher::new(&topic.state(&watch(window, 3_600), now_ms)));
                        }
                    } else if let Some(changes) = topic.take_changes(window, now_ms) {
                        let watcher = watchers.iter_mut().find(|watcher| watcher.window == window).unwrap();
                        watcher.get(changes.of(id()), *watched);
                    }
                }
            }
        }
    }
    naive.advance(now_ms);
    for window in Window::ALL {
        for range_s in [1, 60, 3_600] {
            let state = topic.state(&watch(window, range_s), now_ms);
            assert_same(&state.series, &naive.windows(window, i64::from(range_s)));
        }
    }
    // A watcher that has read all updates, some of them merged, has the current state.
    for mut watcher in watchers {
        if let Some(changes) = topic.take_changes(watcher.window, now_ms) {
            watcher.get(changes.of(id()), true);
        } else if let Some(waiting) = watcher.waiting.take() {
            watcher.get(waiting, true);
        }
        let mut whole = Mirror::new();
        apply(&mut whole, &topic.state(&watch(watcher.window, 3_600), now_ms).series);
        let kept_from_ms = watcher.window.start_ms(latest_ms.max(now_ms) - HOUR_MS);
        watcher.mirror.retain(|(_, start_ms), _| *start_ms >= kept_from_ms);
        assert_eq!(watcher.mirror, whole);
    }
}

fn id() -> switchboard_protocol::TopicId {
    "sales".parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn windows_are_those_of_the_naive_calculation(
        steps in prop::collection::vec(step(), 1..60),
        lateness_ms in prop::sample::select(vec![0u32, 1, 2_000, 60_000]),
    ) {
        run(&steps, lateness_ms);
    }

    /// Any finite numbers: no panic, and all numbers that do not depend on the sketch are exact.
    #[test]
    fn any_numbers_are_counted(values in prop::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 1..200)) {
        let mut topic = Topic::new(Counter(1), TopicLimits { lateness_ms: 0, series_max: 1 }, 0);
        let events = values.iter().map(|value| Event {
            series: "s".parse().unwrap(),
            value: Number::saturating(*value),
            timestamp: None,
            tags: Tags::default(),
        });
        topic.publish(events.collect(), 0).unwrap();
        let state = topic.state(&watch(Window::Second, 1), 0);
        let point = state.series[0].points[0];
        prop_assert_eq!(point.count, values.len() as u64);
        prop_assert_eq!(point.min.get(), values.iter().copied().fold(f64::INFINITY, f64::min));
        prop_assert_eq!(point.max.get(), values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        for percentile in [point.p50, point.p95, point.p99] {
            prop_assert!(point.min <= percentile && percentile <= point.max);
        }
    }
}
