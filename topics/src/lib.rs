//! The arithmetic of dashboards (PROTOCOL §5): events into tumbling windows per series, and the updates for watchers,
//! as plain values.
//!
//! The router embeds one [`Topic`] per active topic at its owner, and merges updates that a slow watcher has not taken
//! yet with [`merge()`]. It does the locking, the delivery and the timers: nothing here waits, spawns, sends or reads a
//! clock. The time is an argument (`now_ms`, milliseconds since 1970), so a run can be replayed from its inputs. A
//! clock that goes backwards neither closes nor opens anything again.

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
