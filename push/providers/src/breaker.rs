//! A circuit breaker: a provider that has failed several times in a row gets no requests for a while, then a single
//! probe. Reads no clock.

/// Consecutive failures that open the breaker.
const FAILURES_MAX: u32 = 5;
/// How long it first stays open; each failed probe doubles the time, up to the maximum.
const OPEN_MIN_MS: u64 = 5_000;
const OPEN_MAX_MS: u64 = 300_000;

/// Whether requests to a provider may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breaker {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until_ms: u64,
        for_ms: u64,
    },
    /// A probe is in progress, and no other request may begin until its result; but if there is none for as long as the
    /// breaker was open, another probe may.
    Probing {
        until_ms: u64,
        for_ms: u64,
    },
}

/// What kind of request has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The provider was considered up.
    Regular,
    /// The breaker was open: only an answer to this one, or a late one to a regular one, closes it.
    Probe,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 } }
    }
}

impl Breaker {
    /// Begins a request, if one may. Its result must be passed to [`Breaker::ended`], or [`Breaker::not_sent`] called.
    ///
    /// # Errors
    /// The time of the next attempt.
    pub(crate) fn begin(&mut self, now_ms: u64) -> Result<Request, u64> {
        match self.state {
            State::Closed { .. } => Ok(Request::Regular),
            State::Open { until_ms, .. } | State::Probing { until_ms, .. } if now_ms < until_ms => Err(until_ms),
            State::Open { for_ms, .. } | State::Probing { for_ms, .. } => {
                self.state = State::Probing { until_ms: now_ms.saturating_add(for_ms), for_ms };
                Ok(Request::Probe)
            }
        }
    }

    /// A request has ended. `answered`: the answer, even an error, shows that the provider works.
    pub(crate) fn ended(&mut self, request: Request, answered: bool, now_ms: u64) {
        let open = |for_ms: u64| State::Open { until_ms: now_ms.saturating_add(for_ms), for_ms };
        self.state = match (self.state, request) {
            _ if answered => State::Closed { failures: 0 },
            (State::Closed { failures }, _) if failures + 1 < FAILURES_MAX => State::Closed { failures: failures + 1 },
            (State::Closed { .. }, _) => open(OPEN_MIN_MS),
            (State::Probing { for_ms, .. }, Request::Probe) => open(for_ms.saturating_mul(2).min(OPEN_MAX_MS)),
            // The request began before the breaker opened.
            (State::Probing { .. }, Request::Regular) | (State::Open { .. }, _) => self.state,
        };
    }

    /// A request that was allowed was not sent: if it was the probe, another one may begin.
    pub(crate) fn not_sent(&mut self, request: Request, now_ms: u64) {
        if let (State::Probing { for_ms, .. }, Request::Probe) = (self.state, request) {
            self.state = State::Open { until_ms: now_ms, for_ms };
        }
    }

    /// Whether requests are blocked, except for probes.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        (0..FAILURES_MAX).for_each(|_| breaker.ended(Request::Regular, false, 0));
        breaker
    }

    #[test]
    fn opens_at_the_fifth_failure_in_a_row() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            (0..FAILURES_MAX - 1).for_each(|_| breaker.ended(Request::Regular, false, 0));
            assert_eq!(breaker.begin(0), Ok(Request::Regular));
            breaker.ended(Request::Regular, true, 0);
        }
        (0..FAILURES_MAX).for_each(|_| breaker.ended(Request::Regular, false, 0));
        assert_eq!(breaker.begin(0), Err(OPEN_MIN_MS));
    }

    #[test]
    fn one_probe_at_a_time_until_an_answer_closes_it() {
        let mut breaker = opened();
        assert_eq!(breaker.begin(OPEN_MIN_MS), Ok(Request::Probe));
        assert_eq!(breaker.begin(OPEN_MIN_MS), Err(2 * OPEN_MIN_MS));
        breaker.ended(Request::Probe, true, OPEN_MIN_MS + 1);
        assert_eq!((breaker.begin(OPEN_MIN_MS + 1), breaker.is_open()), (Ok(Request::Regular), false));
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_a_limit() {
        let (mut breaker, mut now_ms, mut for_ms) = (opened(), 0, OPEN_MIN_MS);
        for _ in 0..20 {
            assert_eq!(breaker.begin(now_ms), Err(now_ms + for_ms));
            now_ms += for_ms;
            assert_eq!(breaker.begin(now_ms), Ok(Request::Probe));
            breaker.ended(Request::Probe, false, now_ms);
            for_ms = (for_ms * 2).min(OPEN_MAX_MS);
        }
        assert_eq!(for_ms, OPEN_MAX_MS);
    }

    #[test]
    fn a_probe_without_a_result_is_followed_by_another() {
        let mut breaker = opened();
        assert_eq!(breaker.begin(OPEN_MIN_MS), Ok(Request::Probe));
        assert_eq!(breaker.begin(2 * OPEN_MIN_MS), Ok(Request::Probe));
    }

    #[test]
    fn requests_from_before_it_opened_say_nothing_about_a_probe() {
        let mut breaker = opened();
        assert_eq!(breaker.begin(OPEN_MIN_MS), Ok(Request::Probe));
        breaker.ended(Request::Regular, false, OPEN_MIN_MS);
        breaker.not_sent(Request::Regular, OPEN_MIN_MS);
        assert_eq!(breaker.begin(OPEN_MIN_MS), Err(2 * OPEN_MIN_MS), "the probe is in progress");
        breaker.not_sent(Request::Probe, OPEN_MIN_MS);
        assert_eq!(breaker.begin(OPEN_MIN_MS), Ok(Request::Probe));
    }
}
