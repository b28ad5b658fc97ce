//! A token bucket, stored as the one time at which it is full again (the generic cell rate algorithm, ITU-T I.371), so
//! that it takes eight bytes and no timer.

/// A rate and how much of it may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    per_s: u32,
    burst: u32,
}

impl Rate {
    /// `burst` at once, `per_s` in the long run; both at least 1.
    pub(crate) fn new(per_s: u32, burst: u32) -> Self {
        Self { per_s: per_s.max(1), burst: burst.max(1) }
    }

    /// The time after which one more is allowed.
    fn interval_us(self) -> u64 {
        1_000_000 / u64::from(self.per_s)
    }

    /// The time in which an empty bucket fills up.
    pub(crate) fn fill_us(self) -> u64 {
        self.interval_us() * u64::from(self.burst)
    }
}

/// What is left of a [`Rate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    full_at_us: u64,
}

impl Bucket {
    /// Takes one at `now_us` (monotonic).
    ///
    /// # Errors
    /// The microseconds after which there is one again.
    pub(crate) fn take(&mut self, rate: Rate, now_us: u64) -> Result<(), u64> {
        let full_at_us = self.full_at_us.max(now_us) + rate.interval_us();
        match (full_at_us - now_us).checked_sub(rate.fill_us()) {
            None | Some(0) => {
                self.full_at_us = full_at_us;
                Ok(())
            }
            Some(early_us) => Err(early_us),
        }
    }

    /// Microseconds until it is full.
    pub(crate) fn fills_in_us(&self, now_us: u64) -> u64 {
        self.full_at_us.saturating_sub(now_us)
    }

    /// How many could be taken now.
    pub(crate) fn left(&self, rate: Rate, now_us: u64) -> u64 {
        rate.fill_us().saturating_sub(self.fills_in_us(now_us)) / rate.interval_us()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate::new(10, 20);
        let mut bucket = Bucket::default();
        for n in 0..20 {
            assert_eq!(bucket.left(rate, 5), 20 - n);
            assert_eq!(bucket.take(rate, 5), Ok(()));
        }
        assert_eq!(bucket.take(rate, 5), Err(100_000));
        assert_eq!(bucket.take(rate, 100_004), Err(1));
        assert_eq!(bucket.take(rate, 100_005), Ok(()));
        assert_eq!(bucket.take(rate, 100_005), Err(100_000));
    }

    #[test]
    fn it_fills_up_and_no_further() {
        let rate = Rate::new(1, 2);
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(rate, 0), Ok(()));
        assert_eq!(bucket.fills_in_us(0), 1_000_000);
        let later_us = 3_600_000_000;
        assert_eq!(bucket.left(rate, later_us), 2);
        assert_eq!([(); 3].map(|()| bucket.take(rate, later_us).is_ok()), [true, true, false]);
    }
}
