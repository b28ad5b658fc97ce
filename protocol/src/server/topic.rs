//! A topic's windows: all of them, or changes (PROTOCOL §5).

use serde::{Deserialize, Serialize};

use crate::ids::TopicId;
use crate::server::Frame;
use crate::server::entries::is_false;
use crate::topic::{SeriesPoints, Window};

/// The windows in the requested range. Answers `topic_watch`; without an `id` it replaces the watcher's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicState<S = SeriesPoints> {
    pub topic: TopicId,
    pub window: Window,
    pub version: u64,
    pub series: Vec<S>,
    /// There are older windows in the range, which did not fit into the answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

impl<S: Serialize> Frame for TopicState<S> {
    const TYPE: &'static str = "topic_state";
}

/// The complete windows that have changed since the previous version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicUpdate<S = SeriesPoints> {
    pub topic: TopicId,
    pub window: Window,
    pub version: u64,
    pub series: Vec<S>,
    /// Windows that end by this time don't change any more.
    pub closed_until_ms: i64,
}

impl<S: Serialize> Frame for TopicUpdate<S> {
    const TYPE: &'static str = "topic_update";
}
