//! The deadlines of one session. Pure: the caller passes the time.

/// A deadline that has passed, in descending priority.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The end of the session's current stage: the time to sign in, to move or to close has passed.
    Stage,
    /// Nothing was received for two and a half heartbeats.
    Silent,
    /// A ping is due.
    Ping,
}

/// The deadlines of one session, in monotonic milliseconds.
#[derive(Debug)]
pub(super) struct Deadlines {
    heartbeat_ms: u64,
    heard_at_ms: u64,
    ping_at_ms: u64,
    stage_ends_ms: Option<u64>,
    /// The earliest time at which the session will be woken anyway; in the past if there is none.
    armed_ms: u64,
    /// The next deadline may have changed since the timer was last armed.
    has_changed: bool,
}

impl Deadlines {
    pub(super) fn new(now_ms: u64, heartbeat_ms: u64, stage_ends_ms: u64) -> Self {
        Self {
            heartbeat_ms,
            heard_at_ms: now_ms,
            ping_at_ms: now_ms + heartbeat_ms,
            stage_ends_ms: Some(stage_ends_ms),
            armed_ms: 0,
            has_changed: true,
        }
    }

    /// Something was received from the client.
    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_at_ms = now_ms;
    }

    /// The session enters a stage with this end, or without one.
    pub(super) fn set_stage_end(&mut self, stage_ends_ms: Option<u64>) {
        self.stage_ends_ms = stage_ends_ms;
        self.has_changed = true;
    }

    /// A deadline stored elsewhere has changed.
    pub(super) fn set_changed(&mut self) {
        self.has_changed = true;
    }

    /// Whether the session must recompute its wake-up time. Most turns need not, and then do not even read the clock.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// The deadline that has passed by now. Reports a due ping once.
    pub(super) fn due(&mut self, now_ms: u64) -> Option<Due> {
        self.has_changed = true;
        if self.stage_ends_ms.is_some_and(|end_ms| end_ms <= now_ms) {
            return Some(Due::Stage);
        }
        if self.silent_at_ms() <= now_ms {
            return Some(Due::Silent);
        }
        if self.ping_at_ms <= now_ms {
            self.ping_at_ms = now_ms + self.heartbeat_ms;
            return Some(Due::Ping);
        }
        None
    }

    /// The time at which the session must be woken; `None` if it will be woken early enough anyway. `other_ms` is a
    /// deadline stored elsewhere.
    pub(super) fn arm_for(&mut self, now_ms: u64, other_ms: Option<u64>) -> Option<u64> {
        let next_ms = [self.stage_ends_ms, other_ms]
            .into_iter()
            .flatten()
            .fold(self.silent_at_ms().min(self.ping_at_ms), u64::min);
        if now_ms < self.armed_ms && self.armed_ms <= next_ms {
            return None;
        }
        self.armed_ms = next_ms;
        Some(next_ms)
    }

    /// PROTOCOL §2: two and a half heartbeats.
    fn silent_at_ms(&self) -> u64 {
        self.heard_at_ms + self.heartbeat_ms * 5 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_come_at_each_heartbeat_and_silence_ends_the_session_after_two_and_a_half() {
        let mut deadlines = Deadlines::new(0, 1_000, 10_000);
        deadlines.set_stage_end(None);
        assert_eq!(deadlines.due(999), None);
        assert_eq!(deadlines.due(1_000), Some(Due::Ping));
        assert_eq!(deadlines.due(1_000), None);
        assert_eq!(deadlines.due(2_000), Some(Due::Ping));
        assert_eq!(deadlines.due(2_499), None);
        assert_eq!(deadlines.due(2_500), Some(Due::Silent));
        deadlines.heard(2_499);
        assert_eq!(deadlines.due(2_500), None);
        assert_eq!(deadlines.due(4_998), Some(Due::Ping));
        assert_eq!(deadlines.due(4_999), Some(Due::Silent));
    }

    #[test]
    fn a_stage_has_an_end_until_the_next_begins() {
        let mut deadlines = Deadlines::new(0, 1_000, 500);
        assert_eq!(deadlines.due(499), None);
        assert_eq!(deadlines.due(500), Some(Due::Stage));
        deadlines.set_stage_end(None);
        assert_eq!(deadlines.due(500), None);
    }

    #[test]
    fn a_session_is_rung_once_for_each_deadline() {
        let mut deadlines = Deadlines::new(0, 1_000, 500);
        assert_eq!([deadlines.take_changed(), deadlines.take_changed()], [true, false]);
        assert_eq!(deadlines.arm_for(0, None), Some(500));
        assert_eq!(deadlines.arm_for(1, None), None);
        assert_eq!(deadlines.arm_for(1, Some(300)), Some(300), "an earlier deadline needs its own wake-up");
        assert_eq!(deadlines.arm_for(300, None), Some(500));
        deadlines.set_stage_end(None);
        assert!(deadlines.take_changed());
        assert_eq!(deadlines.arm_for(301, None), None, "the wake-up at 500 arms the later ones");
        assert_eq!(deadlines.arm_for(500, None), Some(1_000));
    }
}
