//! A topic's state for a new watcher or a single read: the newest windows of a range, as many as fit into an answer. A
//! client requests the rest with `before_ms`, the start of the oldest window that it received.

use std::ops::Range;

use switchboard_protocol::client::TopicWatch;
use switchboard_protocol::limits::ANSWER_ITEMS_BYTES_MAX;
use switchboard_protocol::server::{TopicState, encode_item};
use switchboard_protocol::{Point, Window};

use crate::series::Windows;
use crate::topic::{Series, Topic, index_of, told};

impl Topic {
    /// Answers a `topic_watch`: the windows of the last `range_s` seconds, including the one in which that period
    /// begins, and without the oldest ones if not all fit.
    pub fn state(&mut self, watch: &TopicWatch, now_ms: i64) -> TopicState {
        self.advance(now_ms);
        let TopicWatch { ref topic, window, range_s, before_ms } = *watch;
        let at = index_of(window);
        let from_ms = window.start_ms(self.now_ms - i64::from(range_s) * 1_000);
        let asked_ms = from_ms..before_ms.unwrap_or(i64::MAX);
        let told_ms = self.fitting(window, asked_ms);
        let points_of = |series: &Series| (series.key.clone(), series.windows[at].points(&told_ms));
        let series = self.series.iter().map(|(_, series)| points_of(series)).filter(|(_, points)| !points.is_empty());
        TopicState {
            topic: topic.clone(),
            window,
            version: self.version(window),
            series: series.map(|(key, points)| told(key, points)).collect(),
            more: self.series.iter().any(|(_, series)| series.windows[at].count(&(from_ms..told_ms.start)) > 0),
        }
    }

    /// The longest final part of this range whose windows fit into an answer. The windows with the newest start always
    /// fit.
    fn fitting(&self, window: Window, starts_ms: Range<i64>) -> Range<i64> {
        let at = index_of(window);
        let all: Vec<(usize, &Windows)> =
            self.series.iter().map(|(_, series)| (key_bytes(series), &series.windows[at])).collect();
        let fits = |from_ms: i64| {
            let bytes = |(key_bytes, windows): &(usize, &Windows)| match windows.count(&(from_ms..starts_ms.end)) {
                0 => 0,
                count => key_bytes + count * Point::JSON_BYTES_MAX,
            };
            all.iter().map(bytes).sum::<usize>() <= ANSWER_ITEMS_BYTES_MAX
        };
        let newest_ms = all.iter().filter_map(|(_, windows)| windows.newest_ms(starts_ms.end)).max();
        let Some(newest_ms) = newest_ms.filter(|newest_ms| *newest_ms >= starts_ms.start) else { return starts_ms };
        // Binary search for how many window lengths before the newest fit: `fitting` do, `too_many` don't.
        let (mut fitting, mut too_many) = (0, (newest_ms - starts_ms.start) / window.ms() + 1);
        while fitting + 1 < too_many {
            let middle = i64::midpoint(fitting, too_many);
            if fits(newest_ms - middle * window.ms()) { fitting = middle } else { too_many = middle }
        }
        newest_ms - fitting * window.ms()..starts_ms.end
    }
}

/// The bytes that a series takes in an answer besides its windows.
fn key_bytes(series: &Series) -> usize {
    // Plus one for the comma.
    encode_item(&told(series.key.clone(), Vec::new())).get().len() + 1
}
