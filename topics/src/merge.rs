//! Merges updates that a slow watcher has not received yet into one (PROTOCOL §5, "conflated").

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use switchboard_protocol::Point;
use switchboard_protocol::server::TopicUpdate;
use switchboard_protocol::topic::{SeriesName, SeriesPoints, Tags};

/// Merges two updates of the same topic and window length, `newer` having the later version. The result has the newest
/// state of each window.
pub fn merge(older: TopicUpdate, newer: &TopicUpdate) -> TopicUpdate {
    debug_assert!(older.topic == newer.topic && older.window == newer.window && older.version < newer.version);
    let mut series = older.series;
    let known: HashMap<(SeriesName, Tags), usize, RandomState> =
        series.iter().enumerate().map(|(at, known)| ((known.series.clone(), known.tags.clone()), at)).collect();
    for changed in &newer.series {
        match known.get(&(changed.series.clone(), changed.tags.clone())) {
            Some(at) => merge_points(&mut series[*at], &changed.points),
            None => series.push(changed.clone()),
        }
    }
    TopicUpdate { series, version: newer.version, closed_until_ms: newer.closed_until_ms, ..older }
}

/// Both lists, and the result, are ordered by time.
fn merge_points(known: &mut SeriesPoints, newer: &[Point]) {
    for point in newer {
        match known.points.binary_search_by_key(&point.start_ms, |known| known.start_ms) {
            Ok(at) => known.points[at] = *point,
            Err(at) => known.points.insert(at, *point),
        }
    }
}
