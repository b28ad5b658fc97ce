//! A topic's windows, whole or as they change (PROTOCOL §5).

use serde::{Deserialize, Serialize};

use crate::ids::TopicId;
use crate::server::Frame;
use crate::server::entries::is_false;
use crate::topic::{SeriesPoints, Window};

/// The windows of the asked range. Answers `topic_watch`; without an `id` it replaces what the watcher had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicState<S = SeriesPoints> {
    pub topic: TopicId,
    pub window: Window,
    pub version: u64,
    pub series: Vec<S>,
    /// There are older windows in the range, for which an answer had no room.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
}

impl<S: Serialize> Frame for TopicState<S> {
    const TYPE: &'static str = "topic_state";
}

/// The windows that changed since the version before, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicUpdate<S = SeriesPoints> {
    pub topic: TopicId,
    pub window: Window,
    pub version: u64,
    pub series: Vec<S>,
    /// Windows that end by then change no more.
    pub closed_until_ms: i64,
}

impl<S: Serialize> Frame for TopicUpdate<S> {
    const TYPE: &'static str = "topic_update";
}
