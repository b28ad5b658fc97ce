//! Measures events per CPU second, from the JSON of batches of 1,000 to the windows, with updates taken every 250 ms of
//! event time; and the memory of one series over an hour.
//! `cargo run --release -p switchboard-topics --example ingest`

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use switchboard_protocol::{ClientFrame, Event, Number, ParseLimits, Timestamp, Window, parse_client_frame};
use switchboard_topics::{Counter, Topic, TopicLimits};

const BATCHES: i64 = 500;
const EVENTS: i64 = 1_000;
const SERIES: i64 = 20;
const SERIES_KEPT: i64 = 1_000;
/// The event time that each batch covers.
const BATCH_MS: i64 = 250;
const BEGIN_MS: i64 = 1_767_323_040_000;

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn batch(number: i64) -> String {
    let event = |n: i64| {
        let at = Timestamp::from_unix_ms(BEGIN_MS + number * BATCH_MS + n * BATCH_MS / EVENTS);
        let (board, value) = (n % SERIES, (n * 7_919 + number * 104_729) % 10_007);
        format!(
            r#"{{"series":"clicks","value":{value}.25,"timestamp":"{at}","tags":{{"board":"b{board}","country":"nl"}}}}"#
        )
    };
    let events: Vec<_> = (0..EVENTS).map(event).collect();
    format!(r#"{{"type":"topic_publish","topic":"sales","events":[{}]}}"#, events.join(","))
}

/// Resident memory of the process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1_024
}

/// The memory of an hour with one event per series and second.
fn measure_memory() {
    const SECONDS: i64 = 3_600;
    let before = resident();
    let mut topic = Topic::new(Counter(1), TopicLimits { lateness_ms: 2_000, series_max: 1_000 }, BEGIN_MS);
    for second in 0..SECONDS {
        let events = (0..SERIES_KEPT).map(|n| Event {
            series: "clicks".parse().expect("a name"),
            value: Number::saturating((n * second % 10_007) as f64),
            timestamp: None,
            tags: serde_json::from_str(&format!(r#"{{"board":"b{n}","country":"nl"}}"#)).expect("tags"),
        });
        let published = topic.publish(events.collect(), BEGIN_MS + second * 1_000);
        assert_eq!(published.map(|published| published.late), Ok(0));
        Window::ALL.into_iter().for_each(|window| topic.skip_changes(window));
    }
    let of_one = |bytes: u64| bytes as f64 / SERIES_KEPT as f64 / 1e3;
    let (resident, counted) = (of_one(resident() - before), of_one(topic.bytes() as u64));
    println!("an hour of a series: {resident:.0} KB resident, {counted:.0} KB counted against topics.memory_bytes");
}

fn main() {
    measure_memory();
    let limits = ParseLimits { content_bytes: 0 };
    let batches: Vec<_> = (0..BATCHES).map(batch).collect();
    let mut topic = Topic::new(Counter(1), TopicLimits { lateness_ms: 2_000, series_max: 1_000 }, BEGIN_MS);
    let (mut parsing, mut counting, mut telling) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut now_ms = BEGIN_MS;
    for batch in &batches {
        let begun = cpu();
        let Ok(incoming) = parse_client_frame(batch, &limits) else { panic!("refused: {batch}") };
        let ClientFrame::TopicPublish(publish) = incoming.frame else { panic!("another frame: {batch}") };
        let parsed = cpu();
        now_ms += BATCH_MS;
        let published = topic.publish(publish.events, now_ms);
        assert_eq!(published.map(|published| published.late), Ok(0));
        let counted = cpu();
        for window in Window::ALL {
            let update = topic.take_changes(window, now_ms).map(|changes| changes.of(publish.topic.clone()));
            let json = update.map(|update| switchboard_protocol::server::Frame::encode(&update, None));
            assert!(json.is_some());
        }
        (parsing, counting, telling) =
            (parsing + (parsed - begun), counting + (counted - parsed), telling + (cpu() - counted));
    }
    let events = Duration::from_secs(u64::try_from(BATCHES * EVENTS).unwrap_or_default());
    let rate = |spent: Duration| events.as_secs_f64() / spent.as_secs_f64() / 1e6;
    println!("parsing {:.2} M events/s, counting {:.2} M events/s", rate(parsing), rate(counting));
    println!("together {:.2} M events per CPU second", rate(parsing + counting));
    let updates = 2 * u32::try_from(BATCHES).unwrap_or(1);
    println!("an update of {SERIES} series: {:.1} µs", (telling / updates).as_secs_f64() * 1e6);
    println!("{} bytes per event in JSON", batches[0].len() as i64 / EVENTS);
}
