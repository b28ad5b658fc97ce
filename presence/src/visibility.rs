//! What is shown of a user, and how much of it a watcher may see (PROTOCOL §4, §8 "Blocks"). Pure functions; the caller
//! knows the blocks.

use switchboard_protocol::Timestamp;
use switchboard_protocol::server::ShownStatus;

/// How a user is shown, unless blocks prevent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Invisible users are shown as offline.
    pub status: ShownStatus,
    /// Only with `Offline`: when the last session ended, or the user went invisible. `None` if unknown.
    pub last_seen_at: Option<Timestamp>,
}

impl Shown {
    /// Offline for an unknown time; also shown for a user whose home has not answered.
    pub const UNKNOWN: Self = Self::offline(None);

    /// Offline, last seen then.
    pub const fn offline(last_seen_at: Option<Timestamp>) -> Self {
        Self { status: ShownStatus::Offline, last_seen_at }
    }

    /// Present, with that status.
    pub const fn present(status: ShownStatus) -> Self {
        Self { status, last_seen_at: None }
    }
}

/// What a watcher sees of `shown` if either of the two has blocked the other, the first block being at `blocked_at`:
/// offline, without a `last_seen_at` newer than the block.
pub fn seen(shown: Shown, blocked_at: Option<Timestamp>) -> Shown {
    match blocked_at {
        None => shown,
        Some(blocked_at) => Shown::offline(shown.last_seen_at.filter(|seen_at| *seen_at <= blocked_at)),
    }
}

/// The `blocked_at` of [`seen`], from both directions: the earlier block hides more.
pub fn first_block(by_watcher: Option<Timestamp>, by_watched: Option<Timestamp>) -> Option<Timestamp> {
    [by_watcher, by_watched].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(unix_ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(unix_ms)
    }

    #[test]
    fn without_a_block_everything_is_seen() {
        for shown in [Shown::present(ShownStatus::Busy), Shown::offline(Some(at(7))), Shown::UNKNOWN] {
            assert_eq!(seen(shown, None), shown);
        }
    }

    #[test]
    fn a_block_hides_every_status() {
        for status in [ShownStatus::Online, ShownStatus::Away, ShownStatus::Busy] {
            assert_eq!(seen(Shown::present(status), Some(at(100))), Shown::UNKNOWN);
        }
    }

    #[test]
    fn a_block_hides_what_is_newer_than_it() {
        let blocked_at = Some(at(100));
        assert_eq!(seen(Shown::offline(Some(at(100))), blocked_at), Shown::offline(Some(at(100))));
        assert_eq!(seen(Shown::offline(Some(at(101))), blocked_at), Shown::UNKNOWN);
    }

    #[test]
    fn the_earlier_of_two_blocks_counts() {
        assert_eq!(first_block(None, None), None);
        assert_eq!(first_block(Some(at(5)), None), Some(at(5)));
        assert_eq!(first_block(None, Some(at(6))), Some(at(6)));
        assert_eq!(first_block(Some(at(5)), Some(at(6))), Some(at(5)));
        assert_eq!(first_block(Some(at(7)), Some(at(6))), Some(at(6)));
    }

    #[test]
    fn it_is_held_per_watched_user_so_it_is_small() {
        assert_eq!((size_of::<Shown>(), size_of::<Option<Shown>>()), (24, 24));
    }
}
