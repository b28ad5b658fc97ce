//! The aggregation behind dashboards (PROTOCOL §5): counts events in tumbling windows per series, and computes the
//! updates for watchers, all on plain values.
//!
//! The router holds one [`Topic`] per active topic at its owner, and uses [`merge()`] to combine updates that a slow
//! watcher has not received yet. It does the locking, the delivery and the timers: nothing here waits, spawns, sends or
//! reads a clock. The time is an argument (`now_ms`, milliseconds since 1970), so a run can be replayed from its
//! inputs. If the clock goes backwards, closed windows stay closed.

mod copy;
mod merge;
mod series;
mod state;
mod topic;
mod window;

pub use copy::{CopyCursor, Counter, Part};
pub use merge::merge;
pub use topic::{Changes, PublishError, Published, Topic, TopicLimits};
pub use window::RELATIVE_ERROR;
