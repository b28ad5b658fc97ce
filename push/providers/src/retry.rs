//! When a failed push is retried (DESIGN §7): at once, after 5 minutes, after 30 minutes, then never.

use switchboard_clock::Generator;

/// The waits before the second, third and fourth attempt, in milliseconds.
const WAITS_MS: [u64; 3] = [0, 300_000, 1_800_000];
/// Random extension of a wait, so that pushes that failed together are not retried together.
const JITTER_PERCENT: u64 = 20;
/// The longest wait that a provider may request.
const RETRY_AFTER_MAX_MS: u64 = 86_400_000;

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt after this many milliseconds.
    RetryAfter(u64),
    /// No more attempts: it becomes a dead letter.
    Dead,
}

/// What follows failed attempt number `failed` (the first is 1), if the provider requested a wait of `after_ms`.
pub fn next(failed: u32, after_ms: Option<u64>, random: &Generator) -> Next {
    let wait_ms = usize::try_from(failed).ok().and_then(|failed| WAITS_MS.get(failed.checked_sub(1)?));
    let Some(wait_ms) = wait_ms else { return Next::Dead };
    let wait_ms = after_ms.map_or(*wait_ms, |after_ms| after_ms.min(RETRY_AFTER_MAX_MS).max(*wait_ms));
    Next::RetryAfter(wait_ms + random.below(wait_ms * JITTER_PERCENT / 100 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_once_then_5_min_then_30_min_then_dead() {
        let random = Generator::from_seed(1);
        let waits = |failed| match next(failed, None, &random) {
            Next::RetryAfter(wait_ms) => Some(wait_ms),
            Next::Dead => None,
        };
        for _ in 0..1_000 {
            assert_eq!(waits(1), Some(0));
            assert!((300_000..=360_000).contains(&waits(2).unwrap()));
            assert!((1_800_000..=2_160_000).contains(&waits(3).unwrap()));
            assert_eq!(waits(4), None);
        }
        let spread: std::collections::BTreeSet<_> = (0..100).map(|_| waits(2)).collect();
        assert!(spread.len() > 50, "all together: {spread:?}");
    }

    #[test]
    fn a_provider_may_ask_for_more_time_but_not_for_less() {
        let random = Generator::from_seed(1);
        let wait_ms = |failed, after_ms| match next(failed, Some(after_ms), &random) {
            Next::RetryAfter(wait_ms) => wait_ms,
            Next::Dead => u64::MAX,
        };
        assert!((60_000..=72_000).contains(&wait_ms(1, 60_000)));
        assert!((300_000..=360_000).contains(&wait_ms(2, 60_000)));
        assert!(wait_ms(1, u64::MAX) <= RETRY_AFTER_MAX_MS * 6 / 5);
    }
}
