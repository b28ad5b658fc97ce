//! The open-loop schedule: when each send is intended to happen, independent of the previous ones. Latency counts from
//! that moment, so a server (or generator) that falls behind shows in it instead of slowing the schedule down.

use super::NS_PER_S;

/// A schedule of evenly spaced moments from `start_ns` on.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    start_ns: u64,
    per_second: f64,
    /// The total number of moments.
    total: u64,
    next: u64,
}

impl Pace {
    /// `per_second` moments for `duration_ns`; none at a rate of zero.
    pub(crate) fn new(start_ns: u64, per_second: f64, duration_ns: u64) -> Self {
        let total = (per_second.max(0.0) * duration_ns as f64 / NS_PER_S as f64).round() as u64;
        Self { start_ns, per_second, total, next: 0 }
    }

    /// When the next one is due; `None` at the end.
    pub(crate) fn next_at_ns(&self) -> Option<u64> {
        // From the start each time, so that rounding errors don't add up.
        let since_start_ns = self.next as f64 * NS_PER_S as f64 / self.per_second;
        (self.next < self.total).then(|| self.start_ns + since_start_ns as u64)
    }

    /// The next moment if it is not after `now_ns`: its number and its time.
    pub(crate) fn due(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let intended_ns = self.next_at_ns().filter(|at_ns| *at_ns <= now_ns)?;
        self.next += 1;
        Some((self.next - 1, intended_ns))
    }

    /// The total number of moments.
    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_evenly_spaced_and_do_not_drift() {
        let mut pace = Pace::new(1_000, 3.0, 2 * NS_PER_S);
        assert_eq!(pace.total(), 6);
        let moments: Vec<_> = std::iter::from_fn(|| pace.due(u64::MAX)).collect();
        assert_eq!(moments.len(), 6);
        assert_eq!(moments[0], (0, 1_000));
        assert_eq!(moments[3], (3, 1_000 + NS_PER_S));
        assert_eq!(moments[4], (4, 1_000 + 1_333_333_333));
    }

    #[test]
    fn what_was_held_up_is_due_at_once_with_the_moment_it_was_meant_for() {
        let mut pace = Pace::new(0, 1_000.0, NS_PER_S);
        assert_eq!(pace.due(0), Some((0, 0)));
        assert_eq!(pace.due(0), None);
        assert_eq!(pace.next_at_ns(), Some(1_000_000));
        assert_eq!(pace.due(2_500_000), Some((1, 1_000_000)));
        assert_eq!(pace.due(2_500_000), Some((2, 2_000_000)));
        assert_eq!(pace.due(2_500_000), None);
    }

    #[test]
    fn without_a_rate_nothing_is_due() {
        let mut pace = Pace::new(0, 0.0, NS_PER_S);
        assert_eq!((pace.next_at_ns(), pace.due(u64::MAX)), (None, None));
    }
}
